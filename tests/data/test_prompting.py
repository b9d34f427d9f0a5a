import numpy as np
import pytest

from virtue.data.prompting import (
    KINDS,
    PROMPT_KINDS,
    Kind,
    PromptKinds,
    checked_kinds,
    draw_prompt,
    redraw,
    rough_box,
    rough_mask,
    shrink,
    tight_box,
)
from virtue.prompts import Box, Mask, Point, VisualPrompt, as_visual_prompt

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


def drawn(prompt: VisualPrompt, kinds: PromptKinds | None, size: tuple[int, int] | None = None) -> list[VisualPrompt]:
    return [redraw(prompt, np.random.default_rng(seed), kinds, size) for seed in range(200)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_gives_the_kinds_that_have_weight(kind: Kind) -> None:
    mask = MASKS["a block"]
    for seed in range(20):
        rng, same = np.random.default_rng(seed), np.random.default_rng(seed)
        same.random()  # the kind
        annotated = VisualPrompt(box=Box(4, 2, 14, 10), mask=Mask(mask))
        assert redraw(annotated, rng, {kind: 2.0}) == draw_prompt(kind, mask, same)


def test_kinds_come_as_often_as_their_weights_say() -> None:
    kinds: PromptKinds = {"box": 3.0, "mask": 1.0}
    prompts = drawn(VisualPrompt(mask=Mask(MASKS["a block"])), kinds)
    assert sum(prompt.mask is not None for prompt in prompts) == pytest.approx(50, abs=20)
    assert all((prompt.mask is None) != (prompt.box is None) and not prompt.points for prompt in prompts)
    by_default = drawn(VisualPrompt(mask=Mask(MASKS["a block"])), PROMPT_KINDS)
    assert {(bool(p.points), p.box is not None, p.mask is not None) for p in by_default} == {
        (True, False, False),
        (False, True, False),
        (False, False, True),
        (True, True, False),
        (False, True, True),
    }


def test_a_box_alone_is_jittered_inside_the_picture_and_never_clicked() -> None:
    box = Box(0, 2, 10, 10)
    boxes = [p.box for p in drawn(VisualPrompt(box=box), PROMPT_KINDS, (WIDTH, HEIGHT)) if not p.points and not p.mask]
    assert len(boxes) == 200
    corners = np.array([(b.x1, b.y1, b.x2, b.y2) for b in boxes if b])
    assert (corners[:, 0] >= 0).all()
    assert (corners[:, 3] <= HEIGHT).all()
    spread = corners.std(axis=0)
    assert spread[1:] == pytest.approx([0.4, 0.5, 0.4], rel=0.2)  # 5 % of 10 wide, 8 high
    assert corners.mean(axis=0)[1:] == pytest.approx([2, 10, 10], abs=0.15)


def test_a_box_in_a_picture_of_unknown_size_stays_within_itself() -> None:
    boxes = [prompt.box for prompt in drawn(VisualPrompt(box=Box(0, 2, 10, 10)), PROMPT_KINDS)]
    corners = np.array([(b.x1, b.y1, b.x2, b.y2) for b in boxes if b])
    assert (corners >= [0, 2, 0, 2]).all()
    assert (corners <= [10, 10, 10, 10]).all()
    assert corners.std(axis=0).min() > 0.1


def test_clicks_and_what_is_to_stay_as_annotated_stay() -> None:
    clicks = VisualPrompt((Point(3, 4), Point(5, 6, include=False)))
    assert drawn(clicks, PROMPT_KINDS) == [clicks] * 200
    everything = VisualPrompt((Point(5, 4),), Box(4, 2, 14, 10), Mask(MASKS["a block"]))
    assert drawn(everything, None) == [everything] * 200
    with_box = drawn(VisualPrompt(clicks.points, Box(4, 2, 14, 10)), PROMPT_KINDS, (WIDTH, HEIGHT))
    assert all(prompt.points == clicks.points and prompt.box != Box(4, 2, 14, 10) for prompt in with_box)


def test_weights_of_kinds_are_checked() -> None:
    assert checked_kinds({"mask": 1, "box": 0}) == {"box": 0.0, "mask": 1.0}
    with pytest.raises(
        ValueError, match="There is no visual prompt kind 'circle'; there are box, point, mask, points, mi"
    ):
        checked_kinds({"circle": 1.0})
    with pytest.raises(ValueError, match="The weight of the visual prompt kind 'box' must be 0 or more, got -1"):
        checked_kinds({"box": -1.0})
    for weights in ({}, {"box": 0.0}):
        with pytest.raises(ValueError, match="At least one kind of visual prompt needs a weight above 0"):
            checked_kinds(weights)


def test_draws_are_what_they_were_when_the_bundled_weights_were_trained() -> None:
    mask = MASKS["a block"]
    box = Box(4.172792096032393, 2.3286472574004633, 14.165218538091693, 9.478737107358256)
    expected = {
        "box": VisualPrompt(box=box),
        "point": VisualPrompt((Point(11.5, 5.5),)),
        "points": VisualPrompt((Point(6.5, 7.5), Point(10.5, 7.5), Point(16.5, 0.5, include=False))),
        "mixed": VisualPrompt((Point(7.5, 5.5),), box),
    }
    for kind in ("box", "point", "points", "mixed"):
        assert draw_prompt(kind, mask, np.random.default_rng(1)) == expected[kind]
