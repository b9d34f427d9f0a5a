"""How sure a mean is, and whether two runs differ by more than luck.

Queries about one image are not independent, so groups are drawn, never queries. All draws come from a seed: the same
values give the same interval.

- *Interval*: as many groups as there are, S, are drawn with replacement, again and again; each draw has the mean of all
  the queries in it. The interval lies between the 2.5th and 97.5th percentile of these means (Efron and Tibshirani, "An
  Introduction to the Bootstrap", 1993, chapter 13). It knows only what the groups show: where all values are equal it
  has no width, and of a handful of groups it is too narrow.
- *Paired difference*: the interval of the mean of a query's own differences, and the p value of a sign-flip test: if
  the runs were alike, every group's sum of differences could as well have the other sign. p is the share of flips whose
  mean is as far from 0 as the one observed; of all flips where there are few groups, else of random ones, the observed
  one counted among them, so that p is never 0.

Letters: Q queries, S groups, M columns of values, B draws at a time.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

PERCENTILES = (2.5, 97.5)

_NUMBERS = 2**22  # drawn at a time, 32 MiB
_ALIKE = 1e-12  # sums of the same numbers in another order differ by less

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval; the bounds are NaN where there is but one group to tell them from."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """How two runs differ on the same queries.

    Attributes:
        mean: By how much the first is higher.
        low: Of the 95 % interval of the mean; NaN where there is but one group.
        high: Of the same.
        p: How likely a mean as far from 0 is if the runs are alike; two-sided.
    """

    mean: float
    low: float
    high: float
    p: float


def bootstrap(values: ArrayLike, groups: Sequence[Hashable], *, resamples: int = 2000, seed: int = 0) -> Interval:
    """The mean of all values and its interval.

    Args:
        values: (Q,).
        groups: What each value is from, Q of them.
        resamples: How often groups are drawn.
        seed: Of the draws.

    Raises:
        ValueError: If there are no values, or not as many groups.
    """
    return bootstrap_columns(np.asarray(values, dtype=float)[:, None], groups, resamples=resamples, seed=seed)[0]


def bootstrap_columns(
    values: ArrayLike, groups: Sequence[Hashable], *, resamples: int = 2000, seed: int = 0
) -> list[Interval]:
    """What `bootstrap` gives of each column, in the time of one.

    Args:
        values: (Q, M).
        groups: What each row is from, Q of them.
        resamples: How often groups are drawn.
        seed: Of the draws.

    Raises:
        ValueError: If there are no values, or not as many groups.
    """
    sums, sizes = _by_group(values, groups)
    means = _resampled_means(sums, sizes, resamples, np.random.default_rng(seed))
    return [_interval(value, own) for value, own in zip(sums.sum(axis=0) / sizes.sum(), means.T, strict=True)]


def bootstrap_of_means(
    subsets: Sequence[tuple[ArrayLike, Sequence[Hashable]]], *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean of the means of several sets, each of which counts the same, and its interval.

    Each set is drawn by itself, so that no draw lacks one.

    Args:
        subsets: Of each set its values, (Q,), and their groups.
        resamples: How often groups are drawn.
        seed: Of the draws.

    Raises:
        ValueError: If there is no set, a set has no values, or not as many groups.
    """
    named = {str(number): subset for number, subset in enumerate(subsets)}
    return bootstrap_of_choices(named, {"all": list(named)}, resamples=resamples, seed=seed)["all"]


def bootstrap_of_choices(
    subsets: Mapping[str, tuple[ArrayLike, Sequence[Hashable]]],
    choices: Mapping[str, Sequence[str]],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Interval]:
    """What `bootstrap_of_means` gives of several choices of sets, each set drawn once for all of them.

    Args:
        subsets: By name, of each set its values, (Q,), and their groups.
        choices: By name, the names of the sets that a mean is over.
        resamples: How often groups are drawn.
        seed: Of the draws.

    Raises:
        ValueError: If a choice has no set, a set has no values, or not as many groups.
    """
    if not all(choices.values()):
        raise ValueError("There is nothing to take the mean of.")
    rng = np.random.default_rng(seed)
    parts = {name: _by_group(np.asarray(own, dtype=float)[:, None], groups) for name, (own, groups) in subsets.items()}
    values = {name: float(sums.sum() / sizes.sum()) for name, (sums, sizes) in parts.items()}
    drawn = {name: _resampled_means(*part, resamples, rng)[:, 0] for name, part in parts.items()}
    return {
        choice: _interval(float(np.mean([values[name] for name in names])), np.mean([drawn[name] for name in names], 0))
        for choice, names in choices.items()
    }


