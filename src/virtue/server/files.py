"""The pictures of the index: these files and no others, as JPEG that a browser shows; small ones are kept."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from PIL import Image

from virtue.images import image_key, open_image, thumbnail
from virtue.server.errors import ApiError

if TYPE_CHECKING:
    from virtue.index import Index

MAX_SIDE = 3000
"""Pixels of the longer side of what is sent, at most."""

QUALITY = 90

THUMBNAIL_BYTES = 64_000_000
"""Memory for pictures of the index that were made small."""

MOST_OF_IT = 16
"""What takes more than this part of it is not kept."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A picture of the index.

    Attributes:
        nbytes: Of the file.
        width: In pixels, after the EXIF turn.
        height: In pixels, after the EXIF turn.
    """

    nbytes: int
    width: int
    height: int


class IndexFiles:
    """Which files an index holds.

    Args:
        index: The index.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._version: int | None = None
        self._files: dict[str, Listed] = {}
        self.thumbnails = Thumbnails()

    def listed(self) -> dict[str, Listed]:
        """Every picture by its path, in the order of the paths; may read the disk."""
        with self._lock:
            version = self._index.version
            if version != self._version:
                sizes = self._index.sizes()
                files = sorted(self._index.files().items())
                # What was indexed between the two is there the next time.
                self._files = {path: Listed(nbytes, *sizes[path]) for path, (_, nbytes) in files if path in sizes}
                self._version = version
            return self._files

    def shown(self, path: str, size: int) -> tuple[Path, str]:
        """The file of a picture, and an HTTP entity tag for it at a size, which is another when the file changes.

        Raises:
            ApiError: 404 as `find` raises it.
        """
        file = self.find(path, "path")
        return file, f'"{hashlib.blake2b(repr((image_key(file), size)).encode(), digest_size=12).hexdigest()}"'

    def thumbnail(self, file: Path, tag: str, size: int, max_pixels: int) -> bytes:
        """A picture as JPEG that fits a square of `size` pixels; reads and decodes it, unless it is kept.

        Args:
            file: As `shown` gives it.
            tag: As `shown` gives it.
            size: Pixels.
            max_pixels: The largest picture that is decoded.

        Raises:
            ImageError: If it is no image any longer, broken, or too large.
        """
        kept = self.thumbnails.get(tag)
        if kept is None:
            kept = jpeg(open_image(file, max_pixels=max_pixels), size)
            self.thumbnails.keep(tag, kept)
        return kept

    def find(self, path: str, param: str) -> Path:
        """The file of a picture; may read the disk.

        Raises:
            ApiError: 404 if the index does not hold it, it is gone, or it leads out of the indexed folder.
        """
        if path not in self.listed():
            raise ApiError(404, f"The index holds no picture {path[:200]!r}.", param=param, code="not_in_index")
        root = self._index.root
        try:
            file = (root / path).resolve()
            is_inside = file.is_relative_to(root) and file.is_file()
        except (OSError, ValueError):  # a loop of links
            is_inside = False
        if not is_inside:
            raise ApiError(
                404,
                f"The picture {path[:200]!r} is gone, or leads out of the indexed folder.",
                param=param,
                code="gone",
            )
        return file


class Thumbnails:
    """Encoded pictures, the least recently used of which go when there are too many bytes.

    Args:
        budget: Bytes for all of them together.
    """

    def __init__(self, budget: int = THUMBNAIL_BYTES) -> None:
        self.budget, self.nbytes = budget, 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def get(self, tag: str) -> bytes | None:
        """What is kept under a tag; it counts as used."""
        with self._lock:
            if tag in self._kept:
                self._kept.move_to_end(tag)
            return self._kept.get(tag)

    def keep(self, tag: str, data: bytes) -> None:
        """Keeps what is not too large."""
        if len(data) * MOST_OF_IT > self.budget:
            return
        with self._lock:
            self.nbytes += len(data) - len(self._kept.pop(tag, b""))
            self._kept[tag] = data
            while self.nbytes > self.budget:
                self.nbytes -= len(self._kept.popitem(last=False)[1])


def image_address(path: str) -> str:
    """Where the server has a picture of the index."""
    return f"/v1/gallery/image?path={quote(path, safe='/')}"


def jpeg(image: Image.Image, size: int) -> bytes:
    """A picture as JPEG that fits a square of `size` pixels, without anything else that its file held."""
    out = io.BytesIO()
    shown = thumbnail(image, size) if max(image.size) > size else image.copy()
    shown.info = {}  # PIL would write a comment on
    shown.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
