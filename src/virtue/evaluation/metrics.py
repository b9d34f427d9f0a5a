"""What a measurement counts: hits, recall, precision, overlap of masks, and how sure a mean is.

Where scores are equal, the order is left to chance and every figure is the mean over all orders: a model that gives
everything the same score gets what guessing would, never more. Q is the number of queries, N of what is ranked.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
