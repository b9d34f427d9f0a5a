"""What a contrastive step is made of: scenes, visual prompts, texts, and which text is true of which row.

Every text carries what it says (`Elements`, or a set of objects and a place), so truth is computed and not assumed:
a text that happens to be true of another row is never its negative.

Letters: N images, R region rows (an object pointed at), M region texts, T whole-image texts, K object classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from virtue.data.prompting import KINDS, draw_prompt
from virtue.items import Item
from virtue.model import VirtueProcessor
from virtue.model.segmentation import SamPrompts
from virtue.prompts import VisualPrompt
from virtue.scenes.captions import scene_caption, short_queries
from virtue.scenes.region_captions import Elements, RegionSample, region_caption, region_samples
from virtue.scenes.renderer import NEAR, Scene, render
from virtue.scenes.vocabulary import (
    OBJECTS,
    PLACE_WORDINGS,
    PLACES,
    RELATIONS,
    held_out_objects,
    held_out_places,
    noun_phrase,
    object_id,
    place_id,
    relation_id,
)
from virtue.training.codes import class_shares
from virtue.training.meetings import Meetings
from virtue.training.pictures import PictureBytes

KIND_WEIGHTS = (0.3, 0.25, 0.25, 0.12, 0.08)  # of prompting.KINDS
SHORT_SHARE = 0.25  # of the texts
LENGTH = 4  # texts are padded to a multiple of it, for few different shapes
Value = TypeVar("Value")
SIZES = ((256, 256),) * 6 + ((320, 240), (240, 320))  # of a step's scenes: mostly square


@dataclass(frozen=True)
class Batch:
    """One step's tensors.

    Attributes:
        pictures: The scenes', or None where only their maps are wanted.
        grid: Rows and columns of a picture's image tokens.
        region_image: Each region row's picture, (R,).
        region_prompts: Each region row's visual prompt.
        image_prompts: The point grid of each picture.
        region_texts: Token ids and mask of M texts, the first R of them the rows' own captions.
        image_texts: Token ids and mask of T = N texts, one for each picture.
        region_truth: Which region text is true of which region row, (R, M) bool.
        image_truth: Which image text is true of which picture, (N, T) bool.
        region_elements: What each region text says: object, relation, other, place; -1 unsaid, (M, 4).
        mentioned: Objects that each image text names, (T, K) bool.
        image_text_place: (T,), -1 unsaid.
        present: Objects in each picture, (N, K) bool.
        place: Of each picture, (N,).
        masks: Visible pixels of each region row's object, (R, H, W) bool.
        related: What is true of each region row, whether a text says it or not: (R, relations, K) bool.
        meetings: Of the region rows' objects with others that they hide or that hide them.
        everything: Class of each pixel of each picture, K where there is nothing, (N, H, W) uint8.
    """

    pictures: PictureBytes | None
    grid: tuple[int, int]
    region_image: Tensor
    region_prompts: SamPrompts
    image_prompts: SamPrompts
    region_texts: dict[str, Tensor]
    image_texts: dict[str, Tensor]
    region_truth: Tensor
    image_truth: Tensor
    region_elements: Tensor
    mentioned: Tensor
    image_text_place: Tensor
    present: Tensor
    place: Tensor
    masks: Tensor
    related: Tensor
    meetings: Meetings
    everything: Tensor

    @cached_property
    def shares(self) -> Tensor:
        """Share of each image token's cell that each class covers, (N, K + 1, rows, columns)."""
        return class_shares(self.everything, self.grid)

    def pin_memory(self) -> Batch:
        """The same in memory that a GPU reads from directly; a data loader asks for it."""
        pinned: Batch = everywhere(self, Tensor.pin_memory)
        return pinned


def to_device(value: Any, device: torch.device) -> Any:
    """A batch, or any nesting of dataclasses, dicts, tuples and tensors, on a device."""
    return everywhere(value, lambda tensor: tensor.to(device, non_blocking=True))


def everywhere(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Any nesting of dataclasses, dicts, tuples and tensors with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: everywhere(entry, change) for key, entry in value.items()}
    if isinstance(value, tuple):
        return tuple(everywhere(entry, change) for entry in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: everywhere(getattr(value, field.name), change) for field in fields(value)})
    return value


