"""What is measured: queries, the candidates each is ranked against, and which of those are right.

A `Task` says nothing of models. Benchmarks are functions that make tasks (`scar`, `mmeb`, `scene_tasks`, `own`), and
`run.evaluate` is the one way from tasks to figures.

Letters: Q queries, N candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from virtue.items import Item

Places = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Task:
    """Queries and what they are ranked against.

    Attributes:
        name: Such as "scar/ADE20K": the benchmark, a slash, the set.
        queries: Q items.
        candidates: N items, each distinct one once.
        relevant: Of each query the right candidates, places in `candidates`; at least one, and all in its list.
        lists: Of each query the candidates that it is ranked against, places in `candidates`, each once; None ranks
            every query against all of them.
        swaps: Of each query, for each candidate of its list, what was swapped in it ("object", "relation", "scene"), ""
            for the right ones; None where that is not known.
        ids: Of each query what a report calls it; by default its number.
        groups: Of each query what it is about, such as its image: queries of one group are not independent, and
            intervals resample groups. By default each query is its own.
        tags: By name, a word for each query; figures are given for each word too ("relation": "left of", ...).
        missing: By reason, how many queries were left out because something of theirs is missing or broken. A task that
            misses any is partial.

    Raises:
        ValueError: If there are no queries, lengths differ, or a query has no right candidate in its list.
    """

    name: str
    queries: Sequence[Item]
    candidates: Sequence[Item]
    relevant: Sequence[Places]
    lists: Sequence[Places] | None = None
    swaps: Sequence[Sequence[str]] | None = None
    ids: Sequence[str] = ()
    groups: Sequence[str] = ()
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses what cannot be ranked."""
        count = len(self.queries)
        if not count:
            raise ValueError(f"The task {self.name} has no queries{_why(self.missing)}.")
        object.__setattr__(self, "ids", self.ids or [str(number) for number in range(count)])
        object.__setattr__(self, "groups", self.groups or self.ids)
        lengths = {"relevant": self.relevant, "lists": self.lists, "swaps": self.swaps, **self.tags}
        lengths |= {"ids": self.ids, "groups": self.groups}
        for what, values in lengths.items():
            if values is not None and len(values) != count:
                raise ValueError(f"The task {self.name} has {count} queries, but {what} has {len(values)} entries.")
        for number, right in enumerate(self.relevant):
            listed = self.listed(number)
            if not len(right) or not np.isin(right, listed).all():
                raise ValueError(
                    f"Query {self.ids[number]} of the task {self.name} has no right candidate in its list."
                )

    @property
    def is_partial(self) -> bool:
        """Whether some of its queries were left out."""
        return any(self.missing.values())

    def listed(self, query: int) -> Places:
        """The candidates that a query is ranked against, places in `candidates`."""
        return np.arange(len(self.candidates)) if self.lists is None else self.lists[query]


def _why(missing: Mapping[str, int]) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in missing.items() if count)
    return f": left out were {reasons}" if reasons else ""
