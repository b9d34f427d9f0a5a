"""COCO JSON: any set of objects with boxes, and the scenes of `virtue scenes`, which also say place and relations.

    {"images": [{"id", "file_name", "width", "height"}], "annotations": [{"id", "image_id", "category_id", "bbox",
     "segmentation", "iscrowd"}], "categories": [{"id", "name"}]}

`bbox` is XYWH, `segmentation` polygons or run lengths, compressed or not. A file may say more, and that is read too:
`caption` of an annotation; `place` of an image, words for where it is; `relations` of an annotation, a list of
`{"relation": "left of", "annotation_id": 12}` that says how it stands to another of the image. Captions of whole images
(`captions_*.json`) are scene words.

Images named as COCO names its own are the photographs "COCO/285" in every source, so that splits keep them together.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from virtue.curation.samples import Fact
from virtue.curation.sources.json_entries import EntriesByGroup, Entry, as_id, entries, lists
from virtue.curation.sources.source import (
    MIN_SHARE,
    Annotation,
    Contents,
    Picture,
    Source,
    is_number,
    plain_words,
    xyxy,
)
from virtue.masks import from_polygons, from_rle

LOST = "of no image of their file"

_COCO_NAME = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_)?(\d{12})\.jpg")


class CocoFile:
    """A COCO file: images and categories in memory, annotations by image on disk.

    118,000 images with 860,000 annotations take about 150 MB.

    Args:
        file: The file.

    Attributes:
        images: The images by id.
        categories: Names of the categories by id.
        annotations: Where the annotations of each image are.
        lost: How many annotations are of no image of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, or has no images, annotations or categories.
    """

    def __init__(self, file: str | Path) -> None:
        self.images: dict[Hashable, dict[str, Any]] = {}
        self.categories: dict[Hashable, str] = {}
        self.annotations = EntriesByGroup(file)
        self.lost = 0
        for entry in entries(file):
            if isinstance(entry.value, dict):
                self._take(entry)
        for name, part in (
            ("images", self.images),
            ("annotations", self.annotations.groups()),
            ("categories", self.categories),
        ):
            if not part:
                raise ValueError(f'{file} has no "{name}": a COCO file has images, annotations and categories.')
        self.lost += sum(self.annotations.count(key) for key in self.annotations.groups() if key not in self.images)

    def _take(self, entry: Entry) -> None:
        value, own = entry.value, as_id(entry.value.get("id"))
        if entry.key == "images" and own is not None and isinstance(value.get("file_name"), str):
            self.images[own] = {key: value.get(key) for key in ("file_name", "width", "height", "place")}
        elif entry.key == "categories" and own is not None:
            self.categories[own] = str(value.get("name") or "")
        elif entry.key == "annotations" and (image := as_id(value.get("image_id"))) is not None:
            self.annotations.add(image, entry)
        elif entry.key == "annotations":
            self.lost += 1

    def size(self, image: Hashable) -> tuple[int, int] | None:
        """Width and height of an image, None where the file does not say: its image file does then."""
        return size_of(self.images[image])


class Captions:
    """Captions of whole images, out of files like `captions_train2017.json`.

    Args:
        file: The file; None for no captions.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON.
    """

    def __init__(self, file: str | Path | None) -> None:
        self._captions: dict[Hashable, list[str]] = {}
        for entry in entries(file) if file else ():
            if entry.key == "annotations" and isinstance(entry.value, dict):
                image, caption = as_id(entry.value.get("image_id")), entry.value.get("caption")
                if image is not None and isinstance(caption, str) and caption.strip():
                    self._captions.setdefault(image, []).append(" ".join(caption.split()))

    def of(self, image: Hashable) -> tuple[str, ...]:
        """The captions of an image, in the file's order."""
        return tuple(self._captions.get(image, ()))


class Coco(Source):
    """Objects of a COCO file.

    Args:
        name: What regions call their source.
        images: The folder of images.
        instances: The COCO file.
        captions: Captions of its images, or None.
        min_share: As `Source`.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If a file is not what it should be.
    """

    def __init__(
        self,
        name: str,
        images: str | Path,
        *,
        instances: str | Path,
        captions: str | Path | None = None,
        min_share: float = MIN_SHARE,
    ) -> None:
        super().__init__(name, images, min_share=min_share)
        self._coco = CocoFile(instances)
        self._captions = Captions(captions)

    def pictures(self) -> Sequence[Picture]:
        """All images with annotations, in the file's order of images; see `Source.pictures`."""
        self.leave_out(LOST, self._coco.lost)
        with_annotations = (key for key in self._coco.images if key in self._coco.annotations)
        return [Picture(photograph(self.name, self._coco.images[key]["file_name"]), key) for key in with_annotations]

    def contents(self, picture: Picture) -> Contents:
        """What stands in an image; see `Source.contents`."""
        image, size = self._coco.images[picture.key], self._coco.size(picture.key)
        values = self._coco.annotations.of(picture.key)
        place = image["place"] if isinstance(image["place"], str) else ""
        scene = (place,) if place.strip() else ()
        return Contents(
            image["file_name"],
            size,
            list(read_annotations(values, self._coco)),
            (*scene, *self._captions.of(picture.key)),
        )


