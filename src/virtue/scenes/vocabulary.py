"""The words of the drawn world, and which pairs of them training never shows.

Objects, places and relations are read from `data/vocabulary.json`; a word's id is its position in `OBJECTS`, `PLACES`
or `RELATIONS`. Two sets of pairs are held out for testing, 15 % of all (object, place) pairs and 15 % of all unordered
(object, object) pairs. Membership is a hash of the two words, so it is the same on every machine and does not change
when words are added.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

HELD_OUT_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class ObjectWord:
    """A noun: its name and the article in front of it ("" for grapes and other words that take none)."""

    name: str
    article: str

    def __str__(self) -> str:
        """The noun phrase, as in "an owl" or "grapes"."""
        return f"{self.article} {self.name}" if self.article else self.name


def _read() -> dict[str, Any]:
    text = files("virtue.scenes").joinpath("data/vocabulary.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


_WORDS = _read()
OBJECTS: tuple[ObjectWord, ...] = tuple(ObjectWord(entry["name"], entry["article"]) for entry in _WORDS["objects"])
PLACES: tuple[str, ...] = tuple(_WORDS["places"])
RELATIONS: tuple[str, ...] = tuple(entry["phrase"] for entry in _WORDS["relations"])

RELATION_AXES = {"sideways": ("left of", "right of"), "upright": ("above", "below"), "depth": ("in front of", "behind")}
"""The two opposite relations of each axis."""

_OPPOSITES: dict[str, str] = {entry["phrase"]: entry["opposite"] for entry in _WORDS["relations"]}
_OBJECT_IDS = {word.name: index for index, word in enumerate(OBJECTS)}
_PLACE_IDS = {place: index for index, place in enumerate(PLACES)}
_RELATION_IDS = {relation: index for index, relation in enumerate(RELATIONS)}

# Other ways to say a relation; each is true whenever the relation is.
RELATION_WORDINGS: dict[str, tuple[str, ...]] = {
    "left of": ("left of", "to the left of", "on the left of", "on the left side of"),
    "right of": ("right of", "to the right of", "on the right of", "on the right side of"),
    "above": ("above", "over", "higher than"),
    "below": ("below", "under", "beneath", "lower than"),
    "in front of": ("in front of", "nearer than", "closer than"),
    "behind": ("behind", "farther than", "further back than"),
}

# Other ways to say a place, and the noun phrase that names the place alone.
PLACE_WORDINGS: dict[str, tuple[str, ...]] = {
    "on a beach": ("on a beach", "on the beach", "at the beach", "on the sand by the sea"),
    "in a forest": ("in a forest", "in the forest", "in the woods", "among trees"),
    "in a desert": ("in a desert", "in the desert", "among sand dunes"),
    "in a city at night": ("in a city at night", "in the city at night", "downtown at night"),
    "on a snowy mountain": ("on a snowy mountain", "in the snowy mountains", "in the snow"),
    "on a kitchen table": ("on a kitchen table", "on the kitchen table", "on a table in a kitchen"),
    "under water": ("under water", "underwater", "under the sea"),
    "in outer space": ("in outer space", "in space", "among the stars"),
    "on a grass field": ("on a grass field", "on the grass", "in a meadow"),
    "on a road": ("on a road", "on the road", "on a highway"),
    "in a living room": ("in a living room", "in the living room", "in a room with a sofa"),
    "at sunset on the sea": ("at sunset on the sea", "on the sea at sunset", "on the water at sunset"),
    "near a volcano": ("near a volcano", "by a volcano", "close to an erupting volcano"),
    "on a court": ("on a court", "on a sports court", "on the court"),
}
PLACE_NOUNS: dict[str, str] = {
    "on a beach": "a beach",
    "in a forest": "a forest",
    "in a desert": "a desert",
    "in a city at night": "a city at night",
    "on a snowy mountain": "a snowy mountain",
    "on a kitchen table": "a kitchen table",
    "under water": "an underwater scene",
    "in outer space": "outer space",
    "on a grass field": "a grass field",
    "on a road": "a road",
    "in a living room": "a living room",
    "at sunset on the sea": "the sea at sunset",
    "near a volcano": "a volcano",
    "on a court": "a court",
}


def opposite(relation: str) -> str:
    """The relation seen from the other object: "left of" for "right of"."""
    return _OPPOSITES[relation]


def object_id(name: str) -> int:
    """Position of an object's name in `OBJECTS`."""
    return _OBJECT_IDS[name]


def relation_id(relation: str) -> int:
    """Position of a relation in `RELATIONS`."""
    return _RELATION_IDS[relation]


def place_id(place: str) -> int:
    """Position of a place in `PLACES`."""
    return _PLACE_IDS[place]


def noun_phrase(name: str) -> str:
    """An object's name with its article: "an owl"."""
    return str(OBJECTS[_OBJECT_IDS[name]])


def _hashed_out(first: str, second: str) -> bool:
    digest = hashlib.blake2b(f"{first}|{second}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < HELD_OUT_SHARE * 2**64


@cache
def held_out_places() -> np.ndarray:
    """Which (object, place) pairs are held out, bool (objects, places)."""
    return np.array([[_hashed_out(word.name, place) for place in PLACES] for word in OBJECTS])


@cache
def held_out_objects() -> np.ndarray:
    """Which (object, object) pairs are held out, symmetric bool (objects, objects) with a false diagonal."""
    table = np.zeros((len(OBJECTS), len(OBJECTS)), dtype=bool)
    for i, a in enumerate(OBJECTS):
        for j, b in enumerate(OBJECTS[:i]):
            table[i, j] = table[j, i] = _hashed_out(*sorted((a.name, b.name)))
    return table


def is_held_out_pair(name: str, place: str) -> bool:
    """Whether training never shows this object in this place."""
    return bool(held_out_places()[_OBJECT_IDS[name], _PLACE_IDS[place]])


def is_held_out_objects(a: str, b: str) -> bool:
    """Whether training never shows these two objects together, in either order."""
    return bool(held_out_objects()[_OBJECT_IDS[a], _OBJECT_IDS[b]])
