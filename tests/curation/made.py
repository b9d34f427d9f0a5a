"""Regions and samples for tests, made in one line."""

from __future__ import annotations

from virtue.curation.samples import KINDS, Distractor, Elements, Region, Sample
from virtue.prompts import Box

OBJECTS = ("cat", "boat", "tree")
RELATIONS = ("right of", "behind", "above")
SCENES = ("on a road", "in a forest", "in a kitchen")


def region(number: int, source: str = "made", **changes: object) -> Region:
    """Region `number` of a source, a dog in an image of its own, 64 x 48 pixels."""
    values: dict[str, object] = {
        "id": f"{source}/{number}",
        "source": source,
        "image": f"{number}.png",
        "image_id": f"{source}/image-{number}",
        "width": 64,
        "height": 48,
        "box": Box(4, 4, 40, 30),
        "category": "dog",
    }
    return Region(**(values | changes))  # type: ignore[arg-type]


def distractors(truth: Elements) -> tuple[Distractor, ...]:
    """Nine single swaps of a caption."""
    swapped = {"object": OBJECTS, "relation": RELATIONS, "scene": SCENES}
    elements = [
        (kind, Elements(**{name: word if name == kind else getattr(truth, name) for name in KINDS}))
        for kind in KINDS
        for word in swapped[kind]
    ]
    return tuple(Distractor(kind, said, said.caption()) for kind, said in elements)


def sample(of: Region, **changes: object) -> Sample:
    """A sample of a region: "dog left of a fence on a beach" and nine single swaps."""
    truth = Elements("dog", "left of a fence", "on a beach")
    values: dict[str, object] = {
        "region": of,
        "elements": truth,
        "caption": truth.caption(),
        "distractors": distractors(truth),
        "writer": "test",
    }
    return Sample(**(values | changes))  # type: ignore[arg-type]
