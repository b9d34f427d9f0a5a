"""The recipes of `virtue train`, all but the bundled model's, which has its own stages (`nano`).

A recipe is data: `--set section.name=value` changes a field, `changed` does it. Its numbers are those of the authors'
released configuration unless its `source` says otherwise: AdamW 2e-5 falling linearly after 200 steps, temperature
0.02, DoRA of rank 8 and alpha 64 on q, k, v, o and down projections, 64 pairs a step (on several cards each of them
has 64). Two things differ on purpose: hard negatives are used where the data has them, and SAM-2 sees its pictures as
it was trained to.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from virtue.data.prompting import Kind
from virtue.training.settings import (
    AdapterSettings,
    ChunkSettings,
    DataSettings,
    LossSettings,
    ModelSettings,
    Recipe,
    RunSettings,
)

RELEASED = "the authors' configs/virtue_train.yaml"
MMEB_SETS = (
    *("ImageNet_1K", "N24News", "HatefulMemes", "VOC2007", "SUN397"),
    *("OK-VQA", "A-OKVQA", "DocVQA", "InfographicsVQA", "ChartQA", "Visual7W"),
    *("VisDial", "CIRR", "VisualNews_t2i", "VisualNews_i2t", "MSCOCO_t2i", "MSCOCO_i2t", "NIGHTS", "WebQA"),
    "MSCOCO",
)
MMEB_TRAIN = tuple(  # each task counts with 50,000 rows at most, as in VLM2Vec's first scripts
    {"kind": "mmeb", "path": f"data/MMEB-train/{name}", "images": "data/MMEB-train/images", "cap": 50_000}
    for name in MMEB_SETS
)
SCAR_SUBSETS = ("ADE20K", "COCO_Stuff", "RefCOCOg", "RefCOCO_plus", "VisualGenome")
SCAR_TRAIN = tuple(
    {"kind": "scar", "path": f"data/SCaR-Train/SCAR_{name}.parquet", "images": "data/SCaR-Train/images"}
    for name in SCAR_SUBSETS
)
VARIED: dict[Kind, float] = {"box": 0.4, "point": 0.2, "points": 0.1, "mask": 0.2, "mixed": 0.1}


def _mmeb(vlm: str, chunks: ChunkSettings) -> Recipe:
    return Recipe(
        summary=f"A new VIRTUE of {vlm} and SAM-2.1 base-plus, trained on MMEB's 20 training tasks.",
        source=RELEASED,
        model=ModelSettings(start=vlm, fresh=True),
        chunks=chunks,
        data=DataSettings(sources=MMEB_TRAIN, workers=4),
        run=RunSettings(steps=2000),
    )


def _scar(start: str, chunks: ChunkSettings) -> Recipe:
    return Recipe(
        summary="1,000 further steps on SCaR-Train, regions by box, clicks and mask, with hard negatives.",
        source=f"{RELEASED} and the paper's '+SCaR-train' rows; prompt kinds and hard negatives are ours",
        model=ModelSettings(start=start),
        chunks=chunks,
        data=DataSettings(sources=SCAR_TRAIN, prompts=VARIED, held_out_share=0.001, hard_negatives=2, workers=4),
        run=RunSettings(steps=1000),
    )


_SMALL = ChunkSettings(queries=4, targets=16, tokens=8192, pictures=2, keep="host")
_LARGE = ChunkSettings(queries=2, targets=8, tokens=4096, pictures=2, keep="host")

RECIPES: dict[str, Recipe] = {
    "virtue-2b-mmeb": _mmeb("Qwen/Qwen2-VL-2B-Instruct", _SMALL),
    "virtue-2b-scar": _scar("runs/virtue-2b-mmeb/model", _SMALL),
    "virtue-7b-mmeb": _mmeb("Qwen/Qwen2-VL-7B-Instruct", _LARGE),
    "virtue-7b-scar": _scar("runs/virtue-7b-mmeb/model", _LARGE),
    "vlm2vec-2b": Recipe(
        summary="The baseline without a segmentation stream: VLM2Vec of Qwen2-VL-2B on MMEB's 20 training tasks.",
        source="VLM2Vec (arXiv 2410.05160), with the steps and rates of the VIRTUE recipes so that they compare",
        model=ModelSettings(start="Qwen/Qwen2-VL-2B-Instruct", sam=None, fresh=True, template="vlm2vec"),
        chunks=_SMALL,
        data=DataSettings(sources=MMEB_TRAIN, workers=4),
        run=RunSettings(steps=2000),
    ),
    "own-pairs": Recipe(
        summary="Goes on with any checkpoint on pairs of your own.",
        source="this project; docs/training.md walks through it",
        model=ModelSettings(start="nano", dtype="float32"),
        adapter=AdapterSettings(dropout=0.0),
        loss=LossSettings(temperature=0.05),
        chunks=ChunkSettings(queries=32, targets=64, pictures=16),
        data=DataSettings(sources=({"kind": "pairs", "path": "pairs.jsonl"},), prompts=VARIED, workers=0),
        run=RunSettings(
            steps=200, batch=32, learning_rate=1e-3, warmup=20, bf16=False, checkpointing=False, save_every=50
        ),
    ),
}
"""Name to recipe; paths are where the data lies below the working folder."""


def changed(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """A recipe with some fields changed.

    Args:
        recipe: Not changed itself.
        settings: Each `section.name=value`, the value as Python writes it (or a bare word), of the field's own type.

    Raises:
        ValueError: If there is no such section or field, or the value is of another type.
    """
    for setting in settings:
        path, equals, text = setting.partition("=")
        section, _, name = path.partition(".")
        sections = [f.name for f in fields(recipe) if is_dataclass(getattr(recipe, f.name))]
        if not equals or section not in sections:
            raise ValueError(
                f"--set {setting}: write section.name=value, with a section of {', '.join(sections)}, as in "
                "--set run.steps=500."
            )
        part = getattr(recipe, section)
        names = [field.name for field in fields(part)]
        if name not in names:
            raise ValueError(f"--set {setting}: {section} has no {name!r}; it has {', '.join(names)}.")
        value = _value(setting, text, getattr(part, name), get_type_hints(type(part))[name])
        recipe = replace(recipe, **{section: replace(part, **{name: value})})
    return recipe


def _value(setting: str, text: str, now: Any, kind: Any) -> Any:
    """What a setting's text means for a field of some type, which holds `now`."""
    words = {"true": True, "false": False, "none": None, "null": None}
    try:
        return _as(words[text] if text in words else ast.literal_eval(text), kind)
    except (ValueError, SyntaxError, TypeError):
        pass
    try:
        return _as(text, kind)  # a bare word
    except TypeError:
        raise ValueError(
            f"--set {setting}: this is {now!r} now, so it takes a value of type {_name(kind)}, not {text!r}."
        ) from None


def _as(value: Any, kind: Any) -> Any:
    """A value as a type has it.

    Raises:
        TypeError: If it is none.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        kind = NoneType if value is None else next(option for option in inner if option is not NoneType)
        return _as(value, kind)
    if origin is Literal:
        fits = value in inner
    elif origin is Sequence and isinstance(value, list | tuple):
        return tuple(_as(each, inner[0]) for each in value)
    elif origin is Mapping and isinstance(value, dict):
        return {_as(key, inner[0]): _as(each, inner[1]) for key, each in value.items()}
    elif kind is float and type(value) is int:
        return float(value)
    else:
        fits = kind is Any or (origin is None and type(value) is kind)  # so that True is no int
    if not fits:
        raise TypeError(kind)
    return value


def _name(kind: Any) -> str:
    """What a message calls a type."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join("None" if option is NoneType else _name(option) for option in inner)
    if origin is Literal:
        return " or ".join(map(repr, inner))
    return {Sequence: "list", Mapping: "dict"}.get(origin, getattr(kind, "__name__", "value"))
