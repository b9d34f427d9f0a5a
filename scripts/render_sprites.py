"""Draws every object of the generated world once, from the Noto Color Emoji font, into one sprite sheet.

The sheet is committed, so nobody needs the font to use the package. Run this again only after the vocabulary changes:

    apt-get install fonts-noto-color-emoji
    python scripts/render_sprites.py /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
"""

import argparse
import json
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

DATA = Path(__file__).parent.parent / "src" / "virtue" / "scenes" / "data"
COLUMNS = 16
CELL = 112  # pixels; the drawn sprite's longer side fills its cell
BITMAP_SIZE = 109  # the one size that the font's colour bitmaps exist in


def sprite(font: ImageFont.FreeTypeFont, emoji: str) -> Image.Image:
    """One emoji cropped to its visible pixels and scaled to the cell, RGBA."""
    canvas = Image.new("RGBA", (2 * BITMAP_SIZE, 2 * BITMAP_SIZE))
    ImageDraw.Draw(canvas).text((20, 20), emoji, font=font, embedded_color=True)
    box = canvas.getchannel("A").point(lambda alpha: 255 if alpha > 8 else 0).getbbox()
    if box is None:
        raise SystemExit(f"the font has no picture of {emoji!r}; use the colour bitmap font NotoColorEmoji.ttf")
    cropped = canvas.crop(box)
    scale = CELL / max(cropped.size)
    return cropped.resize((round(cropped.width * scale), round(cropped.height * scale)), Image.Resampling.LANCZOS)


def sheet(font: ImageFont.FreeTypeFont, emojis: list[str]) -> Image.Image:
    """All sprites in reading order, each centred in its cell, RGBA."""
    rows = -(-len(emojis) // COLUMNS)
    picture = Image.new("RGBA", (COLUMNS * CELL, rows * CELL))
    for index, emoji in enumerate(emojis):
        drawn = sprite(font, emoji)
        left = index % COLUMNS * CELL + (CELL - drawn.width) // 2
        top = index // COLUMNS * CELL + (CELL - drawn.height) // 2
        picture.paste(drawn, (left, top))
    return picture


def main() -> None:
    """Reads the vocabulary, writes `sprites.png` beside it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("font", type=Path, help="NotoColorEmoji.ttf, the colour bitmap font")
    font = ImageFont.truetype(str(parser.parse_args().font), BITMAP_SIZE)
    objects = json.loads((DATA / "vocabulary.json").read_text(encoding="utf-8"))["objects"]
    sheet(font, [entry["emoji"] for entry in objects]).save(DATA / "sprites.png", optimize=True)


if __name__ == "__main__":
    main()
