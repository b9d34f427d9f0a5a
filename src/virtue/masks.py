"""Masks as bool arrays (H, W), out of what people have: arrays, image files, COCO run lengths and polygons.

H is the height and W the width of the image, in source pixels after the EXIF turn. Run lengths and polygons come from
strangers, so nothing here trusts that they fit their size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TOLERANCE = 0.5
"""How far, in pixels, a polygon or a box may reach outside the image and be clipped instead of refused."""

MAX_PIXELS = 100_000_000
"""The largest mask that is decoded from run lengths or drawn from polygons."""


def to_bool(array: NDArray[Any]) -> NDArray[np.bool_]:
    """A bool copy of an array that can only be meant as a mask.

    Args:
        array: bool, or integers that are 0 and 1 or 0 and 255, (H, W).

    Raises:
        ValueError: If the array has another shape, type or values.
    """
    if array.ndim != 2:
        raise ValueError(f"A mask is an array of shape (height, width), got shape {array.shape}.")
    if array.dtype == np.bool_:
        return array.copy()
    remedy = "pick the object with a comparison, such as `array == value`"
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"A mask holds bool, or integers 0 and 1 or 0 and 255, got {array.dtype}; {remedy}.")
    is_one: NDArray[np.bool_] = array == 1
    is_full: NDArray[np.bool_] = array == 255
    strange = array[(array != 0) & ~is_one & ~is_full]
    if strange.size:
        raise ValueError(f"A mask holds 0 and 1 or 0 and 255, got {strange[0]}; {remedy}.")
    if is_one.any() and is_full.any():
        raise ValueError(f"A mask holds 0 and 1 or 0 and 255, got 1 and 255 both; {remedy}.")
    return is_one | is_full


def bounding_box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """The smallest XYXY box around the set pixels of a mask, (H, W); its far edges lie behind the last pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def deepest_pixel(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Row and column of the pixel that is the most steps away from everything outside a mask.

    Of several such pixels it is the one nearest to their middle.

    Args:
        mask: Not empty, (H, W). What lies beyond the picture is outside.
    """
    depth = depths(mask)
    places = np.argwhere(depth == depth.max())
    row, column = places[int(((places - places.mean(0)) ** 2).sum(1).argmin())]
    return int(row), int(column)


def depths(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many steps each set pixel is from what is outside, (H, W); 0 outside, and beyond the picture is outside.

    A step goes from a pixel to one of its four neighbours.
    """
    return steps_to(np.pad(~mask, 1, constant_values=True))[1:-1, 1:-1]


def steps_to(targets: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many steps each pixel is from the nearest target, (H, W).

    Along one axis the distance is the least of what is behind and what is ahead, and the second axis goes on from the
    distances of the first.
    """
    far = sum(targets.shape)
    steps = np.where(targets, 0, far)
    for axis in (0, 1):
        ramp = np.arange(steps.shape[axis]).reshape((-1, 1) if axis == 0 else (1, -1))
        behind = np.minimum.accumulate(steps - ramp, axis) + ramp
        ahead = np.flip(np.minimum.accumulate(np.flip(steps + ramp, axis), axis), axis) - ramp
        steps = np.minimum(behind, ahead)
    return steps


def from_image(image: Image.Image) -> NDArray[Any]:
    """What an image file says as a mask, not yet checked: its grey values, (H, W) unless it has colours.

    A palette of black and white is looked up; any other holds labels, and its indices count. Transparent is 0.

    Args:
        image: A decoded picture in the mode it was stored in.
    """
    if image.mode == "P":
        colours = np.asarray(image.convert("RGB"))
        return colours[..., 0] if _is_grey(colours) and np.isin(colours, (0, 255)).all() else np.asarray(image)
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, "black")
        image = Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")
    array = np.asarray(image)
    return array[..., 0] if array.ndim == 3 and _is_grey(array) else array


def from_rle(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Decodes a COCO run-length encoding, compressed or not, to (H, W).

    Args:
        rle: `{"size": [h, w], "counts": ...}` with the counts as str or bytes (compressed) or a list of run lengths,
            which go down the columns and start with the background.

    Raises:
        ValueError: If the encoding is malformed or does not fill its size.
    """
    height, width, runs = _read(rle)
    return _filled(runs).reshape((height, width), order="F")


def _read(rle: Mapping[str, Any]) -> tuple[int, int, list[int]]:
    """Height, width and run lengths of a COCO RLE."""
    try:
        (height, width), counts = rle["size"], rle["counts"]
    except (KeyError, TypeError, ValueError):
        raise ValueError('A COCO RLE has the form {"size": [height, width], "counts": ...}.') from None
    width, height = _drawable_size(width, height)
    runs = _uncompress(counts) if isinstance(counts, str | bytes) else _run_lengths(counts)
    # pycocotools would decode this too, but fills what the runs leave open with whatever the memory held.
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise ValueError(f"The runs of the COCO RLE cover {sum(runs)} pixels, its size {width} x {height} is another.")
    return height, width, runs


def _filled(runs: Sequence[int]) -> NDArray[np.bool_]:
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs)


def to_rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Encodes a mask as compressed COCO run lengths that JSON can hold.

    Args:
        mask: bool, (H, W).

    Returns:
        `{"size": [h, w], "counts": str}`.
    """
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def from_polygons(polygons: Sequence[Any] | NDArray[Any], width: int, height: int) -> NDArray[np.bool_]:
    """Fills one polygon or the union of several, (H, W).

    Args:
        polygons: One polygon or a list of them, each `[x1, y1, x2, y2, ...]` as COCO writes it or (K, 2) pairs, K at
            least 3, source pixels.
        width: Width of the image.
        height: Height of the image.

    Raises:
        ValueError: If a polygon is malformed or reaches outside the image.
    """
    from pycocotools import mask as coco

    width, height = _drawable_size(width, height)
    outlines = [_outline(polygon, width, height) for polygon in _split(polygons)]
    return from_rle(coco.merge(coco.frPyObjects(outlines, height, width)))


def whole_size(width: object, height: object) -> tuple[int, int]:
    """Width and height as ints.

    Raises:
        ValueError: If they are not positive whole numbers.
    """
    sides = [int(side) for side in (width, height) if isinstance(side, int | np.integer) and side >= 1]
    if len(sides) != 2:
        raise ValueError(f"An image size is two positive whole numbers, got {width!r} x {height!r}.")
    return sides[0], sides[1]


def _drawable_size(width: object, height: object) -> tuple[int, int]:
    columns, rows = whole_size(width, height)
    if columns * rows > MAX_PIXELS:
        raise ValueError(f"A mask of {columns} x {rows} is more than the {MAX_PIXELS:,} pixels that are decoded.")
    return columns, rows


def _is_grey(colours: NDArray[Any]) -> bool:
    return bool((colours == colours[..., :1]).all())


def _run_lengths(counts: object) -> list[int]:
    if isinstance(counts, Sequence | np.ndarray) and all(isinstance(run, int | np.integer) for run in counts):
        return [int(run) for run in counts]
    raise ValueError("The counts of a COCO RLE are a str, bytes or a list of whole numbers.")


def _uncompress(counts: str | bytes) -> list[int]:
    """Run lengths out of COCO's text form.

    Each number is written in groups of five bits, lowest first, as characters from "0" on: bit 5 says that more groups
    follow, bit 4 of the last group is the sign. From the fourth run on it is the difference to the run two before.
    """
    runs: list[int] = []
    value = shift = 0
    for byte in counts.encode() if isinstance(counts, str) else counts:
        group = byte - 48
        if not 0 <= group < 64 or shift > 35:
            raise ValueError(f"The counts of the COCO RLE are malformed at run {len(runs)}.")
        value |= (group & 0x1F) << shift
        shift += 5
        if not group & 0x20:
            signed = value - (1 << shift) if group & 0x10 else value
            runs.append(signed + runs[-2] if len(runs) > 2 else signed)
            value = shift = 0
    if shift:
        raise ValueError("The counts of the COCO RLE end in the middle of a number.")
    return runs


def _split(polygons: Sequence[Any] | NDArray[Any]) -> list[Any]:
    """A list of polygons, of whatever stands for one polygon or several."""
    try:
        items = list(polygons)
        first = items[0]
        is_single = isinstance(first, Real) or (len(first) == 2 and isinstance(first[0], Real))
    except (TypeError, IndexError):
        raise ValueError(f"A polygon is [x1, y1, x2, y2, ...] or a list of (x, y) pairs, got {polygons!r}.") from None
    return [items] if is_single else items


def _outline(polygon: object, width: int, height: int) -> list[float]:
    """One polygon as `[x1, y1, x2, y2, ...]` inside the image."""
    try:
        numbers = np.asarray(polygon, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.size < 6 or numbers.size % 2:
        raise ValueError(f"A polygon needs at least three (x, y) corners, got {polygon!r}.")
    corners = numbers.reshape(-1, 2)
    if not np.isfinite(corners).all():
        raise ValueError("The corners of a polygon must be finite numbers, got NaN or infinity.")
    limits = np.array([width, height], dtype=np.float64)
    outside = ((corners < -TOLERANCE) | (corners > limits + TOLERANCE)).any(axis=1)
    if outside.any():
        x, y = corners[outside][0]
        raise ValueError(f"The polygon's corner ({x:g}, {y:g}) is outside the image of {width} x {height}.")
    return [float(number) for number in corners.clip(0, limits).ravel()]


def outline(mask: NDArray[np.bool_], *, left: int = 0) -> str:
    """The lines between what is in a mask and what is not, as the `d` of an SVG path in source pixels.

    Each straight stretch is a line of its own, as in "M2 1H4": the path has no inside and is for strokes only.

    Args:
        mask: bool, (H, W).
        left: Column of the picture that the mask's first one is.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return ""
    top, left = int(rows[0]), left + int(columns[0])
    mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # the rest of a large picture costs nothing
    padded = np.pad(mask, 1)
    edges = padded[1:] ^ padded[:-1]  # (H + 1, W + 2): one above pixel (y, x - 1)
    # Where a line across starts or ends, so does one down: the corners of each row are pairs, and of each column too.
    y, x = np.divmod(np.flatnonzero(edges[:, 1:] ^ edges[:, :-1]), mask.shape[1] + 1)
    y, x = y + top, x + left
    across = np.stack([x[::2], y[::2], x[1::2]], axis=1)
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    down = np.stack([x[::2], y[::2], y[1::2]], axis=1)
    form = "M%d %dH%d" * len(across) + "M%d %dV%d" * len(down)  # there may be thousands: formatted in one go
    return form % tuple(np.concatenate([across, down]).ravel().tolist())


def outline_of_rle(rle: Mapping[str, Any]) -> str:
    """The outline of an encoded mask, of which only the columns from the first to the last set one are decoded.

    Args:
        rle: As `from_rle` takes it.

    Raises:
        ValueError: If the encoding is malformed or does not fill its size.
    """
    height, width, runs = _read(rle)
    first = runs[0] // height if len(runs) > 1 else width
    last = (height * width - 1 - (runs[-1] if len(runs) % 2 else 0)) // height
    if first > last:
        return ""
    before, after = first * height, (width - 1 - last) * height
    runs[0] -= before
    if len(runs) % 2:
        runs[-1] -= after
    return outline(_filled(runs).reshape((height, last - first + 1), order="F"), left=first)
