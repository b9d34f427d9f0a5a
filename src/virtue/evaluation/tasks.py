"""What is measured: queries, the candidates each is ranked against, and which of those are right.

A `Task` says nothing of models. Benchmarks are functions that make tasks (`scar`, `mmeb`, `scene_tasks`, `own`), and
`run.evaluate` is the one way from tasks to figures. A set of which nothing is left, as when all its images are missing,
is `NotMeasured` in the place of its task, so that the others are measured all the same.

Letters: Q queries, N candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from virtue.items import Item
from virtue.prompts import VisualPrompt

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
        missing: By reason, how many queries were left out because something of theirs is missing or broken, or a limit
            was set. A task that misses any is partial.
        excluded: By reason, how many were left out because the task's definition does not ask them. A task is whole
            without them.
        instructed: Whether texts beside the queries' pictures only instruct the model, so that the same is asked with
            other words and without any.

    Raises:
        EmptyTaskError: If there are no queries.
        ValueError: If lengths differ, or a query has no right candidate in its list.
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
    excluded: Mapping[str, int] = field(default_factory=dict)
    instructed: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be ranked."""
        count = len(self.queries)
        if not count:
            raise EmptyTaskError(self.name, {**self.missing, **self.excluded})
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
        """Whether some of its queries were left out that should be asked."""
        return any(self.missing.values())

    @property
    def manner(self) -> str:
        """How its queries show regions, and whether they are instructed, such as "box, with an instruction"."""
        shown = " or ".join(dict.fromkeys(_shown(item) for item in self.queries))
        worded = any(
            item.instruction or (self.instructed and item.image is not None and item.text) for item in self.queries
        )
        return f"{shown}, with an instruction" if worded else shown

    def listed(self, query: int) -> Places:
        """The candidates that a query is ranked against, places in `candidates`."""
        return np.arange(len(self.candidates)) if self.lists is None else self.lists[query]


def _shown(item: Item) -> str:
    if item.prompt is None:
        return "no region"
    prompt = item.prompt + VisualPrompt()  # of any visual prompt the whole that it stands for
    return "mask" if prompt.mask is not None else "box" if prompt.box is not None else "point"


class EmptyTaskError(ValueError):
    """Nothing is left to ask.

    Args:
        name: Of the task.
        left_out: By reason, how many queries were left out.
    """

    def __init__(self, name: str, left_out: Mapping[str, int]) -> None:
        reasons = counted(left_out)
        self._name, self._what = name, f"no queries{f': left out were {reasons}' if reasons else ''}"
        super().__init__(f"The task {name} has {self._what}.")

    def not_measured(self) -> NotMeasured:
        """What stands for the task among others."""
        return NotMeasured(self._name, f"it has {self._what}")


@dataclass(frozen=True)
class NotMeasured:
    """A set of which nothing could be asked, and why: "it has no queries: left out were 5 with a missing image"."""

    name: str
    reason: str


def task_or_not(make: Callable[[], Task]) -> Task | NotMeasured:
    """The task that is made, or what says that nothing is left of it."""
    try:
        return make()
    except EmptyTaskError as error:
        return error.not_measured()


def counted(reasons: Mapping[str, int]) -> str:
    """Says how many of what: "1,200 beyond the limit, 5 with a missing image"; reasons of none are passed over."""
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.items() if count)
