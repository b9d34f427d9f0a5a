"""`Row`: one row of a data file, read field by field, so that every complaint names file, row and field."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from virtue.data.pairs import RowError
from virtue.images import ImageError


@dataclass(frozen=True, eq=False)
class Row:
    """What stands in one row.

    Args:
        values: The fields by name; a missing one counts as null.
        where: File and row for messages, rows counted from 1 as a person does: "pairs.jsonl row 17".
    """

    values: Mapping[str, Any]
    where: str

    def error(self, field: str, problem: str) -> RowError:
        """The complaint about a field, to be raised: "pairs.jsonl row 17, field positive.box: must be ..."."""
        return RowError(f"{self.where}, field {field}: {problem}")

    @contextmanager
    def checked(self, field: str) -> Iterator[None]:
        """Turns the ValueErrors of what is made from a field into RowErrors; an ImageError stays what it is."""
        try:
            yield
        except (ImageError, RowError):
            raise
        except ValueError as error:
            raise self.error(field, str(error)) from error

    def text(self, field: str) -> str:
        """A text field; null is empty.

        Raises:
            RowError: If it holds anything but text.
        """
        return self._as_text(field, self.values.get(field))

    def texts(self, field: str) -> list[str]:
        """A field of one text or a list of them; null and "" alone are none, null in a list is "".

        Raises:
            RowError: If it holds anything but text.
        """
        value = self.values.get(field)
        if isinstance(value, list | tuple):
            return [self._as_text(f"{field}[{i}]", entry) for i, entry in enumerate(value)]
        text = self._as_text(field, value)
        return [text] if text else []

    def structure(self, field: str) -> Any:
        """A field of lists or dicts, which may also be written as JSON; null and "" are None.

        Raises:
            RowError: If it is a text that is not JSON.
        """
        value = self.values.get(field)
        if not isinstance(value, str):
            return value
        if not value.strip():
            return None
        try:
            return json.loads(value)
        except ValueError as error:
            raise self.error(field, f"is not JSON: {error}.") from error

    def _as_text(self, field: str, value: object) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.error(field, f"must be text, got {type(value).__name__}.")
        return value


class Rows(Protocol):
    """Rows by number, counted from 0."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def row(self, index: int) -> Row:
        """One of them.

        Raises:
            IndexError: If there is no such row.
            RowError: If it cannot be read at all.
        """
        ...


def check_index(index: int, count: int) -> None:
    """Refuses a row that is not there; without this, `for pair in source` would not end.

    Raises:
        IndexError: If the index is not from 0 to `count` - 1.
    """
    if not 0 <= index < count:
        raise IndexError(f"There is no row {index}: they are numbered from 0 to {count - 1}.")
