import math

import numpy as np
import pytest

from virtue.evaluation.metrics import Figure, first_is_best, mean_over_groups, overlaps, precision_at, recall_at


def test_the_first_of_ten_is_best_or_shares_the_rank() -> None:
    assert first_is_best([[3, 1, 2], [1, 3, 2], [3, 3, 1], [5, 5, 5]]).tolist() == [1, 0, 1 / 2, 1 / 3]


def test_recall_is_the_chance_to_be_among_the_first() -> None:
    scores = [[9, 8, 7, 6], [6, 7, 8, 9], [7, 7, 7, 9], [1, 1, 1, 1]]
    assert recall_at(scores, [0, 0, 0, 0], 1).tolist() == [1, 0, 0, 1 / 4]
    assert recall_at(scores, [0, 0, 0, 0], 2).tolist() == [1, 0, 1 / 3, 1 / 2]
    assert recall_at(scores, [3, 3, 3, 3], 9).tolist() == [1, 1, 1, 1]


def test_precision_is_the_share_of_right_ones_among_the_first() -> None:
    right = [[True, True, True, False]]
    assert precision_at([[9, 8, 1, 7]], right, 2).tolist() == [1]
    assert precision_at([[9, 8, 1, 7]], right, 3).tolist() == [2 / 3]
    assert precision_at([[9, 8, 1, 7]], right, 4).tolist() == [2 / 3]  # three are right, so three are shown


def test_precision_of_ties_is_the_mean_over_all_orders() -> None:
    assert precision_at([[5, 5, 5, 5]], [[True, False, False, True]], 2).tolist() == [1 / 2]
    assert precision_at([[9, 5, 5, 1]], [[True, True, False, True]], 2).tolist() == [3 / 4]


def test_a_query_that_nothing_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="without a right answer"):
        precision_at([[1, 2]], [[False, False]], 1)


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_scores_must_be_finite(score: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        first_is_best([[score, 0]])


def test_the_error_of_a_mean_with_one_value_in_each_group_is_the_common_one() -> None:
    figure = mean_over_groups([0, 1, 0, 1], [0, 1, 2, 3])
    assert figure.mean == 1 / 2
    assert figure.error == pytest.approx(math.sqrt((1 / 3) / 4))  # variance 1/3 of four values


def test_equal_values_within_a_group_count_as_one_observation() -> None:
    twice = mean_over_groups([0, 0, 1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 2, 2, 3, 3])
    assert twice.error == pytest.approx(mean_over_groups([0, 1, 0, 1], [0, 1, 2, 3]).error)


def test_one_group_tells_no_error_and_none_is_refused() -> None:
    assert math.isnan(mean_over_groups([1, 0], [0, 0]).error)
    with pytest.raises(ValueError, match="nothing"):
        mean_over_groups([], [])


def test_figures_read_as_percent() -> None:
    assert str(Figure(0.8237, 0.0104)) == "82.4 ± 1.0"
    assert str(Figure(0.5, math.nan)) == "50.0"


def test_overlap_of_masks() -> None:
    left = np.zeros((1, 2, 4), dtype=bool)
    left[:, :, :3] = True  # six pixels
    right = np.zeros((1, 2, 4), dtype=bool)
    right[:, :, 2:] = True  # four, two of them shared
    assert overlaps(left, right).tolist() == [2 / 8]
    assert overlaps(left & ~left, left & ~left).tolist() == [0]
