"""Disturbances of one object whose facts follow by hand: a ring of known pixels in a picture of 100 x 80."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from virtue.evaluation.robustness import prompt_disturbances
from virtue.evaluation.robustness.disturbances import (
    ANSWERED,
    BASES,
    DISTURBANCES,
    FAMILIES,
    allowed,
    disturbed,
    family_of,
    other_objects,
)
from virtue.evaluation.robustness.picture_disturbances import patch
from virtue.evaluation.robustness.prompt_disturbances import (
    Region,
    deepest_point,
    depths,
    object_size,
    region_of,
    steps_to,
)
from virtue.evaluation.scenes import interior_point
from virtue.images import open_image
from virtue.items import Item
from virtue.prompts import Box, Mask, Point, Points, VisualPrompt, as_visual_prompt

WIDTH, HEIGHT = 100, 80
PICTURE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
PROMPTS = [each for each in DISTURBANCES.values() if each.family in BASES]
CHANGES = [each for each in DISTURBANCES.values() if each.change is not None]


def ring() -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    distance = (rows - 40) ** 2 + (columns - 60) ** 2
    return (distance <= 400) & (distance >= 25)


def rectangle(x1: int = 30, y1: int = 20, x2: int = 50, y2: int = 60) -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


def pointed(mask: NDArray[np.bool_]) -> Item:
    return Item(image=PICTURE, prompt=Mask(mask))


def drawn(name: str, severity: float, item: Item | None = None, number: int = 0, seed: int = 0) -> VisualPrompt:
    changed = disturbed(DISTURBANCES[name], item or pointed(ring()), severity, number, seed)
    assert changed.prompt is not None
    return as_visual_prompt(changed.prompt, WIDTH, HEIGHT)


def box_of(prompt: VisualPrompt) -> tuple[float, float, float, float]:
    assert prompt.box is not None
    return prompt.box.x1, prompt.box.y1, prompt.box.x2, prompt.box.y2


def pixels_of(prompt: VisualPrompt) -> NDArray[np.bool_]:
    assert prompt.mask is not None
    return prompt.mask.array


def is_on(mask: NDArray[np.bool_], point: Point) -> bool:
    return bool(mask[int(point.y), int(point.x)])


# What is undisturbed


@pytest.mark.parametrize("disturbance", PROMPTS, ids=lambda each: each.name)
def test_at_severity_0_nothing_is_disturbed(disturbance) -> None:
    mask = ring()
    prompt = drawn(disturbance.name, 0)
    expected = {
        "box": VisualPrompt(box=Box(40, 20, 81, 61)),
        "point": VisualPrompt(points=(interior_point(mask),)),
        "mask": VisualPrompt(mask=Mask(mask)),
    }
    assert prompt == expected[disturbance.family]
    assert disturbance.severities[0] == 0
    assert list(disturbance.severities) == sorted(disturbance.severities)


def test_a_box_on_a_file_is_told_by_the_header_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PICTURE).save(path)
    monkeypatch.setattr(prompt_disturbances, "open_image", lambda image: pytest.fail("the picture was decoded"))
    region = region_of(Item(image=path, prompt=Box(90, 70, 120, 90)))
    assert region is not None
    assert (region.box, region.size) == ((90, 70, WIDTH, HEIGHT), (WIDTH, HEIGHT))


@pytest.mark.parametrize("seed", range(5))
def test_the_deepest_point_is_what_is_left_last_when_borders_are_taken_off(seed: int) -> None:
    rng = np.random.default_rng(seed)
    blobs = np.asarray(Image.fromarray(rng.random((6, 8)).astype(np.float32)).resize((64, 48))) > 0.5
    point = deepest_point(Region((0, 0, 64, 48), (64, 48), Mask(blobs)))
    assert point == interior_point(blobs)
    left = inner = np.pad(blobs, 1)
    while inner.any():
        left, inner = inner, inner.copy()
        for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
            inner &= np.roll(left, shift, axis)
    assert left[int(point.y) + 1, int(point.x) + 1]


def test_steps_are_counted_across_edges() -> None:
    targets = np.zeros((3, 4), dtype=bool)
    targets[0, 0] = True
    assert steps_to(targets).tolist() == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]]
    assert depths(np.ones((3, 5), dtype=bool)).tolist() == [[1, 1, 1, 1, 1], [1, 2, 2, 2, 1], [1, 1, 1, 1, 1]]


# Whatever is drawn


@pytest.mark.parametrize("disturbance", PROMPTS, ids=lambda each: each.name)
def test_every_prompt_fits_the_picture_and_is_drawn_alike_again(disturbance) -> None:
    things = [ring(), rectangle(), rectangle(0, 0, 7, 5), rectangle(99, 79, 100, 80), np.ones((HEIGHT, WIDTH), bool)]
    for severity in disturbance.severities:
        for number, mask in enumerate(things):
            prompt = drawn(disturbance.name, severity, pointed(mask), number)
            assert prompt == drawn(disturbance.name, severity, pointed(mask), number)


@pytest.mark.parametrize("name", ["box jittered", "box shifted", "point off centre", "point outside", "mask noisy"])
def test_queries_and_seeds_are_drawn_apart(name: str) -> None:
    severity = DISTURBANCES[name].severities[-1]
    same = drawn(name, severity)
    assert any(drawn(name, severity, number=number) != same for number in range(1, 4))
    assert any(drawn(name, severity, seed=seed) != same for seed in range(1, 4))


# Boxes


def test_a_jittered_edge_moves_in_proportion() -> None:
    item = Item(image=PICTURE, prompt=Box(40, 30, 60, 50))
    little, much = (np.array(box_of(drawn("box jittered", severity, item))) for severity in (0.05, 0.1))
    assert much - [40, 30, 60, 50] == pytest.approx(2 * (little - [40, 30, 60, 50]))
    moves = [np.array(box_of(drawn("box jittered", 0.1, item, number))) - [40, 30, 60, 50] for number in range(400)]
    assert np.std(moves) == pytest.approx(2, rel=0.05)  # a tenth of a side of 20


def test_a_box_shrinks_and_grows_about_its_centre() -> None:
    item = Item(image=PICTURE, prompt=Box(40, 30, 60, 50))
    assert box_of(drawn("box shrunk", 0.5, item)) == (45, 35, 55, 45)
    assert box_of(drawn("box grown", 1, item)) == (30, 20, 70, 60)
    assert box_of(drawn("box grown", 3, item)) == (10, 0, 90, 80)


@pytest.mark.parametrize("number", range(8))
def test_a_shifted_box_keeps_its_size(number: int) -> None:
    for box, severity in ((Box(0, 0, 20, 20), 1), (Box(80, 60, 100, 80), 0.5), (Box(10, 10, 95, 75), 1)):
        x1, y1, x2, y2 = box_of(drawn("box shifted", severity, Item(image=PICTURE, prompt=box), number))
        assert (x2 - x1, y2 - y1) == pytest.approx((box.x2 - box.x1, box.y2 - box.y1))
    x1, y1, _, _ = box_of(drawn("box shifted", 1, Item(image=PICTURE, prompt=Box(40, 30, 60, 50)), number))
    assert np.hypot(x1 - 40, y1 - 30) == pytest.approx(20)


# Points


def test_a_point_goes_to_the_border_and_stays_on_the_object() -> None:
    mask = ring()
    depth = depths(mask)
    for number in range(10):
        way = [drawn("point off centre", severity, number=number).points[0] for severity in (0.25, 0.5, 0.75, 1)]
        steps = [int(depth[int(point.y), int(point.x)]) for point in way]
        assert steps == [max(1, round(float(depth.max()) * share)) for share in (0.75, 0.5, 0.25, 0)]


def test_a_point_outside_is_so_many_steps_away() -> None:
    mask = rectangle()  # 20 x 40 pixels: its size is 28.3
    away = steps_to(mask)
    for severity, steps in ((0.02, 1), (0.1, 3), (0.5, 14)):
        point = drawn("point outside", severity, pointed(mask)).points[0]
        assert away[int(point.y), int(point.x)] == steps
    assert object_size(mask) == pytest.approx(800**0.5)


def test_more_points_begin_with_fewer() -> None:
    mask = ring()
    for name, first in (("more points", (interior_point(mask),)), ("random points", ())):
        many = drawn(name, 8 if first else 9).points
        few = drawn(name, 2).points
        assert many[: len(few)] == few
        assert few[: len(first)] == first
        assert (len(few), len(many)) == (2 + len(first), 9)
        assert all(is_on(mask, point) for point in many)


# Masks


def test_masks_are_eroded_and_dilated_by_steps() -> None:
    mask = rectangle()  # 20 wide, so ten steps deep
    assert np.array_equal(pixels_of(drawn("mask eroded", 0.5, pointed(mask))), depths(mask) > 5)
    assert np.array_equal(pixels_of(drawn("mask dilated", 0.25, pointed(mask))), steps_to(mask) <= 7)


@pytest.mark.parametrize(("name", "sign"), [("mask eroded", -1), ("mask holed", -1), ("mask dilated", 1)])
def test_masks_change_more_and_more(name: str, sign: int) -> None:
    masks = [pixels_of(drawn(name, severity)) for severity in DISTURBANCES[name].severities]
    for less, more in pairwise(masks):
        inner, outer = (less, more) if sign > 0 else (more, less)
        assert (inner <= outer).all()
        assert inner.sum() < outer.sum()


def test_holes_take_the_share_that_was_asked_for() -> None:
    mask = ring()
    lost = mask & ~pixels_of(drawn("mask holed", 0.25))
    assert lost.sum() == round(0.25 * mask.sum())


def test_noise_flips_the_share_that_was_asked_for_around_the_object() -> None:
    mask = rectangle(30, 20, 70, 60)
    flipped = mask ^ pixels_of(drawn("mask noisy", 0.2, pointed(mask)))
    assert flipped[10:70, 20:80].mean() == pytest.approx(0.2, abs=0.03)  # the box and ten pixels around it
    assert not flipped[:10].any()
    assert not flipped[:, 80:].any()


def test_a_ragged_outline_stays_near_the_old_one() -> None:
    mask = ring()
    changed = mask ^ pixels_of(drawn("mask ragged", 0.1))
    from_outline = np.where(mask, depths(mask), steps_to(mask))
    assert changed.any()
    assert from_outline[changed].max() <= 0.1 * object_size(mask) + 0.5


# Pictures


@pytest.mark.parametrize("disturbance", CHANGES, ids=lambda each: each.name)
def test_a_changed_picture_keeps_its_size_and_is_made_alike_again(disturbance) -> None:
    item = pointed(ring())
    for severity in disturbance.severities[1:]:
        once, again = (disturbance.change(severity, 0).apply(item) for _ in range(2))
        assert open_image(once.image).size == (WIDTH, HEIGHT)
        assert np.array_equal(np.asarray(once.image), np.asarray(again.image))
        assert not np.array_equal(np.asarray(once.image), PICTURE)
        as_visual_prompt(once.prompt, WIDTH, HEIGHT)


def test_names_of_changes_tell_severities_apart() -> None:
    names = [each.change(severity, 0).name for each in CHANGES for severity in each.severities[1:]]
    assert len(set(names)) == len(names)


def test_items_of_one_picture_share_the_changed_one() -> None:
    change = DISTURBANCES["picture dark"].change
    assert change is not None
    apply = change(0.5, 0).apply
    assert apply(pointed(ring())).image is apply(pointed(rectangle())).image
    assert apply(Item(image=PICTURE[::-1].copy())).image is not apply(pointed(ring())).image
    text = Item(text="a dog")
    assert apply(text) is text


def colours(name: str, severity: float, value: int) -> NDArray[np.uint8]:
    """What becomes of a picture of black and white halves with one pixel of another grey, (H, W)."""
    picture = np.zeros((4, 4, 3), dtype=np.uint8)
    picture[:, 2:] = 255
    picture[0, 0] = value
    change = DISTURBANCES[name].change
    assert change is not None
    return np.asarray(change(severity, 0).apply(Item(image=picture)).image)[..., 0]


def test_colours_move_by_the_share_of_the_way() -> None:
    assert colours("picture dark", 0.25, 200)[0, 0] == 150
    assert colours("picture bright", 0.25, 200)[0, 0] in (213, 214)  # a quarter of the 55 that are left
    assert colours("picture low contrast", 0.5, 0)[1].tolist() == [64, 64, 191, 191]  # around a mean of 127.5


def test_a_small_picture_takes_its_prompts_along() -> None:
    prompt = Box(40, 20, 80, 60) + Point(100, 80) + Mask(rectangle(40, 20, 80, 60))
    change = DISTURBANCES["picture small"].change
    assert change is not None
    item = change(0.5, 0).apply(Item(image=PICTURE, prompt=prompt))
    changed = as_visual_prompt(item.prompt, WIDTH, HEIGHT)
    assert box_of(changed) == (45, 30, 65, 50)
    assert changed.points == (Point(75, 60),)
    assert np.array_equal(pixels_of(changed), rectangle(45, 30, 65, 50))
    frame = np.asarray(item.image)[[0, -1]].reshape(-1, 3)
    assert (frame == np.round(PICTURE.reshape(-1, 3).mean(0))).all()


def test_a_mask_that_is_made_too_small_keeps_a_pixel() -> None:
    change = DISTURBANCES["picture small"].change
    assert change is not None
    item = change(0.75, 0).apply(pointed(rectangle(10, 10, 11, 11)))
    assert pixels_of(as_visual_prompt(item.prompt, WIDTH, HEIGHT)).sum() == 1


@pytest.mark.parametrize(
    ("side", "expected"),
    [(0, (30, 20, 40, 60)), (1, (30, 20, 50, 40)), (2, (40, 20, 50, 60)), (3, (30, 40, 50, 60))],
)
def test_a_patch_hides_half_of_a_rectangle(side: int, expected: tuple[int, int, int, int]) -> None:
    assert patch((30, 20, 50, 60), rectangle(), 0.5, side) == expected
    assert patch((30, 20, 50, 60), None, 0.5, side) == expected


def test_a_patch_counts_the_pixels_of_the_object() -> None:
    mask = ring()
    for side in range(4):
        x1, y1, x2, y2 = patch((40, 20, 81, 61), mask, 0.75, side)
        assert 0.75 <= mask[y1:y2, x1:x2].sum() / mask.sum() < 0.8


def test_nothing_hides_what_no_box_and_no_mask_shows() -> None:
    change = DISTURBANCES["object hidden"].change
    assert change is not None
    item = Item(image=PICTURE, prompt=Point(5, 5))
    assert change(0.5, 0).apply(item) is item


# What is known of a query


def test_a_query_tells_its_object_by_mask_or_box() -> None:
    region = region_of(pointed(ring()))
    assert region is not None
    assert (region.box, region.size) == ((40, 20, 81, 61), (WIDTH, HEIGHT))
    boxed = region_of(Item(image=Image.fromarray(PICTURE), prompt=Box(90, 70, 100.3, 80)))
    assert boxed is not None
    assert (boxed.box, boxed.size, boxed.mask) == ((90, 70, 100, 80), (WIDTH, HEIGHT), None)
    assert region_of(Item(image=PICTURE, prompt=Points([(1, 1)]))) is None
    assert region_of(Item(image=PICTURE)) is None


def test_boxes_allow_no_points_and_no_masks() -> None:
    boxes = [Item(image=PICTURE, prompt=Box(1, 1, 9, 9))]
    families = {each.family for each in DISTURBANCES.values() if allowed(each.needs, boxes)}
    assert families == {"box", "object", "picture"}
    masked = [pointed(ring())]
    assert {each.family for each in DISTURBANCES.values() if allowed(each.needs, masked)} == set(FAMILIES[:5])
    whole = [each.name for each in DISTURBANCES.values() if allowed(each.needs, [Item(image=PICTURE)])]
    assert all(name.startswith("picture") for name in whole)
    assert "object hidden" not in whole


def test_what_is_not_known_is_said() -> None:
    with pytest.raises(ValueError, match="Query 3 shows no object by a mask, which 'mask eroded' starts from"):
        disturbed(DISTURBANCES["mask eroded"], Item(image=PICTURE, prompt=Box(1, 1, 9, 9)), 0.5, 3)
    with pytest.raises(ValueError, match="only the box is known"):
        deepest_point(Region((1, 1, 9, 9), (WIDTH, HEIGHT)))


def test_another_object_is_of_the_same_picture_and_has_another_answer() -> None:
    other = PICTURE.copy()
    queries = [pointed(ring()), pointed(rectangle()), pointed(rectangle(0, 0, 5, 5)), Item(image=other)]
    assert other_objects(queries, [[0], [1], [0], [2]]) == {
        0: 1,
        1: other_objects(queries, [[0], [1], [0], [2]])[1],
        2: 1,
    }
    assert other_objects(queries, [[0], [1], [0], [2]])[1] in (0, 2)
    assert other_objects(queries[::3], [[0], [1]]) == {}


def test_curves_are_told_apart_by_family() -> None:
    assert family_of("box jittered") == "box"
    assert family_of(ANSWERED) == family_of("wrong object") == "object"
    assert family_of("points of SAM masks") == "sampling"
    assert family_of("object size") == family_of("anything else") == "natural"