class Batches:
    """A step's batch, a function of the seed, the process and the step's number.

    Args:
        processor: Makes the tensors.
        images: Scenes per step and process.
        rows: Region rows per scene, on average.
        distractors: Region texts per row besides its caption; the opposite relation is always among them.
        seed: Of the run.
        rank: Of the process.
        world: Processes.
        pixels: Whether the pictures are wanted.
        near: How crowded scenes are, as `render` takes it.

    Attributes:
        sizes: Width and height of the scenes of each step in turn.
    """

    sizes: Sequence[tuple[int, int]] = SIZES

    def __init__(
        self,
        processor: VirtueProcessor,
        images: int,
        rows: int,
        distractors: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        pixels: bool = True,
        near: float = NEAR,
    ) -> None:
        self.processor, self.images, self.rows, self.distractors = processor, images, rows, distractors
        self.seed, self.rank, self.world, self.pixels, self.near = seed, rank, world, pixels, near

    def __call__(self, step: int) -> Batch:
        """The batch of a step."""
        rng = np.random.default_rng([self.seed, 2, step, self.rank])
        first = self.seed * 10_000_000 + (step * self.world + self.rank) * self.images
        width, height = self.sizes[step % len(self.sizes)]
        scenes = [render(first + i, "train", width, height, self.near) for i in range(self.images)]
        chosen = self._choose([region_samples(scene, rng) for scene in scenes], rng)
        prompts = [self._prompt(scenes[i], sample, rng) for i, sample in chosen]
        region_texts, region_elements = self._region_texts([sample for _, sample in chosen], rng)
        image_texts, mentioned, image_text_place = _image_texts(scenes, rng)
        present = torch.zeros(len(scenes), len(OBJECTS), dtype=torch.bool)
        for i, scene in enumerate(scenes):
            present[i, [object_id(thing.name) for thing in scene.objects]] = True
        place = torch.tensor([place_id(scene.place) for scene in scenes])
        image_truth = (mentioned.float() @ present.float().T == mentioned.float().sum(1, keepdim=True)).T
        image_truth &= (image_text_place == place[:, None]) | (image_text_place < 0)
        sizes = [(width, height)] * len(scenes)
        related = _related(scenes, chosen)
        pictures = PictureBytes.of([scene.image for scene in scenes[: None if self.pixels else 1]], self.processor)
        return Batch(
            pictures=pictures if self.pixels else None,
            grid=pictures.grid,
            region_image=torch.tensor([i for i, _ in chosen]),
            region_prompts=self.processor.prompt_inputs(prompts, [(width, height)] * len(prompts)),
            image_prompts=self.processor.prompt_inputs([None] * len(scenes), sizes),
            region_texts=self._tokens(region_texts),
            image_texts=self._tokens(image_texts),
            region_truth=_region_truth(chosen, related, region_elements),
            image_truth=image_truth,
            region_elements=region_elements,
            mentioned=mentioned,
            image_text_place=image_text_place,
            present=present,
            place=place,
            masks=torch.from_numpy(np.stack([scenes[i].objects[s.object_index].mask for i, s in chosen])),
            related=related,
            meetings=Meetings.of([(scenes[i], sample.object_index) for i, sample in chosen]),
            everything=torch.stack([_classes(scene) for scene in scenes]),
        )

    def texts(self, step: int, count: int) -> tuple[dict[str, Tensor], Tensor]:
        """Region texts of random words, no scene drawn: ids and mask of `count` texts, and what they say (M, 4)."""
        rng = np.random.default_rng([self.seed, 3, step, self.rank])
        texts = []
        for _ in range(count):
            elements = _random_elements(rng)
            short = rng.random() < SHORT_SHARE
            texts.append(_short_region_text(elements, rng) if short else _worded(elements, rng.random() < 0.35, rng))
        return self._tokens([text for text, _ in texts]), torch.tensor([said for _, said in texts])

    def _choose(self, samples: list[list[RegionSample]], rng: np.random.Generator) -> list[tuple[int, RegionSample]]:
        """The region rows of a step, each with its picture's number.

        A few of every picture first, then what is left over, or some once more: every step has as many, because
        kernels are made anew for every new shape.
        """
        chosen: list[tuple[int, RegionSample]] = []
        rest: list[tuple[int, RegionSample]] = []
        for i, own in enumerate(samples):
            rows = [(i, sample) for sample in _shuffled(own, rng)]
            chosen += rows[: self.rows]
            rest += rows[self.rows :]
        chosen += _shuffled(rest, rng)
        wanted = self.images * self.rows
        while chosen and len(chosen) < wanted:
            chosen += _shuffled(chosen, rng)
        return sorted(chosen[:wanted], key=lambda row: row[0])

    def _prompt(self, scene: Scene, sample: RegionSample, rng: np.random.Generator) -> VisualPrompt:
        kind = KINDS[int(rng.choice(len(KINDS), p=KIND_WEIGHTS))]
        return draw_prompt(kind, scene.objects[sample.object_index].mask, rng)

    def _region_texts(self, samples: list[RegionSample], rng: np.random.Generator) -> tuple[list[str], Tensor]:
        """M texts and what they say, (M, 4): the rows' own captions first, then their distractors."""
        own, others = [], []
        for sample in samples:
            varied = rng.random() < 0.35
            own.append(
                _short_region_text(sample.elements, rng)
                if rng.random() < SHORT_SHARE
                else _worded(sample.elements, varied, rng)
            )
            others += [_worded(elements, varied, rng) for elements in self._hardest(sample, rng)]
        texts = [*own, *others]
        return [text for text, _ in texts], torch.tensor([said for _, said in texts])

    def _hardest(self, sample: RegionSample, rng: np.random.Generator) -> list[Elements]:
        """Some of the nine distractors, one that is wrong in its relation alone always among them."""
        truth = sample.elements
        distractors = list(sample.distractor_elements)
        wrong_relation = [
            e for e in distractors if (e.object, e.other, e.place) == (truth.object, truth.other, truth.place)
        ]
        first = wrong_relation[:1]
        rest = [e for e in distractors if e not in first]
        return [*first, *(rest[i] for i in rng.permutation(len(rest))[: self.distractors - len(first)])]

    def _tokens(self, texts: list[str]) -> dict[str, Tensor]:
        inputs = self.processor.text_inputs(
            [self.processor.render(Item(text=text)) for text in texts], [0] * len(texts)
        )
        return {name: functional.pad(rows, (0, -rows.shape[1] % LENGTH)) for name, rows in inputs.items()}


