"""Small data files that tests write."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from virtue.data.pairs import Pair
from virtue.items import Item


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], group: int = 2) -> Path:
    """Rows as Parquet, `group` of them in each row group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path, row_group_size=group)
    return path


def write_lines(path: Path, rows: Sequence[object]) -> Path:
    """Rows as JSON Lines; a str is written as it stands."""
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def write_image(path: Path, width: int = 8, height: int = 6, orientation: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (width, height), "teal").save(path, exif=exif)
    return path


class Numbers:
    """A source whose pair number i says "name i"."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self.count = name, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> Pair:
        if not 0 <= row < self.count:
            raise IndexError(row)
        return Pair(Item(text=f"{self.name} {row}"), (Item(text="yes"),), where=f"{self.name} row {row + 1}")
