"""Rows of a JSON Lines file: the places of its lines are noted once, and a row is read from disk when asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from virtue.data.pairs import RowError
from virtue.data.rows import Row, check_index


class JsonLines:
    """The objects of a file with one JSON object per line; blank lines are passed over.

    It can be pickled and forked: no file stays open.

    Args:
        file: The file, UTF-8.

    Raises:
        FileNotFoundError: If there is no such file.
    """

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise FileNotFoundError(f"There is no file {file}.")
        self._file = file
        places: list[int] = []
        lines: list[int] = []
        place = 0
        with file.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    places.append(place)
                    lines.append(number)
                place += len(line)
        self._places = np.array(places, dtype=np.int64)  # in bytes
        self._lines = np.array(lines, dtype=np.int64)  # counted from 1, blank ones too, as an editor shows them

    def __len__(self) -> int:
        """Lines that are not blank."""
        return len(self._places)

    def row(self, index: int) -> Row:
        """One row, counted from 0.

        Raises:
            IndexError: If there is no such row.
            RowError: If the line is not a JSON object.
        """
        check_index(index, len(self))
        where = f"{self._file} row {self._lines[index]}"
        with self._file.open("rb") as stream:
            stream.seek(int(self._places[index]))
            line = stream.readline()
        try:
            values = json.loads(line.decode("utf-8-sig"))  # some editors begin a file with a byte order mark
        except (ValueError, RecursionError) as error:
            raise RowError(f"{where}: not valid JSON: {error}.") from error
        if not isinstance(values, dict):
            raise RowError(f"{where}: must be a JSON object in braces, got {type(values).__name__}.")
        return Row(values, where)
