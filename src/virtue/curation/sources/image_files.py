"""Finds the images that annotations name, wherever a set was unpacked to, and never outside the folder of images.

A disk that is not mounted looks like a folder without images. So that not all of a set is given up for it one by one,
`check_folder` and `check_images` refuse a folder that is gone or empty, or where none of the first images is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

from virtue.images import ImageError, image_size

FIRST = 100
"""Images of a source that are missing one and all before its folder is taken to be the wrong one. Of a set of which a
twentieth was unpacked, one of as many is there."""

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

    Attributes:
        found: How many images were found.
        missing: How many were not.

    Raises:
        FileNotFoundError: If there is no such folder.
    """

    def __init__(self, root: str | Path) -> None:
        if not Path(root).is_dir():
            raise FileNotFoundError(f"There is no folder of images {root}.")
        self._root = Path(root)
        self.found = self.missing = 0
        self._last = ""  # of the missing

    def find(self, path: str) -> tuple[str, tuple[int, int]] | str:
        """Path relative to the folder of images with forward slashes, and width and height in pixels.

        Args:
            path: As the annotations have it.

        Returns:
            Both, or `MISSING_IMAGE` or `BROKEN_IMAGE`.

        Raises:
            FileNotFoundError: If the folder is gone or empty, or none of the first `FIRST` images is in it.
        """
        for candidate in self._candidates(path):
            file = self._root / candidate
            if _is_file(file):
                self.found += 1
                try:
                    return candidate, image_size(file)
                except ImageError:
                    return BROKEN_IMAGE
        self.missing += 1
        check_folder(self._root)
        if not self.found and self.missing >= FIRST:
            raise _none_of(self.missing, self._root, path)
        self._last = path
        return MISSING_IMAGE

    def check(self) -> None:
        """Refuses a folder in which none of the images was that were looked for, however few.

        Raises:
            FileNotFoundError: If that is so.
        """
        if self.missing and not self.found:
            raise _none_of(self.missing, self._root, self._last)

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


def check_folder(folder: str | Path) -> None:
    """Refuses a folder of images that is gone or empty.

    Args:
        folder: Where a source's images are.

    Raises:
        FileNotFoundError: If it is.
    """
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"There is no folder of images {folder}. {_MOUNTED}")
    if next(path.iterdir(), None) is None:
        raise FileNotFoundError(f"The folder of images {folder} is empty. {_MOUNTED}")


def check_images(folder: str | Path, images: Iterable[str]) -> None:
    """Refuses a folder of images where none of the first images of a source is.

    Args:
        folder: Where the source's images are.
        images: Paths in it that were found before, of which the first `FIRST` different ones are looked for.

    Raises:
        FileNotFoundError: If none is there, or the folder is gone or empty.
    """
    check_folder(folder)
    looked: dict[str, None] = {}
    for image in images:
        if _is_file(Path(folder) / image):
            return
        looked[image] = None
        if len(looked) == FIRST:
            break
    if looked:
        raise _none_of(len(looked), Path(folder), next(iter(looked)))


_MOUNTED = "Is its disk mounted? Nothing was dropped for it."


def _none_of(count: int, folder: Path, one: str) -> FileNotFoundError:
    what = f"The image {one} is not" if count == 1 else f"None of the first {count} images, such as {one}, is"
    return FileNotFoundError(f"{what} in {folder}: name the folder that they are in. {_MOUNTED}")


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a name that is too long for the disk
        return False
