"""The file that a run of the curation is kept in: SQLite, written at once, shared by several processes.

`curation.db` is in WAL mode, so the review page reads and writes while a set is being built. Every change is one
transaction that begins as a writer (`BEGIN IMMEDIATE`), waits up to `PATIENCE` for others, and is kept when it ends: a
process killed at any moment leaves all of a change or nothing of it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

FILE = "curation.db"
VERSION = 1
PATIENCE = 60.0
"""Seconds that a writer waits for other processes' writers."""

_SCHEMA = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE regions (
    rank TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, source TEXT NOT NULL, image TEXT NOT NULL, image_id TEXT NOT NULL,
    category TEXT NOT NULL, state TEXT NOT NULL, data TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX regions_state ON regions (state, rank);
CREATE INDEX regions_source ON regions (source, state);
CREATE INDEX regions_image ON regions (image_id);
CREATE TABLE samples (region_id TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE drops (region_id TEXT PRIMARY KEY, "check" TEXT NOT NULL, message TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE problems (
    region_id TEXT NOT NULL, attempt INTEGER NOT NULL, "check" TEXT NOT NULL, message TEXT NOT NULL, place INTEGER
);
CREATE INDEX problems_region ON problems (region_id);
CREATE TABLE answers (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE batches (id TEXT PRIMARY KEY, done INTEGER NOT NULL, data TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE counts (
    scope TEXT NOT NULL, reason TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (scope, reason)
) WITHOUT ROWID;
CREATE TABLE totals (name TEXT PRIMARY KEY, amount REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE decisions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE, region_id TEXT NOT NULL, reviewer TEXT NOT NULL,
    verdict TEXT NOT NULL, reason TEXT NOT NULL, captions TEXT, made TEXT NOT NULL, undone INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX decisions_region ON decisions (region_id, reviewer);
CREATE TABLE leases (
    region_id TEXT NOT NULL, reviewer TEXT NOT NULL, until REAL NOT NULL, PRIMARY KEY (region_id, reviewer)
) WITHOUT ROWID;
"""


class Database:
    """A connection that several threads may use.

    Args:
        folder: Of the run.
        make: Make the folder and the file where there is none.

    Raises:
        FileNotFoundError: If there is no run, and none is to be made.
        ValueError: If the file is no run, or was written by another version.
    """

    def __init__(self, folder: str | Path, *, make: bool = False) -> None:
        self.folder = Path(folder)
        self._lock = threading.RLock()
        self._is_durable = False  # the change under way
        file = self.folder / FILE
        if not make and not file.is_file():
            raise FileNotFoundError(f"There is no run in {self.folder}: `virtue curate build --to DIR` begins one.")
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file; a run is kept in a folder.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(file, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            self._begin()
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ValueError(f"{file} cannot be used as a run of the curation: {error}.") from error
        except ValueError:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; everything has long been written."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """A change: all of it is kept, or, after an exception or a kill, nothing. One inside another is part of it.

        Args:
            durable: Wait until the disk has it, so that a power cut does not lose it either: for what was paid for, and
                for what people did. The outermost change decides.

        Raises:
            RuntimeError: If it is to be durable inside one that is not.
        """
        with self._lock:
            if self._connection.in_transaction:
                if durable and not self._is_durable:
                    raise RuntimeError("A durable change is part of one that is not: make that one durable.")
                yield self._connection
                return
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            self._is_durable = durable
            try:
                yield self._connection
                self._connection.execute("COMMIT")  # fails on a full disk
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        """Undoes the change under way; some failures, such as a full disk, have done so already."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a SELECT."""
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def _begin(self) -> None:
        """Sets the modes, and makes the tables of a new file."""
        self._connection.execute("PRAGMA journal_mode = WAL")
        with self.transaction() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise ValueError(
                    f"The run in {self.folder} has format {version}, this version reads format {VERSION}: "
                    "use the version that began it, or another folder."
                )