class Scenes(Coco):
    """Objects of generated scenes, with the place as scene word and their relations as facts.

    Args:
        name: What regions call their source.
        images: The folder that `virtue scenes` wrote to.
        instances: Its `instances.json`.
        min_share: As `Source`.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If a file is not what it should be, or says no places.
    """

    def __init__(self, name: str, images: str | Path, *, instances: str | Path, min_share: float = MIN_SHARE) -> None:
        super().__init__(name, images, instances=instances, min_share=min_share)
        if not all(image["place"] for image in self._coco.images.values()):
            raise ValueError(
                f"{instances} says no places: it is not of `virtue scenes`, or of an older version of it; "
                "write the scenes into a new folder, or read the file as COCO."
            )

    def pictures(self) -> Sequence[Picture]:
        """All scenes; a scene is called by its split and seed, as in "scenes/test_00000007"."""
        pictures = super().pictures()
        stems = [Path(self._coco.images[picture.key]["file_name"]).stem for picture in pictures]
        return [Picture(f"{self.name}/{stem}", picture.key) for stem, picture in zip(stems, pictures, strict=True)]


def photograph(name: str, file_name: str) -> str:
    """What a photograph is called, "COCO/285" where COCO's own names give it away.

    Args:
        name: Of the source.
        file_name: Of the image.
    """
    found = _COCO_NAME.fullmatch(re.split(r"[/\\]", file_name)[-1])
    return f"COCO/{int(found[1])}" if found else f"{name}/{file_name}"


def read_annotations(values: Sequence[Any], coco: CocoFile) -> Iterator[Annotation]:
    """The annotations of one image, out of what a COCO file says.

    Args:
        values: The file's annotations of this image.
        coco: The file, which knows the categories.
    """
    names = {as_id(value.get("id")): _category(value, coco) for value in values}
    for value in values:
        caption = value.get("caption")
        yield Annotation(
            id=str(as_id(value.get("id"))),
            box=xywh(value.get("bbox")),
            category=_category(value, coco),
            crowd=bool(value.get("iscrowd")),
            mask=partial(read_mask, value["segmentation"]) if value.get("segmentation") else None,
            caption=caption.strip() if isinstance(caption, str) and caption.strip() else None,
            facts=tuple(_facts(value, coco, names)),
        )


def size_of(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """`width` and `height` of an image's entry, None where it lacks one: numbers of pixels, 640.0 too."""
    width, height = entry.get("width"), entry.get("height")
    if is_number(width) and is_number(height) and width % 1 == height % 1 == 0:
        return int(width), int(height)
    return None


def xywh(value: object) -> list[Any] | None:
    """Corners XYXY of a box written XYWH; None where it is not four numbers."""
    return xyxy(*value) if isinstance(value, list) and len(value) == 4 else None


def read_mask(value: object, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask out of run lengths or polygons, bool (H, W).

    Args:
        value: What COCO calls the segmentation.
        size: Width and height of the image.

    Raises:
        ValueError: If it is malformed or does not fit.
    """
    if isinstance(value, Mapping):
        return from_rle(value)
    return from_polygons([part for part in lists(value) if _is_polygon(part)], *size)


def _is_polygon(part: object) -> bool:
    # COCO has a few of two corners, beside good ones.
    return isinstance(part, list) and len(part) >= 6 and all(is_number(number) for number in part)


def _category(value: Mapping[str, Any], coco: CocoFile) -> str:
    return coco.categories.get(as_id(value.get("category_id")), "")


def _facts(value: Mapping[str, Any], coco: CocoFile, names: Mapping[Any, str]) -> Iterator[Fact]:
    """How an annotation stands to others of its image, whose categories are given by their ids."""
    for entry in lists(value.get("relations")):
        if isinstance(entry, dict) and isinstance(entry.get("relation"), str):
            subject, other = _category(value, coco), names.get(as_id(entry.get("annotation_id")), "")
            if plain_words(subject) and plain_words(other):
                yield Fact(plain_words(subject), entry["relation"].strip(), plain_words(other))
