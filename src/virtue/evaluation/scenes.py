"""Measures a model on scenes of the drawn world that training never showed.

1. `_look` shows the model one scene after the other: it embeds every pointed-at object by its tight box, by a point
   deep inside it, by its mask and cut out of the picture, embeds the picture whole, and asks the segmenter for masks.
2. All texts are embedded, each distinct one once.
3. The counting, by `metrics`. *Ten-way accuracy* takes SCaR's question: is the true caption nearer to the pointed-at
   object than the nine distractors are? Within one kind of swap it is four-way, and among relations it is told by axis
   too. *Recall* looks for each picture by its caption among all pictures, *precision* for every object by its name,
   alone and with a place. *Mask overlap* is the mean intersection over union, in source pixels, of every object's mask
   with the segmenter's.

A scene asks about each of its objects that stands in a relation to another. Standard errors are over scenes, or over
queries for precision. `Guesser`, which reads the captions and never sees the picture, says how much words give away.

N is the number of scenes, R of regions asked about, O of objects, D the length of an embedding.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from virtue.embedder import Embedder, ImageView
from virtue.evaluation.metrics import Figure, first_is_best, mean_over_groups, overlaps, precision_at, recall_at
from virtue.masks import deepest_pixel
from virtue.prompts import AnyPrompt, Box, Mask, Point
from virtue.scenes.captions import canonical_caption, caption_rng, region_samples
from virtue.scenes.guesser import Guesser
from virtue.scenes.region_captions import KINDS, RegionSample
from virtue.scenes.renderer import Scene, SceneObject, scenes
from virtue.scenes.vocabulary import RELATION_AXES, RELATIONS, noun_phrase

PROMPTS = ("box", "point", "mask")
REGIONS = (*PROMPTS, "none", "crop")
COLUMNS: dict[str, list[int]] = {
    "all": list(range(len(KINDS) + 1)),
    **{kind: [0, *(i for i, own in enumerate(KINDS, 1) if own == kind)] for kind in KINDS},
}
"""Which of the ten captions are compared: all, or the true one with the distractors of one kind."""

FIRST = 10

Progress = Callable[[int, int], None]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Report:
    """What a model can do; every figure is a share in [0, 1].

    Attributes:
        model: Its name.
        scenes: Number of scenes.
        seed: Of the first scene.
        regions: How many pointed-at objects were asked about.
        accuracy: By how the region was shown ("box", "point", "mask", "none", "crop"), then "all" for ten-way accuracy
            and "object", "relation", "place" for four-way accuracy within a kind of swap.
        relations: By region, then by axis (a key of `RELATION_AXES`), the four-way accuracy of its relations; an axis
            that nothing was asked of is left out.
        recall: Text to image with whole captions, "1" and "10".
        precision: Text to image with short queries, "object" ("a dog") and "object and place" ("a dog on a beach").
        mask_overlap: Of the segmenter's masks with the true ones, by visual prompt.
        guesser: Ten-way accuracy of the guesser.
    """

    model: str
    scenes: int
    seed: int
    regions: int
    accuracy: dict[str, dict[str, Figure]]
    relations: dict[str, dict[str, Figure]]
    recall: dict[str, Figure]
    precision: dict[str, Figure]
    mask_overlap: dict[str, Figure]
    guesser: float


@dataclass(frozen=True, eq=False)
class _Seen:
    """One scene as the model saw it, without its pixels."""

    samples: list[RegionSample]
    caption: str
    objects: frozenset[str]
    place: str
    image: Vectors  # (D,)
    regions: dict[str, Vectors]  # (R, D) for each of `REGIONS`
    overlaps: dict[str, NDArray[np.float64]]  # (O,) for each of `PROMPTS`


def measure(embedder: Embedder, count: int = 1000, seed: int = 0, progress: Progress | None = None) -> Report:
    """Measures a model on the test scenes of seeds `seed` to `seed + count - 1`.

    Args:
        embedder: The model.
        count: Number of scenes, at least 2. The guesser learns from as many training scenes.
        seed: Of the first scene.
        progress: Called with the scenes done and their total after each.

    Raises:
        ValueError: If there are too few scenes, the seed is negative, or no scene has anything to ask about.
    """
    if count < 2:
        raise ValueError(f"{count} scenes cannot be measured; take 2 or more, and 1000 for figures worth quoting.")
    seen: list[_Seen] = []
    for scene in scenes("test", seed, count):
        seen.append(_look(embedder, scene))
        if progress is not None:
            progress(len(seen), count)
    samples = [sample for one in seen for sample in one.samples]
    learnt = chain.from_iterable(region_samples(scene, caption_rng(scene)) for scene in scenes("train", seed, count))
    scores = _scores(embedder, seen)
    return Report(
        model=embedder.name,
        scenes=count,
        seed=seed,
        regions=len(samples),
        accuracy=_accuracy(scores, seen),
        relations=_relations(scores, seen),
        recall=_recall(embedder, seen),
        precision=_precision(embedder, seen),
        mask_overlap=_mask_overlap(seen),
        guesser=Guesser().fit(list(learnt)).accuracy(samples),
    )


def visual_prompt(kind: str, thing: SceneObject) -> AnyPrompt:
    """How a person who knows exactly where the object is would show it.

    Args:
        kind: "box" the tight box, "point" the centre of the pixel deepest inside, "mask" the visible pixels.
        thing: The object.
    """
    if kind == "box":
        return Box(*thing.box)
    return interior_point(thing.mask) if kind == "point" else Mask(thing.mask)


def interior_point(mask: NDArray[np.bool_]) -> Point:
    """The centre of the mask's deepest pixel (`masks.deepest_pixel`).

    Args:
        mask: bool (H, W), not empty. What lies beyond the picture is outside.
    """
    row, column = deepest_pixel(mask)
    return Point(column + 0.5, row + 0.5)


def _look(embedder: Embedder, scene: Scene) -> _Seen:
    """Step 1 for one scene."""
    samples = region_samples(scene, caption_rng(scene))
    asked = [scene.objects[sample.object_index] for sample in samples]
    picture = Image.fromarray(scene.image)
    view = embedder.open(picture)
    prompts = [visual_prompt(kind, thing) for kind in PROMPTS for thing in asked]
    *pointed, image = view.encode([*prompts, None])  # (3 R + 1, D)
    kinds = np.reshape(pointed, (len(PROMPTS), len(asked), len(image)))  # a scene without relations asks nothing
    regions = dict(zip(PROMPTS, kinds, strict=True))
    regions["none"] = np.repeat(image[None], len(asked), axis=0)
    crops = [picture.crop(thing.box) for thing in asked]
    regions["crop"] = embedder.encode(crops) if crops else np.zeros((0, len(image)), np.float32)
    return _Seen(
        samples=samples,
        caption=canonical_caption(scene),
        objects=frozenset(thing.name for thing in scene.objects),
        place=scene.place,
        image=image,
        regions=regions,
        overlaps=_overlaps(view, scene.objects),
    )


def _overlaps(view: ImageView, objects: Sequence[SceneObject]) -> dict[str, NDArray[np.float64]]:
    masks, _ = view.masks([visual_prompt(kind, thing) for kind in PROMPTS for thing in objects])
    truth = np.stack([thing.mask for thing in objects])  # (O, H, W)
    parts = np.split(masks, len(PROMPTS))
    return {kind: overlaps(part, truth) for kind, part in zip(PROMPTS, parts, strict=True)}


def _embed_texts(embedder: Embedder, texts: Iterable[str]) -> dict[str, Vectors]:
    """Every distinct text and its embedding, (D,) each."""
    distinct = list(dict.fromkeys(texts))
    return dict(zip(distinct, embedder.encode(distinct, batch_size=256), strict=True))


def _scores(embedder: Embedder, seen: list[_Seen]) -> dict[str, NDArray[np.float32]]:
    """By region: how similar every region asked about is to each of its ten captions, (R, 10)."""
    captions = [(sample.caption, *sample.distractors) for one in seen for sample in one.samples]
    if not captions:
        raise ValueError("No object of these scenes stands in a relation to another; take more scenes.")
    embedded = _embed_texts(embedder, chain.from_iterable(captions))
    texts = np.stack([[embedded[caption] for caption in ten] for ten in captions])  # (R, 10, D)
    return {
        region: np.einsum("rtd,rd->rt", texts, np.concatenate([one.regions[region] for one in seen]))
        for region in REGIONS
    }


def _accuracy(scores: dict[str, NDArray[np.float32]], seen: list[_Seen]) -> dict[str, dict[str, Figure]]:
    numbers = _scene_numbers(seen)
    return {
        region: {kind: mean_over_groups(first_is_best(own[:, columns]), numbers) for kind, columns in COLUMNS.items()}
        for region, own in scores.items()
    }


def _relations(scores: dict[str, NDArray[np.float32]], seen: list[_Seen]) -> dict[str, dict[str, Figure]]:
    numbers, columns = _scene_numbers(seen), COLUMNS["relation"]
    said = np.array([RELATIONS[sample.elements.relation] for one in seen for sample in one.samples])
    figures: dict[str, dict[str, Figure]] = {}
    for region, own in scores.items():
        rows = {axis: np.isin(said, phrases) for axis, phrases in RELATION_AXES.items()}
        figures[region] = {
            axis: mean_over_groups(first_is_best(own[there][:, columns]), numbers[there])
            for axis, there in rows.items()
            if there.any()
        }
    return figures


def _scene_numbers(seen: list[_Seen]) -> NDArray[np.int64]:
    """Which scene each region asked about is of, (R,)."""
    return np.repeat(np.arange(len(seen)), [len(one.samples) for one in seen])


def _recall(embedder: Embedder, seen: list[_Seen]) -> dict[str, Figure]:
    own = np.arange(len(seen))
    scores = _text_to_image(embedder, [one.caption for one in seen], seen)
    return {str(k): mean_over_groups(recall_at(scores, own, k), own) for k in (1, FIRST)}


def _precision(embedder: Embedder, seen: list[_Seen]) -> dict[str, Figure]:
    alone = sorted({(name, "") for one in seen for name in one.objects})
    placed = sorted({(name, one.place) for one in seen for name in one.objects})
    figures = {}
    for kind, queries in (("object", alone), ("object and place", placed)):
        scores = _text_to_image(embedder, [f"{noun_phrase(name)} {place}".rstrip() for name, place in queries], seen)
        right = [[name in one.objects and place in ("", one.place) for one in seen] for name, place in queries]
        figures[kind] = mean_over_groups(precision_at(scores, right, FIRST), np.arange(len(queries)))
    return figures


def _text_to_image(embedder: Embedder, texts: list[str], seen: list[_Seen]) -> NDArray[np.float32]:
    """How similar each text is to each whole picture, (texts, N)."""
    embedded = _embed_texts(embedder, texts)
    similarities: NDArray[np.float32] = (
        np.stack([embedded[text] for text in texts]) @ np.stack([one.image for one in seen]).T
    )
    return similarities


def _mask_overlap(seen: list[_Seen]) -> dict[str, Figure]:
    scene_numbers = np.repeat(np.arange(len(seen)), [len(one.objects) for one in seen])
    return {
        kind: mean_over_groups(np.concatenate([one.overlaps[kind] for one in seen]), scene_numbers) for kind in PROMPTS
    }
