"""Images that rows name, found under a root and looked at without decoding them where that can be helped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from virtue.images import ImageError, image_size, load_image

MISSING, BROKEN = "with a missing image", "with a broken image"

_ENDS = (b"\xff\xd9", b"IEND\xaeB`\x82")  # how a whole JPEG and a whole PNG end
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


def _size(file: Path) -> tuple[int, int]:
    """Width and height of an image that can be decoded.

    Raises:
        ImageError: If it cannot.
    """
    size = image_size(file)
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - _TAIL))
        tail = stream.read()
    if not any(end in tail for end in _ENDS):  # cut short, or of another kind: only decoding it tells
        load_image(file)
    return size
