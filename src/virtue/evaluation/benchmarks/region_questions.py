"""Questions of region to image in the drawn world: two regions of one picture, and ten pictures for both.

1. The query's picture is a test scene in which two objects, o and its *twin* o', stand on one axis to a third, b, at a
   place p: "o left of b" and "o' right of b". One query points at o, the other at o'; nothing else is said.
2. The candidates are composed anew, the captions' corner design (`scenes.region_captions`) put into pictures: one for
   each of {o, o'} x {r, r'} x {p, p'}, where r' is the opposite of r, and two more with a third object and a third
   relation on a random corner of the rest. Each shows one object in one relation to b at one place, none of the other
   relations between the two, none of the other objects asked about, and up to three bystanders that the query's picture
   does not show.
3. Right is the one picture that holds (o, its relation, b) at p: in another arrangement, size, turn and light.

Both queries have the same ten candidates and different answers. So a model that does not look at the visual prompt
ranks both alike and gets at most one of the two: whatever else it can, its hit@1 is at most 50 %. Exchanging o and o',
r and r', or p and p' maps the ten onto themselves, so whoever sees only them finds the right one in one of eight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count as numbers
from itertools import islice, product
from typing import TypeVar

import numpy as np

from virtue.evaluation.benchmarks.scene_pictures import ScenePicture, relation_axis
from virtue.scenes.composing import Wish
from virtue.scenes.region_captions import Elements, decoy_place
from virtue.scenes.renderer import MAX_OBJECTS, SPLITS, Relation, Scene
from virtue.scenes.vocabulary import (
    OBJECTS,
    PLACES,
    RELATION_AXES,
    RELATIONS,
    object_id,
    opposite,
    place_id,
    relation_id,
)

_Choice = TypeVar("_Choice")

PICTURES = 10
_STREAM = 3  # of a scene's random numbers, beside those that draw, compose and word it


@dataclass(frozen=True, slots=True)
class Question:
    """Two regions of one picture, and ten pictures that are the candidates of both.

    Attributes:
        seed: Of the test scene that holds the regions.
        regions: Which two of its objects are pointed at.
        truths: What is true of each, which is what its right picture shows.
        shown: What each of the ten pictures shows.
        swaps: Of each region, what is swapped in each of the ten pictures: "object", "relation", "scene", and "" for
            the right one.
        wishes: What each of the ten pictures is composed of.
    """

    seed: int
    regions: tuple[int, int]
    truths: tuple[Elements, Elements]
    shown: tuple[Elements, ...]
    swaps: tuple[tuple[str, ...], tuple[str, ...]]
    wishes: tuple[Wish, ...]


def questions(count: int, seed: int = 0) -> list[Question]:
    """The questions of the first test scenes, from `seed` on, that have any.

    Args:
        count: How many; seven scenes of ten have one.
        seed: Not negative.

    Raises:
        ValueError: If the seed is negative.
    """
    asked = (question_of(ScenePicture(number).scene()) for number in numbers(seed))
    return list(islice(filter(None, asked), count))


def question_of(scene: Scene) -> Question | None:
    """The question about one test scene; None where no two objects stand on one axis to a third."""
    rng = np.random.default_rng([SPLITS[scene.split], scene.seed, _STREAM])
    chosen = _choose_twins(scene, rng)
    if chosen is None:
        return None
    regions, truths = chosen
    design = _Design(scene, regions, truths, rng)
    shown = design.pictures()
    coins = rng.integers(2, size=2).tolist()
    swaps = _swaps(truths[0], shown, coins[0]), _swaps(truths[1], shown, coins[1])
    return Question(scene.seed, regions, truths, shown, swaps, tuple(map(design.wish, shown)))


def _choose_twins(scene: Scene, rng: np.random.Generator) -> tuple[tuple[int, int], tuple[Elements, Elements]] | None:
    """Two objects on one axis to a third, each axis as likely as the others where there is a choice."""
    axes = []
    for phrases in RELATION_AXES.values():
        said = [relation for relation in scene.relations if relation[1] in phrases]
        twins = [(a, b) for a in said for b in said if a[2] == b[2] and a[0] != b[0]]
        axes += [twins] if twins else []
    if not axes:
        return None
    axis = axes[int(rng.integers(len(axes)))]
    first, second = axis[int(rng.integers(len(axis)))]
    truths = [_elements(scene, relation) for relation in (first, second)]
    return (first[0], second[0]), (truths[0], truths[1])


def _elements(scene: Scene, relation: Relation) -> Elements:
    """What is said by one of a scene's relations."""
    first, phrase, second = relation
    words = scene.objects[first].name, scene.objects[second].name
    return Elements(object_id(words[0]), relation_id(phrase), object_id(words[1]), place_id(scene.place))


