"""MMEB-train: text, an image or both against text, an image or both; and MMEB's evaluation rows, to train on.

Training rows are `qry`, `qry_image_path`, `pos_text`, `pos_image_path`, sometimes `neg_text` and `neg_image_path` (one
or a list). The Hub keeps a folder for each of its sets, with a Parquet file for each split: `original`, and
`diverse_instruction` with the same pairs under other instructions.

Evaluation rows are `qry_text`, `qry_img_path`, `tgt_text`, `tgt_img_path` (lists, the first is true), in the newer
layout with `qry_inst` and `tgt_inst`. The first target becomes the positive, the others hard negatives; an instruction
goes before its text. Which of the two a file holds is told by its columns.

In both, "" means that there is none, and `<|image_1|>` in a text that there is an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from virtue.data.marked import joined, marked_item, marked_items, negatives
from virtue.data.pairs import Pair
from virtue.data.rows import Row
from virtue.data.tables import Table, column_names
from virtue.items import Item

SPLITS = ("original", "diverse_instruction")
_TRAIN = ("qry", "qry_image_path", "pos_text", "pos_image_path")
_TRAIN_OPTIONAL = ("neg_text", "neg_image_path")
_EVAL = ("qry_text", "qry_img_path", "tgt_text", "tgt_img_path")
_EVAL_OPTIONAL = ("qry_inst", "tgt_inst")


class MmebTrain:
    """A source of MMEB rows.

    Args:
        parquet: A Parquet file, several, or a folder: that of one set, or that of all sets.
        images: The folder that the rows' image paths start from.
        split: Which files of a folder are read: those whose names start with it; None for all.

    Attributes:
        name: The folder's name, or the file's name after its folder's.

    Raises:
        FileNotFoundError: If a file is missing or the folder has none of the split.
        ValueError: If a file is not Parquet or lacks a column, or there is no file.
    """

    def __init__(
        self, parquet: str | Path | Sequence[str | Path], images: str | Path, split: str | None = "original"
    ) -> None:
        files, self.name = _files(parquet, split)
        self._images = Path(images)
        self._is_eval = "tgt_text" in column_names(files[0])
        columns = (_EVAL, _EVAL_OPTIONAL) if self._is_eval else (_TRAIN, _TRAIN_OPTIONAL)
        self._table = Table(files, *columns)

    def __len__(self) -> int:
        """Rows of all its files."""
        return len(self._table)

    def __getitem__(self, index: int) -> Pair:
        """One pair.

        Raises:
            IndexError: If there is no such row.
            RowError: If the row does not follow the format.
        """
        row = self._table.row(index)
        return self._eval_pair(row) if self._is_eval else self._train_pair(row)

    def _train_pair(self, row: Row) -> Pair:
        return Pair(
            query=self._item(row, "qry", "qry_image_path"),
            positives=(self._item(row, "pos_text", "pos_image_path"),),
            negatives=negatives(row, self._images),
            where=row.where,
        )

    def _eval_pair(self, row: Row) -> Pair:
        targets = marked_items(row, "tgt_text", "tgt_img_path", self._images, row.text("tgt_inst"))
        if not targets or targets[0] is None:
            raise row.error("tgt_text", "has no first target, which is the true one.")
        return Pair(
            query=self._item(row, "qry_text", "qry_img_path", row.text("qry_inst")),
            positives=(targets[0],),
            negatives=tuple(target for target in targets[1:] if target is not None),
            where=row.where,
        )

    def _item(self, row: Row, text: str, path: str, instruction: str = "") -> Item:
        return marked_item(row, (text, joined(instruction, row.text(text))), (path, row.text(path)), self._images)


def _files(parquet: str | Path | Sequence[str | Path], split: str | None) -> tuple[list[Path], str]:
    """The files to read, and what to call them."""
    if not isinstance(parquet, str | Path):
        files = [Path(file) for file in parquet]
        if not files:
            raise ValueError("An MMEB source needs at least one Parquet file, got none.")
        return files, _file_name(files[0])
    path = Path(parquet)
    if not path.is_dir():
        return [path], _file_name(path)
    found = sorted(path.rglob("*.parquet"))
    files = [file for file in found if split is None or file.name.startswith(split)]
    if not files:
        there = f"; it has {', '.join(sorted({file.name for file in found}))}" if found else ""
        wanted = "Parquet file" if split is None else f"Parquet file of the split {split!r}"
        raise FileNotFoundError(f"There is no {wanted} in {path}{there}.")
    return files, path.name


def _file_name(file: Path) -> str:
    """The file's name after its folder's: every set's files are named alike."""
    return "/".join(part for part in (file.parent.name, file.stem) if part)
