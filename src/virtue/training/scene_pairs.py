"""Generated scenes as a source of pairs: a region of a drawn picture, its caption, and nine captions that are false."""

from __future__ import annotations

from collections.abc import Collection

from PIL import Image

from virtue.data.pairs import Pair
from virtue.data.rows import check_index
from virtue.items import Item
from virtue.prompts import Box, Mask
from virtue.scenes.captions import caption_rng, region_samples
from virtue.scenes.region_captions import RegionSample, Wordings
from virtue.scenes.renderer import Scene, Split, check_request, render
from virtue.scenes.vocabulary import OBJECTS

NEXT_DRAW = 1_000_000_000
"""Added to a scene's seed as often as it shows no region to ask about, so that no two rows share a picture."""


class ScenePairs:
    """One region of each scene; the scene's own random numbers choose which.

    The query is the picture with the region's box and mask, the positive its caption, the hard negatives its nine
    distractors. A scene in which nothing stands in a relation has no region; its row takes the scene whose seed is
    `NEXT_DRAW` greater, and so on.

    Args:
        count: How many.
        start: Seed of the first scene.
        split: "train" or "test"; the latter shows what training never does.
        wordings: "canonical" for plain captions, "varied" for paraphrases, each caption worded on its own.
        size: Width and height of the pictures, pixels.
        objects: Names of the things that are asked about; all by default. Few of them need many draws for each row.

    Attributes:
        name: "scenes" and the split.

    Raises:
        ValueError: If `count` is not positive, no such scene can be drawn, or an object is unknown.
    """

    def __init__(
        self,
        count: int,
        start: int = 0,
        split: Split = "train",
        wordings: Wordings = "canonical",
        size: tuple[int, int] = (256, 256),
        objects: Collection[str] | None = None,
    ) -> None:
        if count < 1:
            raise ValueError(f"count must be 1 or more, got {count}.")
        if wordings not in ("canonical", "varied"):
            raise ValueError(f"wordings must be 'canonical' or 'varied', got {wordings!r}.")
        check_request(start, split, *size)
        self.name = f"scenes {split}"
        self._count, self._start, self._split, self._wordings, self._size = count, start, split, wordings, size
        self._objects = _known_objects(objects)

    def __len__(self) -> int:
        """How many pairs."""
        return self._count

    def __getitem__(self, index: int) -> Pair:
        """One pair, its picture drawn.

        Raises:
            IndexError: If there is no such row.
        """
        check_index(index, self._count)
        scene, sample = self._region(self._start + index)
        thing = scene.objects[sample.object_index]
        return Pair(
            query=Item(image=Image.fromarray(scene.image), prompt=Box(*thing.box) + Mask(thing.mask)),
            positives=(Item(text=sample.caption),),
            negatives=tuple(Item(text=text) for text in sample.distractors),
            where=f"{self.name} row {index + 1} (seed {scene.seed})",
        )

    def _region(self, seed: int) -> tuple[Scene, RegionSample]:
        """A scene and one of its regions."""
        while True:
            scene = render(seed, self._split, *self._size)
            rng = caption_rng(scene)
            samples = region_samples(scene, rng, self._wordings)
            chosen = [sample for sample in samples if scene.objects[sample.object_index].name in self._objects]
            if chosen:
                return scene, chosen[int(rng.integers(len(chosen)))]
            seed += NEXT_DRAW


def _known_objects(names: Collection[str] | None) -> frozenset[str]:
    known = frozenset(thing.name for thing in OBJECTS)
    if names is None:
        return known
    unknown = sorted(set(names) - known)
    if unknown or not names:
        fault = f"There is no object {unknown[0]!r}" if unknown else "objects must not be empty"
        raise ValueError(f"{fault}; the drawn world has {', '.join(sorted(known))}.")
    return frozenset(names)
