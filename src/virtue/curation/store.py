"""`Curation`: a run of the curation on disk; what is bought, written or decided is in it before anything else happens.

A run is a folder with one SQLite file (`database.py`). It holds

    settings   what may not change within a run: seed, design, writer, instructions
    notes      what may: where the images are, when it ran
    regions    each "new", then "written" (it has a sample) or "dropped" (it has a reason)
    samples    what passed all checks
    problems   what checks found in every attempt, whatever became of the region
    tries      how often regions were taken up again, and `rewrites`, which samples are to be: see `retries.py`
    answers    of the LLM, by a key of all that was asked, so that none is bought twice
    totals     what they cost
    batches    that are under way at a batch endpoint
    counts     of what sources left out, by reason
    decisions  of people, see `decisions.py`

Regions are in the order of a hash of their ids, whatever order they came in: any first part of a run is a fair mix.
Several threads may share a `Curation`, and several processes a folder.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from virtue.curation.retries import Retries, kept, rank
from virtue.curation.samples import Problem, Region, Sample

State = Literal["new", "written", "dropped"]

Until = Literal["begun", "read", "worked"]
"""How long a setting may change: until a run is begun, until it has a region, until one is written or dropped."""

UNPRICED = ("unpriced_in", "unpriced_out")
"""Totals of tokens read and written whose money is not counted yet, as their prices are not known."""

_PAGE = 500  # rows read or written at a time


class Curation(Retries):
    """A run of the curation.

    Args:
        folder: Of the run.
        make: Begin one where there is none.

    Raises:
        FileNotFoundError: If there is no run, and none is to be begun.
        ValueError: If the folder holds something else, or a run of another version.
    """

    # Settings and notes

    def settle(self, settings: Mapping[str, Any], *, until: Until = "begun") -> None:
        """Fixes settings for the whole run: the first call keeps them, later ones compare.

        Args:
            settings: JSON values by name; those of other names stay as they are.
            until: How long they may change all the same.

        Raises:
            ValueError: If one differs from what the run was begun with.
        """
        with self.transaction() as connection:
            known = {} if self._is_open(until) else self.settings
            for name, value in settings.items():
                if name in known and known[name] != value:
                    raise ValueError(
                        f"The run in {self.folder} was begun with {name} {_shown(known[name])}, not {_shown(value)}: "
                        "give the same, or another folder."
                    )
                connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, json.dumps(value)))

    def record(self, settings: Mapping[str, Any]) -> None:
        """Keeps settings beside those that are fixed, in place of earlier ones: of what may be added to a run."""
        with self.transaction() as connection:
            values = [(name, json.dumps(value)) for name, value in settings.items()]
            connection.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", values)

    @property
    def settings(self) -> dict[str, Any]:
        """What the run was begun with, and what was recorded since."""
        return {name: json.loads(value) for name, value in self.rows("SELECT name, value FROM settings")}

    def note(self, name: str, value: Any) -> None:
        """Keeps a JSON value that may change, in place of an earlier one of that name."""
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, json.dumps(value)))

    def noted(self, name: str, default: Any = None) -> Any:
        """The value that was last noted under a name."""
        found = self.rows("SELECT value FROM notes WHERE name = ?", (name,))
        return json.loads(found[0][0]) if found else default

    def set_images(self, folders: Mapping[str, str | Path]) -> None:
        """Notes where images are: a folder for each source, which `Region.image` is relative to."""
        known = dict(self.noted("images", {}))
        self.note("images", known | {source: str(Path(folder).absolute()) for source, folder in folders.items()})

    def image(self, region: Region) -> Path:
        """The image file of a region.

        Raises:
            ValueError: If the run does not know where its source's images are.
        """
        return self.image_folder(region.source) / region.image

    def image_folder(self, source: str) -> Path:
        """The folder that a source's images are in.

        Raises:
            ValueError: If the run does not know it.
        """
        folders = self.noted("images", {})
        if source not in folders:
            raise ValueError(f"The run in {self.folder} does not know where the images of {source} are.")
        return Path(folders[source])

    # Regions and samples

    def add_regions(self, regions: Iterable[Region]) -> int:
        """Adds regions as new; those that are there already stay as they are.

        They are written a few hundred at a time, so a source may be longer than memory; after a kill the same call
        adds the rest.

        Returns:
            How many were not there before.
        """
        stream, added = iter(regions), 0
        while page := list(islice(stream, _PAGE)):
            with self.transaction() as connection:
                for region in page:
                    known = ("new", json.dumps(region.to_json()))
                    place = (region.source, region.image, region.image_id, region.category)
                    values = (rank(region.id), region.id, *place, *known)
                    cursor = connection.execute("INSERT OR IGNORE INTO regions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
                    added += cursor.rowcount
        return added

    def regions(self, state: State | None = None) -> Iterator[Region]:
        """Regions in the order of the run, a few hundred of them in memory at a time.

        Args:
            state: "new", "written" or "dropped"; all by default.
        """
        pages = self._pages(_REGIONS) if state is None else self._pages(_REGIONS_OF, state)
        yield from (Region.from_json(json.loads(data)) for (data,) in pages)

    def region(self, region_id: str) -> Region:
        """One region.

        Raises:
            KeyError: If the run has no such region.
        """
        found = self.rows("SELECT data FROM regions WHERE id = ?", (region_id,))
        if not found:
            raise KeyError(region_id)
        return Region.from_json(json.loads(found[0][0]))

    def states(self) -> dict[str, Counter[str]]:
        """How many regions are in which state: by source, then by "new", "written" and "dropped"."""
        found: dict[str, Counter[str]] = {}
        for source, state, n in self.rows("SELECT source, state, COUNT(*) FROM regions GROUP BY source, state"):
            found.setdefault(source, Counter())[state] = n
        return found

    def put_sample(self, sample: Sample, problems: Sequence[Sequence[Problem]] = ()) -> None:
        """Keeps a sample that passed; its region is written with it. A region that is not new stays as it is.

        Args:
            sample: The sample.
            problems: What was found in the attempts before, a sequence for each.
        """
        with self.transaction() as connection:
            if self._leave(sample.region.id, "written", problems):
                connection.execute("INSERT INTO samples VALUES (?, ?)", (sample.region.id, kept(sample)))

    def drop(self, region_id: str, check: str, message: str, problems: Sequence[Sequence[Problem]] = ()) -> None:
        """Gives a region up. One that is not new stays as it is.

        Args:
            region_id: The region.
            check: By what it failed; drops are counted by it.
            message: One sentence.
            problems: What was found in each attempt.
        """
        with self.transaction() as connection:
            if self._leave(region_id, "dropped", problems):
                connection.execute("INSERT INTO drops VALUES (?, ?, ?)", (region_id, check, message))

    def samples(self) -> Iterator[Sample]:
        """All samples in the order of the run, as they were written: people's edits are in their decisions."""
        yield from (_sample(data, region) for data, region in self._pages(_SAMPLES))

    def sample(self, region_id: str) -> Sample:
        """The sample of a region.

        Raises:
            KeyError: If it has none.
        """
        statement = "SELECT samples.data, regions.data FROM samples JOIN regions ON id = region_id WHERE region_id = ?"
        found = self.rows(statement, (region_id,))
        if not found:
            raise KeyError(region_id)
        return _sample(*found[0])

    def sample_ids(self) -> list[str]:
        """Region ids of all samples, in the order of the run."""
        return [name for (name,) in self.rows("SELECT id FROM regions WHERE state = 'written' ORDER BY rank")]

    def drops(self) -> list[tuple[str, str, str]]:
        """Dropped regions: id, check and message of each, in the order of the run."""
        statement = 'SELECT region_id, "check", message FROM drops JOIN regions ON id = region_id ORDER BY rank'
        return [(name, check, message) for name, check, message in self.rows(statement)]

    def problems(self) -> Counter[str]:
        """How many attempts each check found something wrong in."""
        statement = 'SELECT "check", COUNT(DISTINCT region_id || \' \' || attempt) FROM problems GROUP BY "check"'
        return Counter({check: n for check, n in self.rows(statement)})

    # Answers of the LLM

    def answer(self, key: str) -> str | None:
        """The answer that was kept under a key; None where there is none."""
        found = self.rows("SELECT value FROM answers WHERE key = ?", (key,))
        return str(found[0][0]) if found else None

    def put_answer(self, key: str, value: str, totals: Mapping[str, float] | None = None) -> None:
        """Keeps an answer and adds what it cost, both or neither. The first answer under a key stays.

        Args:
            key: Of all that was asked.
            value: The answer, JSON or any text.
            totals: What to add to `totals`, as in {"tokens_in": 900, "money": 0.002}.
        """
        with self.transaction(durable=True) as connection:
            new = connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, value)).rowcount
            if new:
                self.add_totals(totals or {})

    def add_totals(self, amounts: Mapping[str, float]) -> None:
        """Adds to what the run has used so far."""
        add = "INSERT INTO totals VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET amount = amount + excluded.amount"
        with self.transaction() as connection:
            connection.executemany(add, list(amounts.items()))

    def price(self, tokens_in: float, tokens_out: float) -> float:
        """Counts the money of tokens that were used while their prices were not known.

        Args:
            tokens_in: What a million of them cost that were read.
            tokens_out: What a million of them cost that were written.

        Returns:
            How much was added.
        """
        with self.transaction(durable=True) as connection:
            left = {name: self.totals().get(name, 0.0) for name in UNPRICED}
            money = sum(n * price for n, price in zip(left.values(), (tokens_in, tokens_out), strict=True)) / 1e6
            if any(left.values()):
                connection.executemany("DELETE FROM totals WHERE name = ?", [(name,) for name in UNPRICED])
                self.add_totals({"money": money})
            return money

    def totals(self) -> dict[str, float]:
        """What the run has used so far, by name: answers, tokens, money; see `budget.Budget.cost`."""
        return dict(self.rows("SELECT name, amount FROM totals ORDER BY name"))

    def models(self) -> Counter[str]:
        """How many answers each LLM gave, by the name that the endpoint gave with them; those without one left out."""
        name = "CASE WHEN json_valid(value) THEN json_extract(value, '$.model') END"
        found = self.rows(f"SELECT {name} AS model, COUNT(*) FROM answers GROUP BY model ORDER BY 2 DESC, 1")
        return Counter({str(model): n for model, n in found if model})

    def put_batch(self, batch_id: str, data: Mapping[str, Any], *, done: bool = False) -> None:
        """Keeps what is known of a batch, in place of what was.

        Args:
            batch_id: The endpoint's name for it.
            data: JSON values.
            done: Whether its answers are all kept.
        """
        with self.transaction(durable=True) as connection:
            connection.execute("INSERT OR REPLACE INTO batches VALUES (?, ?, ?)", (batch_id, done, json.dumps(data)))

    def batches(self, *, done: bool = False) -> dict[str, dict[str, Any]]:
        """Batches by id: those under way, or those whose answers are all kept."""
        found = self.rows("SELECT id, data FROM batches WHERE done = ? ORDER BY id", (done,))
        return {name: json.loads(data) for name, data in found}

    # Counts

    def count(self, scope: str, counts: Mapping[str, int]) -> None:
        """Keeps counts by reason, in place of what was kept under this scope: reading a source again counts once.

        Args:
            scope: What was counted, as in "source RefCOCOg".
            counts: How many by reason.
        """
        with self.transaction() as connection:
            connection.execute("DELETE FROM counts WHERE scope = ?", (scope,))
            connection.executemany("INSERT INTO counts VALUES (?, ?, ?)", [(scope, *pair) for pair in counts.items()])

    def counts(self) -> dict[str, Counter[str]]:
        """All counts: by scope, then by reason."""
        found: dict[str, Counter[str]] = {}
        for scope, reason, n in self.rows("SELECT scope, reason, n FROM counts ORDER BY scope, n DESC, reason"):
            found.setdefault(scope, Counter())[reason] = n
        return found

    # Inside

    def _leave(self, region_id: str, state: State, problems: Sequence[Sequence[Problem]]) -> bool:
        """Moves a new region on; whether it was new."""
        with self.transaction() as connection:
            change = "UPDATE regions SET state = ? WHERE id = ? AND state = 'new'"
            if not connection.execute(change, (state, region_id)).rowcount:
                return False
            self.add_problems(region_id, problems)
            return True

    def _is_open(self, until: Until) -> bool:
        """Whether settings that may change so long may still change."""
        left = {"begun": "", "read": "TRUE", "worked": "state <> 'new'"}[until]
        return bool(left) and not self.rows(f"SELECT 1 FROM regions WHERE {left} LIMIT 1")

    def _pages(self, statement: str, *values: str) -> Iterator[tuple[Any, ...]]:
        """Rows of a statement that goes by rank, page by page; what is written meanwhile disturbs nothing."""
        last = ""
        while page := self.rows(statement, (last, *values, _PAGE)):
            yield from (row[1:] for row in page)
            last = page[-1][0]


_REGIONS = "SELECT rank, data FROM regions WHERE rank > ? ORDER BY rank LIMIT ?"
_REGIONS_OF = "SELECT rank, data FROM regions WHERE rank > ? AND state = ? ORDER BY rank LIMIT ?"
_SAMPLES = (
    "SELECT rank, samples.data, regions.data FROM regions JOIN samples ON region_id = id"
    " WHERE rank > ? AND state = 'written' ORDER BY rank LIMIT ?"
)


def _sample(data: str, region: str) -> Sample:
    return Sample.from_json(json.loads(data) | {"region": json.loads(region)})


def _shown(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)
