"""Masks out of run lengths, polygons and files: by hand where that is short, and never trusting what they claim."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from virtue.masks import bounding_box, from_rle, outline, outline_of_rle, to_rle
from virtue.prompts import Mask

WIDTH, HEIGHT = 20, 10


def test_rle_by_hand() -> None:
    # Columns first: one 0, two 1, three 0.
    mask = Mask.from_rle({"size": [2, 3], "counts": [1, 2, 3]})
    assert mask.array.astype(int).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert mask.to_rle() == {"size": [2, 3], "counts": "123"}
    assert Mask.from_rle({"size": (2, 3), "counts": b"123"}) == mask


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0.01, 1))
def test_rle_goes_both_ways(height: int, width: int, seed: int, density: float) -> None:
    array = np.random.default_rng(seed).random((height, width)) < density
    array[-1, -1] = True
    mask = Mask(array)
    assert Mask.from_rle(mask.to_rle()) == mask


def test_long_runs_survive_compression() -> None:
    array = np.zeros((1000, 1200), dtype=bool)
    array[5:900, 700:1100] = True
    assert Mask.from_rle(Mask(array).to_rle()) == Mask(array)


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"counts": "123"}, "has the form"),
        ([1, 2], "has the form"),
        ({"size": [2], "counts": "123"}, "has the form"),
        ({"size": [2, 3], "counts": None}, "a str, bytes or a list of whole numbers"),
        ({"size": [2, 3], "counts": [1.5, 2.5, 2]}, "a str, bytes or a list of whole numbers"),
        ({"size": [2, 3], "counts": [1, 2]}, "cover 3 pixels, its size 3 x 2 is another"),
        ({"size": [2, 3], "counts": [-1, 2, 5]}, "cover 6 pixels"),
        ({"size": [2, 3], "counts": "1"}, "cover 1 pixels"),
        ({"size": [2, 3], "counts": ""}, "cover 0 pixels"),
        ({"size": [2, 3], "counts": "12 3"}, "malformed at run 2"),
        ({"size": [2, 3], "counts": "o" * 50}, "malformed at run 0"),
        ({"size": [2, 3], "counts": "12o"}, "in the middle of a number"),
        ({"size": [2, 3], "counts": [6]}, "is empty"),
        ({"size": [-2, -3], "counts": [6]}, "two positive whole numbers"),
        ({"size": [10**6, 10**6], "counts": [10**12]}, "more than the 100,000,000 pixels"),
    ],
)
def test_malformed_rle_is_refused(rle: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mask.from_rle(rle)  # type: ignore[arg-type]


@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12))
def test_any_counts_are_decoded_or_refused(counts: str) -> None:
    try:
        mask = Mask.from_rle({"size": [3, 4], "counts": counts})
    except ValueError:
        return
    assert mask.array.shape == (3, 4)


@pytest.mark.parametrize(
    "polygon",
    [
        [2, 1, 6, 1, 6, 4, 2, 4],
        [[2, 1, 6, 1, 6, 4, 2, 4]],
        [(2, 1), (6, 1), (6, 4), (2, 4)],
        np.array([[2, 1], [6, 1], [6, 4], [2, 4]]),
        [[(2, 1), (4, 1), (4, 4), (2, 4)], [4, 1, 6, 1, 6, 4, 4, 4]],
    ],
)
def test_polygons(polygon: list[object]) -> None:
    mask = Mask.from_polygon(polygon, WIDTH, HEIGHT)
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    expected[1:4, 2:6] = True
    assert np.array_equal(mask.array, expected)


@pytest.mark.parametrize(
    ("polygon", "message"),
    [
        ([], "or a list of"),
        (5, "or a list of"),
        ([1, 2, 3, 4], "at least three"),
        ([1, 2, 3, 4, 5, 6, 7], "at least three"),
        ([["a", "b", "c", "d", "e", "f"]], "at least three"),
        ([0, 0, 5, 0, math.nan, 5], "finite"),
        ([0, 0, 25, 0, 5, 5], r"corner \(25, 0\) is outside the image of 20 x 10"),
        ([0, 0, 1e12, 0, 5, 5], "is outside"),
        ([1, 1, 1, 1, 1, 1], "is empty"),
    ],
)
def test_malformed_polygons_are_refused(polygon: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mask.from_polygon(polygon, WIDTH, HEIGHT)


def save(path: Path, image: Image.Image) -> Path:
    image.save(path)
    return path


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P", "labels", "see-through"])
def test_mask_files(tmp_path: Path, mode: str) -> None:
    mask = Mask.from_polygon([6, 3, 8, 3, 8, 5, 6, 5], WIDTH, HEIGHT)
    image = Image.fromarray(mask.array.astype(np.uint8) * 255)
    if mode == "P":  # black is not always the first colour of a palette
        image = Image.fromarray(255 - np.asarray(image)).convert("P")
        image.putpalette([255 - value for value in range(256) for _ in range(3)])
    elif mode == "labels":
        image = Image.fromarray(mask.array.astype(np.uint8)).convert("P")
        image.putpalette([0, 0, 0, 128, 0, 0])
    elif mode == "see-through":
        white = Image.new("RGBA", image.size, "white")
        white.putalpha(image)
        image = white
    else:
        image = image.convert(mode)
    assert Mask.open(save(tmp_path / "mask.png", image)) == mask


def test_files_that_are_no_mask_are_named(tmp_path: Path) -> None:
    grey = save(tmp_path / "grey.png", Image.linear_gradient("L"))
    with pytest.raises(ValueError, match=r"grey\.png is not a mask: A mask holds 0 and 1 or 0 and 255, got"):
        Mask.open(grey)
    red = save(tmp_path / "red.png", Image.new("RGB", (4, 4), "red"))
    with pytest.raises(ValueError, match=r"red\.png is not a mask: .* got shape \(4, 4, 3\)"):
        Mask.open(red)
    with pytest.raises(ValueError, match=r"none\.png does not exist"):
        Mask.open(tmp_path / "none.png")


def test_bounding_box_ends_behind_the_last_pixel() -> None:
    mask = np.zeros((6, 8), dtype=bool)
    mask[2:4, 3:7] = True
    assert bounding_box(mask) == (3, 2, 7, 4)


def test_outline_by_hand() -> None:
    mask = np.zeros((3, 4), dtype=bool)
    assert outline(mask) == ""
    mask[1, 1:3] = True
    assert outline(mask) == "M1 1H3M1 2H3M1 1V2M3 1V2"


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_outline_is_all_edges_in_their_longest_stretches(height: int, width: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    inside = {(x, y) for y, x in np.argwhere(mask).tolist()}
    above = {(x, y) for x in range(width) for y in range(height + 1) if ((x, y) in inside) != ((x, y - 1) in inside)}
    left = {(x, y) for x in range(width + 1) for y in range(height) if ((x, y) in inside) != ((x - 1, y) in inside)}
    path = outline(mask)
    across = [[int(number) for number in line] for line in re.findall(r"M(\d+) (\d+)H(\d+)", path)]
    down = [[int(number) for number in line] for line in re.findall(r"M(\d+) (\d+)V(\d+)", path)]
    assert sorted((x, y) for start, y, end in across for x in range(start, end)) == sorted(above)
    assert sorted((x, y) for x, start, end in down for y in range(start, end)) == sorted(left)
    assert not {(end, y) for _, y, end in across} & {(start, y) for start, y, _ in across}
    assert not {(x, end) for x, _, end in down} & {(x, start) for x, start, _ in down}


@pytest.mark.parametrize("seed", range(60))
def test_the_outline_of_run_lengths_is_that_of_the_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 9, size=2)) < rng.choice([0, 0.1, 0.5, 0.9, 1])
    assert outline_of_rle(to_rle(mask)) == outline(mask)


@pytest.mark.parametrize(
    "counts", [[0, 6], [6], [0, 0, 2, 4, 0, 0], [0, 0, 6], [1, 2, 3, 0, 0], [2, 0, 2, 2], [0, 0, 0, 6]]
)
def test_so_it_is_with_empty_runs(counts: list[int]) -> None:
    rle = {"size": [2, 3], "counts": counts}
    assert outline_of_rle(rle) == outline(from_rle(rle))
