"""Visual prompts out of what data files hold: boxes, clicks, and masks as run lengths, polygons or pictures.

Every function raises a plain ValueError in one sentence; `Row.checked` adds file, row and field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

from virtue.masks import from_polygons, from_rle
from virtue.prompts import Box, Mask, Point

Size = tuple[int, int]


def box_xyxy(value: object) -> Box:
    """A box written `[x1, y1, x2, y2]`, source pixels.

    Raises:
        ValueError: If it is not four finite numbers, or the box is inverted or empty.
    """
    return Box(*_numbers(value, 4, "[x1, y1, x2, y2]"))


def box_xywh(value: object) -> Box:
    """A box written `[x, y, width, height]`, source pixels.

    Raises:
        ValueError: If it is not four finite numbers, or width or height is not positive.
    """
    x, y, width, height = _numbers(value, 4, "[x, y, width, height]")
    if width <= 0 or height <= 0:  # NaN goes on, and Box refuses it
        raise ValueError(f"the width and height of [x, y, width, height] must be positive, got {value}.")
    return Box(x, y, x + width, y + height)


def points(value: object) -> tuple[Point, ...]:
    """Clicks written `[[x, y], ...]` or `[[x, y, label], ...]`, label 1 on the object and 0 off it; one alone counts.

    Raises:
        ValueError: If it is anything else.
    """
    form = "[x, y] or [x, y, label] with label 1 (include) or 0 (exclude)"
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"must be a list of {form}, got {value!r}.")
    clicks = []
    for entry in [value] if isinstance(value[0], Real) else value:
        if not isinstance(entry, list | tuple) or len(entry) not in (2, 3) or tuple(entry[2:]) not in ((), (0,), (1,)):
            raise ValueError(f"each point must be {form}, got {entry!r}.")
        clicks.append(Point(entry[0], entry[1], include=len(entry) == 2 or bool(entry[2])))
    return tuple(clicks)


def mask(value: object, size: Callable[[], Size]) -> Mask | None:
    """A mask as COCO run lengths, compressed or not, or as polygons.

    Args:
        value: `{"size": [h, w], "counts": ...}` or polygons as `Mask.from_polygon` takes them.
        size: Gives width and height of the image; asked only for polygons.

    Returns:
        The mask, None where no pixel of it is set.

    Raises:
        ValueError: If the value is neither, is malformed or does not fit the image.
    """
    if isinstance(value, Mapping):
        array = from_rle(value)
    elif isinstance(value, list | tuple):
        array = from_polygons(value, *size())
    else:
        raise ValueError(
            f'must be run lengths {{"size": [h, w], "counts": ...}} or polygons, got {type(value).__name__}.'
        )
    return Mask(array) if array.any() else None


def _numbers(value: object, count: int, form: str) -> list[Any]:
    if not isinstance(value, list | tuple) or len(value) != count:
        raise ValueError(f"must be {form}, got {value!r}.")
    for number in value:
        if isinstance(number, bool) or not isinstance(number, Real):
            raise ValueError(f"must be {form} in numbers, got {value!r}.")
    return list(value)
