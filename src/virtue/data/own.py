"""A user's own pairs: a JSON Lines file, a Parquet file, or a data set of the `datasets` library.

A row says what is asked and what answers it:

    {"query": "a dog on a beach", "positive": {"image": "dogs/1.jpg"}}

    {"query": {"image": "street.jpg", "box": [40, 60, 210, 330], "instruction": "Find the caption of the region."},
     "positives": ["a red bus before a church", "a bus that waits"],
     "negatives": ["a red bus behind a church"],
     "query_negatives": [{"image": "street.jpg", "box": [300, 10, 350, 90]}]}

- `query` (or `anchor`): one entry.
- `positive` or `positives`: an entry or a list of them; a training step takes one.
- `negative`, `negatives`, `negative_1`, `negative_2`, ...: hard negatives, what the query must not find.
- `query_negatives`: hard negatives of the other direction, queries that the positive does not answer.

An entry is a text, or an object with some of

- `text`, `instruction`: strings;
- `image`: a path, relative to the folder of the images, which is the file's own folder if nothing else is said;
- `box`: `[x1, y1, x2, y2]`;
- `points`: `[[x, y], ...]`, or `[x, y, 1]` on the object and `[x, y, 0]` off it;
- `mask`: COCO run lengths `{"size": [h, w], "counts": ...}`, polygons `[[x1, y1, x2, y2, ...], ...]`, or the path of a
  picture that is white on the object and black elsewhere, best a PNG.

All coordinates are pixels of the image as it is shown, after the EXIF turn. Box, points and mask of one entry combine.
A hard negative that is null or "" is none. Columns of a Parquet file or a data set have the same names, so that
`anchor`, `positive`, `negative` of sentence-transformers can be read as they are; a column of pictures, as `datasets`
stores them, counts as `image`. Complaints name file, row (from 1; in JSON Lines the line) and field:
"pairs.jsonl row 17, field positive.box: ...".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from virtue.data.entries import read_entry
from virtue.data.json_lines import JsonLines
from virtue.data.pairs import Pair
from virtue.data.rows import Row, Rows, check_index
from virtue.data.tables import Table
from virtue.items import Item

QUERY = ("query", "anchor")
POSITIVES = ("positive", "positives")
NEGATIVES = ("negative", "negatives")
QUERY_NEGATIVES = ("query_negatives",)
_NUMBERED_NEGATIVE = re.compile(r"negative_\d+")
_PICTURE = {"bytes", "path"}  # what `datasets` stores of a picture in Parquet


class Pairs:
    """Pairs out of rows in the format of this module.

    Args:
        rows: Where they come from.
        images: The folder that relative image paths start from.
        name: For messages and counts.
    """

    def __init__(self, rows: Rows, images: Path, name: str) -> None:
        self._rows, self._images, self.name = rows, images, name

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def __getitem__(self, index: int) -> Pair:
        """One pair.

        Raises:
            IndexError: If there is no such row.
            RowError: If the row does not follow the format.
            ImageError: If a mask's file, or an image whose size polygons have to fit, is missing or broken.
        """
        row = self._rows.row(index)
        _check_fields(row)
        query = list(self._items(row, QUERY))
        positives = tuple(self._items(row, POSITIVES))
        if len(query) != 1:
            raise row.error("query", f"must be one entry, got {len(query)}.")
        if not positives:
            raise row.error("positive", "is missing: a query needs something to find.")
        numbered = tuple(sorted(filter(_NUMBERED_NEGATIVE.fullmatch, row.values), key=lambda field: int(field[9:])))
        return Pair(
            query=query[0],
            positives=positives,
            negatives=tuple(self._items(row, (*NEGATIVES, *numbered), skip_empty=True)),
            query_negatives=tuple(self._items(row, QUERY_NEGATIVES, skip_empty=True)),
            where=row.where,
        )

    def _items(self, row: Row, fields: tuple[str, ...], skip_empty: bool = False) -> Iterator[Item]:
        """The items of some fields, each of which holds one entry, a list of them, or null."""
        for field in fields:
            value = row.values.get(field)
            if isinstance(value, Mapping) and set(value) == _PICTURE:
                value = {"image": value}
            entries = {field: value} if not isinstance(value, list | tuple) else _numbered(field, value)
            for name, entry in entries.items():
                if entry is not None and not (skip_empty and entry == ""):
                    yield read_entry(row, name, entry, self._images)


class OwnPairs(Pairs):
    """The pairs of a file.

    Args:
        path: `.parquet`, or JSON Lines under any other ending.
        images: The folder that relative image paths start from; the file's own by default.

    Attributes:
        name: The file's name without its ending.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a Parquet file is not one.
    """

    def __init__(self, path: str | Path, images: str | Path | None = None) -> None:
        file = Path(path)
        rows: Rows = Table([file]) if file.suffix.lower() == ".parquet" else JsonLines(file)
        super().__init__(rows, file.parent if images is None else Path(images), file.stem)


def from_datasets(
    name: str,
    split: str = "train",
    images: str | Path = ".",
    columns: Mapping[str, str] | None = None,
    config: str | None = None,
) -> Pairs:
    """The pairs of a data set that the `datasets` library loads, from the Hub or a folder.

    Args:
        name: The data set's, as `datasets.load_dataset` takes it.
        split: Which part of it.
        images: The folder that relative image paths start from. Pictures inside the data set need none.
        columns: What its columns are, `{"question": "query", "answer": "positive"}`; all others are left out. Without
            it the columns have to be named as this module says.
        config: Which configuration of it, where it has several: "triplet" of `sentence-transformers/all-nli`.

    Raises:
        ModuleNotFoundError: If `datasets` is not installed.
        ValueError: If a column of `columns` does not exist.
    """
    try:
        from datasets import load_dataset
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Reading a data set by name needs the package `datasets`: pip install 'virtue[train]'."
        ) from error
    dataset = load_dataset(name, split=split) if config is None else load_dataset(name, config, split=split)
    return Pairs(_DatasetRows(_undecoded(dataset), name, columns), Path(images), name)


def _undecoded(dataset: Any) -> Any:
    """The data set with its pictures as bytes: one that is broken is then left out like any other."""
    pictures = [name for name, kind in (getattr(dataset, "features", None) or {}).items() if _is_picture(kind)]
    for name in pictures:
        from datasets import Image

        dataset = dataset.cast_column(name, Image(decode=False))
    return dataset


def _is_picture(kind: object) -> bool:
    return type(kind).__name__ == "Image" and type(kind).__module__.startswith("datasets.")


class _DatasetRows:
    """The rows of a `datasets.Dataset`, whose file is mapped into memory and is not sent along when pickled."""

    def __init__(self, dataset: Any, name: str, columns: Mapping[str, str] | None) -> None:
        for column in columns or ():
            if column not in dataset.column_names:
                raise ValueError(f"{name} has no column {column!r}; its columns are {', '.join(dataset.column_names)}.")
        self._dataset, self._name = dataset, name
        self._fields = dict(columns or {column: column for column in dataset.column_names})

    def __len__(self) -> int:
        return len(self._dataset)

    def row(self, index: int) -> Row:
        check_index(index, len(self))
        values = self._dataset[index]
        fields = {field: values[column] for column, field in self._fields.items()}
        return Row(fields, f"{self._name} row {index + 1}")


def _numbered(field: str, entries: list[Any] | tuple[Any, ...]) -> dict[str, Any]:
    return {f"{field}[{i}]": entry for i, entry in enumerate(entries)}


def _check_fields(row: Row) -> None:
    known = (*QUERY, *POSITIVES, *NEGATIVES, *QUERY_NEGATIVES)
    for field in row.values:
        if field not in known and not _NUMBERED_NEGATIVE.fullmatch(field):
            raise row.error(field, f"is unknown; a row has {', '.join(known)}, negative_1, negative_2, ...")
