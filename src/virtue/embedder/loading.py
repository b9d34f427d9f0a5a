"""From a name to a model in memory: the bundled model, this project's checkpoints, the authors' released ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from virtue.model import VirtueModel, VirtueProcessor
from virtue.model.checkpoints import CheckpointError, is_released, load_released, load_saved, merge_adapter
from virtue.model.quiet import only_errors
from virtue.model.released import VLM_PATTERNS
from virtue.model.weight_files import find_folder, read_json, weight_file

BUNDLED = Path(__file__).parents[1] / "weights"
CHECKPOINT_PATTERNS = (*VLM_PATTERNS, "*.txt", "*.model")


def load(
    name: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    attn_implementation: str | None = None,
    revision: str | None = None,
    adapter: str | Path | None = None,
    sam: str | Path | None = None,
    sam_config: dict[str, Any] | str | Path | None = None,
) -> tuple[VirtueModel, VirtueProcessor]:
    """Load a model for embedding.

    Args:
        name: "nano" or another bundled model, a folder, or a Hub id; in this project's layout or the authors'.
        device: Where it runs; by default the first of cuda, mps and cpu that there is.
        dtype: Of its weights; by default bfloat16 on cuda when the checkpoint says so, else float32.
        attn_implementation: Of the attention, such as "sdpa" or "flash_attention_2"; by default transformers' choice.
        revision: Branch, tag or commit of `name` on the Hub.
        adapter: A LoRA or DoRA adapter to merge into the weights, folder or Hub id.
        sam: SAM-2 weights for a checkpoint in the authors' layout.
        sam_config: Meta's hyper-parameters of a `.pt` that is no public size.

    Returns:
        The model, in evaluation mode on its device, and its processor.

    Raises:
        ValueError: If there is no such model or device, or a file does not fit; the message says which.
    """
    where = _device(device)
    place = bundled(name) or name
    folder = find_folder(place, ("*.json",), revision)
    kind = dtype if dtype is not None else _default_dtype(folder, where)
    first = kind if adapter is None else torch.float32
    if is_released(folder):
        model, processor = load_released(place, sam=sam, sam_config=sam_config, revision=revision, dtype=first)
    elif sam is not None or sam_config is not None:
        raise CheckpointError(f"{name} brings its own SAM-2: leave out `sam` and `sam_config`.")
    else:
        model, processor = load_saved(find_folder(place, CHECKPOINT_PATTERNS, revision), first)
    if adapter is not None:
        model = merge_adapter(model, adapter, kind)
    if attn_implementation is not None:
        try:
            with only_errors():  # SAM-2's parts that have no attention of their own are warned of
                model.set_attn_implementation(attn_implementation)
        except ImportError as error:
            raise ValueError(f"attn_implementation {attn_implementation!r} is not to be had here: {error}") from error
    return model.to(where).eval(), processor


def bundled(name: str | Path) -> Path | None:
    """The folder of a bundled model, if the name is of one and not of a folder.

    Raises:
        CheckpointError: If the model is not in this installation.
    """
    if str(name) != "nano" or Path(name).is_dir():
        return None
    folder = BUNDLED / "nano"
    if weight_file(folder) is None:
        raise CheckpointError(
            f"The bundled model nano has no weights in {folder}: install the released package, or train it with "
            "`virtue train nano`."
        )
    return folder


def _device(device: str | torch.device | None) -> torch.device:
    if device is not None:
        try:
            chosen = torch.device(device)
        except RuntimeError as error:
            raise ValueError(f"device is cpu, cuda, cuda:1 or mps, for example, not {device!r}.") from error
        present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not present.get(chosen.type, True):
            raise ValueError(f"There is no device {device} here that torch can use; take another, such as cpu.")
        return chosen
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _default_dtype(folder: Path, device: torch.device) -> torch.dtype:
    fields = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    stored = str(fields.get("dtype") or fields.get("torch_dtype"))
    return torch.bfloat16 if device.type == "cuda" and stored == "bfloat16" else torch.float32
