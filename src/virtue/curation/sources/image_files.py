"""Finds the images that annotations name, wherever a set was unpacked to, and never outside the folder of images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from virtue.images import ImageError, image_size

MISSING_IMAGE, BROKEN_IMAGE = "with a missing image", "with a broken image"

_COCO_2014 = re.compile(r"COCO_(?:train|val|test)2014_(\d{12}\.jpg)")


class ImageFiles:
    """The image files of a set.

    A path is looked for as it stands, then without its first folders, each time in the folder of images, in its own
    folders, and in those of its `images`: "train/1.jpg" is found as `root/train/1.jpg`, `root/1.jpg`,
    `root/val2017/1.jpg` or `root/images/val2017/1.jpg`. A name of COCO 2014 also finds the file of 2017, which is the
    same.

    Args:
        root: The folder of images.

    Raises:
        FileNotFoundError: If there is no such folder.
    """

    def __init__(self, root: str | Path) -> None:
        if not Path(root).is_dir():
            raise FileNotFoundError(f"There is no folder of images {root}.")
        self._root = Path(root)

    def find(self, path: str) -> tuple[str, tuple[int, int]] | str:
        """Path relative to the folder of images with forward slashes, and width and height in pixels.

        Args:
            path: As the annotations have it.

        Returns:
            Both, or `MISSING_IMAGE` or `BROKEN_IMAGE`.
        """
        for candidate in self._candidates(path):
            file = self._root / candidate
            if _is_file(file):
                try:
                    return candidate, image_size(file)
                except ImageError:
                    return BROKEN_IMAGE
        return MISSING_IMAGE

    @cached_property
    def _folders(self) -> list[str]:
        """Where to look: the root, its folders, and those of `images` in it."""
        inner = sorted(path.name for path in self._root.iterdir() if path.is_dir())
        images = self._root / "images"
        deeper = sorted(f"images/{path.name}" for path in images.iterdir() if path.is_dir()) if images.is_dir() else []
        return ["", *inner, *deeper]

    def _candidates(self, path: str) -> Iterator[str]:
        # A path comes from a file of strangers: what leads out of the folder is dropped.
        parts = [part for part in re.split(r"[/\\]", path) if part.strip() not in ("", ".", "..")]
        for start in range(len(parts)):
            *folders, name = parts[start:]
            newer = _COCO_2014.fullmatch(name)
            for spelling in (name, newer[1]) if newer else (name,):
                for folder in self._folders:
                    yield "/".join([folder, *folders, spelling] if folder else [*folders, spelling])


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a name that is too long for the disk
        return False
