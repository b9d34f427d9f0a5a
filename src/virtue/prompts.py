"""Visual prompts: points, a box, a mask, and what combines them, checked before a model sees them.

Coordinates are continuous source pixels after the EXIF turn: x grows to the right from 0 to the width, y downwards from
0 to the height, and both ends belong to the image, so a point at `x == width` lies on its right edge. Boxes are XYXY.
Masks are (H, W): H the height and W the width of the image. What a value alone can tell (NaN, an inverted box, an empty
mask) is refused when it is made; what needs the image (a point outside it) is refused by `as_visual_prompt`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from virtue import images, masks


class _Combinable:
    """Gives every kind of visual prompt the `+` that makes a `VisualPrompt`."""

    def _combined(self) -> VisualPrompt:
        raise NotImplementedError

    def __add__(self, other: object) -> VisualPrompt:
        """Combines two visual prompts of one item.

        Raises:
            ValueError: If both have a box, or both have a mask.
        """
        if not isinstance(other, _Combinable):
            return NotImplemented
        left, right = self._combined(), other._combined()
        if left.box and right.box:
            raise ValueError(f"A visual prompt has one box at most, got {left.box} and {right.box}.")
        if left.mask and right.mask:
            raise ValueError("A visual prompt has one mask at most, got two; join their arrays with `|` instead.")
        return VisualPrompt(left.points + right.points, left.box or right.box, left.mask or right.mask)


@dataclass(frozen=True)
class Point(_Combinable):
    """A click on the image.

    Args:
        x: Source pixels from the left edge.
        y: Source pixels from the top edge.
        include: True when the object is here, False when it is not.

    Raises:
        ValueError: If a coordinate is not a finite number.
    """

    x: float
    y: float
    include: bool = True

    def __post_init__(self) -> None:
        """Checks and converts the coordinates."""
        _store_numbers(self, ("x", "y"))
        if not isinstance(self.include, bool):
            raise ValueError(f"Point include must be True or False, got {self.include!r}.")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a point written as `x,y`, for example `120,80`.

        Raises:
            ValueError: If the text is not two finite numbers.
        """
        x, y = _parse_numbers(text, 2, "A point is written x,y as in 120,80")
        return cls(x, y)

    def _combined(self) -> VisualPrompt:
        return VisualPrompt(points=(self,))

    def __str__(self) -> str:
        """The point as an error message shows it."""
        return f"Point({self.x:g}, {self.y:g})"


@dataclass(frozen=True, init=False)
class Points(_Combinable):
    """Several clicks that describe one object.

    Attributes:
        include: Where the object is, source pixels (x, y).
        exclude: Where it is not.
    """

    include: tuple[tuple[float, float], ...]
    exclude: tuple[tuple[float, float], ...]

    def __init__(self, include: ArrayLike, exclude: ArrayLike = ()) -> None:
        """Takes one (x, y) or a sequence of them for each of the two kinds.

        Args:
            include: Where the object is: one (x, y) pair or several, source pixels.
            exclude: Where it is not, likewise.

        Raises:
            ValueError: If there is no point at all, or something is not a pair of finite numbers.
        """
        object.__setattr__(self, "include", _pairs(include, "include"))
        object.__setattr__(self, "exclude", _pairs(exclude, "exclude"))
        if not self.include and not self.exclude:
            raise ValueError("Points needs at least one (x, y) pair, got none.")

    def _combined(self) -> VisualPrompt:
        included = [Point(x, y) for x, y in self.include]
        return VisualPrompt((*included, *(Point(x, y, include=False) for x, y in self.exclude)))


