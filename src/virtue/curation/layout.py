"""The published layout of SCaR: which files a set has, what their columns are, and how a sample becomes a row.

    SCaR_eval_<source>.parquet   qry_text, qry_image_path, tgt_text (ten, the true one first), bbox
    SCAR_<source>.parquet        qry, qry_image_path, pos_text, pos_image_path, neg_text (nine), neg_image_path, bbox,
                                 segmentation (run lengths as JSON, or null), category, image_id
    images/<source>_val/...      images of the first, paths in it start behind `images/`
    images/<source>_train/...    images of the second

Boxes are XYWH in source pixels, as the published files have them. What those do not say stands in a file of its own,
`provenance.parquet`: of each row which region it came from, what was swapped, who wrote and who accepted it.
`export.json` says what was exported and how.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import pyarrow as pa

from virtue.curation.samples import Sample
from virtue.data.marked import MARK
from virtue.templates import DESCRIBE_BOX

Split = Literal["train", "eval"]

SPLITS: tuple[Split, ...] = ("eval", "train")

QUERY = f"{MARK}\n{DESCRIBE_BOX}"
IMAGES, PROVENANCE, MANIFEST = "images", "provenance.parquet", "export.json"

_TEXTS, _FLOATS = pa.list_(pa.string()), pa.list_(pa.float64())
SCHEMAS: dict[Split, pa.Schema] = {
    "eval": pa.schema(
        {"qry_text": pa.string(), "qry_image_path": pa.string(), "tgt_text": _TEXTS, "bbox": _FLOATS},
    ),
    "train": pa.schema(
        {
            "qry": pa.string(),
            "qry_image_path": pa.string(),
            "pos_text": pa.string(),
            "pos_image_path": pa.string(),
            "neg_text": _TEXTS,
            "neg_image_path": _TEXTS,
            "bbox": _FLOATS,
            "segmentation": pa.string(),
            "category": pa.string(),
            "image_id": pa.string(),
        }
    ),
}
"""Columns of the files of each split."""

PROVENANCE_SCHEMA = pa.schema(
    {
        "file": pa.string(),
        "row": pa.int64(),
        "region": pa.string(),
        "image_id": pa.string(),
        "object": pa.string(),
        "relation": pa.string(),
        "scene": pa.string(),
        "swaps": _TEXTS,
        "writer": pa.string(),
        "instructions": pa.string(),
        "attempts": pa.int64(),
        "reviewers": _TEXTS,
        "edited": pa.bool_(),
    }
)

_UNSAFE = re.compile(r"\W+")


def safe_names(sources: Iterable[str]) -> dict[str, str]:
    """What each source is called in names of files and of the parts that `datasets` knows: a word without spaces.

    Args:
        sources: As regions name them.

    Raises:
        ValueError: If two would be called the same, where capitals count for nothing, as on some disks.
    """
    names: dict[str, str] = {}
    taken: dict[str, str] = {}
    for source in sources:
        names[source] = _UNSAFE.sub("_", source) or "_"
        if names[source] == "all":  # means all parts together
            names[source] = "all_"
        other = taken.setdefault(names[source].lower(), source)
        if other != source:
            raise ValueError(
                f"Sources {other!r} and {source!r} would share the files of {names[source]!r}: rename one."
            )
    return names


def parquet_name(name: str, split: Split) -> str:
    """The file of a source's split.

    Args:
        name: Of the source, as `safe_names` gives it.
        split: Which.
    """
    return f"SCaR_eval_{name}.parquet" if split == "eval" else f"SCAR_{name}.parquet"


def image_folder(name: str, split: Split) -> str:
    """The folder of the images of a source's split, as in "coco_stuff_val".

    Args:
        name: Of the source, as `safe_names` gives it.
        split: Which.
    """
    return f"{name.lower()}_{'val' if split == 'eval' else 'train'}"


def row(sample: Sample, split: Split, image_path: str) -> dict[str, Any]:
    """A sample as a row of the published layout.

    Args:
        sample: The sample.
        split: Which file it goes to.
        image_path: Its image, as the row names it.
    """
    true, *false = sample.captions
    region = sample.region
    box = [region.box.x1, region.box.y1, region.box.x2 - region.box.x1, region.box.y2 - region.box.y1]
    bbox = [float(number) for number in box]
    if split == "eval":
        return {"qry_text": QUERY, "qry_image_path": image_path, "tgt_text": [true, *false], "bbox": bbox}
    return {
        "qry": QUERY,
        "qry_image_path": image_path,
        "pos_text": true,
        "pos_image_path": "",
        "neg_text": false,
        "neg_image_path": [""] * len(false),  # loaders of the published form read the two lists side by side
        "bbox": bbox,
        "segmentation": json.dumps(region.segmentation) if region.segmentation else None,
        "category": region.category,
        "image_id": region.image_id,
    }


def provenance(sample: Sample, file: str, number: int, reviewers: Sequence[str], edited: bool) -> dict[str, Any]:
    """Where a row came from.

    Args:
        sample: The sample, as it went into the row.
        file: Name of the row's file.
        number: Of the row, from 1.
        reviewers: Who accepted it.
        edited: Whether one of them changed a caption.
    """
    return {
        "file": file,
        "row": number,
        "region": sample.region.id,
        "image_id": sample.region.image_id,
        **sample.elements.to_json(),
        "swaps": [distractor.kind for distractor in sample.distractors],
        "writer": sample.writer,
        "instructions": sample.instructions,
        "attempts": sample.attempts,
        "reviewers": list(reviewers),
        "edited": edited,
    }
