"""The tiny model whose embeddings the authors' released code computed, and what it computed (`reference/`).

The weights are a pure function of two seeds: for the tensors of a group, sorted by name, one generator draws
`randn(shape)`, scaled by what the tensor is. So 30 MB of them are rebuilt here, equal to the bit with those the
authors' code ran on, and only names and shapes, the expected arrays, and the one buffer that is not drawn (the
gaussian matrix of SAM's positional code) are kept in files. `reference/expected.safetensors` holds per case what came
out: whole where small, else every k-th value.
"""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

REFERENCE = Path(__file__).parent / "reference"
SAM_SETTINGS = REFERENCE / "sam2.yaml"
ADAPTER = REFERENCE / "dora_adapter"
GAUSSIAN_MATRIX = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"


@functools.cache
def expected() -> dict[str, Tensor]:
    return load_file(REFERENCE / "expected.safetensors")


@functools.cache
def cases() -> dict[str, list[dict[str, Any]]]:
    """The rows of each case: text, name of the picture or None, and a point or box in source pixels."""
    content: dict[str, list[dict[str, Any]]] = json.loads((REFERENCE / "cases.json").read_text())
    return content


def picture(name: str) -> Image.Image:
    return Image.open(REFERENCE / f"{name}.png").convert("RGB")


@functools.cache
def vlm_tensors() -> dict[str, Tensor]:
    """`model.safetensors` of the released layout."""
    return _draw(_shapes()["vlm"], seed=1)


@functools.cache
def sam_tensors() -> dict[str, Tensor]:
    """The state dict of a SAM-2 `.pt` file with Meta's names, video memory included."""
    drawn = _draw(_shapes()["segmentation"], seed=2)
    state = {key.removeprefix("sam_model."): t for key, t in drawn.items() if key.startswith("sam_model.")}
    return state | {GAUSSIAN_MATRIX: expected()["gaussian_matrix"]}


@functools.cache
def connector_tensors() -> dict[str, dict[str, Tensor]]:
    """The content of `sam2_reducer_and_vlm_layer.pth`."""
    parts: dict[str, dict[str, Tensor]] = {"sam2_reducer": {}, "sam2vlm_layer": {}}
    for key, tensor in _draw(_shapes()["segmentation"], seed=2).items():
        part, _, name = key.partition(".")
        if part in parts:
            parts[part][name] = tensor
    return parts


def write_released(folder: Path) -> Path:
    """Write the model as its authors would publish it, SAM-2's `.pt` beside it; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in (REFERENCE / "released").iterdir():
        shutil.copyfile(file, folder / file.name)
    save_file(vlm_tensors(), folder / "model.safetensors", metadata={"format": "pt"})
    torch.save(connector_tensors(), folder / "sam2_reducer_and_vlm_layer.pth")
    torch.save({"model": sam_tensors()}, folder / "sam2_tiny.pt")
    return folder


def _shapes() -> dict[str, dict[str, list[int]]]:
    content: dict[str, dict[str, list[int]]] = json.loads((REFERENCE / "shapes.json").read_text())
    return content


def _draw(shapes: dict[str, list[int]], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: _scale(name, torch.randn(shapes[name], generator=generator)) for name in sorted(shapes)}


def _scale(name: str, drawn: Tensor) -> Tensor:
    if drawn.ndim == 1:
        return 0.05 * drawn if name.endswith("bias") else 1 + 0.1 * drawn
    if "embed_tokens" in name:
        return drawn
    if "pos_embed" in name or name.endswith("no_mem_embed") or "embed" in name.split(".")[-2]:
        return 0.5 * drawn
    return drawn / drawn[0].numel() ** 0.5
