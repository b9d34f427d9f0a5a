"""Dataclasses as JSON and back, with what is wrong of a file said by the place where it stands.

In JSON a number that is not known (NaN) is null. A field with a default may be missing from a file, since files may be
older than it; all others have to be there, each of its type.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}


class WrongRecordError(Exception):
    """Says what of a file is not as it should be."""


def to_plain(value: Any) -> Any:
    """What JSON can hold."""
    if is_dataclass(value):
        return {own.name: to_plain(getattr(value, own.name)) for own in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(own) for key, own in value.items()}
    if isinstance(value, list):
        return [to_plain(own) for own in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def written(value: Any, margin: str = "") -> str:
    """JSON that people can look through: a line for a list of numbers or a small object, and for nothing less."""
    inner = margin + " "
    if isinstance(value, dict) and any(isinstance(own, dict | list) for own in value.values()):
        rows = [f"{inner}{json.dumps(key)}: {written(own, inner)}" for key, own in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{margin}}}"
    if isinstance(value, list) and any(isinstance(own, dict) for own in value):
        return "[\n" + ",\n".join(inner + written(own, inner) for own in value) + f"\n{margin}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def read_record(kind: Any, value: Any, place: str) -> Any:
    """A value of a type out of JSON; `place` says where it stands."""
    origin, parts = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        _expect(isinstance(value, dict), place, "an object")
        hints = get_type_hints(kind)
        names = [own.name for own in fields(kind) if own.name in value or _is_needed(own)]
        return kind(**{name: read_record(hints[name], *_entry(value, name, place)) for name in names})
    if origin is list:
        _expect(isinstance(value, list), place, "a list")
        return [read_record(parts[0], own, f"{place}[{number}]") for number, own in enumerate(value)]
    if origin is dict:
        _expect(isinstance(value, dict), place, "an object")
        return {key: read_record(parts[1], own, f"{place}.{key}") for key, own in value.items()}
    known = parts if origin is UnionType else (kind, NoneType) if kind is float else (kind,)
    if type(value) is int and int not in known and float in known:
        value = float(value)
    _expect(type(value) in known, place, " or ".join(_NAMES[own] for own in known))
    _expect(not isinstance(value, float) or math.isfinite(value), place, "finite")
    return math.nan if value is None and kind is float else value


def _is_needed(own: Field[Any]) -> bool:
    """Whether a file has to have it; what came later may be missing from earlier files."""
    return own.default is MISSING and own.default_factory is MISSING


def _entry(value: dict[str, Any], name: str, place: str) -> tuple[Any, str]:
    where = f"{place}.{name}".lstrip(".")
    if name not in value:
        raise WrongRecordError(f"{where} is missing")
    return value[name], where


def _expect(fits: bool, place: str, what: str) -> None:
    if not fits:
        raise WrongRecordError(f"{place or 'the whole'} should be {what}")
