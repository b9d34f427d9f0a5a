"""Visual prompts: points, a box, a mask, and what combines them, checked before a model sees them.

Coordinates are continuous source pixels after the EXIF turn: x grows to the right from 0 to the width, y downwards from 0 to
the height, and both ends belong to the image, so a point at `x == width` lies on its right edge. Boxes are XYXY. Arrays
are (H, W): H the height and W the width of the image. What a value alone can tell (NaN, an inverted box, an empty mask) is
refused when it is made; what needs the image (a point outside it) is refused by `as_visual_prompt`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

BOX_TOLERANCE = 0.5
"""How far, in pixels, a box or a polygon may reach outside the image and be clipped instead of refused."""

MAX_MASK_PIXELS = 100_000_000
"""The largest mask that is decoded from a COCO RLE or drawn from a polygon."""


class _Combinable:
    """Gives every kind of visual prompt the `+` that makes a `VisualPrompt`."""

    def __add__(self, other: object) -> VisualPrompt:
        """Combines two visual prompts of one item.

        Raises:
            ValueError: If both have a box, or both have a mask.
        """
        if not isinstance(other, _Combinable):
            return NotImplemented
        left, right = _combined(self), _combined(other)
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
        if not isinstance(self.include, bool | np.bool_):
            raise ValueError(f"Point include must be True or False, got {self.include!r}.")
        object.__setattr__(self, "include", bool(self.include))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a point written as `x,y`, for example `120,80`.

        Raises:
            ValueError: If the text is not two finite numbers.
        """
        return cls(*_parse_numbers(text, 2, "A point is written x,y as in 120,80"))

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
    exclude: tuple[tuple[float, float], ...] = ()

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
        return cls(*_parse_numbers(text, 4, "A box is written x1,y1,x2,y2 as in 40,60,210,330"))

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
        array = _as_bool(np.asarray(self.array))
        if not array.any():
            raise ValueError(f"The mask of {_size(array)} is empty: no pixel of it is set.")
        array.setflags(write=False)
        object.__setattr__(self, "array", array)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Reads a mask from an image file: black is 0, the object white (or 1).

        Raises:
            ValueError: If the file is not an image, has colours, or no pixel of it is set.
        """
        from virtue.images import load_image

        return cls(_mask_values(load_image(path)))

    @classmethod
    def from_rle(cls, rle: Mapping[str, Any]) -> Self:
        """Decodes a COCO run-length encoding, compressed or not.

        Args:
            rle: `{"size": [h, w], "counts": ...}` with the counts as str or bytes (compressed) or as a list of run lengths.

        Raises:
            ValueError: If the encoding is malformed, does not fill its size, or no pixel of it is set.
        """
        height, width = _rle_size(rle)
        counts = rle["counts"]
        runs = _uncompress(counts) if isinstance(counts, str | bytes) else _run_lengths(counts)
        # pycocotools would decode these too, but fills what the runs leave open with whatever the memory held.
        if min(runs, default=0) < 0 or sum(runs) != height * width:
            raise ValueError(
                f"The RLE's runs cover {sum(runs)} pixels but its size {width} x {height} has {height * width}."
            )
        colours = np.arange(len(runs)) % 2 == 1
        return cls(np.repeat(colours, runs).reshape((height, width), order="F"))

    @classmethod
    def from_polygon(cls, polygons: Sequence[Any] | NDArray[Any], width: int, height: int) -> Self:
        """Fills one polygon or the union of several.

        Args:
            polygons: One polygon or a list of them, each `[x1, y1, x2, y2, ...]` as COCO writes it or (K, 2) pairs, K at least 3,
                source pixels.
            width: Width of the image.
            height: Height of the image.

        Raises:
            ValueError: If a polygon is malformed, reaches outside the image, or covers no pixel.
        """
        from pycocotools import mask as coco

        width, height = _check_size(width, height)
        outlines = [_outline(polygon, width, height) for polygon in _split_polygons(polygons)]
        return cls(coco.decode(coco.merge(coco.frPyObjects(outlines, height, width))).astype(bool))

    def to_rle(self) -> dict[str, Any]:
        """The mask as compressed COCO RLE that JSON can hold: `{"size": [h, w], "counts": str}`."""
        from pycocotools import mask as coco

        encoded = coco.encode(np.asfortranarray(self.array.astype(np.uint8)))
        return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}

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
    """

    points: tuple[Point, ...] = ()
    box: Box | None = None
    mask: Mask | None = None

    def clicks(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Points and box in SAM's terms, where a box is two more points with labels of their own.

        Returns:
            Source pixels (P, 2), and labels (P,): 1 include, 0 exclude, 2 and 3 the corners of the box, which come last.
        """
        places = [(point.x, point.y) for point in self.points]
        labels = [int(point.include) for point in self.points]
        if self.box:
            places += [(self.box.x1, self.box.y1), (self.box.x2, self.box.y2)]
            labels += [2, 3]
        return np.array(places, dtype=np.float32).reshape(-1, 2), np.array(labels, dtype=np.int64)


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
        The same prompt with at least one included point, a box or a mask, all inside the image.

    Raises:
        ValueError: If it is no visual prompt, is empty, only excludes, or does not fit the image.
    """
    if not isinstance(prompt, _Combinable):
        raise ValueError(f"A visual prompt is a Point, Points, Box, Mask or their sum, got {type(prompt).__name__}.")
    width, height = _check_size(width, height)
    combined = _combined(prompt)
    if combined == VisualPrompt():
        raise ValueError("The visual prompt is empty: give a point, a box or a mask, or None for no visual prompt.")
    if not (combined.box or combined.mask or any(point.include for point in combined.points)):
        raise ValueError("The visual prompt only excludes: add a point on the object, a box or a mask.")
    for point in combined.points:
        _check_point(point, width, height)
    if combined.mask and combined.mask.array.shape != (height, width):
        raise ValueError(
            f"The mask is {_size(combined.mask.array)} but the image is {width} x {height} (width x height)."
        )
    return replace(combined, box=_clip_box(combined.box, width, height)) if combined.box else combined


def _combined(prompt: _Combinable) -> VisualPrompt:
    match prompt:
        case VisualPrompt():
            return prompt
        case Point():
            return VisualPrompt(points=(prompt,))
        case Points(include=include, exclude=exclude):
            return VisualPrompt((*(Point(x, y) for x, y in include), *(Point(x, y, False) for x, y in exclude)))
        case Box():
            return VisualPrompt(box=prompt)
        case Mask():
            return VisualPrompt(mask=prompt)
    raise ValueError(f"A visual prompt is a Point, Points, Box, Mask or their sum, got {type(prompt).__name__}.")


def _check_point(point: Point, width: int, height: int) -> None:
    for axis, value, limit in (("x", point.x, width), ("y", point.y, height)):
        if not 0 <= value <= limit:
            raise ValueError(
                f"{point} is outside the image of {width} x {height}: {axis} = {value:g} is not between 0 and {limit}."
            )


def _clip_box(box: Box, width: int, height: int) -> Box:
    limits = {"x1": width, "y1": height, "x2": width, "y2": height}
    clipped = {}
    for name, limit in limits.items():
        value = getattr(box, name)
        if not -BOX_TOLERANCE <= value <= limit + BOX_TOLERANCE:
            raise ValueError(
                f"{box} reaches outside the image of {width} x {height}: {name} = {value:g} is not between 0 and {limit}."
            )
        clipped[name] = min(max(value, 0.0), float(limit))
    if clipped["x2"] <= clipped["x1"] or clipped["y2"] <= clipped["y1"]:
        raise ValueError(f"{box} lies outside the image of {width} x {height}.")
    return Box(**clipped)


def _store_numbers(owner: Point | Box, names: tuple[str, ...]) -> None:
    for name in names:
        object.__setattr__(owner, name, _number(getattr(owner, name), f"{type(owner).__name__} {name}"))


def _number(value: object, what: str) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise ValueError(f"{what} must be a number, got {value!r}.")
    if not math.isfinite(value):
        raise ValueError(f"{what} must be a finite number, got {float(value)}.")
    return float(value)


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


def _as_bool(array: NDArray[Any]) -> NDArray[np.bool_]:
    """The array as a bool copy, if it can only be meant as a mask."""
    if array.ndim != 2:
        raise ValueError(f"A mask is an array of shape (height, width), got shape {array.shape}.")
    if array.dtype == np.bool_:
        return array.copy()
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"A mask holds bool, or integers 0 and 1 or 0 and 255, got {array.dtype}; use `array > 0.5`.")
    strange = array[(array != 0) & (array != 1) & (array != 255)]
    if strange.size:
        raise ValueError(f"A mask holds 0 and 1 or 0 and 255, got {strange[0]}; pick the object with `array == value`.")
    if (array == 1).any() and (array == 255).any():
        raise ValueError(
            "A mask holds 0 and 1 or 0 and 255, got 1 and 255 both; pick the object with `array == value`."
        )
    return array != 0


