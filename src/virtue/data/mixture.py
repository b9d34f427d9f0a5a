"""`Mixture`: several sources as one endless stream of pairs that is a function of its seed alone.

How an epoch is made:

1. A source counts with all its rows, or with `cap` of them that the seed chooses once: a capped source is a smaller
   source, the same in every epoch.
2. Without weights an epoch holds every counted row once. With weights it holds `epoch_rows` rows, shared out by weight
   and rounded so that they add up.
3. A source is read in passes. A pass shuffles its rows anew and holds each once, and an epoch goes on where the epoch
   before left off, so with weights too no row comes twice before every other row of its source has come.
4. What an epoch takes of a source is cut into blocks, shorter only where a pass or the epoch's share ends, and the
   blocks of all sources are shuffled. A batch thus sees rows of one kind, or few, and its in-batch negatives are hard.

Position p of the stream is in epoch p // len(mixture). Processes and workers share nothing but the position: each finds
its rows by `batches`, so a training goes on at any step and with any number of workers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from virtue.data.pairs import Pair, Source

_CAP, _PASS, _BLOCKS = 1, 2, 3  # what a stream of random numbers is for
_EPOCHS_KEPT = 2  # workers read ahead into the next one

Whole = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Part:
    """A source's place in a mixture.

    Args:
        source: The source.
        weight: Its share of an epoch is weight / sum of all weights; None mixes by size. All parts have one or none.
        cap: How many of its rows are used at most.

    Raises:
        ValueError: If the source is empty, or weight or cap is not positive.
    """

    source: Source
    weight: float | None = None
    cap: int | None = None

    def __post_init__(self) -> None:
        """Refuses what gives no rows."""
        if len(self.source) == 0:
            raise ValueError(f"{self.source.name} has no rows.")
        if self.weight is not None and not 0 < self.weight < float("inf"):
            raise ValueError(f"The weight of {self.source.name} must be a number above 0, got {self.weight}.")
        if self.cap is not None and self.cap < 1:
            raise ValueError(f"The cap of {self.source.name} must be 1 or more, got {self.cap}.")

    @property
    def rows(self) -> int:
        """How many rows of the source are used."""
        size = len(self.source)
        return size if self.cap is None else min(size, self.cap)


@dataclass(frozen=True)
class PartCount:
    """What a part gives.

    Attributes:
        name: The source's.
        rows: Rows of the source.
        used: How many of them are used.
        per_epoch: How many an epoch takes, some more than once where it is more than `used`.
    """

    name: str
    rows: int
    used: int
    per_epoch: int


class Mixture:
    """An endless sequence of pairs from several sources; the module says in which order.

    Args:
        parts: The sources.
        seed: Chooses everything.
        block: Rows of one source that come together.
        epoch_rows: Length of an epoch, with weights only; by default the number of used rows.

    Raises:
        ValueError: If there are no parts, only some have weights, a part's share rounds to no row, `block` or
            `epoch_rows` is not positive, or `epoch_rows` is given without weights.
    """

    def __init__(self, parts: Sequence[Part], seed: int, block: int = 64, epoch_rows: int | None = None) -> None:
        _check(parts, block, epoch_rows)
        self.parts, self.seed, self.block = tuple(parts), seed, block
        self._used = [part.rows for part in parts]
        weights = [part.weight for part in parts if part.weight is not None]
        self._quotas = _shares(weights, epoch_rows or sum(self._used)) if weights else self._used
        for part, quota in zip(parts, self._quotas, strict=True):
            if quota == 0:
                raise ValueError(
                    f"{part.source.name} with weight {part.weight} would have no row in an epoch of "
                    f"{sum(self._quotas)}; raise its weight or epoch_rows."
                )
        self._forget()

    def __len__(self) -> int:
        """Rows of one epoch."""
        return sum(self._quotas)

    def __getitem__(self, position: int) -> Pair:
        """The pair at a position of the stream, which has no end; its `draw` is the position.

        Raises:
            IndexError: If the position is negative.
            RowError: If the row does not follow its format.
            ImageError: If an image that has to be looked at for the row is missing or broken.
        """
        part, row = self.where(position)
        return replace(self.parts[part].source[row], draw=position)

    def where(self, position: int) -> tuple[int, int]:
        """Which part, and which row of its source, stands at a position.

        Raises:
            IndexError: If the position is negative.
        """
        if position < 0:
            raise IndexError(f"A position in a mixture must be 0 or more, got {position}.")
        epoch, inside = divmod(position, len(self))
        parts, rows = self._epoch(epoch)
        return int(parts[inside]), int(rows[inside])

    def counts(self) -> list[PartCount]:
        """What each part gives, in the order of the parts."""
        return [
            PartCount(part.source.name, len(part.source), used, quota)
            for part, used, quota in zip(self.parts, self._used, self._quotas, strict=True)
        ]

    @staticmethod
    def batches(step: int, batch_size: int, rank: int = 0, world: int = 1) -> range:
        """The positions of one process's batch.

        The processes cut `batch_size * world` consecutive positions into slices, and step n + 1 goes on where step n
        ended: all positions are used, each once.

        Args:
            step: Counted from 0.
            batch_size: Rows of each process.
            rank: Of the process.
            world: Number of processes.

        Raises:
            ValueError: If the step is negative, the batch empty, or there is no such process.
        """
        if step < 0 or batch_size < 1:
            raise ValueError(f"step must be 0 or more and batch_size 1 or more, got {step} and {batch_size}.")
        if not 0 <= rank < world:
            raise ValueError(f"rank must be from 0 to {world - 1}, one less than the processes, got {rank}.")
        start = (step * world + rank) * batch_size
        return range(start, start + batch_size)

    def _epoch(self, epoch: int) -> tuple[Whole, Whole]:
        """The part and the row at each position of an epoch, both (len(self),)."""
        if epoch not in self._epochs:
            self._epochs[epoch] = self._order(epoch)
            while len(self._epochs) > _EPOCHS_KEPT:
                self._epochs.popitem(last=False)
        return self._epochs[epoch]

    def _order(self, epoch: int) -> tuple[Whole, Whole]:
        """Computes what `_epoch` keeps: steps 3 and 4 of the module."""
        rows: list[Whole] = []
        lengths: list[Whole] = []  # of the blocks
        owners: list[Whole] = []  # their parts
        for part, quota in enumerate(self._quotas):
            for piece in self._stretch(part, epoch * quota, quota):
                rows.append(piece)
                lengths.append(_block_lengths(len(piece), self.block))
                owners.append(np.full(len(lengths[-1]), part, dtype=np.int64))
        length, owner = np.concatenate(lengths), np.concatenate(owners)
        start = np.cumsum(length) - length
        order = np.random.default_rng([self.seed, _BLOCKS, epoch]).permutation(len(length))
        length, start, owner = length[order], start[order], owner[order]
        moved = start - (np.cumsum(length) - length)  # from a block's new place to its old one
        places = np.arange(len(self)) + np.repeat(moved, length)
        return np.repeat(owner, length), np.concatenate(rows)[places]

    def _stretch(self, part: int, start: int, count: int) -> list[Whole]:
        """Rows `start` to `start + count` of a part's endless passes, one array for each pass."""
        size = self._used[part]
        pieces = []
        for number in range(start // size, -(-(start + count) // size)):
            order = np.random.default_rng([self.seed, _PASS, part, number]).permutation(size)
            piece = order[max(start - number * size, 0) : start + count - number * size]
            pieces.append(self._subset(part)[piece] if size < len(self.parts[part].source) else piece)
        return pieces

    def _subset(self, part: int) -> Whole:
        """The rows of a capped source that are used, (used,)."""
        if part not in self._subsets:
            rng = np.random.default_rng([self.seed, _CAP, part])
            self._subsets[part] = rng.choice(len(self.parts[part].source), self._used[part], replace=False)
        return self._subsets[part]

    def _forget(self) -> None:
        self._epochs: OrderedDict[int, tuple[Whole, Whole]] = OrderedDict()
        self._subsets: dict[int, Whole] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_epochs", "_subsets")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()


def _check(parts: Sequence[Part], block: int, epoch_rows: int | None) -> None:
    if not parts:
        raise ValueError("A mixture needs at least one source, got none.")
    if block < 1:
        raise ValueError(f"block must be 1 or more, got {block}.")
    weighted = [part.source.name for part in parts if part.weight is not None]
    if weighted and len(weighted) < len(parts):
        other = next(part.source.name for part in parts if part.weight is None)
        raise ValueError(f"Give all parts a weight or none: {weighted[0]} has one, {other} has none.")
    if epoch_rows is not None and not weighted:
        raise ValueError("epoch_rows goes with weights: without them an epoch holds every row once.")
    if epoch_rows is not None and epoch_rows < 1:
        raise ValueError(f"epoch_rows must be 1 or more, got {epoch_rows}.")


def _shares(weights: Sequence[float], total: int) -> list[int]:
    """Whole shares in proportion to the weights that add up to `total`: the largest remainders are rounded up."""
    exact = np.array(weights, dtype=np.float64) / max(weights)  # first, so that the sum of huge weights is finite
    exact *= total / exact.sum()
    shares = np.floor(exact).astype(np.int64)
    first = np.argsort(shares - exact, kind="stable")
    shares[first[: total - int(shares.sum())]] += 1
    return [int(share) for share in shares]


def _block_lengths(rows: int, block: int) -> Whole:
    """Full blocks and what is left over."""
    full, rest = divmod(rows, block)
    return np.array([block] * full + [rest] * (rest > 0), dtype=np.int64)
