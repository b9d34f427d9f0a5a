import numpy as np
import pytest
from PIL import Image

from tests.index.colours import ColourView
from virtue.index.regions import (
    RegionSettings,
    grid_points,
    mask_overlaps,
    propose_regions,
    suppress,
)
from virtue.prompts import Point


def strip(start: int, stop: int, width: int = 10) -> np.ndarray:
    """A mask of one row, set from start up to stop."""
    columns = np.arange(width)
    return ((columns >= start) & (columns < stop))[None]


def test_grid_points_are_the_centres_of_the_cells() -> None:
    assert grid_points(width=40, height=20, per_side=2) == [Point(10, 5), Point(30, 5), Point(10, 15), Point(30, 15)]


def test_overlap_is_intersection_over_union() -> None:
    # 0..4 and 2..6 share 2 of 6 pixels; the empty mask shares nothing, not even with itself.
    overlaps = mask_overlaps(np.stack([strip(0, 4), strip(2, 6), strip(0, 0)]))
    np.testing.assert_allclose(overlaps, [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]], rtol=1e-6)


def test_suppress_keeps_the_best_of_each_object() -> None:
    # The first two share 8 of 9 pixels, the third is elsewhere.
    masks = np.stack([strip(0, 8), strip(0, 9), strip(9, 10)])
    assert suppress(masks, np.array([0.8, 0.9, 0.7]), overlap=0.7) == [1, 2]
    assert suppress(masks, np.array([0.8, 0.9, 0.7]), overlap=0.9) == [1, 0, 2]


def test_suppressed_masks_suppress_nothing() -> None:
    # b falls to a; c overlaps b by 6/7 but a by 5/8 only, so it stays.
    a, b, c = strip(0, 7), strip(1, 7), strip(2, 8)
    assert suppress(np.stack([a, b, c]), np.array([3.0, 2.0, 1.0]), overlap=0.7) == [0, 2]


@pytest.fixture
def two_squares() -> Image.Image:
    """Black, 64 x 64, with a red square of 16 pixels and a blue one of 8."""
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[8:24, 8:24] = (255, 0, 0)
    pixels[40:48, 40:48] = (0, 0, 255)
    return Image.fromarray(pixels)


def test_each_object_is_proposed_once(two_squares: Image.Image) -> None:
    regions = propose_regions(ColourView(two_squares), RegionSettings(grid=8))
    assert [region.box for region in regions] == [(8, 8, 24, 24), (40, 40, 48, 48)]
    assert [int(region.mask.array.sum()) for region in regions] == [256, 64]
    assert regions[0].quality == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (RegionSettings(keep=1), 1),
        (RegionSettings(min_area=0.02), 1),  # the blue square is 64 of 4096 pixels
        (RegionSettings(max_area=0.05), 1),  # the red one is 256
        (RegionSettings(min_quality=0.95), 0),
    ],
)
def test_settings_say_what_is_an_object(two_squares: Image.Image, settings: RegionSettings, found: int) -> None:
    assert len(propose_regions(ColourView(two_squares), settings)) == found


def test_overlaps_of_a_large_image_are_measured_on_fewer_pixels(two_squares: Image.Image) -> None:
    large = two_squares.resize((320, 320), Image.Resampling.NEAREST)
    regions = propose_regions(ColourView(large), RegionSettings(grid=8))
    assert [region.box for region in regions] == [(40, 40, 120, 120), (200, 200, 240, 240)]
