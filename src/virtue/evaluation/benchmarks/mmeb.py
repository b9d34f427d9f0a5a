"""MMEB: 36 tasks over images, each with at most 1,000 queries that have a list of candidates of their own.

Two layouts are published, a set of Parquet files for each task. Both have `qry_text`, `qry_img_path`, `tgt_text` and
`tgt_img_path` (lists, the first is true, paths start from the folder of images); the newer has the instructions apart,
in `qry_inst` and `tgt_inst`, the older has them inside the texts. Which of the two a file is, its columns say. Texts
are put together as the released evaluation does (`mmeb_texts`).

Which task is of which kind and which mean it counts in is a table, `data/mmeb.json`. Candidates are told apart by what
is embedded, path and words: in RefCOCO-Matching one image is several candidates. One that a list holds twice is in it
once. An empty text is no candidate.

Images are looked up in the listings of their folders, and of each the header and the ending are read, once: some ten
seconds for the 36,000 of all tasks. A query whose own image is missing or broken, or the image of its right candidate,
is left out. A wrong candidate whose image is missing or broken is left out of the lists, so that the other queries
stay; it is counted among what is missing, once however many lists it was in. Either makes a task partial, and so does a
limit: no mean is made of such.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from virtue.data.marked import image_path
from virtue.data.rows import Row
from virtue.data.tables import Table
from virtue.evaluation.benchmarks.found_images import BROKEN, MISSING, is_whole
from virtue.evaluation.benchmarks.mmeb_texts import (
    ASKS_OF_IMAGES,
    FINDS_IMAGES,
    Kind,
    candidate_text,
    older_text,
    query_text,
)
from virtue.evaluation.tasks import NotMeasured, Places, Task, task_or_not
from virtue.items import Item

PREFIX = "mmeb/"
META_TASKS = ("classification", "vqa", "retrieval", "grounding")
SPLITS = ("ind", "ood")
Ranking = Literal["own", "global"]

RIGHT = {
    MISSING: "with a right candidate whose image is missing",
    BROKEN: "with a right candidate whose image is broken",
}
WRONG = {MISSING: "wrong candidates whose image is missing", BROKEN: "wrong candidates whose image is broken"}
BEYOND_LIMIT = "beyond the limit"

_COLUMNS = ("qry_text", "qry_img_path", "tgt_text", "tgt_img_path")
_INSTRUCTIONS = ("qry_inst", "tgt_inst")


@dataclass(frozen=True)
class MmebTask:
    """What the table says of a task.

    Attributes:
        meta_task: One of `META_TASKS`.
        split: "ind" if MMEB has training data of its set, "ood" if not.
        kind: What asks for what.
    """

    meta_task: str
    split: str
    kind: Kind


@cache
def mmeb_table() -> Mapping[str, MmebTask]:
    """The 36 tasks by name, in the paper's order; the names are those of the published sets too."""
    table = json.loads((files("virtue.evaluation") / "data" / "mmeb.json").read_text(encoding="utf-8"))
    return {name: MmebTask(**entry) for name, entry in table.items()}


def mmeb_tasks(
    folder: str | Path,
    images: str | Path,
    *,
    tasks: Collection[str] | None = None,
    ranking: Ranking = "own",
    limit: int | None = None,
) -> Iterator[Task | NotMeasured]:
    """The tasks of a folder, in the table's order, each read when it is its turn.

    Args:
        folder: Holds `<task>/test-*.parquet`, `<task>/*.parquet` or `<task>.parquet`.
        images: The folder that image paths start from.
        tasks: Names such as "MSCOCO_t2i"; None for all that the folder has.
        ranking: "own" ranks each query against its list, as MMEB does, "global" against all candidates of the task.
        limit: How many queries of each task are read at most; a task that has more is partial.

    Returns:
        Tasks, called "mmeb/MSCOCO_t2i"; what stands for one of which nothing is left says why.

    Raises:
        FileNotFoundError: If the folder lacks a task that is asked for, or has none.
        ValueError: If there is no such task or ranking, the limit is less than 1, or a file is not Parquet or lacks a
            column.
        RowError: When a task's turn comes, if a row does not follow the format.
    """
    if ranking not in get_args(Ranking):
        raise ValueError(f'ranking is "own" or "global", not {ranking!r}.')
    if limit is not None and limit < 1:
        raise ValueError(f"A limit of {limit} leaves no queries; take 1 or more.")
    found = _found(Path(folder), tasks)
    tables = {name: Table(paths, _COLUMNS, _INSTRUCTIONS) for name, paths in found.items()}
    lookup = _Images(Path(images))
    readers = (_Reader(name, table, lookup) for name, table in tables.items())
    return (task_or_not(partial(reader.task, ranking, limit)) for reader in readers)


