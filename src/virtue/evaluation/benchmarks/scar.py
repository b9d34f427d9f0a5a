"""SCaR: a region of an image against ten captions, one of which is true; the published sets, and any set laid out so.

A set is a Parquet file `SCaR_eval_<set>.parquet`. Its rows are `qry_text` (the instruction, with `<|image_1|>` or not),
`qry_image_path`, `bbox` (XYWH in source pixels, made XYXY here) and `tgt_text`: the true caption, then the wrong ones.
`virtue scenes` writes such a set too. Several rows are about one image, so images are the groups of intervals.

What was swapped in a wrong caption is not written down, but mostly shows: `kinds_of_swaps` says how it is told.

A row is left out, and counted by the reason, when its image is missing or broken, its box is none or reaches out of the
image by more than rounding does, or its captions are none. With wrong captions of the same image, rows are not asked
whose image has no other caption: the set is whole without them, and they are counted apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from virtue.data import annotated
from virtue.data.pairs import RowError
from virtue.data.rows import Row
from virtue.data.tables import Table
from virtue.evaluation.benchmarks.caption_words import caption_words, shared_ends
from virtue.evaluation.benchmarks.distractors import Distractors, RealDistractors, check_distractors
from virtue.evaluation.benchmarks.found_images import FoundImages
from virtue.evaluation.benchmarks.mmeb_texts import scar_text
from virtue.evaluation.benchmarks.sizes import size_word
from virtue.evaluation.tasks import NotMeasured, Task, task_or_not
from virtue.items import Item
from virtue.prompts import as_visual_prompt
from virtue.scenes.region_captions import KINDS

SETS: dict[str, str] = {
    "ADE20K": "ade20k_val",
    "COCO_Stuff": "coco_stuff_val",
    "RefCOCOg": "refcocog_val",
    "RefCOCO_plus": "refcoco_plus_val",
    "VisualGenome": "visualgenome_val",
}
"""The published sets, which make an overall together, and the folder that each one's images are in."""

SWAPS = ("object", "relation", "scene")
BAD_BOX, BAD_CAPTIONS, BEYOND = "with a box that does not fit", "with no captions", "beyond the limit"
ALONE = "whose image has no other caption"

_PREFIX = "SCaR_eval_"
_COLUMNS = ("qry_text", "qry_image_path", "tgt_text", "bbox")
_SCENES = tuple({"place": "scene"}.get(kind, kind) for kind in KINDS)


def scar_tasks(
    folder: str | Path,
    images: str | Path,
    *,
    sets: Sequence[str | Path] | None = None,
    distractors: Distractors = "published",
    instruction: bool = True,
    limit: int | None = None,
    seed: int = 0,
) -> Iterator[Task | NotMeasured]:
    """The tasks of SCaR, each read when it is asked for.

    They are called "scar/ADE20K" and so on; with real distractors "scar-image/ADE20K" and "scar-others/ADE20K", since
    their figures cannot be compared.

    Args:
        folder: Where the Parquet files are.
        images: Where the images are: the folder that holds the sets' folders, or a set's own.
        sets: Names out of `SETS`, names of other sets of the folder, or paths of Parquet files; by default every set
            that the folder has.
        distractors: "published"; "image" for true captions of other regions of the same image, filled up to nine with
            those of other images, asked of rows only whose image has another caption; "others" for true captions of
            other images.
        instruction: Whether queries say what the rows' instructions say. Models of the published figures were told;
            one that was trained to read a region without words, as `nano` was, is misled by them.
        limit: How many rows of each set to take at most; the others count as missing, so that nobody takes the figure
            for that of the set.
        seed: Of real distractors.

    Returns:
        Tasks; what stands for a set of which nothing is left says why.

    Raises:
        FileNotFoundError: If there is no such file, or the folder has none.
        ValueError: If a file is not Parquet or lacks a column, the limit is not positive, or there are no such
            distractors.
    """
    check_distractors(distractors)
    if limit is not None and limit < 1:
        raise ValueError(f"The limit must be at least one row, got {limit}.")
    files = _files(Path(folder), sets)
    reading = _Reading(Path(images), distractors, instruction, limit, seed)
    return (task_or_not(partial(reading.task, file)) for file in files)


