"""`Pair`: a query, what it should find and what it should not; and `Source`, anything that gives pairs by number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from virtue.items import Item


class RowError(ValueError):
    """A row of a data file that cannot be read as a pair; the message names file, row and field."""


@dataclass(frozen=True, eq=False)
class Pair:
    """One row of training data.

    Args:
        query: What is asked, on its own image with its own visual prompt or in words.
        positives: What answers it, at least one; a training step takes one of them.
        negatives: Hard negatives: what the query must not find, as many as there are.
        query_negatives: Hard negatives of the other direction: queries that the positive does not answer.
        where: File and row, for messages.
        draw: Number by which the positive and the visual prompt of a step are drawn; a mixture sets it.

    Raises:
        ValueError: If there is no positive.
    """

    query: Item
    positives: tuple[Item, ...]
    negatives: tuple[Item, ...] = ()
    query_negatives: tuple[Item, ...] = ()
    where: str = "a pair"
    draw: int = 0

    def __post_init__(self) -> None:
        """Refuses a pair without an answer."""
        if not self.positives:
            raise ValueError(f"{self.where} has no positive: a query needs something to find.")


class Source(Protocol):
    """Pairs by number. Reading one twice gives the same; nothing is opened before it is asked for.

    Attributes:
        name: For messages and counts.
    """

    name: str

    def __len__(self) -> int:
        """How many pairs there are."""
        ...

    def __getitem__(self, row: int) -> Pair:
        """Pair `row`.

        Raises:
            RowError: If the row does not follow its format.
            ImageError: If an image that has to be looked at for the row is missing or broken.
        """
        ...
