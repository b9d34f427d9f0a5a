"""The pictures of the index: these files and no others, as JPEG that a browser shows."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from PIL import Image

from virtue.images import open_image, thumbnail
from virtue.server.errors import ApiError

if TYPE_CHECKING:
    from virtue.index import Index

FRESH = 5.0
"""Seconds for which the list of files is kept."""

MAX_SIDE = 3000
"""Pixels of the longer side of what is sent, at most."""

QUALITY = 90


class IndexFiles:
    """Which files an index holds.

    Args:
        index: The index.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._read_at = -FRESH
        self._files: dict[str, tuple[int, int]] = {}

    def listed(self) -> dict[str, tuple[int, int]]:
        """Every picture's path, with when it was changed (nanoseconds since 1970) and its bytes; may read the disk."""
        with self._lock:
            if time.monotonic() - self._read_at >= FRESH:
                self._files = dict(sorted(self._index.files().items()))
                self._read_at = time.monotonic()
            return self._files

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


def image_address(path: str) -> str:
    """Where the server has a picture of the index."""
    return f"/v1/gallery/image?path={quote(path, safe='/')}"


def jpeg_of_file(file: Path, size: int, max_pixels: int) -> bytes:
    """A file as JPEG that fits a square of `size` pixels.

    Raises:
        ImageError: If it is no image, broken, or too large.
    """
    return jpeg(open_image(file, max_pixels=max_pixels), size)


def jpeg(image: Image.Image, size: int) -> bytes:
    """A picture as JPEG that fits a square of `size` pixels, without anything else that its file held."""
    out = io.BytesIO()
    shown = thumbnail(image, size) if max(image.size) > size else image.copy()
    shown.info = {}  # PIL would write a comment on
    shown.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
