"""Rows of Parquet files, one file or several as one table, read when asked for and kept in bounded memory.

Opening reads the files' footers only. A row is read with its whole row group, and the last used groups are kept up to
`CACHE_BYTES` per table and process: texts fit whole, files with pictures inside do not and stay bounded. A table can be
pickled and forked: no file stays open, and what is kept is not sent along.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from virtue.data.rows import Row, check_index

CACHE_BYTES = 1 << 30


class Table:
    """The rows of Parquet files, one file after the other.

    Args:
        files: The files, at least one.
        required: Columns that every file has to have.
        optional: Further columns to read where there are any; None for all there are.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is not Parquet, or a required column is missing.
    """

    def __init__(
        self, files: Sequence[Path], required: Collection[str] = (), optional: Collection[str] | None = None
    ) -> None:
        self._files = list(files)
        self._columns: list[list[str]] = []  # to read, of each file
        self._groups: list[tuple[int, int, int]] = []  # file, row group, first row within the file
        sizes: list[int] = []
        for number, file in enumerate(self._files):
            metadata, names = _footer(file)
            _check_columns(file, names, required)
            self._columns.append([name for name in names if optional is None or name in {*required, *optional}])
            first = 0
            for group in range(metadata.num_row_groups):
                self._groups.append((number, group, first))
                sizes.append(metadata.row_group(group).num_rows)
                first += sizes[-1]
        self._ends = np.cumsum(sizes, dtype=np.int64)  # of the row groups, within the table
        self._forget()

    @property
    def columns(self) -> frozenset[str]:
        """The columns that are read from every file."""
        return frozenset.intersection(*map(frozenset, self._columns))

    def __len__(self) -> int:
        """Rows of all files together."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def row(self, index: int) -> Row:
        """One row, counted from 0.

        Raises:
            IndexError: If there is no such row.
            ValueError: If the file cannot be read.
        """
        check_index(index, len(self))
        group = int(np.searchsorted(self._ends, index, side="right"))
        inside = index - (int(self._ends[group - 1]) if group else 0)
        values: dict[str, Any] = self._group(group).slice(inside, 1).to_pylist()[0]
        number, _, first = self._groups[group]
        return Row(values, f"{self._files[number]} row {first + inside + 1}")

    def _group(self, index: int) -> Any:
        """A row group as a pyarrow table."""
        with self._lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
            number, group, _ = self._groups[index]
            file = self._files[number]
            try:
                # Without pyarrow's threads, which a forked process does not have.
                table = pq.ParquetFile(file).read_row_group(group, columns=self._columns[number], use_threads=False)
            except (pa.ArrowException, OSError) as error:
                raise ValueError(f"{file} cannot be read any more: {error}") from error
            self._cache[index] = table
            self._bytes += table.nbytes
            while self._bytes > CACHE_BYTES and len(self._cache) > 1:
                self._bytes -= self._cache.popitem(last=False)[1].nbytes
            return table

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, Any] = OrderedDict()
        self._bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_cache", "_bytes")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()


def column_names(file: Path) -> list[str]:
    """The columns of a Parquet file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not Parquet.
    """
    return _footer(file)[1]


def _footer(file: Path) -> tuple[Any, list[str]]:
    """Metadata and column names."""
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}.")
    try:
        with pq.ParquetFile(file) as parquet:
            return parquet.metadata, list(parquet.schema_arrow.names)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} is not a Parquet file: {error}") from error


def _check_columns(file: Path, names: list[str], required: Collection[str]) -> None:
    for name in required:
        if name not in names:
            raise ValueError(f"{file} has no column {name!r}; its columns are {', '.join(names)}.")
