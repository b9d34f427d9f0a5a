"""Nine distractors that do not give the truth away by what they share: corners, made of single swaps.

If each distractor changes one element, the true caption is the centre of the ten: whoever takes the commonest object,
relation and scene finds it without the image, however well the swaps are written. Corners avoid that:

1. The first swap of each kind gives a rival: o' for the object o, r' for the relation r, s' for the scene s.
2. The eight captions {o, o'} x {r, r'} x {s, s'} are the truth and seven distractors. Each value stands in four of
   them, and any of the eight could be the true one.
3. Two more bring a third object and a third relation, each on a random corner of the other elements.

So captions alone find the truth once in eight times, if rivals are as likely as what they stand for. A distractor
differs from the truth in the element of its kind and maybe in others: of objects o' alone, one with two changes, and
the third object; of relations r' alone, one with two, and the third relation; of scenes s' alone, one with two, and all
three. This is how the drawn scenes are asked about too (`virtue.scenes.region_captions`).
"""

from __future__ import annotations

import random
from dataclasses import replace

from virtue.curation.samples import KINDS, Distractor, Elements, Kind, Sample
from virtue.curation.writers import swap

CHANCE = 1 / 8
"""How often captions alone find the truth of a corner design, if wording gives nothing away."""

_LEAST: dict[Kind, int] = {"object": 2, "relation": 2, "scene": 1}


def corners(sample: Sample, seed: int = 0) -> Sample:
    """A sample of single swaps, made into corners. Check it before (design "single") and after (design "corners").

    Args:
        sample: With at least two swaps of the object, two of the relation and one of the scene; the first ones count.
        seed: Of the random corners, with the region's id.

    Raises:
        ValueError: If there are too few swaps.
    """
    swaps = {kind: [getattr(d.elements, kind) for d in sample.distractors if d.kind == kind] for kind in KINDS}
    for kind, least in _LEAST.items():
        if len(swaps[kind]) < least:
            raise ValueError(f"Corners need {least} or more swaps of the {kind}, and there are {len(swaps[kind])}.")
    rng = random.Random(f"{seed}/{sample.region.id}/corners")
    distractors = tuple(
        Distractor(kind, elements, say(sample.caption, sample.elements, elements))
        for kind, elements in _corners(sample.elements, swaps, rng)
    )
    return replace(sample, distractors=distractors)


def _corners(truth: Elements, swaps: dict[Kind, list[str]], rng: random.Random) -> list[tuple[Kind, Elements]]:
    rival = {kind: swaps[kind][0] for kind in KINDS}

    def corner(*changed: Kind) -> Elements:
        return replace(truth, **{kind: rival[kind] for kind in changed})

    twos = [corner("object", "relation"), corner("relation", "scene"), corner("object", "scene")]
    if rng.random() < 0.5:
        twos = [twos[2], twos[0], twos[1]]
    third_object = replace(corner(*_some(("relation", "scene"), rng)), object=swaps["object"][1])
    third_relation = replace(corner(*_some(("object", "scene"), rng)), relation=swaps["relation"][1])
    return [
        *(("object", elements) for elements in (corner("object"), twos[0], third_object)),
        *(("relation", elements) for elements in (corner("relation"), twos[1], third_relation)),
        *(("scene", elements) for elements in (corner("scene"), twos[2], corner(*KINDS))),
    ]


def _some(kinds: tuple[Kind, ...], rng: random.Random) -> list[Kind]:
    return [kind for kind in kinds if rng.random() < 0.5]


def say(caption: str, said: Elements, elements: Elements) -> str:
    """A caption with its elements replaced, one after the other, as `writers.swap` does.

    Args:
        caption: As in "A dog that is on a beach".
        said: Its elements.
        elements: What to say instead.
    """
    for kind in KINDS:
        if getattr(said, kind) != (word := getattr(elements, kind)):
            swapped = swap(caption, said, kind, word)
            caption, said = swapped.text, swapped.elements
    return caption
