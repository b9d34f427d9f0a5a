"""Small pictures for people, on which a region stands out: a box outlined, clicks dotted, all outside a mask dimmed.

What models are shown instead of a visual prompt is drawn in `drawing`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from virtue.images import ImageSource, open_image, thumbnail
from virtue.prompts import AnyPrompt, Point, as_visual_prompt

COLOUR = (255, 64, 96)
EXCLUDED = (40, 120, 255)
"""Of the clicks that say what is not meant."""

DIMMED = 0.45
"""How bright the picture stays outside the mask."""

DOT = 4
"""Radius of a click, in pixels."""


def draw_region(
    image: Image.Image,
    *,
    mask: NDArray[np.bool_] | None = None,
    box: tuple[float, float, float, float] | None = None,
    points: Sequence[Point] = (),
    side: int,
) -> Image.Image:
    """A thumbnail on which a region stands out.

    Args:
        image: The picture, RGB, H pixels high and W wide.
        mask: Pixels of the region, (H, W); all else is dimmed.
        box: XYXY in pixels of the picture; outlined.
        points: Clicks in pixels of the picture; dotted, those that exclude in another colour.
        side: Longer side of the thumbnail, in pixels.
    """
    small = thumbnail(image, side)
    scale = small.width / image.width
    if mask is not None:
        inside = Image.fromarray(mask).resize(small.size, Image.Resampling.NEAREST)
        small = Image.composite(small, small.point(lambda value: int(value * DIMMED)), inside)
    pen = ImageDraw.Draw(small)
    if box is not None:
        x1, y1, x2, y2 = (edge * scale for edge in box)
        pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=COLOUR, width=2)
    for point in points:
        x, y = point.x * scale, point.y * scale
        pen.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=COLOUR if point.include else EXCLUDED, outline="white")
    return small


def draw_query(image: ImageSource, prompt: AnyPrompt | None, side: int) -> Image.Image:
    """A thumbnail of the picture that is asked with, on which its visual prompt stands out.

    Args:
        image: The picture.
        prompt: What in it is meant, in its source pixels; None for all of it.
        side: Longer side of the thumbnail, in pixels.
    """
    picture = open_image(image)
    if prompt is None:
        return thumbnail(picture, side)
    visual = as_visual_prompt(prompt, *picture.size)
    box = visual.box
    return draw_region(
        picture,
        mask=None if visual.mask is None else visual.mask.array,
        box=None if box is None else (box.x1, box.y1, box.x2, box.y2),
        points=visual.points,
        side=side,
    )
