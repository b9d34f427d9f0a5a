import numpy as np
import pytest

from virtue.prompts import Box, as_visual_prompt
from virtue.training.prompting import KINDS, Kind, draw_prompt, rough_box, rough_mask, shrink, tight_box

HEIGHT, WIDTH = 12, 20


def rectangle(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


MASKS = {
    "a pixel": rectangle(7, 5, 8, 6),
    "the first pixel": rectangle(0, 0, 1, 1),
    "the last pixel": rectangle(19, 11, 20, 12),
    "the last two pixels": rectangle(18, 11, 20, 12),
    "the left column": rectangle(0, 0, 1, 12),
    "the lowest row": rectangle(0, 11, 20, 12),
    "a block": rectangle(4, 2, 14, 10),
    "a block in a corner": rectangle(12, 4, 20, 12),
    "everything": rectangle(0, 0, 20, 12),
    "all but a pixel": ~rectangle(19, 11, 20, 12),
    "scattered": np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.05,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MASKS)
def test_every_kind_is_inside_the_picture_and_about_the_object(kind: Kind, name: str) -> None:
    mask = MASKS[name]
    for seed in range(40):
        prompt = as_visual_prompt(draw_prompt(kind, mask, np.random.default_rng(seed)), WIDTH, HEIGHT)
        for point in prompt.points:
            assert mask[int(point.y), int(point.x)] == point.include
        included = sum(point.include for point in prompt.points)
        excluded = len(prompt.points) - included
        has = (prompt.box is not None, prompt.mask is not None, included > 0)
        allowed = {
            "box": [(True, False, False)],
            "point": [(False, False, True)],
            "points": [(False, False, True)],
            "mask": [(False, True, False)],
            "mixed": [(True, True, False), (True, False, True)],
        }
        assert has in allowed[kind]
        assert included <= (3 if kind == "points" else 1)
        assert excluded <= (2 if kind == "points" else 0)


def test_random_masks_give_prompts_inside_the_picture() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        height, width = rng.integers(2, 9, 2).tolist()
        mask = rng.random((height, width)) < 0.3
        mask[rng.integers(height), rng.integers(width)] = True
        for kind in KINDS:
            as_visual_prompt(draw_prompt(kind, mask, rng), width, height)


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_in_the_same_state_draws_the_same(kind: Kind) -> None:
    mask = MASKS["a block"]
    drawn = [[draw_prompt(kind, mask, rng) for _ in range(5)] for rng in map(np.random.default_rng, (3, 3))]
    assert drawn[0] == drawn[1]
    assert any(prompt != drawn[0][0] for prompt in drawn[0][1:])


def test_a_tight_box_has_its_far_edges_outside() -> None:
    assert tight_box(MASKS["a block"]) == (4, 2, 14, 10)
    assert tight_box(MASKS["the last pixel"]) == (19, 11, 20, 12)


def test_a_box_without_jitter_is_the_tight_one() -> None:
    assert rough_box(MASKS["a block"], np.random.default_rng(0), jitter=0.0) == Box(4, 2, 14, 10)


def test_the_jitter_of_an_edge_is_a_share_of_its_side() -> None:
    mask = MASKS["a block"]  # 10 wide, 8 high
    boxes = [rough_box(mask, rng, jitter=0.05) for rng in map(np.random.default_rng, range(400))]
    spread = np.std([(box.x1, box.y1, box.x2, box.y2) for box in boxes], axis=0)
    assert spread == pytest.approx([0.5, 0.4, 0.5, 0.4], rel=0.15)


def test_shrinking_takes_what_is_near_an_edge_but_not_near_the_border() -> None:
    mask = np.ones((5, 6), dtype=bool)
    mask[2, 3] = False
    assert shrink(mask, 1).astype(int).tolist() == [
        [1, 1, 1, 1, 1, 1],
        [1, 1, 0, 0, 0, 1],
        [1, 1, 0, 0, 0, 1],
        [1, 1, 0, 0, 0, 1],
        [1, 1, 1, 1, 1, 1],
    ]
    assert shrink(mask, 2).astype(int).tolist() == [[1, 0, 0, 0, 0, 0]] * 5
    assert shrink(np.ones((2, 3), dtype=bool), 4).all()
    assert mask.sum() == 29  # the mask that was given is left alone


def test_rough_masks_are_the_mask_grown_shrunk_or_displaced() -> None:
    mask = rectangle(8, 4, 14, 9)  # 6 wide, 5 high, 3 or more from every border
    drawn = [rough_mask(mask, rng).array for rng in map(np.random.default_rng, range(60))]
    areas = {int(array.sum()) for array in drawn}
    # as large, moved by 4 so that a row of six leaves the picture, shrunk by 2 on each side, grown by 3
    assert areas == {30, 30 - 6, 2 * 1, 12 * 11}
    corners = {tight_box(array)[:2] for array in drawn if array.sum() == 30}
    assert len(corners) > 5
    assert {x for x, _ in corners} <= set(range(4, 13))


def test_a_mask_that_shrinks_to_nothing_is_kept() -> None:
    mask = MASKS["a pixel"]
    assert all(rough_mask(mask, np.random.default_rng(seed)).array.any() for seed in range(40))
