"""Sources of pairs out of plain settings, as a recipe or the command line gives them.

    {"kind": "scar", "path": "SCaR/SCAR_ADE20K.parquet", "images": "SCaR/images"}
    {"kind": "scar-eval", "path": "SCaR/SCaR_eval_ADE20K.parquet", "images": "SCaR/images"}
    {"kind": "mmeb", "path": "MMEB-train/HatefulMemes", "images": "MMEB-train/images", "split": "original"}
    {"kind": "pairs", "path": "pairs.jsonl"}
    {"kind": "datasets", "name": "sentence-transformers/all-nli", "config": "triplet"}
    {"kind": "scenes", "count": 10000}

What else each kind takes are the arguments of its function below. `weight` and `cap` are those of a mixture's part.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from virtue.data.mixture import Part
from virtue.data.mmeb import MmebTrain
from virtue.data.own import OwnPairs, from_datasets
from virtue.data.pairs import Source
from virtue.data.scar import ScarEval, ScarTrain
from virtue.scenes.region_captions import Wordings
from virtue.scenes.renderer import Split
from virtue.training.scene_pairs import ScenePairs

_SCAR_HELP = "SCaR-Train is on the Hub as the data set Sony/SCaR-Train; its images come from the sets it was made of"
_SCAR_EVAL_HELP = "SCaR-Eval is on the Hub as the data set Sony/SCaR-Eval; its images come from the sets it was made of"
_MMEB_HELP = "MMEB-train is on the Hub as the data set TIGER-Lab/MMEB-train; its images are archives to unpack"
_OWN_HELP = "virtue.data.own says how own pairs are written"


def open_source(spec: Mapping[str, Any]) -> Source:
    """The source that some settings describe.

    Args:
        spec: "kind" and the arguments of that kind.

    Raises:
        ValueError: If the kind or an argument is unknown, an argument is missing, or the source refuses it.
        FileNotFoundError: If a file or folder is missing; the message says where to get it.
        ModuleNotFoundError: If the kind needs a package that is not installed.
    """
    given = dict(spec)
    kind = given.pop("kind", None)
    if kind not in SOURCES:
        fault = "A source needs a kind" if kind is None else f"There is no kind of source {kind!r}"
        raise ValueError(f"{fault}; there are {', '.join(SOURCES)}.")
    arguments = inspect.signature(SOURCES[kind]).parameters
    for key in given:
        if key not in arguments:
            raise ValueError(f"A source of kind {kind!r} has no {key!r}; it takes {', '.join(arguments)}.")
    for key, argument in arguments.items():
        if argument.default is inspect.Parameter.empty and key not in given:
            raise ValueError(f"A source of kind {kind!r} needs {key!r}; it takes {', '.join(arguments)}.")
    return SOURCES[kind](**given)


def open_part(spec: Mapping[str, Any]) -> Part:
    """A mixture's part: a source's settings, with `weight` and `cap` among them where they are wanted.

    Raises:
        ValueError: As `open_source`, or if weight or cap is not a positive number.
        FileNotFoundError: As `open_source`.
        ModuleNotFoundError: As `open_source`.
    """
    given = dict(spec)
    weight, cap = given.pop("weight", None), given.pop("cap", None)
    try:
        weight = None if weight is None else float(weight)
    except (TypeError, ValueError):
        raise ValueError(f"weight must be a number, got {weight!r}.") from None
    return Part(open_source(given), weight, None if cap is None else _whole("cap", cap))


def _scar(path: str | Path, images: str | Path) -> Source:
    return ScarTrain(_file(path, _SCAR_HELP), _folder(images, _SCAR_HELP))


def _scar_eval(path: str | Path, images: str | Path) -> Source:
    return ScarEval(_file(path, _SCAR_EVAL_HELP), _folder(images, _SCAR_EVAL_HELP))


def _mmeb(path: str | Path | Sequence[str | Path], images: str | Path, split: str | None = "original") -> Source:
    paths = [path] if isinstance(path, str | Path) else path
    for one in paths:
        if not Path(one).is_dir():
            _file(one, _MMEB_HELP)
    return MmebTrain(path, _folder(images, _MMEB_HELP), split)


def _pairs(path: str | Path, images: str | Path | None = None) -> Source:
    return OwnPairs(_file(path, _OWN_HELP), None if images is None else _folder(images, _OWN_HELP))


def _datasets(
    name: str,
    split: str = "train",
    images: str | Path = ".",
    columns: Mapping[str, str] | None = None,
    config: str | None = None,
) -> Source:
    return from_datasets(name, split, _folder(images, _OWN_HELP), columns, config)


def _scenes(
    count: int,
    start: int = 0,
    split: Split = "train",
    wordings: Wordings = "canonical",
    size: Sequence[int] = (256, 256),
    objects: Collection[str] | None = None,
) -> Source:
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise ValueError(f"size must be [width, height], got {size!r}.")
    width, height = (_whole("size", side) for side in size)
    return ScenePairs(_whole("count", count), _whole("start", start), split, wordings, (width, height), objects)


SOURCES: dict[str, Callable[..., Source]] = {
    "scar": _scar,
    "scar-eval": _scar_eval,
    "mmeb": _mmeb,
    "pairs": _pairs,
    "datasets": _datasets,
    "scenes": _scenes,
}


def _file(path: str | Path, where_from: str) -> Path:
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}. {where_from}.")
    return Path(path)


def _folder(path: str | Path, where_from: str) -> Path:
    if not Path(path).is_dir():
        raise FileNotFoundError(f"There is no folder {path}. {where_from}.")
    return Path(path)


def _whole(name: str, value: object) -> int:
    """A whole number, which the command line gives as text."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, got {value!r}.")
    return value
