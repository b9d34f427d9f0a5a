"""Visual prompts as they go wrong: boxes that fit badly, points off the middle, masks with faults.

Every function takes what is known of an object (`Region`), a severity above 0 and a generator of random numbers, and
gives a visual prompt inside the picture. One generator's draws serve every severity alike, so the severities of one
query differ in the amount alone: a box that is jittered twice as much moves its edges twice as far the same way.

Distances in masks are counted in steps from pixel to pixel, across edges and not corners. A pixel's *depth* is the
steps to the nearest pixel outside the object, 1 at its border; what lies beyond the picture is outside. An object's
*size* is the square root of its pixels' number, in pixels.

H and W are the picture's height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from virtue.images import image_size, open_image
from virtue.items import Item
from virtue.masks import bounding_box, deepest_pixel, depths, steps_to
from virtue.prompts import AnyPrompt, Box, Mask, Point, Points, VisualPrompt

Array = NDArray[np.bool_]
Edges = tuple[float, float, float, float]

NOISE_MARGIN = 0.25  # of the box's sides: how far around an object a mask's noise reaches
HOLES = 6  # clouds across an object of a mask's size
RAGS = 8


@dataclass(frozen=True, eq=False)
class Region:
    """What is known of a query's object.

    Attributes:
        box: Tight around it, XYXY in source pixels, inside the picture.
        size: Width and height of the picture.
        mask: Its pixels, as large as the picture; None where only the box is known.
    """

    box: Edges
    size: tuple[int, int]
    mask: Mask | None = None

    @property
    def known_mask(self) -> Mask:
        """The mask, where it is known.

        Raises:
            ValueError: If only the box is.
        """
        if self.mask is None:
            raise ValueError("Points and masks are drawn from an object's mask, and of this one only the box is known.")
        return self.mask

    @property
    def pixels(self) -> Array:
        """The mask's pixels, bool (H, W).

        Raises:
            ValueError: If only the box is known.
        """
        return self.known_mask.array


Draw = Callable[[Region, float, np.random.Generator], AnyPrompt]


def region_of(item: Item) -> Region | None:
    """What a query's own visual prompt says of its object: its mask, else its box; None where it has neither."""
    if item.image is None or item.prompt is None:
        return None
    # The sum of any visual prompt and nothing is the `VisualPrompt` that it stands for.
    prompt = item.prompt + VisualPrompt()
    if prompt.mask is not None:
        pixels = prompt.mask.array  # may be drawn when it is asked for
        height, width = pixels.shape
        return Region(bounding_box(pixels), (width, height), prompt.mask)
    if prompt.box is None:
        return None
    size = picture_size(item)
    (x1, x2), (y1, y2) = _cut(prompt.box.x1, prompt.box.x2, size[0], 0), _cut(prompt.box.y1, prompt.box.y2, size[1], 0)
    return Region((x1, y1, x2, y2), size)


def picture_size(item: Item) -> tuple[int, int]:
    """Width and height of an item's picture after the EXIF turn."""
    assert item.image is not None
    if isinstance(item.image, Path):
        return image_size(item.image)  # its header is enough
    width, height = open_image(item.image).size
    return width, height


# Undisturbed


def true_box(region: Region) -> Box:
    """The object's tight box."""
    return Box(*region.box)


def deepest_point(region: Region) -> Point:
    """The centre of the deepest pixel, of several the one nearest to their middle."""
    return _centre(deepest_pixel(region.pixels))


def true_mask(region: Region) -> Mask:
    """The object's mask.

    Raises:
        ValueError: If only the box is known.
    """
    return region.known_mask


# Boxes


def jittered(region: Region, severity: float, rng: np.random.Generator) -> Box:
    """The box with each edge moved by a normal share of the side across it; edges that pass each other change places.

    Args:
        region: The object.
        severity: Standard deviation of the share.
        rng: Draws.
    """
    x1, y1, x2, y2 = region.box
    wide, high = x2 - x1, y2 - y1
    left, top, right, bottom = np.array(region.box) + severity * rng.normal(size=4) * [wide, high, wide, high]
    return _box(min(left, right), min(top, bottom), max(left, right), max(top, bottom), region.size)


