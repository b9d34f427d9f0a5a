import pickle
import time
from collections import Counter
from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.files import Numbers
from virtue.data.mixture import Mixture, Part, PartCount

Sizes = st.lists(st.integers(1, 40), min_size=1, max_size=4)


def parts(sizes: list[int], weights: list[float] | None = None, cap: int | None = None) -> list[Part]:
    return [Part(Numbers(f"s{i}", size), weights[i] if weights else None, cap) for i, size in enumerate(sizes)]


def places(mixture: Mixture, start: int, count: int) -> list[tuple[int, int]]:
    return [mixture.where(position) for position in range(start, start + count)]


@given(Sizes, st.integers(0, 1000), st.integers(1, 9), st.integers(0, 3))
def test_without_weights_an_epoch_holds_every_row_once(sizes: list[int], seed: int, block: int, epoch: int) -> None:
    mixture = Mixture(parts(sizes), seed, block)
    assert len(mixture) == sum(sizes)
    seen = places(mixture, epoch * len(mixture), len(mixture))
    assert sorted(seen) == [(i, row) for i, size in enumerate(sizes) for row in range(size)]


@given(Sizes, st.integers(0, 1000), st.integers(1, 9))
def test_rows_come_in_blocks_of_one_source(sizes: list[int], seed: int, block: int) -> None:
    mixture = Mixture(parts(sizes), seed, block)
    runs = [(part, len(list(run))) for part, run in groupby(part for part, _ in places(mixture, 0, len(mixture)))]
    for part, size in enumerate(sizes):
        lengths = [length for owner, length in runs if owner == part]
        # Neighbouring blocks of one source look like one; what does not fill a block is in one place.
        assert sum(length % block != 0 for length in lengths) == (size % block != 0)


@given(Sizes, st.integers(0, 1000), st.integers(1, 5), st.integers(1, 6), st.integers(0, 20))
def test_processes_share_the_stream_without_loss_or_doubling(
    sizes: list[int], seed: int, world: int, batch_size: int, first: int
) -> None:
    mixture = Mixture(parts(sizes), seed, 4)
    steps = range(first, first + 4)
    positions = [p for step in steps for rank in range(world) for p in mixture.batches(step, batch_size, rank, world)]
    assert positions == list(range(first * world * batch_size, (first + 4) * world * batch_size))
    copies = [pickle.loads(pickle.dumps(mixture)) for _ in range(world)]
    shared = [
        copies[rank].where(p)
        for step in steps
        for rank in range(world)
        for p in mixture.batches(step, batch_size, rank, world)
    ]
    assert shared == places(mixture, positions[0], len(positions))


@given(st.lists(st.tuples(st.integers(1, 12), st.floats(0.5, 4)), min_size=1, max_size=3), st.integers(12, 60))
def test_with_weights_no_row_comes_again_before_its_pass_ends(given_parts: list[tuple[int, float]], rows: int) -> None:
    sizes, weights = [size for size, _ in given_parts], [weight for _, weight in given_parts]
    mixture = Mixture(parts(sizes, weights), 5, 4, epoch_rows=rows)
    assert len(mixture) == rows
    seen = [Counter[int]() for _ in sizes]
    for _ in range(2):
        for count, quota in zip(mixture.counts(), [weight / sum(weights) * rows for weight in weights], strict=True):
            assert abs(count.per_epoch - quota) < 1
    for epoch in range(4):
        for part, row in places(mixture, epoch * rows, rows):
            seen[part][row] += 1
        for size, counts in zip(sizes, seen, strict=True):
            frequency = [counts[row] for row in range(size)]
            assert max(frequency) - min(frequency) <= 1  # whole passes, and a part of the next


def test_shares_follow_the_weights_and_add_up() -> None:
    mixture = Mixture(parts([100, 10, 10], [1, 1, 1]), 0, epoch_rows=100)
    assert [count.per_epoch for count in mixture.counts()] == [34, 33, 33]
    mixture = Mixture(parts([100, 10], [3, 1]), 0)
    assert [count.per_epoch for count in mixture.counts()] == [83, 27]  # 82.5 and 27.5 of 110
    assert [part for part, _ in places(mixture, 0, 110)].count(1) == 27
    assert [count.per_epoch for count in Mixture(parts([4, 4], [1e308, 1e308]), 0).counts()] == [4, 4]


