"""ADE20K: the label maps of its SceneParsing benchmark, or its full set with polygons and instance masks.

`SceneParsing`: `annotations/{training,validation}/ADE_*.png` beside `images/`, each pixel one of the 150 classes of
`objectInfo150.txt` or 0; `sceneCategories.txt` says what the place is. Maps do not tell one chair from the next, so
each connected part is a region.

`Ade20kFull`: one JSON file for each photograph, beside it, and a PNG for each instance, in which 255 is what can be
seen and 128 what something else hides. Regions are the visible pixels and the box around them; without such a PNG they
are the polygon. Parts of things (a wheel, a window of a house) are among the others only.

Of "car, auto, automobile" the first is the category. The place of the full set goes from the general to the particular
("outdoor", "urban", "street"); regions have it the other way round, the most certain to name the place first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from virtue.curation.sources.json_entries import lists
from virtue.curation.sources.label_maps import Part, parts, pixels_of, read_labels
from virtue.curation.sources.source import MIN_SHARE, Annotation, Contents, Picture, Source, is_number, plain_words
from virtue.curation.sources.text_files import lines_of
from virtue.images import ImageError, load_image
from virtue.masks import from_polygons

BROKEN_MAP, BROKEN_JSON = "images with a broken label map", "images with broken JSON"
PARTS = "that are parts of others"

_VISIBLE = 255
_NO_PLACES = ("", "~not labeled", "outliers", "misc")


class SceneParsing(Source):
    """Connected parts of the SceneParsing benchmark's label maps.

    Args:
        name: "ADE20K".
        images: The folder of images, such as the benchmark's own.
        classes: `objectInfo150.txt`.
        maps: The folder `annotations`.
        places: `sceneCategories.txt`, or None.
        split: "training" or "validation"; None for both.
        min_share: As `Source`.

    Raises:
        FileNotFoundError: If there is no such file or folder, or no map.
        ValueError: If a file is not what it should be.
    """

    def __init__(
        self,
        name: str,
        images: str | Path,
        *,
        classes: str | Path,
        maps: str | Path,
        places: str | Path | None = None,
        split: str | None = None,
        min_share: float = MIN_SHARE,
    ) -> None:
        super().__init__(name, images, min_share=min_share)
        self._names = dict(_classes(Path(classes)))
        if not self._names:
            raise ValueError(f"{classes} is not the table of classes: no line begins with an index.")
        self._places = dict(_places(Path(places))) if places else {}
        found = sorted(Path(maps).rglob("ADE_*.png"))
        self._maps = [file for file in found if split in (None, file.parent.name)]
        if not self._maps:
            within = f" in a folder {split}" if split else ""
            raise FileNotFoundError(f"{maps} holds no label maps like ADE_val_00000001.png{within}.")

    def pictures(self) -> Sequence[Picture]:
        """All images with a map, by path; see `Source.pictures`."""
        return [Picture(f"{self.name}/{file.stem}", file) for file in self._maps]

    def contents(self, picture: Picture) -> Contents:
        """What stands in an image; see `Source.contents`."""
        file = Path(str(picture.key))
        try:
            labels = read_labels(file)
        except ValueError:
            self.leave_out(BROKEN_MAP)
            return Contents("", None, ())
        numbers, found = parts(labels, but=(0,))
        things = [self._annotation(file.stem, part, numbers) for part in found]
        size = (labels.shape[1], labels.shape[0])
        return Contents(f"{file.parent.name}/{file.stem}.jpg", size, things, self._places.get(file.stem, ()))

    def _annotation(self, stem: str, part: Part, numbers: NDArray[np.int64]) -> Annotation:
        mask = partial(pixels_of, numbers, part.number)
        # A part is called by its place in the map, which stays when others are left out.
        return Annotation(f"{stem}/{part.number}", part.box, self._names.get(part.label, ""), mask=mask)


class Ade20kFull(Source):
    """Objects of the full set.

    Args:
        name: "ADE20K".
        images: The folder that the paths of photographs start from: `folder`, if they stand beside the JSON.
        folder: The folder that holds the JSON files, at any depth.
        split: A folder on the way to them, such as "training" or "validation"; None for all.
        min_share: As `Source`.

    Raises:
        FileNotFoundError: If there is no such folder, or no JSON file in it.
    """

    def __init__(
        self,
        name: str,
        images: str | Path,
        *,
        folder: str | Path,
        split: str | None = None,
        min_share: float = MIN_SHARE,
    ) -> None:
        super().__init__(name, images, min_share=min_share)
        self._folder = Path(folder)
        found = sorted(self._folder.rglob("ADE_*.json"))
        self._files = [file for file in found if split is None or split in file.relative_to(self._folder).parts]
        if not self._files:
            within = f" in a folder {split}" if split else ""
            raise FileNotFoundError(
                f"{folder} holds neither objectInfo150.txt and annotations/ (SceneParsing) nor files like "
                f"ADE_train_00000001.json (the full set){within}."
            )

    def pictures(self) -> Sequence[Picture]:
        """All photographs with JSON, by path; see `Source.pictures`."""
        return [Picture(f"{self.name}/{file.stem}", file) for file in self._files]

    def contents(self, picture: Picture) -> Contents:
        """What stands in an image; see `Source.contents`."""
        file = Path(str(picture.key))
        annotation = _annotation_of(file)
        if annotation is None:
            self.leave_out(BROKEN_JSON)
            return Contents("", None, ())
        objects = [value for value in lists(annotation.get("object")) if isinstance(value, dict)]
        things = [_thing(file, value) for value in objects]
        self.leave_out(PARTS, sum(not thing.is_region for thing in things))
        beside = file.parent.relative_to(self._folder) / str(annotation.get("filename") or f"{file.stem}.jpg")
        return Contents(beside.as_posix(), _size(annotation), things, _place(annotation))


def _classes(file: Path) -> Iterator[tuple[int, str]]:
    """Index and first name of each class of a table with a header, tabs between its columns."""
    for line in lines_of(file):
        columns = line.split("\t")
        if columns[0].strip().isdecimal():
            if len(columns) < 2:
                raise ValueError(f"{file} is not the table of classes: a line has an index and no name.")
            yield int(columns[0]), _first(columns[-1])


def _places(file: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Image and place of each line, as in "ADE_val_00000003 access_road"."""
    for line in lines_of(file):
        stem, _, place = line.partition(" ")
        if place.strip() not in _NO_PLACES:
            yield stem, (plain_words(place),)


