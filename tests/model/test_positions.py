import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_config
from virtue.model.modeling_virtue import VirtueModel
from virtue.model.positions import POSITION_RULES, image_frame_positions, released_positions


def image_tokens(before: int, image: int, after: int) -> Tensor:
    return torch.tensor([False] * before + [True] * image + [False] * after)


def test_segmentation_tokens_stand_where_they_look() -> None:
    # The nano model: 4 x 4 segmentation tokens over 8 x 8 image tokens, each over the middle of 2 x 2 of them.
    time, height, width = image_frame_positions(image_tokens(0, 64, 3), (8, 8), side=4)[:, :16]
    assert not time.any()
    assert height.view(4, 4).tolist() == [[0.5] * 4, [2.5] * 4, [4.5] * 4, [6.5] * 4]
    assert width.view(4, 4).tolist() == [[0.5, 2.5, 4.5, 6.5]] * 4


def test_image_frame_of_a_wide_picture_by_hand() -> None:
    # One token of text, 2 x 4 image tokens seen by 2 x 2 segmentation tokens, two tokens of text.
    time, height, width = image_frame_positions(image_tokens(1, 8, 2), (2, 4), side=2).tolist()
    # Four segmentation tokens, the word, eight image tokens, then two words behind the longer side: 1 + 4.
    assert time == [1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 5, 6]
    assert height == [1, 1, 2, 2, 0, 1, 1, 1, 1, 2, 2, 2, 2, 5, 6]
    assert width == [1.5, 3.5, 1.5, 3.5, 0, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6]


def test_as_many_segmentation_as_image_tokens_stand_on_them() -> None:
    positions = image_frame_positions(image_tokens(0, 9, 0), (3, 3), side=3)
    assert torch.equal(positions[:, :9], positions[:, 9:])


def test_without_segmentation_tokens_the_image_frame_is_qwens_m_rope() -> None:
    theirs = VirtueModel(tiny_config(sam=False)).vlm.get_rope_index
    for grid in ((2, 4), (5, 3), (1, 1)):
        tokens = image_tokens(2, grid[0] * grid[1], 4)
        patches = torch.tensor([[1, 2 * grid[0], 2 * grid[1]]])
        expected, _ = theirs(tokens.long()[None], tokens.int()[None], image_grid_thw=patches)
        assert torch.equal(image_frame_positions(tokens, grid, side=0).long(), expected[:, 0])


def test_released_rule_by_hand() -> None:
    positions = released_positions(image_tokens(0, 2, 3), (1, 2), side=2)
    assert positions.tolist() == [[0, 0, 0, 0, 4, 5, 6, 7, 8]] * 3


@pytest.mark.parametrize("rule", POSITION_RULES)
def test_text_alone_is_counted_from_zero(rule: str) -> None:
    assert POSITION_RULES[rule](image_tokens(0, 0, 4), None, side=4).tolist() == [[0, 1, 2, 3]] * 3
