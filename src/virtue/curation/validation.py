"""Whether files in the published layout are what they should be: every problem with its file and row, and counted.

Of each file: its columns. Of each row: an instruction; ten captions, none empty, none the same as another (small
letters, articles and punctuation do not make a difference), a box of four numbers that is inside the image, a mask that
fits it, an image that is there. Of all files together: no image to train on is one to measure on.

That the first caption is the true one cannot be read from a file. Where another caption shares more words with the rest
than the first does, it is remarked upon, because the swaps then seem to have been made of that one; a remark is no
problem. Of sets of corners (`corners.py`), where no caption is the centre of the others, it says nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from virtue.curation.layout import Split, image_folder
from virtue.curation.published import PublishedFile, find_image, names_of, published_files
from virtue.curation.relations import words
from virtue.curation.wording import centre
from virtue.data import annotated
from virtue.data.pairs import RowError
from virtue.data.rows import Row
from virtue.images import ImageError, image_size
from virtue.prompts import Box

CAPTIONS = 10
REMARK = "first caption may not be the true one"
"""The kind of finding that is no problem."""

SHARED = "image in train and eval"
TOLERANCE = 1.0
"""Pixels by which a box may leave its image: boxes are rounded."""

KEPT = 100
"""Findings of each kind and file that are listed; all are counted."""


@dataclass(frozen=True)
class Finding:
    """Something about a row.

    Attributes:
        file: Its name, with its folder where two files are called so.
        row: Counted from 1; None for the file as a whole.
        kind: What findings are counted by.
        message: One sentence.
    """

    file: str
    row: int | None
    kind: str
    message: str

    def __str__(self) -> str:
        """As a line of a report."""
        where = self.file if self.row is None else f"{self.file} row {self.row}"
        return f"{where}: {self.message}"


@dataclass
class Validation:
    """What was found.

    Attributes:
        rows: Rows of each file.
        counts: Findings by kind, remarks too.
        findings: The first `KEPT` of each kind and file.
    """

    rows: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    _kept: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def problems(self) -> int:
        """How many findings are problems."""
        return self.counts.total() - self.counts[REMARK]

    def add(self, finding: Finding) -> None:
        """Counts a finding, and keeps it if it is among the first of its kind."""
        self.counts[finding.kind] += 1
        self._kept[finding.file, finding.kind] += 1
        if self._kept[finding.file, finding.kind] <= KEPT:
            self.findings.append(finding)


def validate(paths: Sequence[str | Path], images: Sequence[str | Path] = ()) -> Validation:
    """Looks at every row of files in the published layout.

    Args:
        paths: Parquet files, or folders of them.
        images: Folders that image paths start from. Without any, images are not looked for, and neither is whether
            boxes and masks fit.

    Raises:
        FileNotFoundError: If there is no such path, or no such folder of images.
        ValueError: If a file is not Parquet or of another layout.
    """
    roots = [Path(root) for root in images]
    for root in roots:
        if not root.is_dir():
            raise FileNotFoundError(f"There is no folder {root} of images.")
    validation, photographs = Validation(), _Photographs()
    files = published_files(paths)
    names = names_of(files)
    for file in files:
        name = names[file.path]
        validation.rows[name] = 0
        missing = [column for column in file.required if column not in file.columns]
        if missing:
            validation.add(Finding(name, None, "missing column", f"there is no column {', '.join(missing)}."))
            continue
        looker = _Looker(file, _roots(roots, file))
        for number, row in enumerate(file.rows(), start=1):
            validation.rows[name] = number
            for kind, message in looker.findings(row):
                validation.add(Finding(name, number, kind, message))
            finding = photographs.add(name, file.split, number, _photograph(file, number, row))
            if finding is not None:
                validation.add(finding)
    return validation


# One row


@dataclass
class _Looker:
    """Looks at rows of one file."""

    file: PublishedFile
    roots: list[Path]
    sizes: dict[str, tuple[int, int] | str] = field(default_factory=dict)  # or why an image has none

    def findings(self, row: Row) -> Iterator[tuple[str, str]]:
        """Kind and message of all that is wrong with a row."""
        try:
            if not row.text("qry_text" if self.file.split == "eval" else "qry").strip():
                yield "no instruction", "the instruction is empty."
            yield from _about_captions(self.file.captions(row))
        except RowError as error:
            yield "wrong type", str(error)
        yield from self._about_region(row)

    def _about_region(self, row: Row) -> Iterator[tuple[str, str]]:
        try:
            path = row.text("qry_image_path")
        except RowError as error:
            yield "wrong type", str(error)
            return
        size: tuple[int, int] | None = None
        if not path.strip():
            yield "no image", "it names no image."
        elif self.roots:
            found = self._size(path)
            if isinstance(found, str):
                yield found, f"the image {path} is {found.removesuffix(' image')}."
            else:
                size = found
        yield from _about_box(row, size)
        yield from _about_mask(row, size)

    def _size(self, path: str) -> tuple[int, int] | str:
        if path not in self.sizes:
            file = find_image(self.roots, path)
            try:
                self.sizes[path] = "missing image" if file is None else image_size(file)
            except ImageError:
                self.sizes[path] = "broken image"
        return self.sizes[path]


def _about_captions(captions: Sequence[str]) -> Iterator[tuple[str, str]]:
    if len(captions) != CAPTIONS:
        yield "not ten captions", f"there are {len(captions)} captions, not {CAPTIONS}."
    empty = [place for place, caption in enumerate(captions) if not caption.strip()]
    if empty:
        yield "empty caption", f"caption {_listed(empty)} is empty."
    places: dict[str, list[int]] = {}
    for place, caption in enumerate(captions):
        places.setdefault(" ".join(words(caption)), []).append(place)
    for same in places.values():
        if len(same) > 1 and captions[same[0]].strip():
            yield "same caption twice", f'captions {_listed(same)} say the same: "{captions[same[0]]}".'
    other = _other_centre(captions)
    if other:
        yield (
            REMARK,
            f'caption {other + 1}, "{captions[other]}", has more in common with the rest than the first has.',
        )


def _other_centre(captions: Sequence[str]) -> int:
    """The place of the caption that the others seem to have been made of; 0 for the first, or too few to tell."""
    if len(captions) < 3 or centre(captions):
        return 0
    first = [[captions[place], *captions[:place], *captions[place + 1 :]] for place in range(len(captions))]
    return next(place for place, order in enumerate(first) if centre(order))


def _about_box(row: Row, size: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
    try:
        with row.checked("bbox"):
            box = annotated.box_xywh(row.structure("bbox"))
    except RowError as error:
        yield "wrong box", str(error).partition(": ")[2] or str(error)
        return
    if _outside(box, size):
        width, height = size or (0, 0)
        yield "box outside the image", f"{box} leaves the image of {width} x {height} pixels."


def _outside(box: Box, size: tuple[int, int] | None) -> bool:
    if min(box.x1, box.y1) < -TOLERANCE:
        return True
    return size is not None and (box.x2 > size[0] + TOLERANCE or box.y2 > size[1] + TOLERANCE)


def _about_mask(row: Row, size: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
    """A mask is only looked at where the image is there: it has to fit."""
    try:
        value: Any = row.structure("segmentation")
        if size is None or not value or value == {"size": None, "counts": None}:
            return
        with row.checked("segmentation"):
            mask = annotated.mask(value, lambda: size)
    except RowError as error:
        yield "wrong mask", str(error).partition(": ")[2] or str(error)
        return
    if mask is not None and mask.array.shape != size[::-1]:
        height, width = mask.array.shape
        yield "mask of another size", f"the mask is {width} x {height} pixels, the image {size[0]} x {size[1]}."


# All files together


@dataclass
class _Photographs:
    """Which photographs are in which split, as far as rows have gone by."""

    first: dict[str, dict[str, str]] = field(default_factory=lambda: {"train": {}, "eval": {}})
    told: set[tuple[str, str]] = field(default_factory=set)

    def add(self, name: str, split: Split, number: int, photograph: str | None) -> Finding | None:
        """Notes a row; the finding, if the other split has its photograph and this file has not been told of it."""
        if photograph is None:
            return None
        self.first[split].setdefault(photograph, f"{name} row {number}")
        elsewhere = self.first["eval" if split == "train" else "train"].get(photograph)
        if elsewhere is None or (name, photograph) in self.told:
            return None
        self.told.add((name, photograph))
        return Finding(name, number, SHARED, f"its image, {photograph}, is also that of {elsewhere}.")


def _photograph(file: PublishedFile, number: int, row: Row) -> str | None:
    """Which photograph a row shows, by the notes of an export, which tell it across sources, or by its path."""
    noted = file.provenance.of(number).get("image_id") if file.provenance else None
    try:
        return noted or file.photograph(row)
    except RowError:  # no text; said where the row is looked at
        return None


def _roots(roots: Sequence[Path], file: PublishedFile) -> list[Path]:
    """Where images of a file may be: the roots, an `images` in them, and the source's own folder in either."""
    places = [place for root in roots for place in (root, root / "images")]
    own = image_folder(file.source, file.split)
    return [folder for place in places for folder in (place, place / own)]


def _listed(places: Sequence[int]) -> str:
    return ", ".join(str(place + 1) for place in places)
