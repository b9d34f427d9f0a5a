"""COCO-Stuff: the grass, walls and skies of COCO's photographs, as COCO JSON or as label maps.

JSON: `stuff_val2017.json` has an annotation for each stuff class of an image. `instances_val2017.json` beside it adds
the things, which are regions then too.

Maps: `labels.txt` has the names ("1: person" to "182: wood", or from "0: person" on), and a PNG for each image has the
classes, where stuff begins with 92; all that is of one stuff class is one region, as in the JSON. The maps of
`stuffthingmaps` are one below the label and 255 where there is none. Those of `stuff_*_pixelmaps` are the label itself,
and 183 where there is a thing: a folder is taken to be so if it is called so, or if one of its first maps has a number
that only they have, since names would be wrong by one.

Names are made into words: "wall-brick" is "brick wall", "sky-other" is "sky".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from virtue.curation.sources.coco import LOST, Captions, CocoFile, read_annotations
from virtue.curation.sources.label_maps import label_box, pixels_of, read_labels
from virtue.curation.sources.source import MIN_SHARE, Annotation, Contents, Picture, Source
from virtue.curation.sources.text_files import lines_of

BROKEN_MAP = "images with a broken label map"

_FIRST_STUFF = 92
_ONLY_LABELS = range(182, 255)  # numbers that maps one below the label never have
_LOOKED_AT = 20  # maps of a folder
_UNLABELLED = "unlabeled"
_VAGUE = ("structural-other", "solid-other", "rawmaterial-other")
_WORDS = {
    **dict.fromkeys(_VAGUE, ""),
    "window-blind": "window blind",
    "playingfield": "playing field",
    "waterdrops": "water drops",
}


class CocoStuff(Source):
    """Stuff, and things where given, out of COCO JSON.

    Args:
        name: "COCO_Stuff".
        images: The folder of COCO's images.
        stuff: `stuff_*.json`.
        instances: `instances_*.json` of the same images, or None for stuff only.
        captions: `captions_*.json` of the same images, or None.
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
        stuff: str | Path,
        instances: str | Path | None = None,
        captions: str | Path | None = None,
        min_share: float = MIN_SHARE,
    ) -> None:
        super().__init__(name, images, min_share=min_share)
        self._files = [CocoFile(file) for file in (stuff, instances) if file is not None]
        self._captions = Captions(captions)

    def pictures(self) -> Sequence[Picture]:
        """All images with stuff, in the file's order of images; see `Source.pictures`."""
        stuff = self._files[0]
        self.leave_out(LOST, stuff.lost)
        return [Picture(f"COCO/{key}", key) for key in stuff.images if key in stuff.annotations]

    def contents(self, picture: Picture) -> Contents:
        """What stands in an image; see `Source.contents`."""
        stuff, size = self._files[0], self._files[0].size(picture.key)
        things = [
            replace(thing, category=stuff_words(thing.category))
            for file in self._files
            for thing in read_annotations(file.annotations.of(picture.key), file)
        ]
        return Contents(stuff.images[picture.key]["file_name"], size, things, self._captions.of(picture.key))


class CocoStuffMaps(Source):
    """Stuff out of label maps; things are among the others only, since a map does not tell one from the next.

    Args:
        name: "COCO_Stuff".
        images: The folder of COCO's images.
        labels: `labels.txt`.
        maps: The folder of the maps.
        captions: Captions of whole images, or None.
        split: What the folder of a map is called, such as "val2017", or a part of its name; None for all.
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
        labels: str | Path,
        maps: str | Path,
        captions: str | Path | None = None,
        split: str | None = None,
        min_share: float = MIN_SHARE,
    ) -> None:
        super().__init__(name, images, min_share=min_share)
        self._names = _names(Path(labels))
        files = (file for file in sorted(Path(maps).rglob("*.png")) if file.stem.isdecimal())
        self._maps = [file for file in files if split is None or split in file.parent.name]
        self._captions = Captions(captions)
        self._below: dict[Path, int] = {}
        if not self._maps:
            within = f" in a folder {split}" if split else ""
            raise FileNotFoundError(f"{maps} holds no label maps like 000000000139.png{within}.")

    def pictures(self) -> Sequence[Picture]:
        """All images with a map, by path; see `Source.pictures`."""
        return [Picture(f"COCO/{int(file.stem)}", file) for file in self._maps]

    def contents(self, picture: Picture) -> Contents:
        """What stands in an image; see `Source.contents`."""
        file = Path(str(picture.key))
        try:
            pixels = read_labels(file)
        except ValueError:
            self.leave_out(BROKEN_MAP)
            return Contents("", None, ())
        below = self._below_labels(file.parent)
        image, size = int(file.stem), (pixels.shape[1], pixels.shape[0])
        return Contents(
            f"{file.parent.name}/{file.stem}.jpg",
            size,
            list(self._classes(pixels, image, below)),
            self._captions.of(image),
        )

    def _below_labels(self, folder: Path) -> int:
        """How far the numbers of a folder's maps are below the labels."""
        if folder not in self._below:
            first = islice((file for file in self._maps if file.parent == folder), _LOOKED_AT)
            is_label = any("pixelmaps" in part for part in folder.parts) or any(map(_has_last_labels, first))
            self._below[folder] = 0 if is_label else 1
        return self._below[folder]

    def _classes(self, pixels: NDArray[Any], image: int, below: int) -> Iterator[Annotation]:
        """One annotation for each class of an image."""
        for value in np.unique(pixels).tolist():
            label = value + below
            if name := self._names.get(label, ""):
                box, is_stuff = label_box(pixels, value), label >= _FIRST_STUFF
                mask = partial(pixels_of, pixels, value)
                yield Annotation(f"{image}.{label}", box, stuff_words(name), mask=mask, is_region=is_stuff)


def stuff_words(name: str) -> str:
    """The words that a class of COCO-Stuff is called by: "brick wall" for "wall-brick"; "" where it names nothing."""
    if name in _WORDS:
        return _WORDS[name]
    what, dash, kind = name.partition("-")
    return f"{kind} {what}" if dash and kind not in ("other", "stuff") else what


def _has_last_labels(file: Path) -> bool:
    """Whether a map has numbers that only labels themselves reach."""
    try:
        return bool(np.isin(read_labels(file), _ONLY_LABELS).any())
    except ValueError:  # broken; counted when it is its turn
        return False


def _names(file: Path) -> dict[int, str]:
    """Names by label; of a file that counts from "0: person" by the label that is one more."""
    found = dict(_labels(file))
    more = 0 if found.get(0, _UNLABELLED) == _UNLABELLED else 1
    return {label + more: name for label, name in found.items() if name != _UNLABELLED}


def _labels(file: Path) -> Iterator[tuple[int, str]]:
    """Numbers and names, as a file has them."""
    found = [re.fullmatch(r"(\d+)\s*:\s*(.+)", line) for line in lines_of(file) if line]
    if not found or not all(found):
        raise ValueError(f'{file} does not list classes as "1: person", one to a line.')
    for match in found:
        if match:
            yield int(match[1]), match[2]