class _Design:
    """The ten pictures of a question: what each shows, and a wish that makes it so."""

    def __init__(
        self, scene: Scene, regions: tuple[int, int], truths: tuple[Elements, Elements], rng: np.random.Generator
    ) -> None:
        self.rng, self.truths = rng, truths
        first, second = truths
        self.reverse = relation_id(opposite(RELATIONS[first.relation]))
        self.place = decoy_place(first, second.object, rng)
        self.third_object = self._third_object(scene, truths)
        self.third_relation = self._third_relation(scene, regions, first)
        taken = {object_id(thing.name) for thing in scene.objects} | {self.third_object}
        self.bystanders = [number for number in range(len(OBJECTS)) if number not in taken]

    def pictures(self) -> tuple[Elements, ...]:
        """What the ten pictures show: eight corners and two on a random corner of the rest; in random order."""
        first, second = self.truths
        objects, relations = (first.object, second.object), (first.relation, self.reverse)
        corners = [Elements(o, r, first.other, p) for o, r, p in product(objects, relations, (first.place, self.place))]
        third_object = replace(self._any(corners), object=self.third_object)
        third_relation = replace(self._any(corners), relation=self.third_relation)
        ten = [*corners, third_object, third_relation]
        return tuple(ten[i] for i in self.rng.permutation(len(ten)))

    def wish(self, shown: Elements) -> Wish:
        """A picture of these elements that shows none of the other ones."""
        asked = (self.truths[0].relation, self.reverse, self.third_relation)
        names = (shown.object, shown.other, *self._some_bystanders())
        return Wish(
            place=PLACES[shown.place],
            names=tuple(OBJECTS[name].name for name in names),
            shown=(OBJECTS[shown.object].name, RELATIONS[shown.relation], OBJECTS[shown.other].name),
            never=tuple(RELATIONS[relation] for relation in asked if relation != shown.relation),
        )

    def _some_bystanders(self) -> list[int]:
        count = int(self.rng.integers(MAX_OBJECTS - 1))
        return [int(name) for name in self.rng.choice(self.bystanders, count, replace=False)]

    def _third_object(self, scene: Scene, truths: tuple[Elements, Elements]) -> int:
        """Another object of the query's picture where there is one, else any that is not there."""
        asked = {truths[0].object, truths[1].object, truths[0].other}
        there = {object_id(thing.name) for thing in scene.objects}
        return self._any(sorted(there - asked) or sorted(set(range(len(OBJECTS))) - there))

    def _third_relation(self, scene: Scene, regions: tuple[int, int], truth: Elements) -> int:
        """A relation of another axis that is true of neither region."""
        other = next(thing.index for thing in scene.objects if object_id(thing.name) == truth.other)
        true = {phrase for i, phrase, j in scene.relations if i in regions and j == other}
        axis = relation_axis(truth.relation)
        return self._any([relation_id(phrase) for phrase in RELATIONS if phrase not in (*true, *RELATION_AXES[axis])])

    def _any(self, choices: Sequence[_Choice]) -> _Choice:
        return choices[int(self.rng.integers(len(choices)))]


_TWOS = ({"or": "object", "rp": "relation", "op": "scene"}, {"op": "object", "or": "relation", "rp": "scene"})


def _swaps(truth: Elements, shown: Sequence[Elements], coin: int) -> tuple[str, ...]:
    """What is swapped in each picture, so that there are three of each kind as among the captions.

    Three pictures have two swaps; each kind gets one of them, and the coin says which.
    """
    kinds = {"": "", "o": "object", "r": "relation", "p": "scene", "orp": "scene", **_TWOS[coin]}
    objects, relations = Counter(own.object for own in shown), Counter(own.relation for own in shown)
    swaps = []
    for own in shown:
        pairs = zip("orp", ("object", "relation", "place"), strict=True)
        differ = "".join(letter for letter, slot in pairs if getattr(truth, slot) != getattr(own, slot))
        third = "object" if objects[own.object] == 1 else "relation" if relations[own.relation] == 1 else ""
        swaps.append(third or kinds[differ])
    return tuple(swaps)


def pictures_of(question: Question) -> list[ScenePicture]:
    """The ten candidates of a question, not yet drawn."""
    return [ScenePicture(PICTURES * question.seed + number, wish) for number, wish in enumerate(question.wishes)]