def paired_difference(
    a: ArrayLike, b: ArrayLike, groups: Sequence[Hashable], *, resamples: int = 2000, flips: int = 10_000, seed: int = 0
) -> Difference:
    """By how much the values of a run are higher than those of another on the same queries.

    Args:
        a: Of the first run, (Q,).
        b: Of the second run, in the same order, (Q,).
        groups: What each query is about, Q of them.
        resamples: How often groups are drawn for the interval.
        flips: How many flips p is told from; all there are if these are fewer.
        seed: Of the draws.

    Raises:
        ValueError: If there are no values, or lengths differ.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f"Runs on {len(first)} and {len(second)} queries cannot be paired.")
    interval = bootstrap(first - second, groups, resamples=resamples, seed=seed)
    sums, _ = _by_group((first - second)[:, None], groups)
    p = _sign_flip(sums[:, 0], flips, np.random.default_rng(seed))
    return Difference(interval.value, interval.low, interval.high, p)


def _by_group(values: ArrayLike, groups: Sequence[Hashable]) -> tuple[Floats, Floats]:
    """Of each group the sum of its rows, (S, M), and how many they are, (S,)."""
    table = np.asarray(values, dtype=float)
    if not len(table):
        raise ValueError("There is nothing to take the mean of.")
    if len(groups) != len(table):
        raise ValueError(f"{len(table)} values need as many groups, got {len(groups)}.")
    numbers: dict[Hashable, int] = {}
    group = np.array([numbers.setdefault(own, len(numbers)) for own in groups])
    sums = np.stack([np.bincount(group, column) for column in table.T], axis=1)
    return sums.astype(np.float64), np.bincount(group).astype(np.float64)


def _resampled_means(sums: Floats, sizes: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """The mean of each draw, (resamples, M); NaN where there is but one group, which every draw would repeat."""
    count = len(sizes)
    if count < 2:
        return np.full((resamples, sums.shape[1]), np.nan)
    means = []
    for draws in _portions(resamples, count):
        drawn = rng.integers(count, size=(draws, count)) + count * np.arange(draws)[:, None]
        times = np.bincount(drawn.ravel(), minlength=draws * count).reshape(draws, count).astype(float)
        means.append((times @ sums) / (times @ sizes)[:, None])
    return np.concatenate(means)


def _interval(value: float, means: Floats) -> Interval:
    low, high = np.percentile(means, PERCENTILES)
    return Interval(float(value), float(low), float(high))


def _sign_flip(sums: Floats, flips: int, rng: np.random.Generator) -> float:
    """The two-sided p value of the sum being 0; a sum of 0 has no sign to flip."""
    sums = sums[np.abs(sums) > _ALIKE]
    count, observed = len(sums), abs(sums.sum()) - _ALIKE * max(1, np.abs(sums).sum())
    if count < flips.bit_length():  # 2 ** count are no more than flips
        every = np.arange(2**count)[:, None] >> np.arange(count) & 1  # (2 ** S, S)
        return float((np.abs((1 - 2 * every) @ sums) >= observed).mean())
    far = sum(
        int((np.abs((1.0 - 2.0 * rng.integers(2, size=(draws, count), dtype=np.int8)) @ sums) >= observed).sum())
        for draws in _portions(flips, count)
    )
    return (1 + far) / (1 + flips)


def _portions(total: int, width: int) -> list[int]:
    """How many rows of a width to draw at a time, so that memory is bounded."""
    step = max(1, _NUMBERS // width)
    return [end - start for start, end in pairwise([*range(0, total, step), total])]
