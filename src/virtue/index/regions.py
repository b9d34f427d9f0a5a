"""Finds the objects of an image without being told where they are: a grid of clicks, each answered by a mask.

1. `grid_points` lays points over the image; the segmenter answers each with a mask and how good it thinks that is.
2. Masks that it doubts, and masks too small or too large to be an object, are dropped.
3. Several points hit the same object: `suppress` keeps the best mask of each.

N is the number of masks, H and W the height and width of the image in source pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from virtue.masks import bounding_box
from virtue.prompts import Mask, Point

if TYPE_CHECKING:
    from virtue.embedder import ImageView

POINTS_AT_ONCE = 32
COMPARED_SIDE = 256
"""Overlaps are measured on every k-th pixel, so that a mask is at most this many pixels high and wide."""


@dataclass(frozen=True)
class RegionSettings:
    """What counts as an object worth a row of its own.

    Attributes:
        grid: Points along each side of the image; their number is the square of it.
        min_quality: The least intersection over union that the segmenter predicts for its own mask.
        min_area: The smallest mask, as a share of the image.
        max_area: The largest mask, as a share of the image; more than that is background.
        overlap: Two masks whose intersection over union is above this are the same object.
        keep: The most regions of one image.
    """

    grid: int = 8
    min_quality: float = 0.7
    min_area: float = 0.002
    max_area: float = 0.8
    overlap: float = 0.7
    keep: int = 20


@dataclass(frozen=True)
class Region:
    """An object that was found.

    Attributes:
        mask: Its pixels, (H, W).
        box: The smallest box around them, XYXY in source pixels.
        quality: The intersection over union that the segmenter predicts for the mask.
    """

    mask: Mask
    box: tuple[float, float, float, float]
    quality: float


def propose_regions(view: ImageView, settings: RegionSettings) -> list[Region]:
    """The objects of an open image, the most certain first.

    Args:
        view: The image, as `Embedder.open` gives it.
        settings: What counts as an object.

    Returns:
        At most `settings.keep` regions, no two of which overlap by more than `settings.overlap`.
    """
    width, height = view.size
    points = grid_points(width, height, settings.grid)
    candidates = [found for part in _parts(points) for found in _accepted(view, part, settings)]
    if not candidates:
        return []
    qualities = np.array([quality for _, quality in candidates])
    stride = -(-max(width, height) // COMPARED_SIDE)
    unpacked = (_unpack(packed, width)[::stride, ::stride] for packed, _ in candidates)
    kept = suppress(np.stack(list(unpacked)), qualities, settings.overlap)[: settings.keep]
    masks = ((_unpack(candidates[i][0], width), candidates[i][1]) for i in kept)
    return [Region(Mask(mask), bounding_box(mask), quality) for mask, quality in masks]


def grid_points(width: int, height: int, per_side: int) -> list[Point]:
    """The centres of `per_side` times `per_side` equal cells, row by row, in source pixels."""
    steps = (np.arange(per_side) + 0.5) / per_side
    return [Point(float(x * width), float(y * height)) for y in steps for x in steps]


def suppress(masks: NDArray[np.bool_], scores: NDArray[np.floating], overlap: float) -> list[int]:
    """Non-maximum suppression: walks from the best mask down and drops what overlaps a better one that was kept.

    Args:
        masks: bool (N, H, W).
        scores: How good each mask is, (N,).
        overlap: The greatest intersection over union that two kept masks may have.

    Returns:
        Indices of the kept masks, the best first.
    """
    overlaps = mask_overlaps(masks)
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        if all(overlaps[i, j] <= overlap for j in kept):
            kept.append(i)
    return kept


def mask_overlaps(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Intersection over union of every pair of masks, (N, H, W) to (N, N); two empty masks have 0."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)  # (N, H * W)
    shared = flat @ flat.T
    areas = flat.sum(axis=1)
    either = areas[:, None] + areas[None, :] - shared
    overlaps: NDArray[np.float32] = np.divide(shared, either, out=np.zeros_like(shared), where=either > 0)
    return overlaps


def _parts(points: list[Point]) -> Iterator[list[Point]]:
    for start in range(0, len(points), POINTS_AT_ONCE):
        yield points[start : start + POINTS_AT_ONCE]


def _accepted(
    view: ImageView, points: list[Point], settings: RegionSettings
) -> Iterator[tuple[NDArray[np.uint8], float]]:
    """The masks that pass step 2 and their qualities; eight pixels to a byte, for they may be many and large."""
    masks, qualities = view.masks(points)
    shares = masks.mean(axis=(1, 2))
    good = (qualities >= settings.min_quality) & (shares >= settings.min_area) & (shares <= settings.max_area)
    for i in np.flatnonzero(good):
        yield np.packbits(masks[i], axis=1), float(qualities[i])


def _unpack(packed: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    return np.unpackbits(packed, axis=1, count=width).astype(bool)