@dataclass(frozen=True)
class Box(_Combinable):
    """A rectangle around the object, XYXY in source pixels.

    Args:
        x1: Left edge.
        y1: Top edge.
        x2: Right edge, greater than `x1`.
        y2: Bottom edge, greater than `y1`.

    Raises:
        ValueError: If a number is not finite, or the box is inverted or empty.
    """

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        """Checks and converts the four numbers."""
        _store_numbers(self, ("x1", "y1", "x2", "y2"))
        for low, high in (("x1", "x2"), ("y1", "y2")):
            start, end = getattr(self, low), getattr(self, high)
            if end <= start:
                fault = "empty" if end == start else "inverted"
                raise ValueError(f"{self} is {fault}: {high} = {end:g} must be greater than {low} = {start:g} (XYXY).")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a box written as `x1,y1,x2,y2`, for example `40,60,210,330`.

        Raises:
            ValueError: If the text is not four finite numbers, or they are inverted or empty.
        """
        x1, y1, x2, y2 = _parse_numbers(text, 4, "A box is written x1,y1,x2,y2 as in 40,60,210,330")
        return cls(x1, y1, x2, y2)

    def _combined(self) -> VisualPrompt:
        return VisualPrompt(box=self)

    def __str__(self) -> str:
        """The box as an error message shows it."""
        return f"Box({self.x1:g}, {self.y1:g}, {self.x2:g}, {self.y2:g})"


@dataclass(frozen=True, eq=False, repr=False)
class Mask(_Combinable):
    """The pixels of the object. Two masks are equal when their pixels are.

    Args:
        array: bool (H, W), or integers that are 0 and 1 or 0 and 255; kept as a read-only bool copy.

    Raises:
        ValueError: If the array has another shape, type or values, or no pixel of it is set.
    """

    array: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Checks the array and keeps its own bool copy of it."""
        given = self.array.detach().cpu() if hasattr(self.array, "detach") else self.array  # a segmenter's tensor
        array = masks.to_bool(np.asarray(given))
        if not array.any():
            raise ValueError(f"The mask of {_size(array)} is empty: no pixel of it is set.")
        array.setflags(write=False)
        object.__setattr__(self, "array", array)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Reads a mask from an image file, best a PNG: black or 0 is the background, white or 1 the object.

        Raises:
            ValueError: If the file is not an image, holds anything but a mask, or no pixel of it is set.
        """
        values = masks.from_image(images.load_image(path))
        try:
            return cls(values)
        except ValueError as error:
            raise ValueError(f"{path} is not a mask: {error}") from error

    @classmethod
    def from_rle(cls, rle: Mapping[str, Any]) -> Self:
        """Decodes a COCO run-length encoding, compressed or not.

        Args:
            rle: `{"size": [h, w], "counts": ...}`, the counts as str or bytes (compressed) or a list of run lengths.

        Raises:
            ValueError: If the encoding is malformed, does not fill its size, or no pixel of it is set.
        """
        return cls(masks.from_rle(rle))

    @classmethod
    def from_polygon(cls, polygons: Sequence[Any] | NDArray[Any], width: int, height: int) -> Self:
        """Fills one polygon or the union of several.

        Args:
            polygons: One polygon or a list of them, each `[x1, y1, x2, y2, ...]` as COCO writes it or (K, 2) pairs,
                K at least 3, source pixels.
            width: Width of the image.
            height: Height of the image.

        Raises:
            ValueError: If a polygon is malformed, reaches outside the image, or covers no pixel.
        """
        return cls(masks.from_polygons(polygons, width, height))

    def to_rle(self) -> dict[str, Any]:
        """The mask as compressed COCO RLE that JSON can hold: `{"size": [h, w], "counts": str}`."""
        return masks.to_rle(self.array)

    def _combined(self) -> VisualPrompt:
        return VisualPrompt(mask=self)

    def __eq__(self, other: object) -> bool:
        """Whether the other is a mask of the same pixels."""
        return isinstance(other, Mask) and np.array_equal(self.array, other.array)

    def __hash__(self) -> int:
        """Goes by the pixels, as equality does."""
        return hash((self.array.shape, np.packbits(self.array).tobytes()))

    def __repr__(self) -> str:
        """Size and number of pixels, never the array."""
        return f"Mask({_size(self.array)}, {int(self.array.sum())} set)"


@dataclass(frozen=True)
class VisualPrompt(_Combinable):
    """Points, a box and a mask that together describe one object; what every other kind becomes.

    Args:
        points: Clicks, in the order they were given.
        box: A rectangle around the object.
        mask: Its pixels, as large as the image.

    Raises:
        ValueError: If one of them is of another type.
    """

    points: tuple[Point, ...] = ()
    box: Box | None = None
    mask: Mask | None = None

    def __post_init__(self) -> None:
        """Refuses parts of another type."""
        if not isinstance(self.points, Iterable):
            raise ValueError(f"A VisualPrompt's points are a sequence of Point, got {self.points!r}.")
        object.__setattr__(self, "points", tuple(self.points))
        parts = [(point, Point) for point in self.points]
        for part, kind in [*parts, (self.box, Box | None), (self.mask, Mask | None)]:
            if not isinstance(part, kind):
                raise ValueError(f"A VisualPrompt is made of Points, a Box and a Mask, got {part!r}.")

    def clicks(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Points and box in SAM's terms, where a box is two more points with labels of their own.

        Returns:
            Source pixels (P, 2), and labels (P,): 1 include, 0 exclude, 2 and 3 the corners of the box, which is last.
        """
        places = [(point.x, point.y) for point in self.points]
        labels = [int(point.include) for point in self.points]
        if self.box:
            places += [(self.box.x1, self.box.y1), (self.box.x2, self.box.y2)]
            labels += [2, 3]
        return np.array(places, dtype=np.float32).reshape(-1, 2), np.array(labels, dtype=np.int64)

    def _combined(self) -> VisualPrompt:
        return self


