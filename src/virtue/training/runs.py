"""A run's folder: checkpoints that survive `kill -9`, and a log of its figures.

A checkpoint is written beside its name and renamed, so that what is there is always whole. A run that starts again
reads the newest one and goes on with the same data, because every step's data follow from its number.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch


class Run:
    """The folder of one stage of training.

    Args:
        folder: Made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        """Where the newest state lies."""
        return self.folder / "checkpoint.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint, whole or not at all."""
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(self.checkpoint)

    def load(self) -> dict[str, Any] | None:
        """The newest state, or None at the start of a run."""
        if not self.checkpoint.exists():
            return None
        state: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        return state

    def log(self, figures: dict[str, float]) -> None:
        """Append one line of figures to `log.jsonl`."""
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps({key: round(value, 5) for key, value in figures.items()}) + "\n")