def _shuffled(values: list[Value], rng: np.random.Generator) -> list[Value]:
    return [values[i] for i in rng.permutation(len(values))]


def _random_elements(rng: np.random.Generator) -> Elements:
    """What a training scene may show: no held-out pair."""
    while True:
        thing, other = rng.choice(len(OBJECTS), 2, replace=False).tolist()
        relation, place = int(rng.integers(len(RELATIONS))), int(rng.integers(len(PLACES)))
        if not (held_out_objects()[thing, other] or held_out_places()[[thing, other], place].any()):
            return Elements(thing, relation, other, place)


def _worded(elements: Elements, varied: bool, rng: np.random.Generator) -> tuple[str, tuple[int, int, int, int]]:
    text = region_caption(elements, rng, "varied" if varied else "canonical")
    return text, (elements.object, elements.relation, elements.other, elements.place)


def _short_region_text(elements: Elements, rng: np.random.Generator) -> tuple[str, tuple[int, int, int, int]]:
    """A short true text of a region: the thing, the thing and its place, or the thing and its neighbour."""
    noun = noun_phrase(OBJECTS[elements.object].name)
    form = int(rng.integers(4))
    if form == 0:
        return OBJECTS[elements.object].name, (elements.object, -1, -1, -1)
    if form == 1:
        return noun, (elements.object, -1, -1, -1)
    if form == 2:
        wordings = PLACE_WORDINGS[PLACES[elements.place]]
        return f"{noun} {wordings[int(rng.integers(len(wordings)))]}", (elements.object, -1, -1, elements.place)
    text = f"{noun} {RELATIONS[elements.relation]} {noun_phrase(OBJECTS[elements.other].name)}"
    return text, (elements.object, elements.relation, elements.other, -1)


def _image_texts(scenes: list[Scene], rng: np.random.Generator) -> tuple[list[str], Tensor, Tensor]:
    """One true text for each picture, the objects it names (T, K) and its place (T,), -1 unsaid."""
    texts = []
    mentioned = torch.zeros(len(scenes), len(OBJECTS), dtype=torch.bool)
    place = torch.full((len(scenes),), -1)
    for i, scene in enumerate(scenes):
        if rng.random() < 0.5:
            texts.append(scene_caption(scene, rng))
            named: list[str] = [thing.name for thing in scene.objects]
            where: str | None = scene.place
        else:
            queries = short_queries(scene, rng)
            query = queries[int(rng.integers(len(queries)))]
            texts.append(query.text)
            named, where = sorted(query.objects), query.place
        mentioned[i, [object_id(name) for name in named]] = True
        if where is not None:
            place[i] = place_id(where)
    return texts, mentioned, place


def _related(scenes: list[Scene], chosen: list[tuple[int, RegionSample]]) -> Tensor:
    """Which relation each row's object has to which other one, (R, relations, K) bool."""
    related = torch.zeros(len(chosen), len(RELATIONS), len(OBJECTS), dtype=torch.bool)
    for row, (i, sample) in enumerate(chosen):
        for first, relation, second in scenes[i].relations:
            if first == sample.object_index:
                related[row, relation_id(relation), object_id(scenes[i].objects[second].name)] = True
    return related


def _region_truth(chosen: list[tuple[int, RegionSample]], related: Tensor, said: Tensor) -> Tensor:
    """(R, M) bool: a text is true of a row when all that it says is."""
    objects = torch.tensor([sample.elements.object for _, sample in chosen])
    places = torch.tensor([sample.elements.place for _, sample in chosen])
    stands = related[:, said[:, 1].clamp(min=0), said[:, 2].clamp(min=0)] | (said[:, 1] < 0)
    return (said[:, 0] == objects[:, None]) & ((said[:, 3] == places[:, None]) | (said[:, 3] < 0)) & stands


def _classes(scene: Scene) -> Tensor:
    """Class of each pixel, (H, W) uint8, one more than the last class where there is nothing."""
    classes = np.full(scene.image.shape[:2], len(OBJECTS), dtype=np.uint8)
    for thing in scene.objects:
        classes[thing.mask] = object_id(thing.name)
    return torch.from_numpy(classes)
