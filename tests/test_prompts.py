"""Visual prompts: what they hold, how they combine, and that whatever does not fit an image is refused in words."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from virtue.prompts import AnyPrompt, Box, Mask, Point, Points, VisualPrompt, as_visual_prompt

WIDTH, HEIGHT = 20, 10


def square_mask() -> Mask:
    """A mask of the image's size with 2 x 2 pixels set."""
    array = np.zeros((HEIGHT, WIDTH), dtype=bool)
    array[3:5, 6:8] = True
    return Mask(array)


def clicks_of(prompt: AnyPrompt) -> tuple[list[list[float]], list[int]]:
    places, labels = as_visual_prompt(prompt, WIDTH, HEIGHT).clicks()
    assert (places.dtype, labels.dtype) == (np.float32, np.int64)
    assert places.shape == (len(labels), 2)
    return places.tolist(), labels.tolist()


def test_clicks_are_points_then_the_corners_of_the_box() -> None:
    assert clicks_of(Point(1, 2)) == ([[1, 2]], [1])
    assert clicks_of(Points((1, 2), exclude=[(3, 4), (5, 6)])) == ([[1, 2], [3, 4], [5, 6]], [1, 0, 0])
    assert clicks_of(Box(1, 2, 11, 9)) == ([[1, 2], [11, 9]], [2, 3])
    assert clicks_of(Box(1, 2, 11, 9) + Point(4, 5, include=False)) == ([[4, 5], [1, 2], [11, 9]], [0, 2, 3])
    assert clicks_of(square_mask()) == ([], [])


def test_one_pair_and_many_pairs_are_told_apart() -> None:
    assert Points((1, 2)) == Points([(1, 2)]) == Points([[1, 2]]) == Points(np.array([[1, 2]]))
    assert Points(np.array([1.5, 2])).include == ((1.5, 2.0),)
    assert Points([(1, 2), (3, 4)]).include == ((1, 2), (3, 4))
    assert Points([], exclude=(3, 4)).exclude == ((3, 4),)


def test_numbers_and_masks_may_be_tensors() -> None:
    assert Box(*torch.tensor([1.0, 2.0, 11.0, 9.0])) == Box(1, 2, 11, 9)
    assert Point(*np.array([1, 2])) == Point(1, 2)
    with pytest.raises(ValueError, match="Point x must be a number, got True"):
        Point(torch.tensor(True), 2)
    learnt = torch.tensor([[0, 1], [0, 0]]).bool()
    assert Mask(learnt) == Mask(np.array([[0, 1], [0, 0]], dtype=bool))


def test_points_of_a_visual_prompt_are_read_once() -> None:
    box = Box(1, 2, 11, 9)
    assert VisualPrompt((point for point in [Point(1, 2)]), box) == VisualPrompt((Point(1, 2),), box)
    for wrong in (Point(1, 2), 5):
        with pytest.raises(ValueError, match="points are a sequence of Point"):
            VisualPrompt(wrong)  # type: ignore[arg-type]


def test_everything_combines_in_any_order() -> None:
    mask, box = square_mask(), Box(1, 2, 11, 9)
    together = Point(1, 2) + box + mask + Points((3, 4), exclude=(5, 6))
    assert together == VisualPrompt((Point(1, 2), Point(3, 4), Point(5, 6, include=False)), box, mask)
    assert mask + box == box + mask == VisualPrompt(box=box, mask=mask)
    assert as_visual_prompt(together, WIDTH, HEIGHT) == together
    assert len({together, mask + box, box + mask}) == 2


def test_an_item_has_one_box_and_one_mask() -> None:
    with pytest.raises(ValueError, match=r"one box at most, got Box\(0, 0, 1, 1\) and Box\(2, 2, 3, 3\)"):
        Box(0, 0, 1, 1) + Point(1, 1) + Box(2, 2, 3, 3)
    with pytest.raises(ValueError, match="one mask at most"):
        square_mask() + square_mask()
    with pytest.raises(TypeError):
        Point(1, 2) + 3  # type: ignore[operator]


