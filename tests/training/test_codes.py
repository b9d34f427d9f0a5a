import math

import pytest
import torch
from torch.nn import functional

from virtue.scenes.vocabulary import OBJECTS
from virtue.training.codes import (
    FULL,
    LOUDNESS,
    IdealCodes,
    cell_loss,
    class_shares,
    front_loss,
    front_tokens,
    ideal_tokens,
    pointed_shares,
    token_loss,
)

NOTHING = len(OBJECTS)


def test_codes_follow_from_the_seed() -> None:
    assert torch.equal(IdealCodes(8, seed=3).pointed, IdealCodes(8, seed=3).pointed)
    assert not torch.equal(IdealCodes(8, seed=3).pointed, IdealCodes(8, seed=4).pointed)
    assert IdealCodes(8, seed=3).pointed.shape == (NOTHING + 1, 8)
    assert IdealCodes(8, seed=3).front.shape == (1, 8)


def test_pointed_shares() -> None:
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, :2, :1] = True  # half of the first of four cells
    shares = pointed_shares(masks, torch.tensor([5, 6]), 2)
    assert shares[0, 5].tolist() == [[0.5, 0], [0, 0]]
    assert shares[0, NOTHING].tolist() == [[0.5, 1], [1, 1]]
    assert shares[1, NOTHING].tolist() == [[1, 1], [1, 1]]
    assert shares.sum(1).unique().tolist() == [1]


def test_ideal_tokens_are_louder_where_more_is_seen() -> None:
    codes = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    shares = torch.tensor([[[[1.0, 0.25]], [[0.0, 0.75]]]])  # one picture, two classes, one row of two cells
    expected = torch.tensor([[[1.0, 0.0], [0.5, math.sqrt(0.75)]]])
    assert torch.allclose(ideal_tokens(codes, shares), expected)


def test_token_loss_asks_for_the_code_and_not_for_nothing() -> None:
    codes = IdealCodes(192, seed=0).pointed
    shares = torch.zeros(1, NOTHING + 1, 2, 2)
    shares[:, NOTHING] = 1
    shares[0, :, 0, 0] = 0
    shares[0, 7, 0, 0] = 1  # one cell of four shows something
    said = ideal_tokens(codes, shares)
    silent = codes[NOTHING].expand_as(said)
    assert float(token_loss(said, codes, shares)) < 0.1
    assert float(token_loss(silent, codes, shares)) > 5
    assert torch.allclose(token_loss(said + 2, codes, shares, base=2.0), token_loss(said, codes, shares), atol=1e-3)


def test_token_loss_knows_what_each_token_says_besides() -> None:
    codes, base = IdealCodes(192, seed=0).pointed, torch.randn(1, 4, 192)
    shares = torch.zeros(1, NOTHING + 1, 2, 2)
    shares[:, 7] = 1
    said = ideal_tokens(codes, shares)
    assert float(token_loss(said + base, codes, shares, base)) < 0.1
    assert float(token_loss(said, codes, shares, base)) > 0.1


def test_front_tokens_are_as_loud_as_can_be_from_a_quarter_of_a_cell_on() -> None:
    signs = torch.tensor([[[FULL, FULL / 2, 0.0], [-FULL / 2, -FULL, 0.9]]])
    tokens = front_tokens(torch.tensor([[2.0, 4.0]]), signs)
    assert tokens.tolist() == [[[2, 4], [1, 2], [0, 0], [-1, -2], [-2, -4], [2, 4]]]


def test_front_loss_asks_in_front_or_behind_where_that_is_a_question() -> None:
    code, signs = torch.tensor([[1.0, 0.0]]), torch.tensor([[[FULL, -FULL / 2, 0.0]]])
    tokens = torch.tensor([[[LOUDNESS * math.log(3), 9.0]] * 3])  # all say: in front, three to one
    right, wrong = math.log(4 / 3), math.log(4)
    assert float(front_loss(tokens, code, signs)) == pytest.approx((right + wrong / 2) / 1.5)
    assert float(front_loss(tokens, code, -signs)) == pytest.approx((wrong + right / 2) / 1.5)


def test_front_loss_is_nothing_where_nothing_meets() -> None:
    assert float(front_loss(torch.randn(2, 4, 8), torch.randn(1, 8), torch.zeros(2, 2, 2))) == 0


def test_cell_loss_of_an_undecided_model_is_the_log_of_the_classes() -> None:
    shares = torch.rand(2, 5, 3, 3).softmax(1)
    assert float(cell_loss(torch.zeros(2, 5, 3, 3), shares)) == pytest.approx(math.log(5))


def test_cell_loss_weighs_empty_cells_lightly() -> None:
    shares = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2)  # the object fills the first of two cells
    logits = torch.zeros(1, 2, 1, 2)
    logits[0, 0] = math.log(3)  # both cells say: object, three to one
    seen, missed = math.log(4 / 3), math.log(4)
    assert float(cell_loss(logits, shares)) == pytest.approx((seen + 0.05 * missed) / 1.05)


def test_class_shares() -> None:
    everything = torch.tensor([[[0, 0], [NOTHING, 1]]])
    whole = class_shares(everything, 1)
    assert whole.shape == (1, NOTHING + 1, 1, 1)
    assert whole[0, [0, 1, NOTHING], 0, 0].tolist() == [0.5, 0.25, 0.25]
    columns = class_shares(everything, (1, 2))
    assert columns[0, [0, 1, NOTHING], 0].tolist() == [[0.5, 0.5], [0.0, 0.5], [0.5, 0.0]]
    assert class_shares(everything, 2)[0].argmax(0).tolist() == everything[0].tolist()


def test_class_shares_of_several_pictures_that_the_grid_does_not_divide() -> None:
    everything = torch.full((2, 5, 7), NOTHING)
    everything[1, :, :3] = 2  # 7 columns in 2 cells: the first four, the last three
    shares = class_shares(everything, (3, 2))
    assert shares[0, NOTHING].tolist() == [[1.0, 1.0]] * 3
    assert shares[1, 2].tolist() == [[0.75, 0.0]] * 3
    assert torch.allclose(shares.sum(1), torch.ones(2, 3, 2))


def test_class_shares_are_the_means_of_each_class() -> None:
    everything = torch.randint(0, NOTHING + 1, (3, 8, 12), dtype=torch.uint8)
    planes = functional.one_hot(everything.long(), NOTHING + 1).permute(0, 3, 1, 2).float()
    assert torch.allclose(class_shares(everything, (4, 3)), functional.adaptive_avg_pool2d(planes, (4, 3)))
