"""What the test server answers: elements, swaps and picks made by simple rules out of the text of a request."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from typing import Any

OBJECTS = (
    "teapot violin ladder anchor candle cactus hammer pumpkin telescope umbrella trumpet barrel wheelbarrow kettle "
    "penguin balloon lantern tractor mushroom helmet"
).split()
RELATIONS = ("left of", "right of", "above", "below", "in front of", "behind", "inside", "far from", "leaning on")
SCENES = (
    "kitchen desert harbour classroom stadium forest church bathroom station glacier vineyard warehouse library "
    "tunnel lighthouse swamp cellar quarry"
).split()


def fields(text: str) -> dict[str, str]:
    """The lines "Name: value" of a request's text part, by name."""
    return dict(match.groups() for match in re.finditer(r"^([A-Z][A-Za-z ]*): (.*)$", text, re.MULTILINE))


def answer(text: str, turns: int) -> dict[str, Any]:
    """What is answered to a request.

    Args:
        text: Its first text part.
        turns: How often it was asked already, so that another answer comes each time.
    """
    known = fields(text)
    if known["Task"] == "elements":
        return _elements(known)
    if known["Task"] == "distractors":
        return _swaps(known, text, random.Random(f"{text}{turns}"))
    return _pick(re.findall(r"^\d+\. (.*)$", text, re.MULTILINE))


def _listed(known: dict[str, str], name: str) -> list[str]:
    return [part.strip() for part in known.get(name, "").split(";") if part.strip()]


def _elements(known: dict[str, str]) -> dict[str, Any]:
    """A fact if there is one, else the place, else what is near."""
    category = known["Category"]
    for fact in _listed(known, "Known to be true"):
        _, relation, other = (part.strip() for part in fact.split(" | "))
        return {"object": category, "relation": relation, "scene": other}
    for place in _listed(known, "Place"):
        if len(place.split()) <= 3:
            return {"object": category, "relation": "in", "scene": place}
    for other in _listed(known, "Other things in the image"):
        if other != category:
            return {"object": category, "relation": "near", "scene": other}
    return {"object": category, "relation": "in", "scene": "a room"}


def _swaps(known: dict[str, str], text: str, rng: random.Random) -> dict[str, Any]:
    """Three of each kind: objects from the picture first, the rest by chance, nothing that the text names as true."""
    taken = {known[name].lower() for name in ("Object", "Relation", "Scene", "Category")}
    taken |= {fact.split(" | ")[1] for fact in _listed(known, "Known to be true")}
    told = " ".join(known.values()).lower()
    near = [other for other in _listed(known, "Other things in the image") if other.lower() not in taken]
    objects = [*near, *rng.sample([word for word in OBJECTS if word not in told], 3)]
    relations = [words for words in RELATIONS if words not in taken]
    scenes = [word for word in SCENES if word not in told]
    swaps = {
        "object": list(dict.fromkeys(objects))[:3],
        "relation": rng.sample(relations, 3),
        "scene": rng.sample(scenes, 3),
    }
    for kind, drawn in swaps.items():  # what it is told that true captions say, where that is not true here
        found = re.search(rf'the {kind}s ((?:"[^"]*"(?:, )?)+)', text)
        examples = [word for word in re.findall(r'"([^"]*)"', found[1]) if word.lower() not in taken] if found else []
        swaps[kind] = [*examples, *(word for word in drawn if word not in examples)][:3]
    return swaps


def _pick(captions: Sequence[str]) -> dict[str, Any]:
    """The caption that has most in common with the others: where each of them changes one element, the true one."""
    words = [set(caption.lower().split()) for caption in captions]
    shared = [sum(len(mine & other) / len(mine | other) for other in words) for mine in words]
    return {"best": shared.index(max(shared)) + 1, "also_true": []}


def malformed(whole: dict[str, Any], rng: random.Random) -> str:
    """Text that is not JSON."""
    return rng.choice([json.dumps(whole)[:-3], "I would rather not say it in JSON.", "{]"])


def misshapen(whole: dict[str, Any], rng: random.Random) -> str:
    """JSON that is not what was asked for."""
    name = rng.choice(sorted(whole))
    return rng.choice([json.dumps({**whole, name: 5.5}), json.dumps({k: v for k, v in whole.items() if k != name})])
