"""Published files of SCaR, and files laid out so: which source and split each is, and where a row's image lies."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pyarrow.parquet as pq

from virtue.curation.checks import Design
from virtue.curation.layout import MANIFEST, PROVENANCE, Split
from virtue.data.rows import Row
from virtue.data.tables import Table, column_names

EVAL_COLUMNS = ("qry_text", "qry_image_path", "tgt_text", "bbox")
TRAIN_COLUMNS = ("qry", "qry_image_path", "pos_text", "bbox")

_NOTED = ("image_id", "object", "relation", "scene", "swaps")
_NAME = re.compile(r"(?P<split>SCaR_eval|SCAR)_(?P<source>.+)", re.IGNORECASE)
_COCO = re.compile(r"(?:COCO_(?:train|val|test)20\d\d_)?(\d{12})\.\w+", re.IGNORECASE)


@dataclass(frozen=True)
class PublishedFile:
    """A Parquet file of SCaR.

    Args:
        path: Of the file.
        source: Named as in the file's name, "ADE20K" for `SCaR_eval_ADE20K.parquet`.
        split: Told by its columns.
    """

    path: Path
    source: str
    split: Split

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that its layout has."""
        return EVAL_COLUMNS if self.split == "eval" else TRAIN_COLUMNS

    @property
    def columns(self) -> list[str]:
        """Columns that it has."""
        return column_names(self.path)

    @cached_property
    def table(self) -> Table:
        """Its rows."""
        return Table([self.path], self.required)

    @cached_property
    def provenance(self) -> Provenance | None:
        """What an export noted of its rows, in a file beside it; None for other files."""
        noted = self.path.parent / PROVENANCE
        return Provenance(noted, self.path.name) if noted.is_file() else None

    @cached_property
    def design(self) -> Design | None:
        """Of its distractors, as an export noted it beside it; None of other files, which do not say."""
        try:
            noted = json.loads((self.path.parent / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        design = noted.get("design") if isinstance(noted, dict) else None
        return cast("Design", design) if design in get_args(Design) else None

    def rows(self) -> Iterator[Row]:
        """One after the other."""
        return (self.table.row(number) for number in range(len(self.table)))

    def captions(self, row: Row) -> list[str]:
        """All captions of a row, the true one first.

        Raises:
            RowError: If they are no texts.
        """
        if self.split == "eval":
            return row.texts("tgt_text")
        return [row.text("pos_text"), *row.texts("neg_text")]

    def photograph(self, row: Row) -> str:
        """What tells a row's image from others, alike in train and eval.

        Published paths begin with a folder of the split (`ade20k_val`), which does not count. Names of COCO's images
        are the same in all sources that are made of COCO.
        """
        parts = [part for part in re.split(r"[/\\]", row.text("qry_image_path")) if part not in ("", ".")]
        coco = _COCO.fullmatch(parts[-1]) if parts else None
        if coco:
            return f"COCO/{int(coco[1])}"
        if len(parts) > 1 and re.search(r"_(val|train|eval)$", parts[0]):
            parts = parts[1:]
        return "/".join([self.source, *parts])


class Provenance:
    """Of each row of a file, what an export noted.

    Args:
        noted: The file with the notes.
        name: Of the file whose rows they are about.
    """

    def __init__(self, noted: Path, name: str) -> None:
        table = pq.read_table(noted, columns=["row", *_NOTED], filters=[("file", "=", name)]).sort_by("row")
        self._rows = table.column("row").to_numpy()
        self._columns = {column: table.column(column) for column in _NOTED}

    def of(self, number: int) -> dict[str, Any]:
        """What is noted of a row, counted from 1: "image_id", "object", "relation", "scene" and "swaps"; or nothing."""
        place = int(np.searchsorted(self._rows, number))
        if place == len(self._rows) or self._rows[place] != number:
            return {}
        return {name: column[place].as_py() for name, column in self._columns.items()}


def published_files(paths: Sequence[str | Path]) -> list[PublishedFile]:
    """The files of SCaR among paths.

    Args:
        paths: Parquet files, and folders, of which all Parquet files count but those of other layouts.

    Raises:
        FileNotFoundError: If there is no such path, or a folder has no such file.
        ValueError: If a file that was named is not Parquet or of another layout.
    """
    found = [file for path in map(Path, paths) for file in (_in_folder(path) if path.is_dir() else [_published(path)])]
    return list({file.path: file for file in found}.values())


def names_of(files: Sequence[PublishedFile]) -> dict[Path, str]:
    """What each file is called in a report, by its path: its name, with its folder where another is called so too."""
    counts = Counter(file.path.name for file in files)
    return {file.path: file.path.name if counts[file.path.name] == 1 else str(file.path) for file in files}


def find_image(roots: Sequence[Path], path: str) -> Path | None:
    """The file of an image: its path below one of the roots, as it stands or without its first folders."""
    parts = [part for part in re.split(r"[/\\]", path) if part.strip() not in ("", ".", "..")]
    candidates = (root.joinpath(*parts[start:]) for start in range(len(parts)) for root in roots)
    return next((file for file in candidates if file.is_file()), None)


def _in_folder(folder: Path) -> Iterable[PublishedFile]:
    files = [file for file in sorted(folder.glob("*.parquet")) if file.name != PROVENANCE]
    found = [_published(file) for file in files if _split(column_names(file)) is not None]
    if not found:
        raise FileNotFoundError(f"{folder} holds no file of SCaR, such as SCaR_eval_ADE20K.parquet.")
    return found


def _published(file: Path) -> PublishedFile:
    split = _split(columns := column_names(file))
    if split is None:
        raise ValueError(
            f"{file} is laid out neither as SCaR's evaluation ({', '.join(EVAL_COLUMNS)}) nor as its training "
            f"({', '.join(TRAIN_COLUMNS)}): its columns are {', '.join(columns)}."
        )
    named = _NAME.fullmatch(file.stem)
    return PublishedFile(file, named["source"] if named else file.stem, split)


def _split(columns: Sequence[str]) -> Split | None:
    if {"tgt_text", "qry_image_path"} <= set(columns):
        return "eval"
    return "train" if {"pos_text", "qry_image_path"} <= set(columns) else None
