"""A user's own data as a task: what is asked, what it is ranked against, and which of that is right.

One file, in which every query has its own candidates:

    {"query": {"image": "street.jpg", "box": [40, 60, 210, 330]},
     "candidates": ["a red bus before a church", "a red bus behind a church", {"image": "bus.jpg"}]}
    {"query": "a dog on a beach", "candidates": [{"image": "1.jpg"}, {"image": "2.jpg"}], "relevant": [1]}

- `query` and each of `candidates`: a text, or an object with `text`, `image`, `instruction`, `box`, `points`, `mask`,
  as `virtue.data.own` describes it.
- `relevant`: the places of the right candidates, counted from 0; the first one if nothing is said.

Or a folder with two files, `queries` and `candidates`, in which every query is ranked against all candidates:

    queries.jsonl       {"query": "a dog on a beach", "relevant": ["beach-2", "beach-7"]}
    candidates.jsonl    {"id": "beach-2", "candidate": {"image": "2.jpg"}}

- `relevant`: the `id`s of the right candidates, at least one.

In both forms a query may further have

- `id`: what a report calls it; its number by default;
- `group`: what it is about, such as its image. Queries of one group are not independent, and intervals resample groups;
- `tags`: an object of words, `{"relation": "left of"}`: figures are given for each word. All rows have the same tags.

In the first form it may have

- `swaps`: for each of its candidates what was swapped in it, such as "object", "relation" or "scene", and "" for the
  right ones.

Files are JSON Lines (`.jsonl`) or Parquet (`.parquet`, columns of the same names). Image paths are relative to the
folder of the images, which is the file's own folder if nothing else is said. Equal candidates are embedded once.
Complaints name file, row (from 1; in JSON Lines the line) and field: "bench.jsonl row 17, field candidates[2]: ...".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from virtue.data.entries import read_entry
from virtue.data.json_lines import JsonLines
from virtue.data.rows import Row, Rows
from virtue.data.tables import Table
from virtue.evaluation.tasks import Places, Task
from virtue.items import Item

SUFFIXES = (".jsonl", ".parquet")
_QUERY = ("query", "relevant", "id", "group", "tags")
_LISTED = (*_QUERY, "candidates", "swaps")
_CANDIDATE = ("id", "candidate")
_PICTURE = {"bytes", "path"}  # what `datasets` stores of a picture in Parquet


def own_task(path: str | Path, images: str | Path | None = None) -> Task:
    """The task of a file of queries with their candidates, or of a folder with both in two files.

    Args:
        path: The file, `.parquet` or JSON Lines under any other ending; or the folder.
        images: The folder that relative image paths start from; the file's own by default. Only images that a mask in
            polygons has to fit are opened.

    Returns:
        The task, "own/" and the name of the file or folder.

    Raises:
        FileNotFoundError: If there is no such file, or the folder lacks one of the two.
        ValueError: If a row does not follow the format, or there are none.
        ImageError: If a mask's file, or an image whose size polygons have to fit, is missing or broken.
    """
    place = Path(path)
    if place.is_dir():
        root = place if images is None else Path(images)
        return _corpus(place.name, _rows(_one_of(place, "queries")), _rows(_one_of(place, "candidates")), root)
    return _lists(place.stem, _rows(place), place.parent if images is None else Path(images))


# The two forms


def _lists(name: str, rows: Rows, images: Path) -> Task:
    """Every query with its own candidates."""
    queries, pool = _Queries(), _Pool()
    lists: list[Places] = []
    relevant: list[Places] = []
    swaps: list[list[str] | None] = []
    for row in _each(rows):
        queries.add(row, _LISTED, images)
        entries = _sequence(row, "candidates")
        places = [pool.add(_read(row, f"candidates[{i}]", entry, images), entry) for i, entry in enumerate(entries)]
        right = [places[i] for i in _positions(row, len(places))]
        if wrong := [i for i, own in enumerate(places) if own in places[:i]]:
            raise row.error(f"candidates[{wrong[0]}]", "is there twice: each candidate stands in a list once.")
        lists.append(np.array(places, dtype=np.intp))
        relevant.append(np.array(right, dtype=np.intp))
        swaps.append(_swaps(row, len(places)))
    known = [own or [""] * len(listed) for own, listed in zip(swaps, lists, strict=True)] if any(swaps) else None
    return queries.task(name, pool.items, relevant, lists, known)


def _corpus(name: str, queries: Rows, candidates: Rows, images: Path) -> Task:
    """Every query against all candidates."""
    places: dict[str, int] = {}
    pool = _Pool()
    for row in _each(candidates):
        _check_fields(row, _CANDIDATE)
        key = _name(row, "id")
        if key is None:
            raise row.error("id", "is missing: queries name their right candidates by it.")
        if key in places:
            raise row.error("id", f"{key!r} is there twice.")
        entry = row.values.get("candidate")
        places[key] = pool.add(_read(row, "candidate", entry, images), entry)
    asked, relevant = _Queries(), list[Places]()
    for row in _each(queries):
        asked.add(row, _QUERY, images)
        right = dict.fromkeys(_place(row, i, key, places) for i, key in enumerate(_sequence(row, "relevant")))
        relevant.append(np.array(list(right), dtype=np.intp))
    return asked.task(name, pool.items, relevant)


def _place(row: Row, number: int, key: object, places: Mapping[str, int]) -> int:
    if str(key) not in places or isinstance(key, bool | float):
        raise row.error(f"relevant[{number}]", f"{key!r} is the id of no candidate.")
    return places[str(key)]


class _Queries:
    """What the rows say of their queries, gathered."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._ids: list[str] = []
        self._groups: list[str] = []
        self._tags: list[dict[str, str]] = []

    def add(self, row: Row, known: Sequence[str], images: Path) -> None:
        """Reads the query of a row."""
        _check_fields(row, known)
        if row.values.get("query") is None:
            raise row.error("query", "is missing.")
        self._items.append(_read(row, "query", row.values["query"], images))
        number = str(len(self._items) - 1)
        self._ids.append(_name(row, "id") or number)
        # A row of its own group is none of the groups that other rows name.
        group = _name(row, "group")
        self._groups.append(f"query {number}" if group is None else f"group {group}")
        self._tags.append(_tags(row))
        if set(self._tags[-1]) != set(self._tags[0]):
            names = ", ".join(self._tags[0]) or "none"
            raise row.error("tags", f"must be those of the first row ({names}), got {', '.join(self._tags[-1])}.")

    def task(
        self,
        name: str,
        candidates: Sequence[Item],
        relevant: Sequence[Places],
        lists: Sequence[Places] | None = None,
        swaps: Sequence[Sequence[str]] | None = None,
    ) -> Task:
        """The task of these queries."""
        tags = {tag: [own[tag] for own in self._tags] for tag in (self._tags[0] if self._tags else ())}
        return Task(f"own/{name}", self._items, candidates, relevant, lists, swaps, self._ids, self._groups, tags)


