"""Writes files in the published layout of SCaR, with images, for tests of what reads them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.curation.made import region, sample

TEN = [(made := sample(region(0))).caption, *(distractor.text for distractor in made.distractors)]


def eval_row(image: str, **changes: object) -> dict[str, object]:
    """A good row to measure on."""
    row: dict[str, object] = {
        "qry_text": "<|image_1|>\nDescribe the region.",
        "qry_image_path": image,
        "tgt_text": list(TEN),
        "bbox": [4.0, 4.0, 36.0, 26.0],
    }
    return row | changes


def train_row(image: str, **changes: object) -> dict[str, object]:
    """A good row to train on."""
    row: dict[str, object] = {
        "qry": "<|image_1|>\nDescribe the region.",
        "qry_image_path": image,
        "pos_text": TEN[0],
        "neg_text": list(TEN[1:]),
        "bbox": [4.0, 4.0, 36.0, 26.0],
        "segmentation": None,
        "category": "dog",
        "image_id": "285",
    }
    return row | changes


def write(file: Path, *rows: dict[str, object]) -> Path:
    """Writes rows to a Parquet file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), file)
    return file


def picture(file: Path, width: int = 64, height: int = 48) -> Path:
    """Writes a grey image."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (99, 99, 99)).save(file)
    return file
