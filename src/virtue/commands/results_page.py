"""A page of search results in one HTML file: thumbnails are embedded, regions are drawn on them, nothing is fetched."""

from __future__ import annotations

import base64
import html
import io
from string import Template
from typing import TYPE_CHECKING

from PIL import Image

from virtue.evaluation.thumbnails import draw_query, draw_region
from virtue.images import ImageError, open_image

if TYPE_CHECKING:
    from virtue.index import Hit
    from virtue.items import Item

SIDE = 360
"""Longer side of a thumbnail, in pixels."""

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
        query="" if item.image is None else f"<figure>{_img(draw_query(item.image, item.prompt, SIDE))}</figure>",
        count="Nothing was found."
        if not hits
        else f"{len(hits)} {'hit' if len(hits) == 1 else 'hits'}, the best first.",
        hits="\n".join(_figure(rank, hit) for rank, hit in enumerate(hits, start=1)),
    )


def _figure(rank: int, hit: Hit) -> str:
    try:
        image = open_image(hit.file)
        mask = hit.mask
        same = mask is not None and mask.array.shape == (image.height, image.width)
        picture = _img(draw_region(image, mask=mask.array if mask and same else None, box=hit.box, side=SIDE))
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
