"""InfoNCE against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from virtue.training.loss import info_nce, same_answers

EYE = torch.eye(4)


def rows(*angles: float) -> Tensor:
    """Unit vectors of the plane at angles in degrees."""
    return torch.tensor([[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in angles])


def test_all_alike_costs_the_logarithm_of_the_targets() -> None:
    alike = torch.ones(3, 4) / 2
    assert info_nce(alike, alike).item() == pytest.approx(math.log(3))


def test_in_batch_negatives_by_hand() -> None:
    # Similarities are [[1, 0], [0, 1]]: each query costs log(e + 1) - 1 at temperature 1.
    assert info_nce(EYE[:2], EYE[:2], 1.0).item() == pytest.approx(math.log(math.e + 1) - 1)
    assert info_nce(EYE[:2], EYE[:2], 0.5).item() == pytest.approx(math.log(math.e**2 + 1) - 2)


def test_groups_of_a_positive_and_its_hard_negatives() -> None:
    # Query 0 meets 1, 0, 0, 0; query 1 meets 0, 0, 1, 0 with its positive third.
    targets = torch.stack([EYE[0], EYE[2], EYE[1], EYE[3]])
    assert info_nce(EYE[:2], targets, 1.0).item() == pytest.approx(math.log(math.e + 3) - 1)


def test_ragged_hard_negatives() -> None:
    # Three targets more for both queries, but two of them belong to query 0 and one to query 1.
    targets = torch.cat([EYE[:2], EYE[2:3], EYE[3:4], EYE[2:3]])
    value = info_nce(EYE[:2], targets, 1.0, positives=torch.tensor([0, 1]))
    assert value.item() == pytest.approx(math.log(math.e + 4) - 1)


def test_symmetric_is_the_mean_of_both_directions() -> None:
    queries, targets = rows(0, 60), rows(0, 180)
    there, back = info_nce(queries, targets, 1.0), info_nce(targets, queries, 1.0)
    assert info_nce(queries, targets, 1.0, symmetric=True).item() == pytest.approx((there + back).item() / 2)
    assert there.item() != pytest.approx(back.item())


def test_hard_negative_queries_count_for_targets_only() -> None:
    queries = torch.cat([EYE[:2], EYE[2:3]])  # the third has no positive
    positives = torch.tensor([0, 1])
    one_way = info_nce(queries, EYE[:2], 1.0, positives=positives)
    assert one_way.item() == pytest.approx(math.log(math.e + 1) - 1)
    both = info_nce(queries, EYE[:2], 1.0, positives=positives, symmetric=True)
    assert both.item() == pytest.approx((math.log(math.e + 1) - 1 + math.log(math.e + 2) - 1) / 2)


def test_the_same_answer_is_no_negative() -> None:
    same = torch.tensor([[False, True], [True, False]])
    assert info_nce(EYE[:2], EYE[:2], 1.0, same=same).item() == pytest.approx(0)
    assert info_nce(EYE[:2], EYE[:2], 1.0, same=same, symmetric=True).item() == pytest.approx(0)
    own = torch.ones(2, 2, dtype=torch.bool)  # the positive itself is never left out
    assert info_nce(EYE[:2], EYE[:2], 1.0, same=own).item() == pytest.approx(0)


def test_a_negative_above_the_positive_by_the_margin_is_left_out() -> None:
    query, targets = rows(0), rows(60, 0, 90)  # similarities 0.5, 1 and 0; the positive is the first
    positive = torch.tensor([0])
    kept = math.log(math.exp(0.5) + math.exp(1) + 1) - 0.5
    assert info_nce(query, targets, 1.0, positives=positive, margin=0.6).item() == pytest.approx(kept)
    left_out = math.log(math.exp(0.5) + 1) - 0.5
    assert info_nce(query, targets, 1.0, positives=positive, margin=0.4).item() == pytest.approx(left_out, abs=1e-6)


def test_matryoshka_is_the_mean_over_the_cut_embeddings() -> None:
    queries = torch.nn.functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    targets = torch.nn.functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    cut = [torch.nn.functional.normalize(side[:, :2], dim=1) for side in (queries, targets)]
    expected = (info_nce(queries, targets) + info_nce(*cut)) / 2
    assert info_nce(queries, targets, dimensions=(8, 2)).item() == pytest.approx(expected.item())


def test_a_temperature_may_learn() -> None:
    temperature = torch.tensor(1.0, requires_grad=True)
    info_nce(EYE[:2], EYE[:2], temperature).backward()
    # d/dT of log(e^(1/T) + 1) - 1/T at T = 1 is 1 - e / (e + 1).
    assert temperature.grad is not None
    assert temperature.grad.item() == pytest.approx(1 - math.e / (math.e + 1))


def test_same_answers() -> None:
    query_keys, target_keys = torch.tensor([1, 2, 1, 9]), torch.tensor([5, 6, 7, 5])
    found = same_answers(query_keys, target_keys, torch.tensor([0, 1, 2]))
    # Queries 0 and 2 are the same, so 5 and 7 answer both, wherever they stand; the last query asks nothing known.
    assert found.tolist() == [
        [True, False, True, True],
        [False, True, False, False],
        [True, False, True, True],
        [False, False, False, False],
    ]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="3 targets are no whole multiple of 2 queries"):
        info_nce(EYE[:2], EYE[:3])
    with pytest.raises(ValueError, match="3 positives do not fit 2 queries"):
        info_nce(EYE[:2], EYE, positives=torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="1 positives do not fit 2 queries and 2 targets"):
        info_nce(EYE[:2], EYE[:2], positives=torch.tensor([2]))
    with pytest.raises(ValueError, match="of one width D"):
        info_nce(EYE[:2], torch.eye(2))
    with pytest.raises(ValueError, match="temperature is greater than 0, not 0"):
        info_nce(EYE[:2], EYE[:2], 0)
    with pytest.raises(ValueError, match="margin is 0 or more, not -1"):
        info_nce(EYE[:2], EYE[:2], margin=-1)
    with pytest.raises(ValueError, match="between 1 and the embedding's 4, not at 5"):
        info_nce(EYE[:2], EYE[:2], dimensions=(4, 5))


def test_similarities_are_told_apart_under_autocast() -> None:
    queries = torch.nn.functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    targets = torch.nn.functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    expected = info_nce(queries, targets, 0.02, symmetric=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = info_nce(queries, targets, 0.02, symmetric=True)
    assert found.dtype == torch.float32
    assert found.item() == expected.item()