def shrunk(region: Region, severity: float, rng: np.random.Generator) -> Box:
    """The box about its centre with its sides shorter by the share `severity`, below 1."""
    del rng
    return _scaled(region, 1 - severity)


def grown(region: Region, severity: float, rng: np.random.Generator) -> Box:
    """The box about its centre with its sides longer by the share `severity`, cut at the picture's edge."""
    del rng
    return _scaled(region, 1 + severity)


def shifted(region: Region, severity: float, rng: np.random.Generator) -> Box:
    """The box moved in a random direction by the share `severity` of its sides.

    On an axis where the picture ends too soon on that side and has more room on the other, it goes the other way; where
    there is too little room on both, it stops at the edge. So the box keeps its size.
    """
    angle = 2 * np.pi * rng.random()
    starts, ends = np.array(region.box[:2]), np.array(region.box[2:])
    move = severity * (ends - starts) * (np.cos(angle), np.sin(angle))
    room_after, room_before = np.array(region.size) - ends, starts
    forward, backward = np.where(move > 0, room_after, room_before), np.where(move > 0, room_before, room_after)
    move = np.where((forward < abs(move)) & (backward > forward), -move, move)
    move = np.clip(move, -room_before, room_after)
    return Box(*(float(edge) for edge in (*(starts + move), *(ends + move))))


def _scaled(region: Region, factor: float) -> Box:
    x1, y1, x2, y2 = region.box
    x, y, wide, high = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) * factor / 2, (y2 - y1) * factor / 2
    return _box(x - wide, y - high, x + wide, y + high, region.size)


def _box(x1: float, y1: float, x2: float, y2: float, size: tuple[int, int]) -> Box:
    """A box cut to the picture; no side of it is shorter than a pixel."""
    (x1, x2), (y1, y2) = _cut(x1, x2, size[0], 1), _cut(y1, y2, size[1], 1)
    return Box(x1, y1, x2, y2)


def _cut(start: float, end: float, limit: int, least: float) -> tuple[float, float]:
    """The part of a stretch that lies between 0 and `limit`, widened to `least` where it is shorter."""
    start, end = min(max(start, 0.0), limit), min(max(end, 0.0), limit)
    if end - start < least:
        start = min(max((start + end - least) / 2, 0.0), limit - least)
        end = start + least
    return float(start), float(end)


# Points


def off_centre(region: Region, severity: float, rng: np.random.Generator) -> Point:
    """A pixel on the way from the deepest one to a random one of the border, at the share `severity` of the depth lost.

    Of the pixels of that depth, the nearest to the straight way; so it lies on the object whatever its shape.
    """
    depth = depths(region.pixels)
    start = np.array(deepest_pixel(region.pixels))
    border = np.argwhere(depth == 1)
    end = border[int(rng.random() * len(border))]
    ring = np.argwhere(depth == max(1, round(float(depth.max()) * (1 - severity))))
    wish = start + severity * (end - start)
    return _centre(ring[int(((ring - wish) ** 2).sum(1).argmin())])


def outside(region: Region, severity: float, rng: np.random.Generator) -> Point:
    """A random pixel next to the object: the share `severity` of its size away, at least one step.

    Where the picture ends before, the farthest there is. An object that fills its picture keeps its deepest pixel.
    """
    mask = region.pixels
    away = steps_to(mask)
    farthest = int(away.max())
    if not farthest:
        return deepest_point(region)
    ring = np.argwhere(away == min(max(1, round(severity * object_size(mask))), farthest))
    return _centre(ring[int(rng.random() * len(ring))])


