"""Some rows of a source as a source of their own: those held out of training, and the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from virtue.data.pairs import Pair, Source


class Chosen:
    """Rows of one or several sources, in the order given.

    Args:
        sources: The sources.
        rows: Which source and which of its rows, for each row.

    Attributes:
        name: The sources' names.
    """

    def __init__(self, sources: Sequence[Source], rows: Sequence[tuple[int, int]]) -> None:
        self.name = ", ".join(dict.fromkeys(source.name for source in sources))
        self._sources, self._rows = tuple(sources), np.asarray(rows, dtype=np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        """How many."""
        return len(self._rows)

    def __getitem__(self, number: int) -> Pair:
        """One pair.

        Raises:
            IndexError: If there is no such row.
            RowError: As the source.
            ImageError: As the source.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"{self.name} has {len(self)} rows, so none with number {number}.")
        source, row = self._rows[number]
        return self._sources[int(source)][int(row)]


def split(source: Source, share: float, seed: int) -> tuple[Chosen, list[int]]:
    """Hold some rows out of a source, chosen by the seed.

    Args:
        source: The source.
        share: Of its rows, rounded up; at least one row stays.
        seed: Chooses.

    Returns:
        The rows that stay, as a source of the same name, and the numbers of those held out.

    Raises:
        ValueError: If the share is not between 0 and 1, or the source is too small.
    """
    if not 0 < share < 1 or len(source) < 2:
        raise ValueError(f"Of {source.name} ({len(source)} rows) a share between 0 and 1 can be held out, not {share}.")
    order = np.random.default_rng([seed, len(source)]).permutation(len(source))
    count = min(int(np.ceil(share * len(source))), len(source) - 1)
    return Chosen([source], [(0, row) for row in np.sort(order[count:]).tolist()]), order[:count].tolist()