def means() -> dict[str, list[str]]:
    """The means that MMEB reports, each over all of its tasks and nothing less.

    Returns:
        By "classification", "vqa", "retrieval", "grounding", "ind", "ood" and "overall", the names of the tasks that
        the mean is over, such as "mmeb/MSCOCO".
    """
    table = {PREFIX + name: task for name, task in mmeb_table().items()}
    parts = {meta: [name for name, task in table.items() if task.meta_task == meta] for meta in META_TASKS}
    parts |= {split: [name for name, task in table.items() if task.split == split] for split in SPLITS}
    return {**parts, "overall": list(table)}


def _found(folder: Path, tasks: Collection[str] | None) -> dict[str, list[Path]]:
    """The files of each task that is to be read."""
    table = mmeb_table()
    for name in tasks or ():
        if name not in table:
            raise ValueError(f"MMEB has no task {name!r}; it has {', '.join(table)}.")
    found = {name: paths for name in table if (paths := _files(folder, name))}
    if not found:
        raise FileNotFoundError(f"There is no task of MMEB in {folder}: it should hold <task>/*.parquet.")
    for name in tasks or ():
        if name not in found:
            raise FileNotFoundError(f"The task {name} is not in {folder}, which has {', '.join(found)}.")
    return {name: paths for name, paths in found.items() if tasks is None or name in tasks}


def _files(folder: Path, name: str) -> list[Path]:
    own = sorted((folder / name).glob("*.parquet"))
    test = [path for path in own if path.name.startswith("test")]
    single = folder / f"{name}.parquet"
    return test or own or ([single] if single.is_file() else [])


class _Images:
    """Which images there are and can be read; a folder is listed once.

    Args:
        root: The folder that paths start from, or the one that holds it as `images`.
    """

    def __init__(self, root: Path) -> None:
        self._roots = (root, root / "images")
        self._names: dict[Path, frozenset[str]] = {}

    def find(self, row: Row, field: str, path: str) -> Path | str:
        """Where the image of a row's field lies, or `MISSING` or `BROKEN`."""
        for root in self._roots:
            file = image_path(row, field, path, root)
            if file.name in self._listing(file.parent):
                return file if is_whole(file) else BROKEN
        return MISSING

    def _listing(self, folder: Path) -> frozenset[str]:
        if folder not in self._names:
            try:
                with os.scandir(folder) as entries:
                    self._names[folder] = frozenset(entry.name for entry in entries)
            except OSError:
                self._names[folder] = frozenset()
        return self._names[folder]


@dataclass(frozen=True, eq=False)
class _Asked:
    """One query; of its list the first is right."""

    query: Item
    listed: Places
    id: str
    group: str


