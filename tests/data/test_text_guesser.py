"""The guesser on plain lists; tests of evaluation's guesser try what it learns from."""

import numpy as np
import pytest

from virtue.data.choice_network import ChoiceNetwork
from virtue.data.text_guesser import guess_rate, guesses

WORDS = [f"word{number}" for number in range(100)]


def lists_of(seed: int, first: int, others: int, count: int = 100) -> list[list[str]]:
    """Lists of five texts of random words, the first one `first` words long."""
    rng = np.random.default_rng(seed)
    return [[" ".join(rng.choice(WORDS, first if place == 0 else others)) for place in range(5)] for _ in range(count)]


def test_the_right_text_may_stand_anywhere() -> None:
    lists = lists_of(0, 8, 4)
    turned = [[*own[1:3], own[0], *own[3:]] for own in lists]
    assert guess_rate(lists) == 1
    assert guess_rate(turned, [2] * len(turned)) == 1
    assert guess_rate(lists, [1] * len(lists)) == pytest.approx(0.25, abs=0.13)  # one of the four short ones


def test_by_itself_the_middle_of_swaps_is_not_seen() -> None:
    rng = np.random.default_rng(1)
    lists = []
    for _ in range(120):
        true, other = (list(own) for own in rng.choice(WORDS, 8, replace=False).reshape(2, 4))
        swaps = [[*true[:place], other[place], *true[place + 1 :]] for place in range(4)]
        lists.append([" ".join(own) for own in (true, *swaps)])
    assert (guess_rate(lists) or 0) > 0.9
    assert (guess_rate(lists, compare=False) or 0) < 0.35


def test_by_itself_length_is_seen() -> None:
    assert guess_rate(lists_of(2, 8, 4), compare=False) == 1
    assert guess_rate(lists_of(3, 3, 6), compare=False) == 1


def test_what_it_believes() -> None:
    found = guesses(lists_of(4, 8, 4))
    assert found is not None
    assert found.hits.shape == found.belief.shape == (100,)
    assert found.hits.mean() == 1
    assert found.belief.min() > 0.5
    even = guesses([["dog", "cat"], ["cat", "dog"]] * 10)
    assert even is not None
    np.testing.assert_allclose(even.belief, 0.5, atol=0.05)


def test_one_group_teaches_nothing() -> None:
    assert guess_rate([["a", "b"]] * 3, groups=["one"] * 3) is None
    assert guess_rate([]) is None


def test_what_is_no_list_to_guess() -> None:
    with pytest.raises(ValueError, match="Every list must hold a text"):
        guess_rate([["a"], []])
    with pytest.raises(ValueError, match="There are 2 lists, but 1 right texts; each list needs one"):
        guess_rate([["a"], ["b"]], [0])
    with pytest.raises(ValueError, match="There are 2 lists, but 1 groups; each list is in one"):
        guess_rate([["a"], ["b"]], groups=["one"])


def test_a_weighted_sum_finds_the_end_of_a_row_and_not_its_middle() -> None:
    row = np.tile(np.array([-1.0, 0.0, 1.0], np.float32)[:, None], (40, 1, 1))  # (Q, N, F): three choices in a row
    there = np.ones((40, 3), bool)
    for right, layered, found in ((2, False, True), (1, False, False), (1, True, True)):
        marks = np.zeros((40, 3), bool)
        marks[:, right] = True
        network = ChoiceNetwork.fit(row, there, marks, np.random.default_rng(0), layered=layered)
        assert bool((network.score(row).argmax(axis=1) == right).all()) is found
