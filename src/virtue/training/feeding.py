"""What a data loader reads: pairs by number, and which numbers a process takes in which step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import Dataset, Sampler

from virtue.data.collator import Skipped
from virtue.data.mixture import Mixture
from virtue.data.pairs import Pair, RowError, Source
from virtue.images import ImageError
from virtue.training.gathering import process_count, process_rank


class PairRows(Dataset[Any]):
    """Pairs by number, where a row that cannot be read is a `Skipped`."""

    def __init__(self, pairs: Source | Mixture) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> Pair | Skipped:
        try:
            return self.pairs[number]
        except ImageError as error:
            return Skipped(str(error))
        except RowError as error:
            return Skipped(str(error), fatal=True)


class StepPositions(Sampler[list[int]]):
    """Each step's positions in the mixture, for this process."""

    def __init__(self, mixture: Mixture, steps: int, batch: int) -> None:
        self.mixture, self.steps, self.batch = mixture, steps, batch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.steps):
            yield list(self.mixture.batches(step, self.batch, process_rank(), process_count()))
