"""What region a visual prompt means, and pictures in which it is cut out, circled, or set off from the rest.

The region is the mask where there is one, else the box. Clicks alone say where a thing is, not how large: their region
is the box around those that include, grown on each side by an eighth of the picture's shorter side, so that one click
means a square of a quarter of it. Clicks beside a mask or a box, and clicks that exclude, change nothing.

All pictures are RGB, all visual prompts known to fit them (`as_visual_prompt`), all coordinates source pixels.

Letters: H, W height and width of the picture.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from virtue.masks import bounding_box
from virtue.prompts import Box, Mask, Point, VisualPrompt

CLICK_REACH = 1 / 8
"""How far the region of a click reaches, of the picture's shorter side."""

MARGIN = 1 / 4
"""How much a crop with a margin adds on each side, of the box's width and height."""

CIRCLE_WIDTH = 1 / 75
"""The red circle's line, of the picture's shorter side: 3 pixels of CLIP's 224."""

BLUR = 1 / 20
"""Standard deviation of the blur outside the region, of the picture's shorter side."""

DARKNESS = 1 / 4
"""Brightness that is left outside the region."""

Window = tuple[int, int, int, int]
"""XYXY in whole pixels, the far edges exclusive."""


def region_box(prompt: VisualPrompt, size: tuple[int, int]) -> Box:
    """The smallest box around the region.

    Args:
        prompt: With at least one included point, a box or a mask.
        size: Width and height of the picture.
    """
    known = known_box(prompt)
    if known is not None:
        return known
    width, height = size
    reach = CLICK_REACH * min(size)
    across, down = zip(*((point.x, point.y) for point in prompt.points if point.include), strict=True)
    return Box(
        max(min(across) - reach, 0),
        max(min(down) - reach, 0),
        min(max(across) + reach, width),
        min(max(down) + reach, height),
    )


def known_box(prompt: VisualPrompt) -> Box | None:
    """The smallest box around a mask, else the box; None where there are clicks alone."""
    return prompt.box if prompt.mask is None else Box(*bounding_box(prompt.mask.array))


def window(prompt: VisualPrompt, size: tuple[int, int], margin: float = 0.0) -> Window:
    """The pixels that the region's box touches, at least one.

    Args:
        prompt: With at least one included point, a box or a mask.
        size: Width and height of the picture, which the window does not leave.
        margin: What is added on each side, of the box's width and height.
    """
    box = region_box(prompt, size)
    across, down = margin * (box.x2 - box.x1), margin * (box.y2 - box.y1)
    left, right = _pixels(box.x1 - across, box.x2 + across, size[0])
    top, bottom = _pixels(box.y1 - down, box.y2 + down, size[1])
    return left, top, right, bottom


def _pixels(start: float, end: float, limit: int) -> tuple[int, int]:
    """First and last pixel (exclusive) that a stretch along one axis touches, inside the picture."""
    first = min(max(math.floor(start), 0), limit - 1)
    return first, max(min(math.ceil(end), limit), first + 1)


def moved(prompt: VisualPrompt, window: Window) -> VisualPrompt:
    """A visual prompt in the frame of a crop that holds its region; what of it lies outside is left out.

    Args:
        prompt: In the frame of the whole picture.
        window: What was cropped.
    """
    left, top, right, bottom = window
    points = [
        Point(point.x - left, point.y - top, point.include)
        for point in prompt.points
        if left <= point.x <= right and top <= point.y <= bottom
    ]
    mask = prompt.mask and Mask(prompt.mask.array[top:bottom, left:right])
    return VisualPrompt(tuple(points), prompt.box and _clipped(prompt.box, window), mask)


def _clipped(box: Box, window: Window) -> Box | None:
    """The part of a box in a crop, in the crop's frame; None where there is none, as beside a mask elsewhere."""
    left, top, right, bottom = window
    x1, y1, x2, y2 = max(box.x1, left), max(box.y1, top), min(box.x2, right), min(box.y2, bottom)
    return Box(x1 - left, y1 - top, x2 - left, y2 - top) if x1 < x2 and y1 < y2 else None


def inside(prompt: VisualPrompt, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of the region, (H, W).

    Args:
        prompt: With at least one included point, a box or a mask.
        size: Width and height of the picture.
    """
    if prompt.mask is not None:
        return prompt.mask.array
    left, top, right, bottom = window(prompt, size)
    pixels = np.zeros(size[::-1], dtype=np.bool_)
    pixels[top:bottom, left:right] = True
    return pixels


def circled(picture: Image.Image, prompt: VisualPrompt) -> Image.Image:
    """A red ellipse around the region, as Shtedritski et al. 2023 (arXiv 2304.06712) draw it for CLIP.

    Its line touches the box's edges from outside, moved inwards where it would leave the picture, so that some of it is
    always seen. Pixels under the line are lost.
    """
    line = max(round(CIRCLE_WIDTH * min(picture.size)), 1)
    left, top, right, bottom = window(prompt, picture.size)
    outline = (
        max(left - line, 0),
        max(top - line, 0),
        min(right + line, picture.width) - 1,
        min(bottom + line, picture.height) - 1,
    )
    drawn = picture.copy()
    ImageDraw.Draw(drawn).ellipse(outline, outline=(255, 0, 0), width=line)
    return drawn


def blurred(picture: Image.Image, prompt: VisualPrompt) -> Image.Image:
    """Everything outside the region blurred, as Yang et al. 2023 (arXiv 2306.04356) do; the region is untouched."""
    return _outside(picture, picture.filter(ImageFilter.GaussianBlur(BLUR * min(picture.size))), prompt)


def darkened(picture: Image.Image, prompt: VisualPrompt) -> Image.Image:
    """Everything outside the region darkened; the region is untouched."""
    return _outside(picture, picture.point(lambda value: round(value * DARKNESS)), prompt)


def _outside(picture: Image.Image, changed: Image.Image, prompt: VisualPrompt) -> Image.Image:
    return Image.composite(picture, changed, _layer(prompt, picture.size))


def with_alpha(picture: Image.Image, prompt: VisualPrompt) -> Image.Image:
    """The picture as RGBA, opaque in the region and transparent outside.

    For models that take alpha as a fourth channel (Alpha-CLIP, arXiv 2312.03818). `open_image`, and with it every model
    that reads RGB through it, sees white where it is transparent.
    """
    drawn = picture.copy()
    drawn.putalpha(_layer(prompt, picture.size))
    return drawn


def _layer(prompt: VisualPrompt, size: tuple[int, int]) -> Image.Image:
    """The region as a picture of mode L, 255 inside."""
    return Image.fromarray(inside(prompt, size).astype(np.uint8) * np.uint8(255))
