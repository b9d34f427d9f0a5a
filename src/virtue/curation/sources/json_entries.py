"""Reads annotation files of gigabytes entry by entry: one entry is in memory at a time.

The files of COCO are objects of long arrays ("images", "annotations"), those of Visual Genome are one long array.
Loaded whole they take some six times their size in memory. Here a file is read once from its start to its end (some 40
MB a second) and the places of entries are noted, 16 bytes for each, so that those of an image are read again when asked
for.

The bytes are decoded as Latin-1 while looking for entries, so that a place in the text is a place in the file; an entry
with letters beyond ASCII is decoded again, as the UTF-8 that it is.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_CHUNK = 1 << 22  # bytes
_LONGEST = 1 << 28  # bytes of one entry, so that a malformed file is not read whole in search of an entry's end
_SPACE = re.compile(r"[ \t\n\r]*")
_AFTER = tuple(" \t\n\r,]}:")  # what may stand behind a value
_MARK = "\xef\xbb\xbf"  # a byte order mark, read as Latin-1


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an array, or another value of the object.

    Args:
        key: Which array of the object; "" where the file is one array.
        value: The entry.
        start: Its first byte in the file.
        length: Its bytes.
    """

    key: str
    value: Any
    start: int
    length: int


def entries(file: str | Path) -> Iterator[Entry]:
    """The entries of a file that is a JSON array, or of all arrays of one that is a JSON object.

    Args:
        file: The file, UTF-8.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, or neither an array nor an object.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    with path.open("rb") as stream:
        scanner = _Scanner(path, stream)
        if scanner.peek() == _MARK[0]:
            scanner.skip(_MARK)
        if scanner.peek() == "[":
            yield from scanner.array("")
        elif scanner.peek() == "{":
            yield from scanner.members()
        else:
            raise scanner.error("it is neither an array in [] nor an object in {}")
        if scanner.peek():
            raise scanner.error("something follows its end")


class EntriesByGroup:
    """Places of entries by what they belong to, such as the image.

    Args:
        file: The file that they are read from.
    """

    def __init__(self, file: str | Path) -> None:
        self._file = Path(file)
        self._places: dict[Hashable, array[int]] = {}

    def add(self, group: Hashable, entry: Entry) -> None:
        """Notes where an entry is."""
        self._places.setdefault(group, array("Q")).extend((entry.start, entry.length))

    def __contains__(self, group: Hashable) -> bool:
        """Whether a group has entries."""
        return group in self._places

    def count(self, group: Hashable) -> int:
        """How many entries a group has."""
        return len(self._places.get(group, ())) // 2

    def groups(self) -> list[Hashable]:
        """The groups, in the order in which they came."""
        return list(self._places)

    def of(self, group: Hashable) -> list[Any]:
        """The entries of a group, in the file's order; none if there is no such group."""
        places = self._places.get(group, ())
        values = []
        with self._file.open("rb") as stream:
            for start, length in zip(places[::2], places[1::2], strict=True):
                stream.seek(start)
                values.append(json.loads(stream.read(length)))
        return values


def index_by(file: str | Path, group: Callable[[dict[str, Any]], object]) -> EntriesByGroup:
    """Places of the entries of a file that is one array, by group; entries that are no objects are passed over.

    Args:
        file: The file.
        group: Gives an entry's group; what is no `as_id` leaves it out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, or neither an array nor an object.
    """
    index = EntriesByGroup(file)
    for entry in entries(file):
        of = as_id(group(entry.value)) if isinstance(entry.value, dict) else None
        if of is not None:
            index.add(of, entry)
    return index


def lists(value: object) -> Sequence[Any]:
    """A list as it is, and nothing for anything else: what strangers wrote in a list's place."""
    return value if isinstance(value, list) else ()


def as_id(value: object) -> int | str | None:
    """A number or text that names something, 7.0 as 7; None for anything else, which may not even have a hash."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


class _Scanner:
    """Goes through a file from its start, with a window of text that is read as it is needed."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path, self._stream = path, stream
        self._decoder = json.JSONDecoder()
        self._text, self._at, self._before = "", 0, 0  # the window, the place in it, and the bytes before it

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_on():
                return ""

    def skip(self, expected: str) -> None:
        """Passes over characters that must come next."""
        for character in expected:
            if self.peek() != character:
                raise self.error(f"{character!r} is expected")
            self._at += 1

    def array(self, key: str) -> Iterator[Entry]:
        """The entries of the array that comes next."""
        self.skip("[")
        while self.peek() != "]":
            yield self._value(key)
            if self.peek() != ",":
                break
            self.skip(",")
        self.skip("]")

    def members(self) -> Iterator[Entry]:
        """The entries of all arrays of the object that comes next, and its other values."""
        self.skip("{")
        while self.peek() != "}":
            key = self._value("").value
            if not isinstance(key, str):
                raise self.error("a name in quotes is expected")
            self.skip(":")
            if self.peek() == "[":
                yield from self.array(key)
            else:
                yield self._value(key)
            if self.peek() != ",":
                break
            self.skip(",")
        self.skip("}")

    def error(self, problem: str) -> ValueError:
        """The complaint about the place that was reached."""
        return ValueError(
            f"{self._path} is not the JSON that is expected: {problem} at byte {self._before + self._at}."
        )

    def _value(self, key: str) -> Entry:
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError:
                raise self.error("it is nested too deeply") from None
            except ValueError:
                if not self._read_on():
                    raise self.error("a value is malformed or cut short") from None
                continue
            # A number at the end of the window may go on behind it, and behind "1." too.
            if self._text[end : end + 1] in _AFTER or not self._read_on():
                break
        raw, start = self._text[self._at : end], self._before + self._at
        if not raw.isascii():
            try:
                value = json.loads(raw.encode("latin-1"))
            except UnicodeDecodeError:
                raise self.error("a value is not in UTF-8") from None
        self._at = end
        return Entry(key, value, start, len(raw))

    def _read_on(self) -> bool:
        """Reads more text, as much as the window holds: a long value is tried again a few times only."""
        if len(self._text) - self._at > _LONGEST:
            raise self.error("a value is malformed or does not end")
        more = self._stream.read(max(_CHUNK, len(self._text) - self._at))
        self._before += self._at
        self._text, self._at = self._text[self._at :] + more.decode("latin-1"), 0
        return bool(more)
