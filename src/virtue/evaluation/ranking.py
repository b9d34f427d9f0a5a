"""Where the right candidates of each query stand among those it is ranked against.

Similarity is the cosine, in float64. Scores that differ by less than `LEVEL` are level, and so is what a chain of such
steps joins: being level is then the same seen from either side. A `Placing` keeps how many candidates are better than
a right one and how many are level with it, and no order among those: `metrics` takes the mean over all of them.

Similarities come in blocks, so that memory is bounded. Where the lists of a task hold much of all candidates, a block
is one matrix product; where they are short, each query meets the candidates of its own list only.

Letters: Q queries, N candidates, L candidates of one query's list, R right ones among them, D length of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from virtue.evaluation.tasks import Places, Task
from virtue.items import Item

LEVEL = 1e-9
COLLAPSED = 1e-6
"""Unit embeddings that differ by no more than this in any number are the same."""

_BLOCK = 2**25  # scores in memory at once, 256 MiB
_CHUNK = 2**23  # numbers of candidates in float64 at once, 64 MiB
_DENSE = 1 / 32  # a gathered row costs about as much as this many in a matrix product

Vectors = NDArray[np.float32]
Scores = NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class Placing:
    """Where the right candidates of one query stand, in the order of its list.

    Attributes:
        better: How many candidates of the list score higher than each right one, (R,).
        level: How many are level with it, itself among them, (R,).
        listed: L.
    """

    better: NDArray[np.intp]
    level: NDArray[np.intp]
    listed: int


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where everything that a task asks for stands.

    Attributes:
        placings: Of each query, Q of them.
        top: Of each query the place in the task's candidates of the best one that is not right, (Q,); -1 where all are.
        swaps: By kind of swap, then by the query's number, its placing among the right ones and the distractors of that
            kind alone. A query without any is left out.
    """

    placings: list[Placing]
    top: Places
    swaps: dict[str, dict[int, Placing]]


def rank(queries: Vectors, candidates: Vectors, task: Task) -> Ranking:
    """Ranks every query's list.

    Args:
        queries: Embeddings of the task's queries, of any length, (Q, D).
        candidates: Embeddings of its candidates, of any length, (N, D).
        task: Says what each query is ranked against and what is right.

    Raises:
        ValueError: If shapes do not fit, `check_embeddings` refuses a row, or a list or its right ones hold a candidate
            twice.
    """
    _check_shapes(queries, candidates, task)
    check_embeddings(queries, task.queries, lambda number: f"query {task.ids[number]} of {task.name}")
    check_embeddings(candidates, task.candidates, lambda number: _candidate_name(task, number))
    ranking = Ranking([], np.full(len(queries), -1, dtype=np.intp), {})
    for number, scores in enumerate(_scores(queries, candidates, task)):
        listed = task.listed(number)
        right = np.isin(listed, task.relevant[number])  # (L,)
        if len(task.relevant[number]) != right.sum():
            raise ValueError(f"Query {task.ids[number]} of the task {task.name} has a candidate twice.")
        ranking.placings.append(placing(scores, right))
        if not right.all():
            ranking.top[number] = listed[np.argmax(np.where(right, -np.inf, scores))]
        if task.swaps is not None:
            _add_swaps(ranking.swaps, number, scores, right, task.swaps[number])
    return ranking


def placing(scores: Scores, right: NDArray[np.bool_]) -> Placing:
    """Where the right ones stand among all.

    Args:
        scores: Finite, (L,).
        right: At least one, (L,).
    """
    ascending = np.sort(scores)
    ends = np.append(np.flatnonzero(np.diff(ascending) >= LEVEL) + 1, len(ascending))  # of each run of level scores
    starts = np.append(0, ends[:-1])
    own = np.searchsorted(ascending[starts], scores[right], side="right") - 1  # (R,): the run of each right one
    return Placing(better=len(ascending) - ends[own], level=ends[own] - starts[own], listed=len(ascending))


