import math
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import pytrec_eval

from virtue.evaluation.metrics import (
    Figure,
    expected_hit,
    expected_ndcg,
    expected_recall,
    expected_reciprocal_rank,
    first_is_best,
    mean_over_groups,
    overlaps,
    precision_at,
    recall_at,
)
from virtue.evaluation.ranking import Placing, placing


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


def placed(better: list[int], level: list[int], listed: int = 10) -> Placing:
    return Placing(np.array(better), np.array(level), listed)


def test_a_right_one_at_rank_three() -> None:
    own = [placed([2], [1])]
    assert [float(expected_hit(own, k)[0]) for k in (1, 2, 3, 10)] == [0, 0, 1, 1]
    assert [float(expected_recall(own, k)[0]) for k in (2, 3)] == [0, 1]
    assert expected_reciprocal_rank(own)[0] == 1 / 3
    assert expected_ndcg(own, 2)[0] == 0
    assert expected_ndcg(own, 10)[0] == pytest.approx(1 / 2)  # 1 / log2(1 + 3)


def test_a_model_that_gives_everything_the_same_score_gets_chance() -> None:
    own = [placed([0], [10])]
    assert expected_hit(own, 1)[0] == 1 / 10
    assert expected_hit(own, 5)[0] == 1 / 2
    assert expected_recall(own, 5)[0] == 1 / 2
    assert expected_reciprocal_rank(own)[0] == pytest.approx(sum(1 / rank for rank in range(1, 11)) / 10)
    assert expected_ndcg(own, 1)[0] == pytest.approx(1 / 10)


def test_two_right_ones_of_four_that_are_level() -> None:
    own = [placed([0, 0], [4, 4], 4)]  # of six pairs of ranks three hold the first, two more the second, one neither
    assert expected_hit(own, 1)[0] == pytest.approx(3 / 6)
    assert expected_hit(own, 2)[0] == pytest.approx(5 / 6)
    assert expected_recall(own, 2)[0] == 1 / 2
    assert expected_reciprocal_rank(own)[0] == pytest.approx((3 * 1 + 2 / 2 + 1 / 3) / 6)
    assert expected_ndcg(own, 2)[0] == pytest.approx(1 / 2)  # each rank holds a right one with chance 1/2


def test_more_right_ones_than_are_looked_at() -> None:
    own = [placed([0, 1, 2], [1, 1, 1])]
    assert expected_recall(own, 2)[0] == pytest.approx(2 / 3)
    assert expected_ndcg(own, 2)[0] == 1  # nothing better fits in two places


def test_queries_do_not_mix() -> None:
    own = [placed([0, 5], [1, 1]), placed([4], [1]), placed([1, 1, 7], [3, 3, 1])]
    for metric in METRICS.values():
        assert metric(own).tolist() == [float(metric([one])[0]) for one in own]


METRICS: dict[str, Callable[[list[Placing]], np.ndarray]] = {
    "recip_rank": expected_reciprocal_rank,
    "success_1": lambda placings: expected_hit(placings, 1),
    "success_5": lambda placings: expected_hit(placings, 5),
    "recall_5": lambda placings: expected_recall(placings, 5),
    "recall_10": lambda placings: expected_recall(placings, 10),
    "ndcg_cut_3": lambda placings: expected_ndcg(placings, 3),
    "ndcg_cut_10": lambda placings: expected_ndcg(placings, 10),
}


def test_rankings_without_ties_agree_with_trec_eval() -> None:
    rng = np.random.default_rng(0)
    scores = [rng.permutation(40) / 40 for _ in range(50)]
    rights = [np.isin(np.arange(40), rng.choice(40, 1 + number % 14, replace=False)) for number in range(50)]
    judged = {str(i): {f"d{j}": int(own) for j, own in enumerate(right)} for i, right in enumerate(rights)}
    ran = {str(i): {f"d{j}": float(own) for j, own in enumerate(score)} for i, score in enumerate(scores)}
    theirs = pytrec_eval.RelevanceEvaluator(judged, set(METRICS)).evaluate(ran)
    placings = [placing(score, right) for score, right in zip(scores, rights, strict=True)]
    for name, metric in METRICS.items():
        assert metric(placings) == pytest.approx([theirs[str(i)][name] for i in range(50)], abs=1e-12)


@pytest.mark.parametrize("seed", range(25))
def test_ties_give_the_mean_over_all_orders(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 7))
    scores, right = rng.integers(3, size=count) / 3, rng.random(count) < 0.5
    right[rng.integers(count)] = True
    orders = [order for order in map(list, permutations(range(count))) if (np.diff(scores[order]) <= 0).all()]
    strict = [placing(-np.argsort(order) / count, right) for order in orders]  # each order without any ties
    assert len(strict) >= 1
    for metric in METRICS.values():
        assert metric([placing(scores, right)])[0] == pytest.approx(metric(strict).mean(), abs=1e-12)