def _mask_values(image: Image.Image) -> NDArray[Any]:
    """What an image file says as a mask, (H, W): grey values, or palette indices when the palette is colourful."""
    if image.mode == "P":
        grey = np.asarray(image.convert("RGB"))
        return grey[..., 0] if np.isin(grey, (0, 255)).all() and not np.ptp(grey, axis=-1).any() else np.asarray(image)
    if image.mode in ("LA", "RGBA"):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA")).convert("RGB")
    array = np.asarray(image)
    if array.ndim == 3 and not np.ptp(array, axis=-1).any():
        return array[..., 0]
    return array


def _size(array: NDArray[Any]) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"


def _check_size(width: object, height: object) -> tuple[int, int]:
    for value in (width, height):
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            raise ValueError(f"An image size is two positive whole numbers, got {width!r} x {height!r}.")
    return int(width), int(height)  # type: ignore[call-overload]


def _rle_size(rle: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of an RLE whose outer form is right and whose mask is not absurdly large."""
    try:
        height, width = rle["size"]
        rle["counts"]
    except (KeyError, TypeError, ValueError):
        raise ValueError('A COCO RLE has the form {"size": [height, width], "counts": ...}.') from None
    width, height = _check_size(width, height)
    if width * height > MAX_MASK_PIXELS:
        raise ValueError(f"The RLE's size {width} x {height} is more than {MAX_MASK_PIXELS:,} pixels.")
    return height, width


def _run_lengths(counts: Any) -> list[int]:
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


def _split_polygons(polygons: Sequence[Any] | NDArray[Any]) -> list[Any]:
    """A list of polygons, of whatever stands for one polygon or several."""
    try:
        items = list(polygons)
        first = items[0]
        is_single = isinstance(first, Real) or (len(first) == 2 and isinstance(first[0], Real))
    except (TypeError, IndexError):
        raise ValueError(f"A polygon is [x1, y1, x2, y2, ...] or a list of (x, y) pairs, got {polygons!r}.") from None
    return [items] if is_single else items


def _outline(polygon: Any, width: int, height: int) -> list[float]:
    """One polygon as `[x1, y1, x2, y2, ...]` inside the image."""
    try:
        corners = np.asarray(polygon, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        corners = np.empty(0)
    if corners.size < 6 or corners.size % 2:
        raise ValueError(f"A polygon needs at least three (x, y) corners, got {polygon!r}.")
    corners = corners.reshape(-1, 2)
    if not np.isfinite(corners).all():
        raise ValueError("A polygon's corners must be finite numbers, got NaN or infinity.")
    limits = np.array([width, height], dtype=np.float64)
    outside = ((corners < -BOX_TOLERANCE) | (corners > limits + BOX_TOLERANCE)).any(axis=1)
    if outside.any():
        x, y = corners[outside][0]
        raise ValueError(f"The polygon's corner ({x:g}, {y:g}) is outside the image of {width} x {height}.")
    return [float(number) for number in corners.clip(0, limits).ravel()]
