"""Pictures as they go wrong: faint, dark, noisy, blurred, small, or with something in front of the object.

Each is a `Change`, so that a disturbed picture is made when it is embedded and forgotten afterwards. What is drawn at
random goes by the picture (or the region) and a seed, so the same item always gets the same.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Hashable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageEnhance, ImageFilter

from virtue.evaluation.changes import Change
from virtue.evaluation.robustness.prompt_disturbances import region_of
from virtue.images import ImageSource, image_key, open_image
from virtue.items import Item
from virtue.prompts import AnyPrompt, Box, Mask, Point, VisualPrompt

GREY = (127, 127, 127)

Redraw = Callable[[Image.Image, float, int], Image.Image]
"""A picture (RGB), a severity above 0 and a seed to another picture of the same size."""


def low_contrast(picture: Image.Image, severity: float, seed: int) -> Image.Image:
    """All colours moved towards the picture's mean grey, by the share `severity` of the way."""
    del seed
    return ImageEnhance.Contrast(picture).enhance(1 - severity)


def dark(picture: Image.Image, severity: float, seed: int) -> Image.Image:
    """All colours moved towards black, by the share `severity` of the way."""
    del seed
    return ImageEnhance.Brightness(picture).enhance(1 - severity)


def bright(picture: Image.Image, severity: float, seed: int) -> Image.Image:
    """All colours moved towards white, by the share `severity` of the way."""
    del seed
    return ImageChops.invert(ImageEnhance.Brightness(ImageChops.invert(picture)).enhance(1 - severity))


def noise(picture: Image.Image, severity: float, seed: int) -> Image.Image:
    """Normal noise on every channel of every pixel, with a standard deviation of the share `severity` of white."""
    pixels = np.asarray(picture, dtype=np.float32)
    rng = np.random.default_rng([seed, zlib.crc32(picture.tobytes())])
    changed = pixels + 255 * severity * rng.standard_normal(pixels.shape, dtype=np.float32)
    return Image.fromarray(changed.round().clip(0, 255).astype(np.uint8))


def blur(picture: Image.Image, severity: float, seed: int) -> Image.Image:
    """A Gaussian blur whose standard deviation is the share `severity` of the shorter side."""
    del seed
    return picture.filter(ImageFilter.GaussianBlur(severity * min(picture.size)))


def jpeg(picture: Image.Image, severity: float, seed: int) -> Image.Image:
    """Written as JPEG of quality 100 - `severity`, and read again."""
    del seed
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=100 - int(severity))
    return open_image(file.getvalue())


def coarse(picture: Image.Image, severity: float, seed: int) -> Image.Image:
    """Made smaller by the share `severity` of its sides and enlarged again: detail is lost, places are kept."""
    del seed
    small = picture.resize(_smaller(picture.size, severity), Image.Resampling.LANCZOS)
    return small.resize(picture.size, Image.Resampling.BICUBIC)


def redrawn(name: str, redraw: Redraw, severity: float, seed: int) -> Change:
    """The change that redraws the pictures of items, and leaves items without one as they are.

    The last picture is kept, so that items of one picture that come one after the other share one redrawn picture.

    Args:
        name: Of the disturbance.
        redraw: What it does to a picture.
        severity: How much, above 0.
        seed: Of what is drawn.
    """
    once = _Once()

    def apply(item: Item) -> Item:
        if item.image is None:
            return item
        return replace(item, image=once(item.image, lambda picture: redraw(picture, severity, seed)))

    return Change(f"{name} {severity:g} seed {seed}", apply)


def small(severity: float) -> Change:
    """Pictures made smaller by the share `severity` of their sides and put on the middle of a canvas of the old size.

    The canvas has the picture's mean colour. Visual prompts move along, so it is the object's size in the picture that
    changes, together with how many of a model's tokens see it.
    """
    once = _Once()

    def apply(item: Item) -> Item:
        if item.image is None:
            return item
        canvas = once(item.image, lambda picture: _on_canvas(picture, severity))
        prompt = None if item.prompt is None else _made_smaller(item.prompt, canvas.size, severity)
        return replace(item, image=canvas, prompt=prompt)

    return Change(f"picture small {severity:g}", apply)


