"""What a measurement counts: hits, recall, precision, overlap of masks, and how sure a mean is.

Where scores are equal, the order is left to chance and every figure is the mean over all orders: a model that gives
everything the same score gets what guessing would, never more. `recall_at` and `precision_at` read tables of scores.
The `expected_` ones read placings; with r the rank of a right candidate, from 1, they are for one order

- hit at k: 1 if any r <= k, else 0;
- recall at k: the share of the right candidates with r <= k;
- reciprocal rank: 1 / r of the first right one (Voorhees, "The TREC-8 Question Answering Track Report", 1999);
- nDCG at k: the sum of 1 / log2(1 + r) over all r <= k, divided by its value where all right ones come first
  (Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002; log2(1 + r) as trec_eval has it).

A right candidate with b better ones and t level ones, itself among these, has each of the ranks b + 1 ... b + t with
chance 1 / t. Recall and nDCG are sums over right candidates, so their means follow from that alone. The first right one
is of the best t level ones that hold any; of the t, R are right, and the first j are all wrong with chance
C(t - R, j) / C(t, j).

Q is the number of queries, N of what is ranked, P of all right candidates of all queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from virtue.evaluation.ranking import Placing


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean in [0, 1] and its standard error; the error is NaN where there is but one group to tell it from."""

    mean: float
    error: float

    def __str__(self) -> str:
        """In percent with one decimal, as tables show it."""
        return (
            f"{100 * self.mean:.1f} ± {100 * self.error:.1f}" if self.error == self.error else f"{100 * self.mean:.1f}"
        )


def mean_over_groups(values: ArrayLike, groups: ArrayLike) -> Figure:
    """The mean of all values, and its standard error when the values of one group are not independent.

    With S groups, v values and r_s the sum of a group's deviations from the mean, the error is
    sqrt(S / (S - 1) * sum of r_s squared) / v. With one value in each group it is the common standard error.

    Args:
        values: (Q,).
        groups: Which group each value is from, integers from 0, (Q,).

    Raises:
        ValueError: If there are no values.
    """
    numbers, group = np.asarray(values, dtype=float), np.asarray(groups)
    if len(numbers) == 0:
        raise ValueError("There is nothing to take the mean of.")
    mean = float(numbers.mean())
    count = len(np.unique(group))
    if count < 2:
        return Figure(mean, float("nan"))
    deviations = np.bincount(group, numbers - mean)
    return Figure(mean, float(np.sqrt(count / (count - 1) * np.square(deviations).sum()) / len(numbers)))


def first_is_best(scores: ArrayLike) -> NDArray[np.float64]:
    """How surely the first column scores highest: 1 or 0, and 1 / ties where it shares the first rank.

    Args:
        scores: (Q, N).

    Returns:
        In [0, 1], (Q,).

    Raises:
        ValueError: If a score is not finite.
    """
    return recall_at(scores, np.zeros(len(np.asarray(scores)), dtype=int), 1)


def recall_at(scores: ArrayLike, right: ArrayLike, k: int) -> NDArray[np.float64]:
    """How surely the one right answer of each query is among the first k.

    Args:
        scores: (Q, N).
        right: Which column is each query's, (Q,).
        k: At least 1.

    Returns:
        In [0, 1], (Q,).

    Raises:
        ValueError: If a score is not finite.
    """
    table, column = _finite(scores), np.asarray(right)
    own = table[np.arange(len(table)), column][:, None]
    better, tied = (table > own).sum(axis=1), (table == own).sum(axis=1)
    chances: NDArray[np.float64] = np.clip(k - better, 0, tied) / tied
    return chances


def precision_at(scores: ArrayLike, right: ArrayLike, k: int) -> NDArray[np.float64]:
    """Share of the first results that are right; of the first k, or of as many as there are right ones if fewer.

    Args:
        scores: (Q, N).
        right: Which columns answer each query, bool (Q, N), at least one each.
        k: At least 1.

    Returns:
        In [0, 1], (Q,).

    Raises:
        ValueError: If a score is not finite, or a query has no right answer.
    """
    table, truth = _finite(scores), np.asarray(right, dtype=bool)
    if not truth.any(axis=1).all():
        raise ValueError("Precision is not defined for a query without a right answer.")
    shown = np.minimum(k, truth.sum(axis=1))
    last = np.take_along_axis(-np.sort(-table, axis=1), shown[:, None] - 1, axis=1)  # the score of the last one shown
    better, tied = table > last, table == last
    room = shown - better.sum(axis=1)
    expected = (truth & better).sum(axis=1) + room * (truth & tied).sum(axis=1) / tied.sum(axis=1)
    precision: NDArray[np.float64] = expected / shown
    return precision


