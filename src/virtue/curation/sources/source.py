"""What all sources of annotations have in common: pictures, what stands in them, and which of it can be a region.

A `Source` lists its pictures without opening one, and reads the annotations of a picture when asked for it: a sample of
a large set costs what is in the sample. What cannot be a region is left out and counted by the reason (`left_out`), in
regions. What is mended instead is counted too (`mended`):

- A box that leaves the image is clipped to it; where less than half of it is left, it is broken.
- A mask that cannot be read, has no pixel or another size than the image is left out; the box remains.

What is not fit to be a region, a crowd or something tiny, still counts among the others of the picture. Boxes are XYXY
in source pixels.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from virtue.curation.samples import Fact, Other, Region
from virtue.curation.sources.image_files import ImageFiles
from virtue.masks import bounding_box, to_rle
from virtue.prompts import Box

BROKEN_BOX, CROWD, TINY, NO_CATEGORY = "with a broken box", "of crowds", "that are tiny", "with no category"
OTHER_SIZE = "with an image of another size than annotated"
CLIPPED, NO_MASK = "boxes clipped at the edge of the image", "masks that cannot be read, left out"

MIN_SHARE = 0.002
"""Share of the image below which a box is tiny: 25 x 25 pixels of 640 x 480."""

MAX_OTHERS = 50
"""How many others a region has at most, the largest ones."""

_FARTHEST = 1e9  # pixels: what is farther away is no coordinate
_LEAST_LEFT = 0.5  # of a box, when it is clipped
_NO_WORDS = ("", "-", "unknown", "unlabeled", "unlabelled", "other", "misc")

MaskReader = Callable[[tuple[int, int]], "NDArray[np.bool_] | None"]
"""Reads a mask, bool (H, W), of an image of this width and height."""


@dataclass(frozen=True)
class Picture:
    """A picture of a source.

    Args:
        image_id: The photograph, as in "COCO/285"; see `Region`.
        key: What the source finds it by.
    """

    image_id: str
    key: Hashable


@dataclass(frozen=True, eq=False)
class Annotation:
    """What a source says of one thing in a picture, not yet checked.

    Args:
        id: The annotation's own id.
        box: Four numbers XYXY, or whatever stands in their place.
        category: What it is; "" where that is not said.
        crowd: Whether it is several things at once.
        mask: Reads the mask; None where the source has none. May raise ValueError.
        caption: A caption of this thing.
        facts: How it stands to others.
        is_region: Whether it may be a region, not only one of the others.
        tight: Whether the region's box is that of the mask: the annotated one may reach behind what hides the thing.
    """

    id: str
    box: object
    category: str
    crowd: bool = False
    mask: MaskReader | None = None
    caption: str | None = None
    facts: tuple[Fact, ...] = ()
    is_region: bool = True
    tight: bool = False


@dataclass(frozen=True, eq=False)
class Contents:
    """What stands in one picture.

    Args:
        file: The image's path, as the source has it.
        size: Width and height that the annotations are for, None where that is not said.
        annotations: What is in it.
        scene: Words for the place.
    """

    file: str
    size: tuple[int, int] | None
    annotations: Sequence[Annotation]
    scene: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Candidate:
    """A thing that can be a region; `region` makes one of it.

    Args:
        id: Of the region.
        category: What it is.
        region: Makes the region: reads the mask and gathers the others.
    """

    id: str
    category: str
    region: Callable[[], Region]


@dataclass(frozen=True, eq=False)
class _Looked:
    """A picture whose image is there, and the annotations whose boxes are good."""

    picture: Picture
    contents: Contents
    image: str
    size: tuple[int, int]
    things: list[tuple[Annotation, Box]]


class Source(ABC):
    """Annotations of a set of images as a stream of regions.

    Args:
        name: What regions call their source.
        images: The folder that image paths start from.
        min_share: Share of the image that the box of a region covers at least, 0 to 1.

    Attributes:
        name: What regions call their source.
        left_out: How many annotations were no regions, by reason.
        mended: How many boxes and masks were not taken as they are, by reason.

    Raises:
        ValueError: If the share is not from 0 to 1.
        FileNotFoundError: If there is no folder of images.
    """

    def __init__(self, name: str, images: str | Path, *, min_share: float = MIN_SHARE) -> None:
        if not 0 <= min_share <= 1:
            raise ValueError(f"The least share of the image that a region covers is from 0 to 1, got {min_share}.")
        self.name = name
        self.left_out: Counter[str] = Counter()
        self.mended: Counter[str] = Counter()
        self._images = ImageFiles(images)
        self._min_share = min_share

    @abstractmethod
    def pictures(self) -> Sequence[Picture]:
        """All pictures with annotations, in the source's order."""

    @abstractmethod
    def contents(self, picture: Picture) -> Contents:
        """What stands in a picture.

        Args:
            picture: One of `pictures()`.
        """

    def candidates(self, picture: Picture) -> list[Candidate]:
        """What can be a region in a picture; what cannot is counted in `left_out`.

        Args:
            picture: One of `pictures()`.

        Raises:
            FileNotFoundError: If the folder of images is gone or empty, or holds none of the first images.
        """
        contents = self.contents(picture)
        if not contents.file and not contents.annotations:  # counted already
            return []
        found = self._images.find(contents.file)
        if isinstance(found, tuple) and contents.size not in (None, found[1]):
            found = OTHER_SIZE
        if isinstance(found, str):
            self.leave_out(found, sum(annotation.is_region for annotation in contents.annotations))
            return []
        looked = _Looked(picture, contents, *found, self._with_boxes(contents.annotations, found[1]))
        return [
            self._candidate(looked, annotation, box)
            for annotation, box in looked.things
            if annotation.is_region and self._is_fit(annotation, box, looked.size)
        ]

    def check_images(self) -> None:
        """Refuses a folder of images that held none of those that were looked for, however few.

        Raises:
            FileNotFoundError: If that is so.
        """
        self._images.check()

    def leave_out(self, reason: str, count: int = 1) -> None:
        """Counts annotations that are no regions.

        Args:
            reason: Why, as it goes on from "regions": "with a broken box".
            count: How many.
        """
        if count:
            self.left_out[reason] += count

    def __iter__(self) -> Iterator[Region]:
        """All regions, in the source's order; counts start anew."""
        self.left_out.clear()
        self.mended.clear()
        for picture in self.pictures():
            for candidate in self.candidates(picture):
                yield candidate.region()

    def _with_boxes(self, annotations: Sequence[Annotation], size: tuple[int, int]) -> list[tuple[Annotation, Box]]:
        """The annotations with a category and a good box, clipped."""
        good = []
        for annotation in annotations:
            box = clipped(annotation.box, *size)
            if box is not None and plain_words(annotation.category):
                good.append((annotation, box))
                if annotation.is_region and list(_corners(box)) != _listed(annotation.box):
                    self.mended[CLIPPED] += 1
            elif annotation.is_region:
                self.leave_out(BROKEN_BOX if box is None else NO_CATEGORY)
        return good

    def _is_fit(self, annotation: Annotation, box: Box, size: tuple[int, int]) -> bool:
        """Whether a thing can be a region; counts it where not."""
        if annotation.crowd:
            self.leave_out(CROWD)
            return False
        if _area(box) < self._min_share * size[0] * size[1]:
            self.leave_out(TINY)
            return False
        return True

    def _candidate(self, looked: _Looked, annotation: Annotation, box: Box) -> Candidate:
        name = f"{self.name}/{annotation.id}"
        return Candidate(name, plain_words(annotation.category), lambda: self._region(looked, annotation, box))

    def _region(self, looked: _Looked, annotation: Annotation, box: Box) -> Region:
        mask = self._mask(annotation, looked.size)
        return Region(
            id=f"{self.name}/{annotation.id}",
            source=self.name,
            image=looked.image,
            image_id=looked.picture.image_id,
            width=looked.size[0],
            height=looked.size[1],
            box=Box(*bounding_box(mask)) if annotation.tight and mask is not None else box,
            category=plain_words(annotation.category),
            segmentation=None if mask is None else to_rle(mask),
            caption=annotation.caption,
            others=_others(looked.things, annotation),
            scene=looked.contents.scene,
            facts=annotation.facts,
        )

    def _mask(self, annotation: Annotation, size: tuple[int, int]) -> NDArray[np.bool_] | None:
        if annotation.mask is None:
            return None
        try:
            mask = annotation.mask(size)
        except ValueError:
            mask = None
        if mask is None or mask.shape != size[::-1] or not mask.any():
            self.mended[NO_MASK] += 1
            return None
        return mask


