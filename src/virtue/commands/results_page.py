"""A page of search results in one HTML file: thumbnails are embedded, regions are drawn on them, nothing is fetched."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from string import Template
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from virtue.images import ImageError, ImageSource, open_image, thumbnail
from virtue.prompts import AnyPrompt, Point, as_visual_prompt

if TYPE_CHECKING:
    from virtue.index import Hit
    from virtue.items import Item

SIDE = 360
"""Longer side of a thumbnail, in pixels."""

COLOUR = (255, 64, 96)
EXCLUDED = (40, 120, 255)
"""Of the clicks that say what is not meant."""

DIMMED = 0.45
"""How bright the picture stays outside the mask."""

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; background: #fafafa; color: #222; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); gap: 1.2rem; }
figure { margin: 0; background: #fff; border: 1px solid #ddd; border-radius: 6px; overflow: hidden; }
header figure { max-width: 260px; }
figure img { width: 100%; height: 220px; object-fit: contain; background: #eee; display: block; }
figcaption { padding: .5rem .7rem; overflow-wrap: anywhere; }
.similarity { font-weight: 600; }
.missing { height: 220px; display: grid; place-items: center; background: #eee; color: #666; }
</style>
<header><h1>$title</h1>$query</header>
<p>$count</p>
<main>
$hits
</main>
</html>
""")


def results_page(item: Item, hits: list[Hit]) -> str:
    """The page.

    Args:
        item: What was searched for; shown on top, with its visual prompt drawn.
        hits: The results, the best first.

    Returns:
        A whole HTML document.
    """
    return _PAGE.substitute(
        title=html.escape(item.text or "Search by an image"),
        query="" if item.image is None else f"<figure>{_img(draw_query(item.image, item.prompt))}</figure>",
        count="Nothing was found."
        if not hits
        else f"{len(hits)} {'hit' if len(hits) == 1 else 'hits'}, the best first.",
        hits="\n".join(_figure(rank, hit) for rank, hit in enumerate(hits, start=1)),
    )


def draw_region(
    image: Image.Image,
    *,
    mask: NDArray[np.bool_] | None = None,
    box: tuple[float, float, float, float] | None = None,
    points: Sequence[Point] = (),
    side: int = SIDE,
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
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=COLOUR if point.include else EXCLUDED, outline="white")
    return small


def draw_query(image: ImageSource, prompt: AnyPrompt | None, side: int = SIDE) -> Image.Image:
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


def _figure(rank: int, hit: Hit) -> str:
    try:
        image = open_image(hit.file)
        mask = hit.mask
        same = mask is not None and mask.array.shape == (image.height, image.width)
        picture = _img(draw_region(image, mask=mask.array if mask and same else None, box=hit.box))
    except ImageError as error:
        picture = f'<div class="missing">{html.escape(str(error))}</div>'
    link = f'<a href="{html.escape(hit.file.as_uri())}">{html.escape(hit.path)}</a>'
    return (
        f'<figure>{picture}<figcaption>{rank}. <span class="similarity">{hit.similarity:.3f}</span> '
        f"{hit.kind} {link}</figcaption></figure>"
    )


def _img(image: Image.Image) -> str:
    """The picture as an element that holds its own bytes."""
    data = io.BytesIO()
    image.save(data, "JPEG", quality=85)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode("ascii")}">'
