"""Whole-image captions and short queries of a scene; region captions are in `region_captions` and offered here too.

Every text is true of its scene by construction. A `Query` also carries what it asks for, so that its truth can be
computed against any other scene: several pictures of one batch may answer "a dog on a beach".
"""

from dataclasses import dataclass

import numpy as np

from virtue.scenes.region_captions import Elements, RegionSample, region_caption, region_samples, reword
from virtue.scenes.renderer import SPLITS, Scene
from virtue.scenes.vocabulary import PLACE_NOUNS, PLACE_WORDINGS, RELATION_WORDINGS, noun_phrase

__all__ = [
    "Elements",
    "Query",
    "RegionSample",
    "canonical_caption",
    "caption_rng",
    "matches",
    "region_caption",
    "region_samples",
    "reword",
    "scene_caption",
    "short_queries",
]

_CAPTION_FORMS = (
    "{objects} {place}",
    "{objects} {place}",
    "a photo of {objects} {place}",
    "a picture of {objects} {place}",
    "there is {objects} {place}",
    "{place} there is {objects}",
    "{place}, {objects}",
    "{objects}, {place}",
)


@dataclass(frozen=True, slots=True)
class Query:
    """A short text and what it asks for: all of these objects, and this place if one is named."""

    text: str
    objects: frozenset[str]
    place: str | None = None


def caption_rng(scene: Scene) -> np.random.Generator:
    """The scene's own stream of random words, the same whenever the scene is evaluated or written."""
    return np.random.default_rng([SPLITS[scene.split], scene.seed, 1])


def matches(query: Query, scene: Scene) -> bool:
    """Whether a scene shows what the query asks for."""
    shown = {thing.name for thing in scene.objects}
    return query.objects <= shown and query.place in (None, scene.place)


def canonical_caption(scene: Scene) -> str:
    """The plain whole-image caption, objects in drawing order: "a cat, a bicycle and an apple on a beach"."""
    return f"{_listed([thing.name for thing in scene.objects])} {scene.place}"


def scene_caption(scene: Scene, rng: np.random.Generator) -> str:
    """A whole-image caption in a random wording: all objects listed in random order, sometimes with a relation."""
    names = [scene.objects[i].name for i in rng.permutation(len(scene.objects))]
    place = _any(PLACE_WORDINGS[scene.place], rng)
    if scene.relations and rng.integers(4) == 0:
        i, relation, j = scene.relations[int(rng.integers(len(scene.relations)))]
        first, second = scene.objects[i].name, scene.objects[j].name
        rest = [name for name in names if name not in (first, second)]
        also = f", with {_listed(rest)}" if rest else ""
        return f"{noun_phrase(first)} {_any(RELATION_WORDINGS[relation], rng)} {noun_phrase(second)}{also} {place}"
    return _any(_CAPTION_FORMS, rng).format(objects=_listed(names), place=place)


def short_queries(scene: Scene, rng: np.random.Generator) -> list[Query]:
    """True short queries of a scene: each object alone in some wordings, pairs of objects, and the place.

    Args:
        scene: The scene.
        rng: Chooses wordings and pairs.

    Returns:
        Four queries for each object, two of pairs, two of the place, in no particular order of importance.
    """
    place = scene.place
    names = [scene.objects[i].name for i in rng.permutation(len(scene.objects))]
    queries = [query for name in names for query in _object_queries(name, place, rng)]
    first, second = names[:2]
    pair = f"{noun_phrase(first)} and {noun_phrase(second)}"
    queries.append(Query(pair, frozenset((first, second))))
    queries.append(Query(f"{pair} {_any(PLACE_WORDINGS[place], rng)}", frozenset((first, second)), place))
    queries.append(Query(f"something {_any(PLACE_WORDINGS[place], rng)}", frozenset(), place))
    queries.append(
        Query(_any((PLACE_NOUNS[place], place, f"a photo of {PLACE_NOUNS[place]}"), rng), frozenset(), place)
    )
    return queries


def _object_queries(name: str, place: str, rng: np.random.Generator) -> list[Query]:
    noun, only = noun_phrase(name), frozenset((name,))
    framed = _any(("a photo of {}", "a picture of {}", "an image with {}", "find {}", "there is {}"), rng)
    return [
        Query(name, only),
        Query(noun, only),
        Query(framed.format(noun), only),
        Query(f"{noun} {_any(PLACE_WORDINGS[place], rng)}", only, place),
    ]


def _listed(names: list[str]) -> str:
    """Noun phrases with commas and a last "and"."""
    nouns = [noun_phrase(name) for name in names]
    return nouns[0] if len(nouns) == 1 else f"{', '.join(nouns[:-1])} and {nouns[-1]}"


def _any(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