def _annotation_of(file: Path) -> Mapping[str, Any] | None:
    """What a JSON file says; None where it is broken. Some are in UTF-8 and some in Latin-1."""
    data = file.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    annotation = value.get("annotation") if isinstance(value, dict) else None
    return annotation if isinstance(annotation, dict) else None


def _size(annotation: Mapping[str, Any]) -> tuple[int, int] | None:
    sides = lists(annotation.get("imsize"))
    is_size = len(sides) >= 2 and all(isinstance(side, int) for side in sides[:2])
    return (sides[1], sides[0]) if is_size else None


def _place(annotation: Mapping[str, Any]) -> tuple[str, ...]:
    """Words for the place, the particular first."""
    levels = [level for level in lists(annotation.get("scene")) if isinstance(level, str)]
    words = [plain_words(level) for level in reversed(levels) if level.strip() not in _NO_PLACES]
    return tuple(dict.fromkeys(word for word in words if word))


def _thing(file: Path, value: Mapping[str, Any]) -> Annotation:
    corners, relations = _polygon(value.get("polygon")), value.get("parts")
    # What is part of nothing has an empty list there, and what is has a number.
    part_of = relations.get("ispartof") if isinstance(relations, dict) else []
    return Annotation(
        id=f"{file.stem}/{value.get('id')}",
        box=(min(corners[::2]), min(corners[1::2]), max(corners[::2]), max(corners[1::2])) if corners else None,
        category=_first(str(value.get("name") or "")),
        mask=partial(_mask, str(value.get("instance_mask") or ""), corners, file.parent),
        is_region=part_of in ([], None, ""),
        tight=True,
    )


def _mask(path: str, corners: list[float], folder: Path, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The visible pixels of an instance, bool (H, W); the polygon where no PNG of it can be read."""
    names = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    try:
        visible: NDArray[np.bool_] = np.asarray(load_image(folder.joinpath(*names)).convert("L")) == _VISIBLE
    except ImageError:
        return from_polygons([corners], *size) if len(corners) >= 6 else None
    return visible


def _polygon(value: object) -> list[float]:
    """Corners `[x1, y1, x2, y2, ...]`; none where the polygon is malformed."""
    xs, ys = (lists(value.get(axis)) for axis in "xy") if isinstance(value, dict) else ((), ())
    if len(xs) != len(ys) or not all(is_number(number) for number in (*xs, *ys)):
        return []
    return [float(number) for corner in zip(xs, ys, strict=True) for number in corner]


def _first(names: str) -> str:
    """The first of several names."""
    return names.split(",")[0].strip()
