"""What a checkpoint of a training holds besides the parent's files, and which of them is whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

TRAINED = "trained.safetensors"


def load_trained(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put what was trained into the model, in place.

    Raises:
        ValueError: If the file is of a training of other parts.
    """
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if other := sorted(set(learning) ^ set(tensors)):
        raise ValueError(f"{path} is of a training of other parts than this one ({other[0]}): take another folder.")
    with torch.no_grad():
        for name, parameter in learning.items():
            parameter.copy_(tensors[name])


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a run that was written to its end: the state is written last."""
    whole = [path for path in folder.glob("checkpoint-*") if path.name[11:].isdecimal() and _is_whole(path)]
    return max(whole, key=lambda path: int(path.name[11:]), default=None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (checkpoint / TRAINED).is_file()