class _Pool:
    """Distinct candidates, numbered as they come."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._places: dict[str, int] = {}

    def add(self, item: Item, entry: object) -> int:
        """The place of a candidate; entries that are written the same are the same."""
        place = self._places.setdefault(repr(_plain(entry)), len(self.items))
        if place == len(self.items):
            self.items.append(item)
        return place


# Reading


def _read(row: Row, field: str, entry: object, images: Path) -> Item:
    """One entry, whose image is there if it is a file."""
    if isinstance(entry, Mapping) and set(entry) == _PICTURE:
        entry = {"image": entry}
    item = read_entry(row, field, entry, images)
    if isinstance(item.image, Path) and not item.image.is_file():
        raise row.error(f"{field}.image", f"there is no file {item.image}.")
    return item


def _plain(entry: object) -> object:
    """An entry so that those of one meaning are equal: a text alone is an object too, and null says nothing."""
    if isinstance(entry, str):
        return [("text", entry)]
    if isinstance(entry, Mapping):
        return sorted(
            ((key, value) for key, value in entry.items() if value is not None), key=lambda pair: str(pair[0])
        )
    return entry


def _rows(file: Path) -> Rows:
    return Table([file]) if file.suffix.lower() == ".parquet" else JsonLines(file)


def _each(rows: Rows) -> list[Row]:
    return [rows.row(number) for number in range(len(rows))]


def _one_of(folder: Path, name: str) -> Path:
    for suffix in SUFFIXES:
        if (file := folder / f"{name}{suffix}").is_file():
            return file
    raise FileNotFoundError(f"{folder} holds neither {name}.jsonl nor {name}.parquet.")


def _check_fields(row: Row, known: Sequence[str]) -> None:
    for field in row.values:
        if field not in known:
            raise row.error(field, f"is unknown; a row has {', '.join(known)}.")


def _sequence(row: Row, field: str) -> list[Any]:
    value = row.values.get(field)
    if not isinstance(value, list | tuple) or not value:
        raise row.error(field, f"must be a list that is not empty, got {value!r}.")
    return list(value)


def _positions(row: Row, count: int) -> list[int]:
    if row.values.get("relevant") is None:
        return [0]
    positions = _sequence(row, "relevant")
    for number, position in enumerate(positions):
        if isinstance(position, bool) or not isinstance(position, int) or not 0 <= position < count:
            raise row.error(f"relevant[{number}]", f"must be a place from 0 to {count - 1}, got {position!r}.")
    return list(dict.fromkeys(positions))


def _swaps(row: Row, count: int) -> list[str] | None:
    if row.values.get("swaps") is None:
        return None
    swaps = row.texts("swaps")
    if len(swaps) != count:
        raise row.error("swaps", f"has {len(swaps)} words for {count} candidates.")
    return swaps


def _tags(row: Row) -> dict[str, str]:
    value = row.structure("tags")
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise row.error("tags", f"must be an object of words, got {type(value).__name__}.")
    for tag, word in value.items():
        if not isinstance(word, str):
            raise row.error(f"tags.{tag}", f"must be text, got {type(word).__name__}.")
    return dict(value)


def _name(row: Row, field: str) -> str | None:
    """A field of text or a whole number."""
    value = row.values.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise row.error(field, f"must be text or a whole number, got {type(value).__name__}.")
    return str(value)
