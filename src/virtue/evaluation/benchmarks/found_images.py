"""Images that rows name, found under a root and looked at without decoding them where that can be helped.

An image is broken if its header cannot be read, or if it does not end as a JPEG or PNG does and cannot be decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from virtue.images import ImageError, image_size, load_image

MISSING, BROKEN = "with a missing image", "with a broken image"

_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"  # how whole ones end
_PNG_START = b"\x89PNG\r\n\x1a\n"
_TAIL = 64  # bytes: some writers leave a few behind the end


class FoundImages:
    """Finds images of a set.

    A path is looked for as it stands, then without its first folders, each time under the root, under its `images`
    and under the set's own folder in either: `ade20k_val/1.jpg` is found as `root/ade20k_val/1.jpg`,
    `root/images/ade20k_val/1.jpg` and, where the root is the set's folder, `root/1.jpg`.

    Args:
        root: Where the images are.
        folder: The set's own folder within it.
    """

    def __init__(self, root: str | Path, folder: str = "") -> None:
        places = (Path(root), Path(root) / "images")
        self._roots = [place / name for place in places for name in dict.fromkeys(("", folder))]
        self._known: dict[str, tuple[Path, tuple[int, int]] | str] = {}

    def find(self, path: str) -> tuple[Path, tuple[int, int]] | str:
        """The file and its width and height in pixels, or `MISSING` or `BROKEN`.

        Args:
            path: As a row has it.
        """
        if path not in self._known:
            self._known[path] = self._look(path)
        return self._known[path]

    def _look(self, path: str) -> tuple[Path, tuple[int, int]] | str:
        for file in self._candidates(path):
            if file.is_file():
                try:
                    return file, _size(file)
                except ImageError:
                    return BROKEN
        return MISSING

    def _candidates(self, path: str) -> Iterator[Path]:
        parts = [part for part in re.split(r"[/\\]", path) if part.strip() not in ("", ".", "..")]
        for start in range(len(parts)):
            for root in self._roots:
                yield root.joinpath(*parts[start:])


def is_whole(file: Path) -> bool:
    """Whether an image can be decoded, by its header and its ending: a third of a millisecond.

    What a process learnt of a file it remembers by path, time of change and size.

    Args:
        file: There is such a file.
    """
    status = file.stat()
    return _is_whole(file, status.st_mtime_ns, status.st_size)


@cache
def _is_whole(file: Path, changed: int, size: int) -> bool:
    del changed, size  # another file has others
    try:
        # `image_size` would decode a PNG, as a turn may be written behind its pixels.
        if not (_starts_as_png(file) and _PNG_END in _tail(file)):
            _size(file)
    except ImageError:
        return False
    return True


def _size(file: Path) -> tuple[int, int]:
    """Width and height of an image that can be decoded.

    Raises:
        ImageError: If it cannot.
    """
    size, tail = image_size(file), _tail(file)
    if _JPEG_END not in tail and _PNG_END not in tail:  # cut short, or of another kind: only decoding it tells
        load_image(file)
    return size


def _starts_as_png(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(_PNG_START)) == _PNG_START


def _tail(file: Path) -> bytes:
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - _TAIL))
        return stream.read()