def hidden(severity: float, seed: int) -> Change:
    """A grey patch that covers the object from one side of its box until the share `severity` of its pixels is hidden.

    Where only the box is known, the share is one of the box. The side is drawn at random; the visual prompt stays.
    Items without a box or a mask stay as they are.
    """

    def apply(item: Item) -> Item:
        region = region_of(item)
        if region is None or item.image is None:
            return item
        side = int(np.random.default_rng([seed, zlib.crc32(repr(region.box).encode())]).integers(4))
        picture = open_image(item.image).copy()
        pixels = None if region.mask is None else region.pixels
        picture.paste(GREY, patch(region.box, pixels, severity, side))
        return replace(item, image=picture)

    return Change(f"object hidden {severity:g} seed {seed}", apply)


def patch(
    box: tuple[float, float, float, float], mask: NDArray[np.bool_] | None, severity: float, side: int
) -> tuple[int, int, int, int]:
    """The part of a box that hides the share `severity` of the object, as whole pixels XYXY.

    Args:
        box: Tight around the object.
        mask: Its pixels, (H, W); None counts the box's.
        severity: The share.
        side: Where the patch begins: 0 left, 1 top, 2 right, 3 bottom.
    """
    edges = [int(np.floor(box[0])), int(np.floor(box[1])), int(np.ceil(box[2])), int(np.ceil(box[3]))]
    x1, y1, x2, y2 = edges
    inside = np.ones((y2 - y1, x2 - x1), dtype=bool) if mask is None else mask[y1:y2, x1:x2]
    profile = inside.sum(side % 2)  # pixels of each column for left and right, of each row for top and bottom
    counted = np.cumsum(profile[::-1] if side >= 2 else profile)
    deep = int(np.searchsorted(counted, severity * counted[-1])) + 1
    far = (side + 2) % 4  # the edge that moves towards the side where the patch begins
    edges[far] = edges[side] + (deep if side < 2 else -deep)
    return edges[0], edges[1], edges[2], edges[3]


class _Once:
    """Makes something of a picture, and the last picture's again without work."""

    def __init__(self) -> None:
        self._last: tuple[Hashable, ImageSource, Image.Image] | None = None

    def __call__(self, source: ImageSource, make: Callable[[Image.Image], Image.Image]) -> Image.Image:
        key = image_key(source)
        last = self._last
        if last is None or last[0] != key:
            # The source is kept too: the key of an object in memory is good while the object lives.
            last = self._last = key, source, make(open_image(source))
        return last[2]


def _smaller(size: tuple[int, int], severity: float) -> tuple[int, int]:
    width, height = (max(1, round(side * (1 - severity))) for side in size)
    return width, height


def _corner(size: tuple[int, int], severity: float) -> tuple[int, int]:
    """Left and top of the smaller picture on its canvas."""
    width, height = _smaller(size, severity)
    return (size[0] - width) // 2, (size[1] - height) // 2


def _on_canvas(picture: Image.Image, severity: float) -> Image.Image:
    red, green, blue = (round(mean) for mean in np.asarray(picture).reshape(-1, 3).mean(0).tolist())
    canvas = Image.new("RGB", picture.size, (red, green, blue))
    shrunk = picture.resize(_smaller(picture.size, severity), Image.Resampling.LANCZOS)
    canvas.paste(shrunk, _corner(picture.size, severity))
    return canvas


def _made_smaller(prompt: AnyPrompt, size: tuple[int, int], severity: float) -> VisualPrompt:
    """The visual prompt at its object's new place on the canvas."""
    whole = prompt + VisualPrompt()
    (width, height), (left, top) = _smaller(size, severity), _corner(size, severity)
    across, down = width / size[0], height / size[1]
    points = tuple(Point(left + point.x * across, top + point.y * down, point.include) for point in whole.points)
    box = None
    if whole.box is not None:
        old = whole.box
        box = Box(left + old.x1 * across, top + old.y1 * down, left + old.x2 * across, top + old.y2 * down)
    mask = None if whole.mask is None else _smaller_mask(whole.mask.array, (width, height), (left, top))
    return VisualPrompt(points, box, mask)


def _smaller_mask(mask: NDArray[np.bool_], size: tuple[int, int], corner: tuple[int, int]) -> Mask:
    """The mask on the canvas; a pixel that is covered by half or more is set, the most covered one in any case."""
    shrunk = Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BOX)
    covered = np.zeros(mask.shape, dtype=np.float32)
    left, top = corner
    covered[top : top + size[1], left : left + size[0]] = np.asarray(shrunk)
    return Mask((covered >= 0.5) | (covered == covered.max()))