def test_a_cap_is_one_choice_for_all_epochs() -> None:
    mixture = Mixture([Part(Numbers("a", 100), cap=10), Part(Numbers("b", 3), cap=10)], seed=1)
    assert mixture.counts() == [PartCount("a", 100, 10, 10), PartCount("b", 3, 3, 3)]
    epochs = [sorted(places(mixture, 13 * epoch, 13)) for epoch in range(3)]
    assert epochs[0] == epochs[1] == epochs[2]
    assert len(set(epochs[0])) == 13
    other = Mixture([Part(Numbers("a", 100), cap=10)], seed=2)
    assert {row for part, row in epochs[0] if part == 0} != {row for _, row in places(other, 0, 10)}


def test_the_seed_decides_and_every_epoch_is_another_order() -> None:
    first = places(Mixture(parts([50, 50]), 7, 8), 0, 200)
    assert first == places(Mixture(parts([50, 50]), 7, 8), 0, 200)
    assert first != places(Mixture(parts([50, 50]), 8, 8), 0, 200)
    assert first[:100] != first[100:]
    owners = [part for part, _ in first[:100]]
    assert sum(a != b for a, b in pairwise(owners)) > 3  # blocks are shuffled, not one source after the other


def test_positions_in_any_order_give_the_same() -> None:
    mixture = Mixture(parts([9, 5]), 3, 2)
    straight = places(mixture, 0, 70)
    order = np.random.default_rng(0).permutation(70).tolist()
    assert [mixture.where(position) for position in order] == [straight[position] for position in order]
    assert len(mixture._epochs) == 2  # of five


def test_a_pair_knows_its_position() -> None:
    mixture = Mixture(parts([4, 4]), 0)
    part, row = mixture.where(21)
    pair = mixture[21]
    assert (pair.query.text, pair.draw, pair.where) == (f"s{part} {row}", 21, f"s{part} row {row + 1}")


def test_millions_of_rows_are_ordered_in_a_moment() -> None:
    mixture = Mixture(parts([1_500_000, 500_000, 7]), 0)
    start = time.process_time()
    assert mixture.where(2_000_006)[0] in (0, 1, 2)
    assert time.process_time() - start < 5  # seconds; 0.2 as a rule
    assert len(pickle.dumps(mixture)) < 1000


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(1, 7))
def test_a_step_goes_on_where_the_last_one_ended(world: int, batch_size: int) -> None:
    for step in range(3):
        last = Mixture.batches(step, batch_size, world - 1, world)
        assert Mixture.batches(step + 1, batch_size, 0, world)[0] == last[-1] + 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mixture([], 0), "A mixture needs at least one source, got none"),
        (lambda: Part(Numbers("a", 0)), "a has no rows"),
        (lambda: Part(Numbers("a", 1), cap=0), "The cap of a must be 1 or more, got 0"),
        (lambda: Part(Numbers("a", 1), weight=0), "The weight of a must be a number above 0, got 0"),
        (lambda: Part(Numbers("a", 1), weight=float("nan")), "The weight of a must be a number above 0, got nan"),
        (lambda: Mixture(parts([1]), 0, block=0), "block must be 1 or more, got 0"),
        (
            lambda: Mixture([Part(Numbers("a", 1), 1.0), Part(Numbers("b", 1))], 0),
            "Give all parts a weight or none: a has one, b has none",
        ),
        (lambda: Mixture(parts([1]), 0, epoch_rows=3), "epoch_rows goes with weights"),
        (lambda: Mixture(parts([1], [1.0]), 0, epoch_rows=0), "epoch_rows must be 1 or more, got 0"),
        (lambda: Mixture(parts([9, 1], [1000.0, 1.0]), 0), "s1 with weight 1.0 would have no row in an epoch of 10;"),
        (lambda: Mixture.batches(-1, 2), "step must be 0 or more and batch_size 1 or more, got -1 and 2"),
        (lambda: Mixture.batches(0, 0), "step must be 0 or more and batch_size 1 or more, got 0 and 0"),
        (lambda: Mixture.batches(0, 1, 2, 2), "rank must be from 0 to 1, one less than the processes, got 2"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make()


def test_there_is_nothing_before_the_first_position() -> None:
    with pytest.raises(IndexError, match="A position in a mixture must be 0 or more, got -1"):
        Mixture(parts([1]), 0)[-1]
