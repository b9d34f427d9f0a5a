import math
from dataclasses import astuple

import numpy as np
import pytest

from virtue.evaluation.intervals import (
    Difference,
    bootstrap,
    bootstrap_columns,
    bootstrap_of_choices,
    bootstrap_of_means,
    paired_difference,
)


def test_two_groups_are_drawn_in_four_ways() -> None:
    own = bootstrap([0, 1], ["a", "b"])  # a mean of 0 or 1 with chance 1/4 each, of 1/2 with chance 1/2
    assert (own.value, own.low, own.high) == (0.5, 0, 1)


def test_equal_values_have_an_interval_without_width() -> None:
    own = bootstrap([1, 1, 1], ["a", "b", "c"])
    assert (own.value, own.low, own.high) == (1, 1, 1)


def test_a_group_is_drawn_whole() -> None:
    own = bootstrap([0, 0, 0, 1], ["a", "a", "a", "b"])
    assert (own.value, own.low, own.high) == (1 / 4, 0, 1)
    twice = bootstrap(np.repeat(np.arange(30) % 2, 2), np.repeat(np.arange(30), 2).tolist())
    once = bootstrap(np.arange(30) % 2, range(30))
    assert twice == once  # the same value twice in a group tells nothing new


def test_one_group_tells_no_interval() -> None:
    own = bootstrap([0, 1], ["a", "a"])
    assert own.value == 0.5
    assert math.isnan(own.low) and math.isnan(own.high)


def test_the_interval_is_as_wide_as_theory_says() -> None:
    own = bootstrap(np.arange(400) % 4 == 0, range(400))
    error = math.sqrt(0.25 * 0.75 / 400)
    assert own.low == pytest.approx(0.25 - 1.96 * error, abs=0.005)
    assert own.high == pytest.approx(0.25 + 1.96 * error, abs=0.005)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        image = rng.random(60)  # what the three queries of an image have in common
        values = rng.random((60, 3)) < image[:, None]
        own = bootstrap(values.ravel(), np.repeat(np.arange(60), 3).tolist(), resamples=400)
        held += own.low <= 0.5 <= own.high
    assert 0.91 <= held / 300 <= 0.98


def test_each_set_is_drawn_once_for_all_means_over_it() -> None:
    rng = np.random.default_rng(1)
    sets = {name: (rng.random(30), list(range(30))) for name in "abc"}
    found = bootstrap_of_choices(sets, {"all": "abc", "first": "a", "again": "a"})
    assert found["all"] == bootstrap_of_means(list(sets.values()))
    assert found["first"] == found["again"] == bootstrap_of_means([sets["a"]])
    with pytest.raises(ValueError, match="There is nothing to take the mean of"):
        bootstrap_of_choices(sets, {"none": []})


def test_columns_are_drawn_as_each_alone() -> None:
    table = np.random.default_rng(0).random((20, 3))
    groups = [f"image {number // 2}" for number in range(20)]
    for own, column in zip(bootstrap_columns(table, groups), table.T, strict=True):
        assert astuple(own) == pytest.approx(astuple(bootstrap(column, groups)))


def test_portions_change_nothing_but_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap([0, 1, 1, 0.5], range(4), resamples=50)
    monkeypatch.setattr("virtue.evaluation.intervals._NUMBERS", 12)
    assert bootstrap([0, 1, 1, 0.5], range(4), resamples=50) == whole


def test_a_mean_of_means_counts_every_set_the_same() -> None:
    one, other = ([1, 1, 1, 1], range(4)), ([0, 1], range(2))
    own = bootstrap_of_means([one, other])
    assert (own.value, own.low, own.high) == (3 / 4, 1 / 2, 1)


def test_nothing_has_no_mean() -> None:
    with pytest.raises(ValueError, match="nothing to take the mean of"):
        bootstrap([], [])
    with pytest.raises(ValueError, match="nothing to take the mean of"):
        bootstrap_of_means([])
    with pytest.raises(ValueError, match="2 values need as many groups, got 1"):
        bootstrap([1, 2], ["a"])


def test_a_run_does_not_differ_from_itself() -> None:
    own = paired_difference([0, 1, 1], [0, 1, 1], ["a", "b", "c"])
    assert own == Difference(mean=0, low=0, high=0, p=1)


def test_every_flip_of_few_groups_is_counted() -> None:
    own = paired_difference([1, 1, 1], [0, 0, 0], ["a", "b", "c"])  # of 8 flips only +++ and --- are as far from 0
    assert (own.mean, own.p) == (1, 2 / 8)
    own = paired_difference([1, 1, 0, 1], [0, 0, 1, 1], ["a", "b", "c", "d"])  # any of 8 flips of +1 +1 -1 is
    assert (own.mean, own.p) == (1 / 4, 1)


def test_queries_of_a_group_flip_together() -> None:
    own = paired_difference([1, 1, 1, 1], [0, 0, 0, 0], ["a", "a", "b", "b"])
    assert own.p == 2 / 4


def test_many_groups_are_flipped_at_random() -> None:
    better, worse = np.ones(40), np.zeros(40)
    assert paired_difference(better, worse, range(40)).p == 1 / 10_001  # none of 10,000 flips is as far from 0
    half = np.arange(40) % 2  # better on twenty, worse on twenty
    assert paired_difference(half, 1 - half, range(40)).p == 1


def test_random_flips_agree_with_all_of_them() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(12), rng.random(12)
    exact = paired_difference(a, b, range(12), flips=4096)
    drawn = paired_difference(a, b, range(12), flips=4095)
    assert drawn.p == pytest.approx(exact.p, abs=0.03)
    assert (drawn.mean, drawn.low, drawn.high) == (exact.mean, exact.low, exact.high)


def test_swapping_the_runs_swaps_the_sign() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random(50), rng.random(50)
    one, other = paired_difference(a, b, range(50)), paired_difference(b, a, range(50))
    assert one.p == other.p
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low))


def test_runs_of_different_length_are_no_pair() -> None:
    with pytest.raises(ValueError, match="Runs on 2 and 3 queries cannot be paired"):
        paired_difference([1, 2], [1, 2, 3], range(2))