def kinds_of_swaps(true: str, false: Sequence[str]) -> list[str]:
    """What was swapped in each wrong caption of a list: "object", "relation", "scene", or "" where it does not show.

    A caption says object, relation, scene, in this order. With three kinds of three, the object was swapped in those
    that share the fewest first words with the true caption, the scene in those that share the fewest last words, the
    relation in the rest: that is sure where both thirds stand out. Where they do not, each is told by `kind_of_swap`.

    Args:
        true: The true caption.
        false: The wrong ones.
    """
    return _sure_kinds(true, false) or [kind_of_swap(true, caption) for caption in false]


def kind_of_swap(true: str, false: str) -> str:
    """What was swapped in one wrong caption, told by where it differs.

    At the start it is "object", at the end "scene", in between "relation"; "" where it differs at both ends or nowhere.
    Articles are passed over. Told from one caption alone this errs where what was swapped shares its outer word with
    the truth, as "kitchen table" does with "picnic table".

    Args:
        true: The true caption.
        false: The wrong one.
    """
    one, other = caption_words(true), caption_words(false)
    first, last = shared_ends(one, other)
    if first == last == 0 or one == other:
        return ""
    return "object" if not first else "relation" if last else "scene"


# One set


@dataclass(frozen=True, eq=False)
class _Region:
    """A row that can be asked."""

    number: int
    query: Item
    image: str
    captions: list[str]  # the true one first
    size: str


@dataclass(frozen=True)
class _Reading:
    """How sets are read, as `scar_tasks` describes it."""

    images: Path
    distractors: Distractors
    instruction: bool
    limit: int | None
    seed: int

    def task(self, file: Path) -> Task:
        """The task of a set."""
        table = Table([file], _COLUMNS, ())
        name, count = file.stem.removeprefix(_PREFIX), min(len(table), self.limit or len(table))
        finder = FoundImages(self.images, SETS.get(name, ""))
        read = [_region(table.row(row), row, finder, self.instruction) for row in range(count)]
        regions = [region for region in read if isinstance(region, _Region)]
        missing = Counter(region for region in read if isinstance(region, str))
        if count < len(table):
            missing[BEYOND] = len(table) - count
        if self.distractors == "published":
            kinds = _kinds(name, [region.captions for region in regions])
            return _made(f"scar/{name}", file.name, regions, kinds, missing, {})
        drawn = _with_real_distractors(table, regions, self.distractors, self.seed)
        excluded = {ALONE: len(regions) - len(drawn)} if len(drawn) < len(regions) else {}
        return _made(f"scar-{self.distractors}/{name}", file.name, drawn, None, missing, excluded)


def _made(
    name: str,
    file: str,
    regions: Sequence[_Region],
    kinds: list[list[str]] | None,
    missing: Mapping[str, int],
    excluded: Mapping[str, int],
) -> Task:
    """The task of regions, each distinct caption a candidate once."""
    places: dict[str, int] = {}
    lists = [
        np.array([places.setdefault(caption, len(places)) for caption in region.captions], dtype=np.intp)
        for region in regions
    ]
    return Task(
        name=name,
        queries=[region.query for region in regions],
        candidates=[Item(text=caption) for caption in places],
        relevant=[listed[:1] for listed in lists],
        lists=lists,
        swaps=kinds and [["", *own] for own in kinds],
        ids=[f"{file} row {region.number + 1}" for region in regions],
        groups=[region.image for region in regions],
        tags={"size": [region.size for region in regions]},
        missing=dict(missing),
        excluded=dict(excluded),
        instructed=True,
    )


