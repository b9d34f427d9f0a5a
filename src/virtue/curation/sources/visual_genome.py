"""Visual Genome: objects of photographs, how they stand to each other, and what people said of regions.

Four files, each an array with one entry for each image: `objects.json` (boxes and names), `image_data.json` (sizes, and
which photographs are COCO's), `relationships.json` ("man", "riding", "horse") and `region_descriptions.json` (phrases
with boxes of their own). Together they have some 2 GB. They are read through once, and an image's entries again when it
is asked for, so memory holds one image, a note on each of the 108,000, and 16 bytes for each entry. Versions 1.0 to 1.4
are read: what is `object_id` and `image_id` in one is `id` in another, and things have `names` or one `name`.

An object is a region. The relationships that it is the subject of are its facts. Its caption is the phrase that names
it and whose box fits best, where the two boxes share at least half of what they cover together. Boxes are XYXY in
source pixels here, a corner and a size in the files.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from virtue.curation.samples import Fact
from virtue.curation.sources.coco import Captions, size_of
from virtue.curation.sources.json_entries import EntriesByGroup, as_id, entries, index_by, lists
from virtue.curation.sources.source import MIN_SHARE, Annotation, Contents, Picture, Source, plain_words, xyxy

_LEAST_SHARED = 0.5  # intersection over union of an object's box and a phrase's


class VisualGenome(Source):
    """Objects of Visual Genome.

    Args:
        name: "VisualGenome".
        images: The folder with `VG_100K` and `VG_100K_2`, or with all images.
        objects: `objects.json`.
        image_data: `image_data.json`.
        relationships: `relationships.json`, or None for no facts.
        regions: `region_descriptions.json`, or None for no captions.
        captions: COCO's captions of whole images, for those photographs that are COCO's; or None.
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
        objects: str | Path,
        image_data: str | Path,
        relationships: str | Path | None = None,
        regions: str | Path | None = None,
        captions: str | Path | None = None,
        min_share: float = MIN_SHARE,
    ) -> None:
        super().__init__(name, images, min_share=min_share)
        self._images_data: dict[Hashable, dict[str, Any]] = dict(_data(image_data))
        self._objects = _by_image(objects)
        self._relationships = _by_image(relationships) if relationships else None
        self._regions = _by_image(regions) if regions else None
        self._captions = Captions(captions)
        if not self._objects.groups():
            raise ValueError(f"{objects} has no images: each of its entries has an image_id and objects.")

    def pictures(self) -> Sequence[Picture]:
        """All images with objects, in the order of `objects.json`; see `Source.pictures`."""
        return [Picture(self._photograph(key), key) for key in self._objects.groups()]

    def contents(self, picture: Picture) -> Contents:
        """What stands in an image; see `Source.contents`."""
        data = self._images_data.get(picture.key, {})
        things = _listed(self._objects, picture.key, "objects")
        facts = _facts(_listed(self._relationships, picture.key, "relationships"))
        phrases = list(_phrases(_listed(self._regions, picture.key, "regions")))
        return Contents(
            file=str(data.get("file") or f"{picture.key}.jpg"),
            size=size_of(data),
            annotations=[_annotation(thing, facts, phrases) for thing in things],
            scene=self._captions.of(data.get("coco_id")),
        )

    def _photograph(self, key: Any) -> str:
        coco = self._images_data.get(key, {}).get("coco_id")
        return f"{self.name}/{key}" if coco is None else f"COCO/{coco}"


def _by_image(file: str | Path) -> EntriesByGroup:
    """Entries by image."""
    return index_by(file, lambda value: _number(value, "image_id"))


def _data(file: str | Path) -> Iterator[tuple[int | str, dict[str, Any]]]:
    """What is kept of each image's entry; its file is named by the end of its address."""
    for entry in entries(file):
        image = as_id(_number(entry.value, "image_id")) if isinstance(entry.value, dict) else None
        if image is not None:
            path = "/".join(str(entry.value.get("url") or "").split("/")[-2:])
            sides = {side: entry.value.get(side) for side in ("width", "height")}
            yield image, {"file": path, "coco_id": as_id(entry.value.get("coco_id")), **sides}


def _listed(index: EntriesByGroup | None, image: Any, field: str) -> list[dict[str, Any]]:
    """The objects, relationships or regions of an image."""
    found = index.of(image) if index else []
    return [value for entry in found for value in lists(entry.get(field)) if isinstance(value, dict)]


def _annotation(
    thing: Mapping[str, Any], facts: Mapping[Any, list[tuple[str, str]]], phrases: list[tuple[str, list[Any]]]
) -> Annotation:
    name, box = _name(thing), xyxy(thing.get("x"), thing.get("y"), thing.get("w"), thing.get("h"))
    known = [fact for number in _numbers(thing) for fact in facts.get(number, ())]
    return Annotation(
        id=str(_number(thing, "object_id")),
        box=box,
        category=name,
        caption=_caption(name, box, phrases) if box and name else None,
        facts=tuple(dict.fromkeys(Fact(name, relation, other) for relation, other in known)) if name else (),
    )


def _facts(relationships: list[dict[str, Any]]) -> dict[Any, list[tuple[str, str]]]:
    """Relation and other thing, by the numbers of the object that is the subject."""
    facts: dict[Any, list[tuple[str, str]]] = {}
    for value in relationships:
        subject, other, predicate = value.get("subject"), value.get("object"), value.get("predicate")
        if isinstance(subject, dict) and isinstance(other, dict) and isinstance(predicate, str):
            relation, name = plain_words(predicate).lower(), _name(other)
            if relation and name:
                for number in _numbers(subject):
                    facts.setdefault(number, []).append((relation, name))
    return facts


def _phrases(regions: list[dict[str, Any]]) -> Iterator[tuple[str, list[Any]]]:
    for region in regions:
        phrase = region.get("phrase")
        box = xyxy(region.get("x"), region.get("y"), region.get("width"), region.get("height"))
        if isinstance(phrase, str) and phrase.strip() and box:
            yield " ".join(phrase.split()).rstrip("."), box


def _caption(name: str, box: list[Any], phrases: list[tuple[str, list[Any]]]) -> str | None:
    """The phrase that names a thing and fits its box best."""
    naming = [(_shared(box, other), phrase) for phrase, other in phrases if _names(phrase, name)]
    shared, phrase = max(naming, key=lambda found: found[0], default=(0.0, ""))
    return phrase if shared >= _LEAST_SHARED else None


def _names(phrase: str, name: str) -> bool:
    return f" {name.lower()} " in f" {phrase.lower()} "


def _shared(one: list[Any], two: list[Any]) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    return float(width * height / (sum(areas) - width * height))


def _number(value: Mapping[str, Any], field: str) -> object:
    """What an image or an object is called by, `id` in some versions."""
    return value.get(field, value.get("id"))


def _numbers(thing: Mapping[str, Any]) -> list[int | str]:
    """The number of an object, then those of the ones that were found to be the same; each once."""
    found = map(as_id, (_number(thing, "object_id"), *lists(thing.get("merged_object_ids"))))
    return [number for number in dict.fromkeys(found) if number is not None]


def _name(thing: Mapping[str, Any]) -> str:
    """The first name of an object, "" where it has none."""
    names = [name for name in (*lists(thing.get("names")), thing.get("name")) if isinstance(name, str)]
    return plain_words(names[0]).lower() if names else ""