def more_points(region: Region, severity: float, rng: np.random.Generator) -> Points:
    """The deepest pixel and `severity` random ones of the object."""
    deepest = deepest_point(region)
    return Points([(deepest.x, deepest.y), *_random_pixels(region.pixels, int(severity), rng)])


def random_points(region: Region, severity: float, rng: np.random.Generator) -> Points:
    """As many random pixels of the object as `severity` says; more of them begin with the same ones."""
    return Points(_random_pixels(region.pixels, int(severity), rng))


def _random_pixels(mask: Array, count: int, rng: np.random.Generator) -> list[tuple[float, float]]:
    pixels = np.argwhere(mask)
    chosen = pixels[(rng.random(count) * len(pixels)).astype(int)]
    return [(float(column) + 0.5, float(row) + 0.5) for row, column in chosen]


# Masks


def eroded(region: Region, severity: float, rng: np.random.Generator) -> Mask:
    """The object without the pixels whose depth is the share `severity` of the greatest or less; some always remain."""
    del rng
    depth = depths(region.pixels)
    return Mask(depth > severity * depth.max())


def dilated(region: Region, severity: float, rng: np.random.Generator) -> Mask:
    """The object and all pixels that are the share `severity` of its size away, at least one step."""
    del rng
    return Mask(steps_to(region.pixels) <= max(1.0, severity * object_size(region.pixels)))


def noisy(region: Region, severity: float, rng: np.random.Generator) -> Mask:
    """Salt and pepper: in the box and a quarter of its sides around it, the share `severity` of pixels is flipped."""
    flipped = region.pixels.copy()
    area = flipped[window(region)]
    area ^= rng.random(area.shape) < severity
    return _not_empty(flipped, region)


def holed(region: Region, severity: float, rng: np.random.Generator) -> Mask:
    """Holes in the object: clouds of about a sixth of its size each, together the share `severity` of its pixels."""
    mask = region.pixels.copy()
    heights = _clouds(region, HOLES, rng)[mask]
    lost = np.argsort(heights, kind="stable")[: round(severity * len(heights))]
    rows, columns = np.nonzero(mask)
    mask[rows[lost], columns[lost]] = False
    return _not_empty(mask, region)


def ragged(region: Region, severity: float, rng: np.random.Generator) -> Mask:
    """The outline moved out and in, by the share `severity` of the object's size at most, in about eight waves."""
    mask = region.pixels
    inwards = np.where(mask, depths(mask) - 0.5, 0.5 - steps_to(mask))  # steps from the outline, below 0 outside
    waves = 2 * _clouds(region, RAGS, rng) - 1
    return _not_empty(inwards + severity * object_size(mask) * waves > 0, region)


def _not_empty(mask: Array, region: Region) -> Mask:
    """The mask, with the object's deepest pixel where nothing else is left."""
    if not mask.any():
        mask[deepest_pixel(region.pixels)] = True
    return Mask(mask)


def window(region: Region) -> tuple[slice, slice]:
    """Rows and columns of the box and `NOISE_MARGIN` around it."""
    box = _scaled(region, 1 + 2 * NOISE_MARGIN)
    return slice(int(box.y1), int(np.ceil(box.y2))), slice(int(box.x1), int(np.ceil(box.x2)))


def _clouds(region: Region, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Smooth random heights in [0, 1] over the picture, (H, W), about `count` hills across the object's size."""
    width, height = region.size
    cell = max(1.0, object_size(region.pixels) / count)
    coarse = rng.random((int(height / cell) + 2, int(width / cell) + 2)).astype(np.float32)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(smooth, dtype=np.float64)


# Distances


def object_size(mask: Array) -> float:
    """The square root of the number of set pixels, (H, W)."""
    return float(np.sqrt(mask.sum()))


def _centre(pixel: Sequence[int] | NDArray[np.int64]) -> Point:
    """The centre of a pixel that is given by row and column."""
    return Point(float(pixel[1]) + 0.5, float(pixel[0]) + 0.5)