def expected_hit(placings: Sequence[Placing], k: int) -> NDArray[np.float64]:
    """How surely at least one right candidate of each query is among the first k.

    Args:
        placings: Q of them.
        k: At least 1.

    Returns:
        In [0, 1], (Q,).
    """
    better, level, right = _first_level(placings)
    room = np.clip(k - better, 0, level)  # how many of the level ones are among the first k
    missed = np.ones(len(placings))
    for step in range(int(room.max(initial=0))):
        missed *= np.where(step < room, np.maximum(level - right - step, 0) / np.maximum(level - step, 1), 1)
    hits: NDArray[np.float64] = np.where(right == 1, room / level, 1 - missed)  # the same, but 1/10 is 0.1
    return hits


def expected_recall(placings: Sequence[Placing], k: int) -> NDArray[np.float64]:
    """The share of each query's right candidates that is among the first k.

    Args:
        placings: Q of them.
        k: At least 1.

    Returns:
        In [0, 1], (Q,).
    """
    better, level, starts = _all_right(placings)
    chances = np.clip(k - better, 0, level) / level  # (P,)
    shares: NDArray[np.float64] = np.add.reduceat(chances, starts) / _counts(placings)
    return shares


def expected_reciprocal_rank(placings: Sequence[Placing]) -> NDArray[np.float64]:
    """One over the rank of each query's first right candidate.

    Args:
        placings: Q of them.

    Returns:
        In (0, 1], (Q,).
    """
    better, level, right = _first_level(placings)
    values: NDArray[np.float64] = 1 / (better + 1)
    harmonic = np.append(0, np.cumsum(1 / np.arange(1, (better + level).max(initial=0) + 1)))
    alone = (right == 1) & (level > 1)  # each of its ranks has the same chance
    values[alone] = ((harmonic[better + level] - harmonic[better]) / level)[alone]
    for query in np.flatnonzero((right > 1) & (level > right)):
        before = np.arange(level[query] - right[query] + 1)  # how many wrong ones of the level ones come first
        chances = _chances_of_first(int(level[query]), int(right[query]))
        values[query] = (chances / (better[query] + 1 + before)).sum()
    return values


def expected_ndcg(placings: Sequence[Placing], k: int) -> NDArray[np.float64]:
    """Normalised discounted cumulated gain of each query's first k; a right candidate gains 1, another 0.

    Args:
        placings: Q of them.
        k: At least 1.

    Returns:
        In [0, 1], (Q,).
    """
    better, level, starts = _all_right(placings)
    gains = np.append(0, np.cumsum(1 / np.log2(np.arange(2, k + 2))))  # of the first 0, 1, ..., k ranks
    own = (gains[np.minimum(k, better + level)] - gains[np.minimum(k, better)]) / level  # (P,)
    values: NDArray[np.float64] = np.add.reduceat(own, starts) / gains[np.minimum(k, _counts(placings))]
    return values


def _counts(placings: Sequence[Placing]) -> NDArray[np.intp]:
    """How many right candidates each query has, (Q,)."""
    return np.array([len(own.better) for own in placings], dtype=np.intp)


def _all_right(placings: Sequence[Placing]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """`better` and `level` of all queries in a row, (P,) each, and where each query's begin, (Q,)."""
    better = np.concatenate([own.better for own in placings])
    level = np.concatenate([own.level for own in placings])
    return better, level, np.append(0, np.cumsum(_counts(placings))[:-1])


def _first_level(placings: Sequence[Placing]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Of the best level candidates of each query that hold a right one: better ones, level ones, right ones, (Q,)."""
    better, level, starts = _all_right(placings)
    least = np.minimum.reduceat(better, starts)
    among = better == np.repeat(least, _counts(placings))  # (P,)
    return least, np.maximum.reduceat(level * among, starts), np.add.reduceat(among, starts, dtype=np.intp)


def _chances_of_first(level: int, right: int) -> NDArray[np.float64]:
    """How likely 0, 1, 2, ... of the wrong ones come before the first right one, where all are level."""
    wrong_before = np.arange(level - right)
    none_yet = np.append(1, np.cumprod((level - right - wrong_before) / (level - wrong_before)))
    chances: NDArray[np.float64] = none_yet * right / (level - np.arange(level - right + 1))
    return chances


def overlaps(masks: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Intersection over union of each mask with its truth, bool (R, H, W) each to (R,); 0 where both are empty."""
    both, either = (masks & truth).sum(axis=(1, 2)), (masks | truth).sum(axis=(1, 2))
    shares: NDArray[np.float64] = both / np.maximum(either, 1)
    return shares


def _finite(scores: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(scores, dtype=float)
    if not np.isfinite(table).all():
        raise ValueError("Scores must be finite: a model that gives NaN cannot be measured.")
    return table
