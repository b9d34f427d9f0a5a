"""The drawn world as tasks: always there, offline, and never shown in training.

- *scenes/region-to-caption* is SCaR's question: every object that stands in a relation to another is pointed at, and
  ten captions are compared, nine of them with the object, the relation or the scene swapped. Hit@1 is the ten-way
  accuracy of `scenes.measure`.
- *scenes/text-to-image* looks for every picture by its whole caption among all pictures. Hit@1 and recall are the
  recall of `scenes.measure`.
- *scenes/region-to-image* and *scenes/region-to-image-global* look for pictures by a region of another picture:
  `region_to_image`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from virtue.evaluation.benchmarks.region_to_image import region_to_image
from virtue.evaluation.benchmarks.scene_pictures import ScenePicture, check_shown, pointed, relation_axis
from virtue.evaluation.benchmarks.sizes import size_word
from virtue.evaluation.tasks import Task
from virtue.items import Item
from virtue.scenes.captions import canonical_caption, caption_rng, region_samples
from virtue.scenes.region_captions import RegionSample

SWAPS = {"object": "object", "relation": "relation", "place": "scene"}
"""What SCaR calls the three kinds of swap."""

SCENES_PER_QUESTION = 5
"""Region-to-image takes one picture of so many: it draws eleven for each."""


@dataclass(frozen=True, eq=False)
class _Looked:
    """One scene and what is asked about it, without its pixels."""

    picture: ScenePicture
    caption: str
    samples: list[RegionSample]
    queries: list[Item]
    sizes: list[str]


def scene_tasks(count: int = 1000, seed: int = 0, *, shown: str = "box") -> list[Task]:
    """The tasks of the drawn world.

    Pictures are drawn when they are embedded; only their seeds, captions, boxes and points are in memory.

    Args:
        count: Number of test scenes, 1,000 for figures worth quoting. Region-to-image asks about a fifth as many.
        seed: Of the first scene.
        shown: How regions are pointed at: "box", "point", "mask", or "none" for a model that is not told.

    Returns:
        "scenes/region-to-caption", "scenes/text-to-image", "scenes/region-to-image", "scenes/region-to-image-global".

    Raises:
        ValueError: If the count is below 2, the seed is negative, `shown` is unknown, or no scene has anything to ask.
    """
    if count < 2:
        raise ValueError(f"{count} scenes make no task; take 2 or more, and 1000 for figures worth quoting.")
    check_shown(shown)
    looked = [_look(ScenePicture(number), shown) for number in range(seed, seed + count)]
    questions = max(1, count // SCENES_PER_QUESTION)
    return [_region_to_caption(looked), _text_to_image(looked), *region_to_image(questions, seed, shown=shown)]


def _look(picture: ScenePicture, shown: str) -> _Looked:
    scene = picture.scene()
    samples = region_samples(scene, caption_rng(scene))
    asked = [scene.objects[sample.object_index] for sample in samples]
    return _Looked(
        picture=picture,
        caption=canonical_caption(scene),
        samples=samples,
        queries=[pointed(picture, sample.object_index, shown) for sample in samples],
        sizes=[size_word(thing.box, thing.mask.size) for thing in asked],
    )


def _region_to_caption(looked: list[_Looked]) -> Task:
    asked = [(one, sample) for one in looked for sample in one.samples]
    tens = [(sample.caption, *sample.distractors) for _, sample in asked]
    places = {caption: place for place, caption in enumerate(dict.fromkeys(text for ten in tens for text in ten))}
    lists = [np.array([places[caption] for caption in ten], dtype=np.intp) for ten in tens]
    return Task(
        name="scenes/region-to-caption",
        queries=[query for one in looked for query in one.queries],
        candidates=[Item(text=caption) for caption in places],
        relevant=[own[:1] for own in lists],
        lists=lists,
        swaps=[("", *(SWAPS[kind] for kind in sample.kinds)) for _, sample in asked],
        ids=[f"scene {one.picture.seed} object {sample.object_index}" for one, sample in asked],
        groups=[str(one.picture.seed) for one, _ in asked],
        tags={
            "relation": [relation_axis(sample.elements.relation) for _, sample in asked],
            "size": [size for one in looked for size in one.sizes],
        },
    )


def _text_to_image(looked: list[_Looked]) -> Task:
    """Two pictures of one caption are both right."""
    captions = np.array([one.caption for one in looked])
    return Task(
        name="scenes/text-to-image",
        queries=[Item(text=one.caption) for one in looked],
        candidates=[one.picture.item() for one in looked],
        relevant=[np.flatnonzero(captions == one.caption) for one in looked],
        ids=[f"scene {one.picture.seed}" for one in looked],
    )
