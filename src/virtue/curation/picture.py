"""The picture that an LLM or a person is shown: downscaled, the region in a red outline, as JPEG.

The outline follows the mask where there is one, else the box, and lies outside of it, so that small things stay
visible. It is drawn after the downscaling and is as thick in every picture.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from virtue.curation.samples import Region
from virtue.images import open_image
from virtue.masks import from_rle

SIDE = 1024
"""Pixels that the longer side has at most, by default."""

_STYLE = "outline 1"  # part of the digest: another way to draw makes another picture
_RED, _WHITE = (255, 0, 0), (255, 255, 255)
_QUALITY = 88


@dataclass(frozen=True)
class Picture:
    """A region's picture. Nothing is read before it is asked for.

    Attributes:
        region: What is outlined.
        image: The file of the image.
        side: Pixels that the longer side has at most; smaller images stay as they are.
    """

    region: Region
    image: Path
    side: int = SIDE

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as shown, after what the region says of the image."""
        scale = min(1.0, self.side / max(self.region.width, self.region.height))
        return max(1, round(self.region.width * scale)), max(1, round(self.region.height * scale))

    def digest(self) -> str:
        """Hex digest of the file's bytes and of how it is shown.

        It does not go by the JPEG's bytes, which another version of a library would write otherwise.

        Raises:
            FileNotFoundError: If there is no such file.
        """
        region = self.region
        box = [region.box.x1, region.box.y1, region.box.x2, region.box.y2]
        how = json.dumps([_STYLE, self.side, _QUALITY, box, region.segmentation], sort_keys=True)
        return hashlib.blake2b(self.image.read_bytes() + how.encode(), digest_size=16).hexdigest()

    def draw(self) -> Image.Image:
        """The picture, RGB.

        Raises:
            ImageError: If the file is missing or no image.
        """
        whole = open_image(self.image)
        scale = min(1.0, self.side / max(whole.size))
        size = (max(1, round(whole.width * scale)), max(1, round(whole.height * scale)))
        shown = whole.resize(size, Image.Resampling.LANCZOS) if scale < 1 else whole.copy()
        width = max(2, round(max(size) / 300))
        mask = self._mask(whole.size)
        if mask is None:
            self._draw_box(shown, scale, width)
        else:
            _draw_mask(shown, mask.resize(size, Image.Resampling.NEAREST), width)
        return shown

    def data_url(self) -> str:
        """The picture as a JPEG in a data URL.

        Raises:
            ImageError: If the file is missing or no image.
        """
        buffer = io.BytesIO()
        self.draw().save(buffer, "JPEG", quality=_QUALITY)
        return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

    def _mask(self, size: tuple[int, int]) -> Image.Image | None:
        """The region's mask, 0 and 255; None where it has none that fits the image."""
        if self.region.segmentation is None:
            return None
        try:
            mask = from_rle(self.region.segmentation)
        except ValueError:  # the box is good enough
            return None
        return Image.fromarray(mask).convert("L") if mask.any() and mask.shape[::-1] == size else None

    def _draw_box(self, shown: Image.Image, scale: float, width: int) -> None:
        box = self.region.box
        edges = [round(number * scale) for number in (box.x1, box.y1, box.x2, box.y2)]
        draw = ImageDraw.Draw(shown)
        for colour, gap, line in ((_WHITE, width + 1, 1), (_RED, width, width)):
            corners = [edges[0] - gap, edges[1] - gap, edges[2] - 1 + gap, edges[3] - 1 + gap]
            limits = [shown.width - 1, shown.height - 1] * 2  # a box at the edge of the image keeps its line
            inside = [min(max(corner, 0), limit) for corner, limit in zip(corners, limits, strict=True)]
            draw.rectangle(inside, outline=colour, width=line)


def _draw_mask(shown: Image.Image, mask: Image.Image, width: int) -> None:
    wide = mask.filter(ImageFilter.MaxFilter(2 * width + 1))
    wider = wide.filter(ImageFilter.MaxFilter(3))
    shown.paste(_WHITE, mask=ImageChops.subtract(wider, wide))
    # What fills the image to its edges has no outside there: a line inside shows it.
    framed = Image.new("L", (mask.width + 2, mask.height + 2))
    framed.paste(mask, (1, 1))
    inner = framed.filter(ImageFilter.MinFilter(3)).crop((1, 1, mask.width + 1, mask.height + 1))
    shown.paste(_RED, mask=ImageChops.add(ImageChops.subtract(wide, mask), ImageChops.subtract(mask, inner)))
