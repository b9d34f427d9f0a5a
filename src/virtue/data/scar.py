"""SCaR: a region of an image and the caption that is true of it; one Parquet file is one source.

A row of SCaR-Train is `qry` (the instruction, with `<|image_1|>` or not), `qry_image_path`, `pos_text`, `bbox` (XYWH in
source pixels, made XYXY here), and where there are any `pos_image_path`, `neg_text`, `neg_image_path` (one or a list)
and `segmentation` (COCO run lengths or polygons, as such or as JSON). The query points with the box, and with the mask
where there is one. A segmentation so small that no pixel of it is set, as COCO has some, is left out; the box remains.

A row of SCaR-Eval is `qry_text`, `qry_image_path`, `bbox` and `tgt_text`: ten captions, the first of them true.
"""

from __future__ import annotations

from pathlib import Path

from virtue.data import annotated
from virtue.data.marked import image_path, marked_item, negatives
from virtue.data.pairs import Pair
from virtue.data.rows import Row
from virtue.data.tables import Table
from virtue.images import image_size
from virtue.items import Item
from virtue.prompts import AnyPrompt

_REQUIRED = ("qry", "qry_image_path", "pos_text", "bbox")
_OPTIONAL = ("pos_image_path", "neg_text", "neg_image_path", "segmentation")
_EVAL = ("qry_text", "qry_image_path", "tgt_text", "bbox")


class ScarTrain:
    """A source of SCaR-Train rows.

    Args:
        parquet: One of its files, such as `SCAR_ADE20K.parquet`.
        images: The folder that the rows' image paths start from. An image is opened only for the size that polygons
            have to fit.

    Attributes:
        name: The file's name without its ending.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not Parquet or lacks a column.
    """

    def __init__(self, parquet: str | Path, images: str | Path) -> None:
        self.name = Path(parquet).stem
        self._images = Path(images)
        self._table = Table([Path(parquet)], _REQUIRED, _OPTIONAL)

    def __len__(self) -> int:
        """Rows of the file."""
        return len(self._table)

    def __getitem__(self, index: int) -> Pair:
        """One pair.

        Raises:
            IndexError: If there is no such row.
            RowError: If the row does not follow the format.
            ImageError: If the image has to be looked at for its size and is missing or broken.
        """
        row = self._table.row(index)
        positive = ("pos_text", row.text("pos_text")), ("pos_image_path", row.text("pos_image_path"))
        return Pair(
            query=_query(row, "qry", self._images),
            positives=(marked_item(row, *positive, self._images),),
            negatives=negatives(row, self._images),
            where=row.where,
        )


class ScarEval:
    """A source of SCaR-Eval rows: the true caption is the positive, the nine others are hard negatives.

    Args:
        parquet: One of its files, such as `SCaR_eval_ADE20K.parquet`.
        images: The folder that the rows' image paths start from.

    Attributes:
        name: The file's name without its ending.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not Parquet or lacks a column.
    """

    def __init__(self, parquet: str | Path, images: str | Path) -> None:
        self.name = Path(parquet).stem
        self._images = Path(images)
        self._table = Table([Path(parquet)], _EVAL, ())

    def __len__(self) -> int:
        """Rows of the file."""
        return len(self._table)

    def __getitem__(self, index: int) -> Pair:
        """One pair.

        Raises:
            IndexError: If there is no such row.
            RowError: If the row does not follow the format.
        """
        row = self._table.row(index)
        captions = row.texts("tgt_text")
        if len(captions) < 2 or not all(caption.strip() for caption in captions):
            raise row.error("tgt_text", f"must hold the true caption and some that are not, got {captions!r}.")
        targets = [marked_item(row, ("tgt_text", caption), ("tgt_text", ""), self._images) for caption in captions]
        return Pair(_query(row, "qry_text", self._images), (targets[0],), tuple(targets[1:]), where=row.where)


def _query(row: Row, field: str, images: Path) -> Item:
    """The region that a row asks about, with the instruction of a field."""
    path = row.text("qry_image_path")
    if not path:
        raise row.error("qry_image_path", "is empty: a region needs an image.")
    image = image_path(row, "qry_image_path", path, images)
    return marked_item(row, (field, row.text(field)), ("qry_image_path", path), images, _region(row, image))


def _region(row: Row, image: Path) -> AnyPrompt:
    """The box of a row, with the mask where there is one."""
    with row.checked("bbox"):
        box = annotated.box_xywh(row.structure("bbox"))
    value = row.structure("segmentation") if "segmentation" in row.values else None
    if not value or value == {"size": None, "counts": None}:  # a null struct, as some writers store it
        return box
    with row.checked("segmentation"):
        mask = annotated.mask(value, lambda: image_size(image))
    return box + mask if mask else box
