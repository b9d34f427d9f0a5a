"""A search on one picture: what was asked, then the results from the best on, each framed as right or wrong."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from virtue.evaluation.thumbnails import draw_query, draw_region
from virtue.images import open_image

if TYPE_CHECKING:
    from virtue.index import Hit
    from virtue.items import Item

TILE, FRAME, GAP, LABEL = 224, 5, 14, 26  # pixels
BACKGROUND, INK = (250, 250, 250), (34, 34, 34)
RIGHT, WRONG, ASKED = (38, 150, 84), (206, 60, 66), (120, 130, 150)


@dataclass(frozen=True)
class Tile:
    """A picture, the line below it, and the colour of its frame (RGB)."""

    picture: Image.Image
    label: str
    colour: tuple[int, int, int]


def contact_sheet(item: Item, hits: list[Hit], right: list[bool]) -> Image.Image:
    """Draws the search.

    Args:
        item: What was asked.
        hits: The results, the best first.
        right: Whether each is right.
    """
    tiles = [Tile(drawn(item), "asked", ASKED)]
    for rank, (hit, is_right) in enumerate(zip(hits, right, strict=True), start=1):
        mask = None if hit.mask is None else hit.mask.array
        picture = draw_region(open_image(hit.file), mask=mask, box=hit.box, side=TILE)
        word = "right" if is_right else "wrong"
        tiles.append(Tile(picture, f"{rank}. {word}, {hit.similarity:.3f}", RIGHT if is_right else WRONG))
    return tiled(tiles, len(tiles))


def tiled(tiles: Sequence[Tile], columns: int) -> Image.Image:
    """Tiles in rows of some columns, on one picture."""
    wide, high = TILE + 2 * FRAME + GAP, TILE + 2 * FRAME + GAP + LABEL
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (GAP + wide * min(columns, len(tiles)), GAP + high * rows), BACKGROUND)
    for number, tile in enumerate(tiles):
        _paste(sheet, tile, GAP + number % columns * wide, GAP + number // columns * high)
    return sheet


def _paste(sheet: Image.Image, tile: Tile, x: int, y: int) -> None:
    """Puts a tile with its frame and label on the sheet; a picture that is not square is centred."""
    side = TILE + 2 * FRAME
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((x, y, x + side - 1, y + side - 1), fill="white", outline=tile.colour, width=FRAME)
    left, top = (TILE - tile.picture.width) // 2, (TILE - tile.picture.height) // 2
    sheet.paste(tile.picture, (x + FRAME + left, y + FRAME + top))
    pen.text((x + side / 2, y + side + LABEL / 2), tile.label, INK, ImageFont.load_default(16), anchor="mm")


def drawn(item: Item) -> Image.Image:
    """An item's picture with its visual prompt, or its words."""
    if item.image is None:
        return _words(item.text or "")
    return draw_query(item.image, item.prompt, TILE)


def _words(text: str) -> Image.Image:
    picture = Image.new("RGB", (TILE, TILE), "white")
    lines = "\n".join(textwrap.wrap(text, 14))
    font = ImageFont.load_default(26)
    ImageDraw.Draw(picture).multiline_text((TILE / 2, TILE / 2), lines, INK, font, anchor="mm", align="center")
    return picture
