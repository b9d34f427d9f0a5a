"""Ten captions for a pointed-at object: one is true, and only a look at the visual prompt tells which.

A caption says "{object} {relation} {other object} {place}". Nine distractors come with it: three swap the object, three
the relation, three the place. If each changed one word of the true caption, the true one would be the centre of the
ten, and taking the commonest word of every slot would find it without seeing the picture. So:

1. One decoy is drawn for each slot: another object o' (one of the picture where there is one, by preference one that
   really stands in the relation, or its opposite, to the same other object), the opposite relation r', another place
   p'.
2. The eight captions {o, o'} x {r, r'} x {p, p'} are one true caption and seven distractors: o', r' and p' swapped
   alone, in twos, and all three. Every value occurs four times and any of the eight could be the true one: exchanging
   o and o', r and r', or p and p' maps the eight onto themselves.
3. Two more captions bring a third object and a third relation. They sit on a random corner of the other slots, so they
   point at no corner.
4. A decoy is held out of training exactly where the true word is, so the held-out pairs tell nothing either.

Whoever sees only the ten captions can do no better than one in eight (12.5 %); `guesser` measures it. The kinds:
"object" is o' alone, one of the twos, and the third object; "relation" is r' alone, one of the twos, and the third
relation; "place" is p' alone, one of the twos, and all three. A distractor always differs from the truth in the slot
that its kind names.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from virtue.scenes.renderer import Relation, Scene
from virtue.scenes.vocabulary import (
    OBJECTS,
    PLACE_WORDINGS,
    PLACES,
    RELATION_AXES,
    RELATION_WORDINGS,
    RELATIONS,
    held_out_objects,
    held_out_places,
    object_id,
    opposite,
    place_id,
    relation_id,
)

Kind = Literal["object", "relation", "place"]
Wordings = Literal["canonical", "varied"]

KINDS: tuple[Kind, ...] = ("object",) * 3 + ("relation",) * 3 + ("place",) * 3
_FORMS = (
    "{object} {relation} {other} {place}",
    "{object} {relation} {other}, {place}",
    "a photo of {object} {relation} {other} {place}",
    "{place}, {object} {relation} {other}",
    "{object} that is {relation} {other} {place}",
    "{place} there is {object} {relation} {other}",
)


@dataclass(frozen=True, slots=True)
class Elements:
    """What a region caption says, as ids into the vocabulary."""

    object: int
    relation: int
    other: int
    place: int


@dataclass(frozen=True, slots=True)
class RegionSample:
    """A pointed-at object, its true caption and nine distractors.

    Attributes:
        object_index: Which object of the scene is pointed at.
        caption: The true caption.
        distractors: Nine false ones: three object, three relation, three place swaps.
        kinds: The swap of each distractor, always `KINDS`.
        elements: What the true caption says.
        distractor_elements: What each distractor says.
    """

    object_index: int
    caption: str
    distractors: tuple[str, ...]
    kinds: tuple[Kind, ...]
    elements: Elements
    distractor_elements: tuple[Elements, ...]


def region_samples(scene: Scene, rng: np.random.Generator, wordings: Wordings = "canonical") -> list[RegionSample]:
    """One sample for each object that stands in some relation to another, in drawing order.

    Args:
        scene: The scene.
        rng: Chooses relations, decoys and wordings.
        wordings: "canonical" for SCaR's form only, "varied" for paraphrases, each caption worded on its own.

    Returns:
        At most one sample per object.
    """
    samples = []
    for index in range(len(scene.objects)):
        said = [relation for relation in scene.relations if relation[0] == index]
        if not said:
            continue
        relation = _choose_relation(said, rng)
        truth = Elements(
            object_id(scene.objects[index].name),
            relation_id(relation[1]),
            object_id(scene.objects[relation[2]].name),
            place_id(scene.place),
        )
        distractors = _distractors(scene, relation, truth, rng)
        texts = [region_caption(elements, rng, wordings) for elements in (truth, *distractors)]
        samples.append(RegionSample(index, texts[0], tuple(texts[1:]), KINDS, truth, distractors))
    return samples


def reword(sample: RegionSample, rng: np.random.Generator) -> RegionSample:
    """The same sample with every caption paraphrased on its own."""
    texts = [region_caption(elements, rng, "varied") for elements in (sample.elements, *sample.distractor_elements)]
    return replace(sample, caption=texts[0], distractors=tuple(texts[1:]))


def region_caption(elements: Elements, rng: np.random.Generator | None = None, wordings: Wordings = "canonical") -> str:
    """Puts elements into words.

    Args:
        elements: What to say.
        rng: Chooses the words of a varied wording.
        wordings: "canonical" for "{object} {relation} {other} {place}", "varied" for a random paraphrase.

    Returns:
        The caption.

    Raises:
        ValueError: If a varied wording is asked for without a random generator.
    """
    relation, place, form = RELATIONS[elements.relation], PLACES[elements.place], _FORMS[0]
    if wordings == "varied":
        if rng is None:
            raise ValueError("a varied wording needs a random generator (rng)")
        form = _any(_FORMS, rng)
        relation, place = _any(RELATION_WORDINGS[relation], rng), _any(PLACE_WORDINGS[place], rng)
    words = {"object": str(OBJECTS[elements.object]), "other": str(OBJECTS[elements.other])}
    return form.format(relation=relation, place=place, **words)


def _any(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _choose_relation(said: list[Relation], rng: np.random.Generator) -> Relation:
    """A random relation, each axis (sideways, up and down, depth) as likely as the others where there is a choice."""
    axes = [[relation for relation in said if relation[1] in axis] for axis in RELATION_AXES.values()]
    axes = [axis for axis in axes if axis]
    axis = axes[int(rng.integers(len(axes)))]
    return axis[int(rng.integers(len(axis)))]


def _distractors(scene: Scene, relation: Relation, truth: Elements, rng: np.random.Generator) -> tuple[Elements, ...]:
    """The nine distractors in the order of `KINDS`; the module says how they are built."""
    decoys = _decoy_objects(scene, relation, truth, rng)
    reverse = relation_id(opposite(relation[1]))
    place = decoy_place(truth, decoys[0], rng)

    def corner(swap_object: bool, swap_relation: bool, swap_place: bool) -> Elements:
        return Elements(
            decoys[0] if swap_object else truth.object,
            reverse if swap_relation else truth.relation,
            truth.other,
            place if swap_place else truth.place,
        )

    object_relation, object_place = corner(True, True, False), corner(True, False, True)
    relation_place, everything = corner(False, True, True), corner(True, True, True)
    twos = [object_relation, relation_place, object_place]
    if rng.integers(2):
        twos = [object_place, object_relation, relation_place]
    coins = rng.integers(2, size=4).astype(bool).tolist()
    third_object = replace(corner(False, coins[0], coins[1]), object=decoys[1])
    third_relation = replace(corner(coins[2], False, coins[3]), relation=_third_relation(scene, relation, rng))
    return (
        *(corner(True, False, False), twos[0], third_object),
        *(corner(False, True, False), twos[1], third_relation),
        *(corner(False, False, True), twos[2], everything),
    )


def _decoy_objects(scene: Scene, relation: Relation, truth: Elements, rng: np.random.Generator) -> list[int]:
    """Two other objects, best first: really so related to the other object, else in the picture, else absent ones."""
    index, phrase, other = relation
    related = {i for i, said, j in scene.relations if j == other and said in (phrase, opposite(phrase))}
    present = [int(i) for i in rng.permutation(len(scene.objects)) if i not in (index, other)]
    present.sort(key=lambda i: i not in related)
    chosen = [object_id(scene.objects[i].name) for i in present[:2]]
    if len(chosen) == 2:
        return chosen
    alike = 1.0 * (held_out_places()[:, truth.place] == held_out_places()[truth.object, truth.place])
    alike += held_out_objects()[:, truth.other] == held_out_objects()[truth.object, truth.other]
    alike[[object_id(thing.name) for thing in scene.objects]] = -1
    order = np.argsort(-alike - 0.5 * rng.random(len(alike)), kind="stable")  # a random one of the most alike
    return chosen + [int(i) for i in order[: 2 - len(chosen)]]


def decoy_place(truth: Elements, decoy: int, rng: np.random.Generator) -> int:
    """Another place, held out with the two objects exactly as the true place is, as far as there is one.

    Args:
        truth: The true caption.
        decoy: The other object.
        rng: Chooses among the most alike.
    """
    table = held_out_places()[[truth.object, decoy]]  # (2, places)
    alike = (table == table[:, [truth.place]]).sum(axis=0)
    alike[truth.place] = -1
    return int(rng.choice(np.flatnonzero(alike == alike.max())))


def _third_relation(scene: Scene, relation: Relation, rng: np.random.Generator) -> int:
    """A relation of another axis that is not true of the two objects either."""
    index, phrase, other = relation
    true = {said for i, said, j in scene.relations if (i, j) == (index, other)}
    rest = [said for said in RELATIONS if said not in true and said not in (phrase, opposite(phrase))]
    return relation_id(_any(rest, rng))