def check_embeddings(vectors: Vectors, items: Sequence[Item], name: Callable[[int], str]) -> None:
    """Refuses embeddings that would be ranked by luck.

    Args:
        vectors: (N, D).
        items: What they are of. Only if all embeddings are the same are these looked at, for whether that is right.
        name: What an error calls a row, such as "query 17".

    Raises:
        ValueError: If an embedding is not finite or zero, or all are the same although their items differ in more than
            the visual prompt.
    """
    for first in range(0, len(vectors), _rows(vectors)):
        block = vectors[first : first + _rows(vectors)]
        for wrong, bad in (("not finite", ~np.isfinite(block).all(axis=1)), ("zero", ~block.any(axis=1))):
            if bad.any():
                raise ValueError(
                    f"The embedding of {name(first + int(np.argmax(bad)))} is {wrong}: it has no direction."
                )
    if _are_all_the_same(vectors) and any(_differ(items[0], other) for other in items):
        raise ValueError(
            f"The model gives {name(0)} and the {len(vectors) - 1} others the same embedding: it tells nothing apart."
        )


def _check_shapes(queries: Vectors, candidates: Vectors, task: Task) -> None:
    for what, vectors, items in (("queries", queries, task.queries), ("candidates", candidates, task.candidates)):
        if vectors.ndim != 2 or len(vectors) != len(items):
            raise ValueError(
                f"The task {task.name} has {len(items)} {what}, so their embeddings are ({len(items)}, D), "
                f"not {vectors.shape}."
            )
    if queries.shape[1] != candidates.shape[1]:
        raise ValueError(
            f"Embeddings of queries have {queries.shape[1]} numbers and those of candidates {candidates.shape[1]}: "
            "they cannot be compared."
        )


def _candidate_name(task: Task, number: int) -> str:
    text = task.candidates[number].text
    return f"candidate {number}{'' if text is None else f' ({text[:80]!r})'} of {task.name}"


def _are_all_the_same(vectors: Vectors) -> bool:
    first = unit(vectors[:1])
    chunks = range(0, len(vectors), _rows(vectors))
    return all((np.abs(unit(vectors[at : at + _rows(vectors)]) - first) <= COLLAPSED).all() for at in chunks)


def _differ(one: Item, other: Item) -> bool:
    """Whether a model has to tell them apart; one that is shown no regions need not tell two regions of an image."""
    return one.text != other.text or not np.array_equal(one.image, other.image)  # type: ignore[arg-type]  # any source


def _scores(queries: Vectors, candidates: Vectors, task: Task) -> Iterator[Scores]:
    """Of each query, how similar the candidates of its list are, (L,)."""
    block = max(1, min(1024, _BLOCK // len(candidates)))
    for first in range(0, len(queries), block):
        own = unit(queries[first : first + block])  # (B, D)
        if task.lists is None:
            yield from _product(own, candidates)
            continue
        lists = task.lists[first : first + block]
        if sum(map(len, lists)) < _DENSE * len(lists) * len(candidates):
            yield from (unit(candidates[places]) @ query for places, query in zip(lists, own, strict=True))
        else:
            yield from (row[places] for places, row in zip(lists, _product(own, candidates), strict=True))


def _product(queries: NDArray[np.float64], candidates: Vectors) -> Scores:
    """All similarities of unit queries, (B, N)."""
    rows = _rows(candidates)
    scores = np.empty((len(queries), len(candidates)))
    for first in range(0, len(candidates), rows):
        scores[:, first : first + rows] = queries @ unit(candidates[first : first + rows]).T
    return scores


def unit(vectors: Vectors) -> NDArray[np.float64]:
    """Rows of unit length, (N, D); one of length 0 stays as it is."""
    wide = vectors.astype(np.float64)
    wide /= np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return wide


def _rows(vectors: Vectors) -> int:
    """How many rows to take at a time."""
    return max(1, _CHUNK // max(1, int(vectors.shape[1])))


def _add_swaps(
    swaps: dict[str, dict[int, Placing]], number: int, scores: Scores, right: NDArray[np.bool_], kinds: Sequence[str]
) -> None:
    """Ranks the right ones against each kind's distractors."""
    kind_of = np.asarray(kinds)
    for kind in set(kinds) - {""}:
        among = right | (kind_of == kind)
        if among.sum() > right.sum():
            swaps.setdefault(kind, {})[number] = placing(scores[among], right[among])
