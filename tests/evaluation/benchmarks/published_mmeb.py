"""MMEB in miniature: all 36 tasks in both published layouts, four queries each, about pictures of the drawn world.

All tasks share six pictures and a crop of the first object of each, so whoever embeds them embeds little.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from tests.data.files import write_parquet
from virtue.evaluation.benchmarks.mmeb import MmebTask, mmeb_table
from virtue.scenes.captions import canonical_caption
from virtue.scenes.renderer import scenes

Layout = Literal["newer", "older"]
MARK = "<|image_1|>"
QUERIES = 4
CANDIDATES = 5
SIDE = 96  # pixels
CAPTIONED = {"WebQA", "OVEN", "EDIS"}
"""Whose image candidates have words of their own; so has RefCOCO-Matching, twice for each image."""


@dataclass(frozen=True)
class Picture:
    """One picture, and what is said of it."""

    whole: Image.Image
    crop: Image.Image
    caption: str
    name: str


@cache
def pictures() -> tuple[Picture, ...]:
    """Six pictures whose first objects have different names."""
    found: dict[str, Picture] = {}
    for scene in scenes("test", 0, None, SIDE, SIDE):
        name, whole = scene.objects[0].name, Image.fromarray(scene.image)
        found.setdefault(name, Picture(whole, whole.crop(scene.objects[0].box), canonical_caption(scene), name))
        if len(found) == CANDIDATES + 1:
            break
    return tuple(found.values())


def write_mmeb(folder: Path, layout: Layout = "newer") -> tuple[Path, Path]:
    """Writes the tasks and their images.

    Args:
        folder: Where to.
        layout: "newer" with instructions apart, or "older" with them inside the texts.

    Returns:
        The folder of the tasks and the folder that image paths start from.
    """
    data, images = folder / "data", folder / "images"
    (images / "drawn").mkdir(parents=True)
    for number, picture in enumerate(pictures()):
        picture.whole.save(images / _path(number))
        picture.crop.save(images / _path(number, "crop"))
    for name, task in mmeb_table().items():
        rows = [_row(name, task, number) for number in range(QUERIES)]
        rows = rows if layout == "newer" else [older(row) for row in rows]
        write_parquet(data / name / "test-00000-of-00001.parquet", rows)
    return data, images


def older(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the newer layout as the older one has it."""
    texts = [f"{row['tgt_inst']} {text}".strip() for text in row["tgt_text"]]
    return {
        "qry_text": f"{row['qry_inst']} {row['qry_text']}".strip() + "\n",
        "qry_img_path": row["qry_img_path"],
        "tgt_text": [f"{text}\n" if MARK in text else text for text in texts],
        "tgt_img_path": row["tgt_img_path"],
    }


def _row(name: str, task: MmebTask, number: int) -> dict[str, Any]:
    own = number
    others = [(own + step) % len(pictures()) for step in range(1, CANDIDATES)]  # so each list lacks another picture
    instruction, text = _asked(task, own)
    row = {"qry_inst": instruction, "qry_text": text, "qry_img_path": _path(own), "tgt_inst": ""}
    if task.kind == "text_to_image":
        row["qry_img_path"] = ""
    if task.kind in ("image_to_text", "question"):
        said = [
            pictures()[each].caption if task.meta_task == "retrieval" else pictures()[each].name
            for each in (own, *others)
        ]
        return row | {"tgt_text": said, "tgt_img_path": [""] * len(said)}
    row["tgt_inst"] = f"{MARK}\nRepresent the given image."
    if name == "RefCOCO-Matching":
        return row | dict(zip(("tgt_text", "tgt_img_path"), zip(*_matching(own, others), strict=True), strict=True))
    view = "whole" if task.kind == "text_to_image" else "crop"
    texts = [pictures()[each].name if name in CAPTIONED else "" for each in (own, *others)]
    return row | {"tgt_text": texts, "tgt_img_path": [_path(each, view) for each in (own, *others)]}


def _asked(task: MmebTask, own: int) -> tuple[str, str]:
    """Instruction and text of a query."""
    picture = pictures()[own]
    if task.kind == "text_to_image":
        return "Find me an everyday image that matches the given caption:", picture.caption
    if task.kind == "question":
        return f"{MARK} Represent the given image with the following question:", "What is in front?"
    if task.kind == "image_to_image":
        return f"{MARK} Select the portion of the image that isolates the object:", picture.name
    what = "for classification" if task.meta_task == "classification" else "to find its caption"
    return f"{MARK}\nRepresent the given image {what}", ""


def _matching(own: int, others: list[int]) -> Iterator[tuple[str, str]]:
    """Text and path of candidates: two captions of the query's own image, the true one first, and two of another."""
    for image in (own, others[0]):
        for said in (own, others[0]) if image == own else (others[0], own):
            yield f'"{pictures()[said].name}"', _path(image)


def _path(number: int, view: str = "whole") -> str:
    return f"drawn/{number}-{view}.png"