def clipped(numbers: object, width: int, height: int) -> Box | None:
    """A box clipped to the image, None if it is none or most of it is outside.

    Args:
        numbers: XYXY, source pixels.
        width: Of the image, pixels.
        height: Of the image, pixels.
    """
    corners = _listed(numbers)
    if len(corners) != 4 or not all(is_number(corner) for corner in corners):
        return None
    x1, y1, x2, y2 = map(float, corners)
    left, top, right, bottom = max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)
    if x2 <= x1 or y2 <= y1 or right <= left or bottom <= top:
        return None
    is_enough = (right - left) * (bottom - top) >= _LEAST_LEFT * (x2 - x1) * (y2 - y1)
    return Box(left, top, right, bottom) if is_enough else None


def xyxy(x: Any, y: Any, width: Any, height: Any) -> list[Any] | None:
    """Corners of a box written as a corner and a size; None where those are no numbers."""
    if not all(is_number(number) for number in (x, y, width, height)):
        return None
    return [x, y, x + width, y + height]


def plain_words(text: str) -> str:
    """A category as words: spaces for underscores, one space at a time, "" for what names nothing."""
    words = re.sub(r"[\s_]+", " ", text).strip(" .,;:'\"").strip()
    return "" if words.lower() in _NO_WORDS else words


def _others(things: list[tuple[Annotation, Box]], but: Annotation) -> tuple[Other, ...]:
    """All others of a picture in the source's order, the largest ones where they are many."""
    rest = [(annotation, box) for annotation, box in things if annotation is not but]
    largest = sorted(range(len(rest)), key=lambda i: (-_area(rest[i][1]), i))[:MAX_OTHERS]
    return tuple(Other(plain_words(rest[i][0].category), rest[i][1]) for i in sorted(largest))


def _area(box: Box) -> float:
    return (box.x2 - box.x1) * (box.y2 - box.y1)


def _corners(box: Box) -> tuple[float, float, float, float]:
    return box.x1, box.y1, box.x2, box.y2


def _listed(numbers: object) -> list[Any]:
    return list(numbers) if isinstance(numbers, list | tuple) else []


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value can be a coordinate: a number that is finite and not absurdly large."""
    return not isinstance(value, bool) and isinstance(value, int | float) and -_FARTHEST < value < _FARTHEST  # no NaN
