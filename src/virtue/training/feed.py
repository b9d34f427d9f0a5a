"""Hands a training stage its batches in order, drawn beforehand by other processes where there are cores for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from virtue.training.pairs import to_device

AHEAD = 3  # batches that a worker draws before they are asked for


class Feed:
    """The batches of consecutive steps, on a device.

    Args:
        draw: From a step's number to its batch, a function of nothing else.
        steps: Of the stage.
        device: Where batches are wanted.
        workers: Processes that draw; 0 to draw here, when asked.
    """

    def __init__(self, draw: Callable[[int], Any], steps: int, device: torch.device, workers: int) -> None:
        self.draw, self.steps, self.device, self.workers = draw, steps, device, workers
        self._next: Iterator[Any] | None = None
        self._expected = 0

    def __call__(self, step: int) -> Any:
        """The batch of a step.

        Raises:
            ValueError: If it does not follow the one asked for before.
        """
        if self._next is None:
            self._expected = step
            loader: DataLoader[Any] = DataLoader(
                _Steps(self.draw, self.steps),
                batch_size=None,
                sampler=range(step, self.steps),
                num_workers=self.workers,
                prefetch_factor=AHEAD if self.workers else None,
                pin_memory=self.device.type == "cuda",
            )
            self._next = iter(loader)
        if step != self._expected:
            raise ValueError(f"Batches come in order: step {self._expected} is next, not {step}.")
        self._expected += 1
        return to_device(next(self._next), self.device)


class _Steps(Dataset[Any]):
    def __init__(self, draw: Callable[[int], Any], steps: int) -> None:
        self.draw, self.steps = draw, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Any:
        return self.draw(step)
