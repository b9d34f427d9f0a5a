"""The file that a run of the curation is kept in: SQLite, written at once, shared by several processes.

`curation.db` is in WAL mode, so the review page reads and writes while a set is being built. Every change is one
transaction that begins as a writer (`BEGIN IMMEDIATE`), waits up to `PATIENCE` for others, and is kept when it ends: a
process killed at any moment leaves all of a change or nothing of it.

Where the folder may not be written to (another person's run, a disk that is mounted read-only), it is opened to be
read. SQLite reads a file in WAL mode beside its `-wal` and `-shm` files, or, where a run was closed and has neither,
with the promise that nobody writes it meanwhile.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

FILE = "curation.db"
VERSION = 2
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

_SINCE_2 = """
CREATE INDEX decisions_reviewer ON decisions (reviewer);
CREATE INDEX decisions_undone ON decisions (number) WHERE undone = 1;
CREATE TABLE tries (region_id TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE rewrites (rank TEXT PRIMARY KEY, region_id TEXT NOT NULL UNIQUE, objection TEXT NOT NULL) WITHOUT ROWID;
"""
"""What a file of format 1 lacks; to be read it needs none of it."""


class Database:
    """A connection that several threads may use.

    Args:
        folder: Of the run.
        make: Make the folder and the file where there is none.

    Attributes:
        folder: Of the run.
        is_readonly: Whether the run may not be written to, so that every change is refused.

    Raises:
        FileNotFoundError: If there is no run, and none is to be made.
        ValueError: If the file is no run, was written by another version, or cannot be read where it may not be written
            to.
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
        self.is_readonly = file.is_file() and not _may_be_written(file)
        if self.is_readonly and make:
            raise ValueError(self._refusal())
        self.folder.mkdir(parents=True, exist_ok=True)
        self._connection = _to_be_read(file) if self.is_readonly else _connected(str(file))
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
            ValueError: If the run may not be written to.
        """
        if self.is_readonly:
            raise ValueError(self._refusal())
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
        """Sets the modes, makes the tables of a new file, and adds what an older one lacks."""
        if self.is_readonly:
            self._check_version(readable=(1, VERSION))
            return
        self._connection.execute("PRAGMA journal_mode = WAL")
        if self._version() == VERSION:
            return
        with self.transaction() as connection:
            self._check_version(readable=(0, 1, VERSION))  # another process may have done it meanwhile
            missing = {0: _SCHEMA + _SINCE_2, 1: _SINCE_2}.get(self._version(), "")
            for statement in missing.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")

    def _version(self) -> int:
        return int(self.rows("PRAGMA user_version")[0][0])

    def _check_version(self, readable: Sequence[int]) -> None:
        if (version := self._version()) not in readable:
            raise ValueError(
                f"The run in {self.folder} has format {version}, this version reads format {VERSION}: "
                "use the version that began it, or another folder."
            )

    def _refusal(self) -> str:
        return f"The run in {self.folder} may be read here and not written to: change its permissions, or copy it."


def _may_be_written(file: Path) -> bool:
    effective = os.access in os.supports_effective_ids
    return all(os.access(path, os.W_OK, effective_ids=effective) for path in (file, file.parent))


def _connected(name: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(name, timeout=PATIENCE, isolation_level=None, check_same_thread=False, uri=uri)


def _to_be_read(file: Path) -> sqlite3.Connection:
    """A connection to a file that may not be written to.

    Raises:
        ValueError: If it has changes beside it that SQLite cannot read there.
    """
    log = file.with_name(f"{file.name}-wal")
    has_changes = log.exists() and log.stat().st_size > 0
    address = file.absolute().as_uri()
    # SQLite leaves out what is in the log if it is told that nobody writes: only without one is that the whole run.
    connection = _connected(f"{address}?mode=ro" if has_changes else f"{address}?immutable=1", uri=True)
    try:
        connection.execute("SELECT COUNT(*) FROM sqlite_master")
    except sqlite3.DatabaseError as error:
        if not has_changes:
            return connection  # whatever it is, `Database` says so
        connection.close()
        raise ValueError(
            f"The run in {file.parent} may not be written to here, and was not closed where it was written last, so it "
            "cannot be read either: open it there once, as by `virtue curate stats`, or make the folder writable."
        ) from error
    return connection