def test_the_edges_belong_to_the_image() -> None:
    for x in (0, WIDTH):
        for y in (0, HEIGHT):
            assert clicks_of(Point(x, y)) == ([[x, y]], [1])
    assert clicks_of(Box(0, 0, WIDTH, HEIGHT)) == ([[0, 0], [WIDTH, HEIGHT]], [2, 3])


def test_a_box_half_a_pixel_outside_is_clipped() -> None:
    assert as_visual_prompt(Box(-0.5, -0.1, 20.5, 10.4), WIDTH, HEIGHT).box == Box(0, 0, 20, 10)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Point(21, 2), r"Point\(21, 2\) is outside the image of 20 x 10: x = 21 is not between 0 and 20"),
        (Points([(1, 1), (2, -0.25)]), r"Point\(2, -0.25\) is outside .* y = -0.25 is not between 0 and 10"),
        (Points((1, 1), exclude=(1, 11)), r"Point\(1, 11\) is outside"),
        (Box(-1, 0, 5, 5), r"Box\(-1, 0, 5, 5\) reaches outside the image of 20 x 10: x1 = -1 is not between 0 and 20"),
        (Box(0, 0, 5, 10.6), r"y2 = 10.6 is not between 0 and 10"),
        (Box(20, 0, 20.4, 5), r"Box\(20, 0, 20.4, 5\) lies outside the image"),
        (Mask(np.ones((WIDTH, HEIGHT), dtype=bool)), r"The mask is 10 x 20 but the image is 20 x 10"),
        (Point(1, 1, include=False), r"only excludes"),
        (Points([], exclude=[(1, 1)]), r"only excludes"),
        (VisualPrompt(), r"is empty"),
        ((1, 2), r"A visual prompt is a Point, Points, Box, Mask or their sum, got tuple"),
        (None, r"got NoneType"),
    ],
)
def test_what_does_not_fit_the_image_is_refused(prompt: AnyPrompt, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_visual_prompt(prompt, WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Point(math.nan, 1), r"Point x must be a finite number, got nan"),
        (lambda: Point(1, -math.inf), r"Point y must be a finite number, got -inf"),
        (lambda: Point(10**400, 1), r"Point x must be a finite number, got inf"),
        (lambda: Point("1", 2), r"Point x must be a number, got '1'"),
        (lambda: Point(True, 2), r"Point x must be a number, got True"),
        (lambda: Point(1, 2, include=2), r"include must be True or False, got 2"),
        (lambda: Points([]), r"at least one \(x, y\) pair"),
        (lambda: Points([(1, 2, 3)]), r"Points include must be \(x, y\) pairs, got \(1, 2, 3\)"),
        (lambda: Points((1, 2), exclude=[(1, math.nan)]), r"Points exclude y must be a finite number"),
        (lambda: Points(5), r"one \(x, y\) or a list of them, got 5"),
        (lambda: Points("ab"), r"must be \(x, y\) pairs"),
        (lambda: Box(9, 0, 1, 5), r"Box\(9, 0, 1, 5\) is inverted: x2 = 1 must be greater than x1 = 9"),
        (lambda: Box(0, 5, 1, 5), r"is empty: y2 = 5 must be greater than y1 = 5"),
        (lambda: Box(0, 0, math.nan, 5), r"Box x2 must be a finite number"),
        (lambda: Box(0, 0, 1, None), r"Box y2 must be a number, got None"),
        (lambda: Mask(np.zeros((3, 4), dtype=bool)), r"The mask of 4 x 3 is empty"),
        (lambda: Mask(np.zeros((0, 4), dtype=bool)), r"is empty"),
        (lambda: Mask(np.ones((3, 4, 3), dtype=np.uint8)), r"shape \(height, width\), got shape \(3, 4, 3\)"),
        (lambda: Mask(np.ones((3, 4))), r"got float64; pick the object with a comparison"),
        (lambda: Mask(np.array([[0, 7]])), r"0 and 1 or 0 and 255, got 7"),
        (lambda: Mask(np.array([[0, 1, 255]])), r"got 1 and 255 both"),
        (lambda: VisualPrompt(points=((1, 2),)), r"made of Points, a Box and a Mask, got \(1, 2\)"),
        (lambda: VisualPrompt(box=(1, 2, 3, 4)), r"got \(1, 2, 3, 4\)"),
        (lambda: as_visual_prompt(Point(1, 1), 0, 5), r"two positive whole numbers, got 0 x 5"),
        (lambda: as_visual_prompt(Point(1, 1), 5.5, 5), r"got 5.5 x 5"),
    ],
)
def test_what_makes_no_sense_alone_is_refused_when_made(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_numbers_of_any_library_become_floats() -> None:
    assert Point(np.float32(1.5), np.int64(2)) == Point(1.5, 2.0) == Point(Fraction(3, 2), 2)
    assert type(Box(np.int64(1), 2, 3, 4).x1) is float


def test_parse() -> None:
    assert Point.parse("120,80") == Point(120, 80)
    assert Point.parse(" 1.5, 2 ") == Point(1.5, 2)
    assert Box.parse("40,60,210,330") == Box(40, 60, 210, 330)
    for text in ("120", "120;80", "1,2,3", "", "a,b"):
        with pytest.raises(ValueError, match=r"A point is written x,y as in 120,80, got '"):
            Point.parse(text)
    with pytest.raises(ValueError, match=r"A box is written x1,y1,x2,y2 as in 40,60,210,330, got '1,2,3'"):
        Box.parse("1,2,3")
    with pytest.raises(ValueError, match="finite"):
        Point.parse("nan,1")


@pytest.mark.parametrize(
    "values",
    [
        np.array([[0, 1], [1, 0]]),
        np.array([[0, 255], [255, 0]], dtype=np.uint8),
        torch.tensor([[False, True], [True, False]]),
        [[False, True], [True, False]],
    ],
)
def test_masks_of_any_kind_become_bool(values: object) -> None:
    mask = Mask(values)  # type: ignore[arg-type]
    assert mask.array.dtype == np.bool_
    assert mask.array.tolist() == [[False, True], [True, False]]
    assert repr(mask) == "Mask(2 x 2, 2 set)"


def test_a_mask_keeps_its_own_copy() -> None:
    array = np.ones((2, 2), dtype=bool)
    mask = Mask(array)
    array[:] = False
    assert mask.array.all()
    with pytest.raises(ValueError, match="read-only"):
        mask.array[0, 0] = False
    assert mask == Mask(np.ones((2, 2), dtype=bool)) != Mask(np.ones((2, 3), dtype=bool))
    assert mask != "mask"


@given(st.lists(st.one_of(st.floats(), st.floats(-2, 25)), min_size=4, max_size=4))
def test_any_box_ends_inside_the_image_or_is_refused(numbers: list[float]) -> None:
    try:
        box = as_visual_prompt(Box(*numbers), WIDTH, HEIGHT).box
    except ValueError:
        return
    assert box is not None
    assert 0 <= box.x1 < box.x2 <= WIDTH
    assert 0 <= box.y1 < box.y2 <= HEIGHT
    assert max(abs(a - b) for a, b in zip((box.x1, box.y1, box.x2, box.y2), numbers, strict=True)) <= 0.5


@given(st.lists(st.tuples(st.one_of(st.floats(), st.floats(0, 20)), st.floats(-1, 11)), max_size=4))
def test_any_points_are_kept_as_they_are_or_refused(pairs: list[tuple[float, float]]) -> None:
    inside = all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in pairs)
    try:
        prompt = as_visual_prompt(Points(pairs), WIDTH, HEIGHT)
    except ValueError:
        assert not (pairs and inside)
        return
    assert inside
    assert [(point.x, point.y) for point in prompt.points] == pairs
