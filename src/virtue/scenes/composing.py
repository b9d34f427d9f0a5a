"""Draws a picture of wished contents: these objects in this place, two of them in this relation.

Everything else is left to chance as in `renderer`: the arrangement, sizes, turns and colours, the place's own painting
and the light. A wish is met by drawing arrangements until the relations that follow from the visible boxes are the
wished ones, so among the pictures that meet it none is preferred.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from virtue.scenes.renderer import MAX_OBJECTS, SPLITS, Relation, Scene, Split, check_request, draw
from virtue.scenes.vocabulary import (
    OBJECTS,
    PLACES,
    RELATION_AXES,
    RELATIONS,
    is_held_out_objects,
    is_held_out_pair,
    object_id,
    place_id,
)

Phrases = tuple[str, str, str]

ATTEMPTS = 5000
"""Arrangements that are tried; a wish that is met in one of a thousand is still met nearly always."""

_STREAM = 2  # beside those of `render` (none) and of `captions.caption_rng` (1)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a picture has to show.

    Attributes:
        place: One of the vocabulary's places.
        names: All objects, two to five, each once; the drawing order is left to chance.
        shown: (object, relation, other object), true of the picture.
        never: Relations that must not hold between the same two objects, the object's first.

    Raises:
        ValueError: If a word is unknown, an object occurs twice, or the wish contradicts itself.
    """

    place: str
    names: tuple[str, ...]
    shown: Phrases
    never: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses what no picture can show."""
        known = {word.name for word in OBJECTS}
        unknown = [name for name in self.names if name not in known]
        unknown += [phrase for phrase in (self.shown[1], *self.never) if phrase not in RELATIONS]
        if unknown or self.place not in PLACES:
            raise ValueError(f"{(unknown or [self.place])[0]!r} is not one of the drawn world's words.")
        if len(set(self.names)) < len(self.names) or not 2 <= len(self.names) <= MAX_OBJECTS:
            raise ValueError(f"A picture shows 2 to {MAX_OBJECTS} different objects, not {', '.join(self.names)}.")
        thing, relation, other = self.shown
        if thing == other or not {thing, other} <= set(self.names):
            raise ValueError(f"{' '.join(self.shown)!r} is not about two of the objects {', '.join(self.names)}.")
        if relation in self.never:
            raise ValueError(f"The wish contradicts itself: {relation!r} is both shown and never to be seen.")


def compose(wish: Wish, seed: int, split: Split = "test", width: int = 256, height: int = 256) -> Scene:
    """Draws one picture that meets a wish.

    Args:
        wish: What it has to show.
        seed: Not negative; another seed is another picture of the same contents.
        split: "train" or "test": their random numbers are apart, and training may not show a held-out pair.
        width: Pixels.
        height: Pixels.

    Returns:
        The scene; wish, seed, split and size together draw it again.

    Raises:
        ValueError: If the seed, the split or the size is out of range, a training picture is asked for a pair that is
            held out, or no arrangement of such a size meets the wish.
    """
    check_request(seed, split, width, height)
    if split == "train":
        _refuse_held_out(wish)
    rng = np.random.default_rng([SPLITS[split], seed, _STREAM])
    names = _drawing_order(wish, rng)
    accept = _acceptance(wish, names)
    return draw(
        rng, place_id(wish.place), [object_id(name) for name in names], seed, split, width, height, accept=accept
    )


def holds(scene: Scene, thing: str, relation: str, other: str, place: str) -> bool:
    """Whether a scene shows the object in this relation to the other object at this place.

    Args:
        scene: The scene.
        thing: The object's name.
        relation: One of the vocabulary's relations.
        other: The other object's name.
        place: One of the vocabulary's places.
    """
    names = [own.name for own in scene.objects]
    said = {(names[i], phrase, names[j]) for i, phrase, j in scene.relations}
    return scene.place == place and (thing, relation, other) in said


def _refuse_held_out(wish: Wish) -> None:
    pairs = [(name, wish.place) for name in wish.names if is_held_out_pair(name, wish.place)]
    pairs += [(a, b) for i, a in enumerate(wish.names) for b in wish.names[:i] if is_held_out_objects(a, b)]
    if pairs:
        raise ValueError(f"Training never shows {' with '.join(pairs[0])}: this pair is held out for testing.")


def _drawing_order(wish: Wish, rng: np.random.Generator) -> list[str]:
    """The objects in an order that the wished relation allows: what is in front is drawn later."""
    thing, relation, other = wish.shown
    while True:
        names = [wish.names[i] for i in rng.permutation(len(wish.names))]
        later = names.index(thing) > names.index(other)
        if relation not in RELATION_AXES["depth"] or later == (relation == "in front of"):
            return names


def _acceptance(wish: Wish, names: list[str]) -> Callable[[tuple[Relation, ...]], bool]:
    """Tells whether relations meet the wish, and gives up when too many did not."""
    thing, relation, other = wish.shown
    first, second = names.index(thing), names.index(other)
    attempts = iter(range(ATTEMPTS))

    def accept(relations: tuple[Relation, ...]) -> bool:
        if next(attempts, None) is None:
            unless = f" and not {' or '.join(wish.never)}" if wish.never else ""
            raise ValueError(f"No arrangement shows {' '.join(wish.shown)}{unless}: take another size or seed.")
        said = {phrase for i, phrase, j in relations if (i, j) == (first, second)}
        return relation in said and said.isdisjoint(wish.never)

    return accept