def _region(row: Row, number: int, images: FoundImages, instruction: bool) -> _Region | str:
    """A row, or why it cannot be asked."""
    path = row.text("qry_image_path")
    found = images.find(path)
    if isinstance(found, str):
        return found
    file, (width, height) = found
    try:
        box = as_visual_prompt(annotated.box_xywh(row.structure("bbox")), width, height).box
    except ValueError:
        box = None
    if box is None:
        return BAD_BOX
    captions = _captions(row)
    if captions is None:
        return BAD_CAPTIONS
    text = row.text("qry_text") if instruction else ""
    query = Item(text=scar_text(text) if text.strip() else None, image=file, prompt=box)
    return _Region(number, query, path, captions, size_word((box.x1, box.y1, box.x2, box.y2), width * height))


def _captions(row: Row) -> list[str] | None:
    """The captions, the true one first, each once; None where there are not two."""
    try:
        captions = list(dict.fromkeys(row.texts("tgt_text")))
    except RowError:
        return None
    return captions if len(captions) > 1 and all(caption.strip() for caption in captions) else None


def _with_real_distractors(table: Table, regions: list[_Region], kind: Distractors, seed: int) -> list[_Region]:
    rows = [table.row(row) for row in range(len(table))]
    captions = [next(iter(_captions(row) or ()), "") for row in rows]
    real = RealDistractors(captions, [row.text("qry_image_path") for row in rows], seed)
    draw = real.of_image if kind == "image" else real.of_others
    drawn = [(region, draw(region.number)) for region in regions]
    return [
        _Region(region.number, region.query, region.image, [region.captions[0], *wrong], region.size)
        for region, wrong in drawn
        if wrong
    ]


def _files(folder: Path, sets: Sequence[str | Path] | None) -> list[Path]:
    """The Parquet files that are meant, the published ones in their order first.

    Raises:
        FileNotFoundError: If there is no such file, or the folder has none.
    """
    if sets is None:
        known = [folder / f"{_PREFIX}{name}.parquet" for name in SETS]
        files = [file for file in known if file.is_file()]
        files += [file for file in sorted(folder.glob(f"{_PREFIX}*.parquet")) if file not in known]
        if not files:
            raise FileNotFoundError(f"{folder} holds no SCaR set: none of {', '.join(file.name for file in known)}.")
        return files
    files = [Path(name) if str(name).endswith(".parquet") else folder / f"{_PREFIX}{name}.parquet" for name in sets]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"There is no SCaR set {file}.")
    return files


# Kinds of swap


def _kinds(name: str, captions: Sequence[Sequence[str]]) -> list[list[str]] | None:
    """Kinds of swap of all wrong captions of a set; None where not one is known."""
    # `virtue.scenes.write` puts them in the order of `KINDS`.
    if name == "scenes" and all(len(own) == len(_SCENES) + 1 for own in captions):
        return [list(_SCENES) for _ in captions]
    kinds = [kinds_of_swaps(own[0], own[1:]) for own in captions]
    return kinds if any(kind for own in kinds for kind in own) else None


def _sure_kinds(true: str, false: Sequence[str]) -> list[str] | None:
    """Kinds by comparing all wrong captions, as many of each kind; None where they do not stand out."""
    third, rest = divmod(len(false), len(SWAPS))
    if rest or not third:
        return None
    words = caption_words(true)
    first, last = zip(*(shared_ends(words, caption_words(caption)) for caption in false), strict=True)
    by_first = sorted(range(len(false)), key=lambda i: (first[i], -last[i]))
    objects, others = by_first[:third], by_first[third:]
    by_last = sorted(others, key=lambda i: (last[i], -first[i]))
    scenes, relations = by_last[:third], by_last[third:]
    if max(first[i] for i in objects) >= min(first[i] for i in others):
        return None
    if max(last[i] for i in scenes) >= min(last[i] for i in (*relations, *objects)):
        return None
    kinds = dict.fromkeys(objects, "object") | dict.fromkeys(relations, "relation") | dict.fromkeys(scenes, "scene")
    return [kinds[i] for i in range(len(false))]