AnyPrompt: TypeAlias = Point | Points | Box | Mask | VisualPrompt
"""Everything that may stand as the visual prompt of an item."""


def as_visual_prompt(prompt: AnyPrompt, width: int, height: int) -> VisualPrompt:
    """Turns any kind of visual prompt into a `VisualPrompt` that is known to fit the image.

    A box that reaches outside by half a pixel or less, as rounding does, is clipped.

    Args:
        prompt: What the user gave.
        width: Width of the image in source pixels, after the EXIF turn.
        height: Its height.

    Returns:
        The same visual prompt, with at least one included point, a box or a mask, all inside the image.

    Raises:
        ValueError: If it is no visual prompt, is empty, only excludes, or does not fit the image.
    """
    if not isinstance(prompt, AnyPrompt):
        raise ValueError(f"A visual prompt is a Point, Points, Box, Mask or their sum, got {type(prompt).__name__}.")
    width, height = masks.whole_size(width, height)
    combined = prompt._combined()
    if not (combined.box or combined.mask or any(point.include for point in combined.points)):
        fault = "only excludes" if combined.points else "is empty"
        raise ValueError(f"The visual prompt {fault}: give a point on the object, a box or a mask.")
    for point in combined.points:
        _check_point(point, width, height)
    if combined.mask and combined.mask.array.shape != (height, width):
        raise ValueError(f"The mask is {_size(combined.mask.array)} but the image is {width} x {height} (width first).")
    return replace(combined, box=_clip(combined.box, width, height)) if combined.box else combined


def _check_point(point: Point, width: int, height: int) -> None:
    for axis, value, limit in (("x", point.x, width), ("y", point.y, height)):
        if not 0 <= value <= limit:
            where = f"outside the image of {width} x {height}"
            raise ValueError(f"{point} is {where}: {axis} = {value:g} is not between 0 and {limit}.")


def _clip(box: Box, width: int, height: int) -> Box:
    """The box inside the image, if it reaches out by no more than rounding does."""
    where = f"outside the image of {width} x {height}"
    for axis, value, limit in (
        ("x1", box.x1, width),
        ("y1", box.y1, height),
        ("x2", box.x2, width),
        ("y2", box.y2, height),
    ):
        if not -masks.TOLERANCE <= value <= limit + masks.TOLERANCE:
            raise ValueError(f"{box} reaches {where}: {axis} = {value:g} is not between 0 and {limit}.")
    if box.x1 >= width or box.y1 >= height or box.x2 <= 0 or box.y2 <= 0:
        raise ValueError(f"{box} lies {where}.")
    return Box(max(box.x1, 0), max(box.y1, 0), min(box.x2, width), min(box.y2, height))


def _size(array: NDArray[Any]) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"


def _store_numbers(owner: Point | Box, names: tuple[str, ...]) -> None:
    for name in names:
        object.__setattr__(owner, name, _number(getattr(owner, name), f"{type(owner).__name__} {name}"))


def _number(value: object, what: str) -> float:
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # one number of an array or of a detector's tensor
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{what} must be a number, got {value!r}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{what} must be a finite number, got {number}.")
    return number


def _parse_numbers(text: str, count: int, form: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count:
        raise ValueError(f"{form}, got {text!r}.")
    return values


def _pairs(values: ArrayLike, what: str) -> tuple[tuple[float, float], ...]:
    """One (x, y) or several of them, as a tuple of pairs."""
    try:
        items: list[Any] = list(values)  # type: ignore[arg-type]
        if items and not isinstance(items[0], Sequence | np.ndarray):
            items = [items]
        pairs = [tuple(item) for item in items]
    except TypeError:
        raise ValueError(f"Points {what} must be one (x, y) or a list of them, got {values!r}.") from None
    for pair in pairs:
        if len(pair) != 2:
            raise ValueError(f"Points {what} must be (x, y) pairs, got {pair!r}.")
    return tuple((_number(x, f"Points {what} x"), _number(y, f"Points {what} y")) for x, y in pairs)
