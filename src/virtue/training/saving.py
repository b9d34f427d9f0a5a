"""What a checkpoint of a training holds besides the parent's files, and which of them is whole."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from virtue.training.gathering import process_count

TRAINED = "trained.safetensors"
TEMPERATURE = "log_temperature"  # its name in there


def load_trained(model: nn.Module, checkpoint: Path) -> Tensor:
    """Put what a checkpoint holds into the model, in place.

    Args:
        model: Prepared as it was for the training.
        checkpoint: Folder.

    Returns:
        The logarithm of the temperature, a scalar.

    Raises:
        FileNotFoundError: If the folder is no checkpoint of a contrastive training.
        ValueError: If it is of a training of other parts.
    """
    path = checkpoint / TRAINED
    if not path.is_file():
        raise FileNotFoundError(f"{checkpoint} is no checkpoint of a contrastive training: no {TRAINED}.")
    tensors = load_file(path)
    temperature = tensors.pop(TEMPERATURE)
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if other := sorted(set(learning) ^ set(tensors)):
        raise ValueError(f"{path} is of a training of other parts than this one ({other[0]}): take another folder.")
    with torch.no_grad():
        for name, parameter in learning.items():
            parameter.copy_(tensors[name])
    return temperature


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a run that was written to its end: the state is written last."""
    whole = [path for path in folder.glob("checkpoint-*") if path.name[11:].isdecimal() and _is_whole(path)]
    return max(whole, key=lambda path: int(path.name[11:]), default=None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    states = [f"rng_state_{rank}.pth" for rank in range(process_count())] if process_count() > 1 else ["rng_state.pth"]
    return all((checkpoint / name).is_file() for name in (TRAINED, "optimizer.pt", "scheduler.pt", *states))