class _Reader:
    """Makes a task of a table.

    Args:
        name: Of the task.
        table: Its rows.
        images: Where images are looked up.
    """

    def __init__(self, name: str, table: Table, images: _Images) -> None:
        self._name, self._table, self._images = name, table, images
        self._kind = mmeb_table()[name].kind
        self._is_newer = "qry_inst" in table.columns
        self._candidates: list[Item] = []
        self._places: dict[tuple[str, str], int | str] = {}  # by path and words; or what is wrong with the image
        self._known: dict[tuple[str, bool], dict[tuple[str, str], int | str]] = {}  # the same, by how rows write them
        self._lacking: dict[tuple[str, str], str] = {}  # what lists lack, and why

    def task(self, ranking: Ranking, limit: int | None) -> Task:
        count = min(limit or len(self._table), len(self._table))
        read = [self._asked(number) for number in range(count)]
        asked = [row for row in read if isinstance(row, _Asked)]
        missing = Counter(reason for reason in read if isinstance(reason, str))
        missing += Counter(WRONG[reason] for reason in self._lacking.values())
        missing += Counter({BEYOND_LIMIT: len(self._table) - count})
        return Task(
            name=f"{PREFIX}{self._name}",
            queries=[row.query for row in asked],
            candidates=self._candidates,
            relevant=[row.listed[:1] for row in asked],
            lists=[row.listed for row in asked] if ranking == "own" else None,
            ids=[row.id for row in asked],
            groups=[row.group for row in asked],
            missing=dict(missing),
        )

    def _asked(self, number: int) -> _Asked | str:
        """What a row asks, or why it is left out."""
        row = self._table.row(number)
        query = self._query(row)
        if isinstance(query, str):
            return query
        listed = self._listed(row)
        if isinstance(listed, str):
            return RIGHT[listed]
        group = row.text("qry_text" if query.image is None else "qry_img_path")
        return _Asked(query, np.array(listed, dtype=np.intp), f"{self._name} row {number + 1}", group)

    def _query(self, row: Row) -> Item | str:
        """The query of a row, or what is wrong with its image."""
        words = self._query_words(row)
        if self._kind not in ASKS_OF_IMAGES:
            with row.checked("qry_text"):
                return Item(text=words)
        path = row.text("qry_img_path")
        if not path.strip():
            raise row.error("qry_img_path", f"is empty, but the queries of {self._name} are images.")
        image = self._images.find(row, "qry_img_path", path)
        with row.checked("qry_text"):
            return image if isinstance(image, str) else Item(text=words or None, image=image)

    def _query_words(self, row: Row) -> str:
        if not self._is_newer:
            return older_text(row.text("qry_text"), has_image=self._kind in ASKS_OF_IMAGES)
        newlines = 2 if self._name == "VisDial" else 1
        return query_text(self._kind, row.text("qry_inst"), row.text("qry_text"), newlines=newlines)

    def _listed(self, row: Row) -> list[int] | str:
        """Places of a row's candidates, each once and the right one first, or what is wrong with its image."""
        paths, texts = self._targets(row)
        said = paths if self._kind in FINDS_IMAGES else texts
        if not said or not said[0].strip():
            field = "tgt_img_path" if self._kind in FINDS_IMAGES else "tgt_text"
            raise row.error(field, "has no first candidate, which is the true one.")
        # Lists share most of their candidates, so words are put together for new ones only.
        pairs = dict.fromkeys(
            pair for pair, own in zip(zip(paths, texts, strict=True), said, strict=True) if own.strip()
        )
        how = row.text("tgt_inst"), bool(texts[0].strip())
        known = self._known.setdefault(how, {})
        for pair in pairs:
            if pair not in known:
                known[pair] = self._place(row, pair[0], self._candidate_words(pair[1], *how))
            right = known[paths[0], texts[0]]
            if isinstance(right, str):
                return right
        self._lacking.update((pair, place) for pair in pairs if isinstance(place := known[pair], str))
        places = dict.fromkeys(known[pair] for pair in pairs)
        return [place for place in places if not isinstance(place, str)]

    def _targets(self, row: Row) -> tuple[list[str], list[str]]:
        """Paths and texts of a row's candidates, as many of the one as of the other."""
        texts = row.texts("tgt_text")
        if self._kind not in FINDS_IMAGES:
            return [""] * len(texts), texts
        paths = row.texts("tgt_img_path")
        texts = texts or [""] * len(paths)
        if len(paths) != len(texts):
            raise row.error("tgt_img_path", f"holds {len(paths)}, but tgt_text holds {len(texts)}.")
        return paths, texts

    def _candidate_words(self, text: str, instruction: str, captioned: bool) -> str:
        if self._is_newer:
            return candidate_text(self._kind, instruction, text, captioned=captioned)
        return older_text(text, has_image=True) if self._kind in FINDS_IMAGES else text

    def _place(self, row: Row, path: str, words: str) -> int | str:
        """Where a candidate stands among those of the task, put there if need be, or what is wrong with its image."""
        key = (path, words)
        if key not in self._places:
            image = self._images.find(row, "tgt_img_path", path) if path else None
            if isinstance(image, str):
                self._places[key] = image
            else:
                self._places[key] = len(self._candidates)
                with row.checked("tgt_text"):
                    self._candidates.append(Item(text=words or None, image=image))
        return self._places[key]
