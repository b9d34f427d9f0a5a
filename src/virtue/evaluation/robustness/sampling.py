"""Where points come from when a picture has no visual prompt: a grid, SAM-2's best masks, or where the model looks.

A VIRTUE always gets segmentation tokens. For a whole picture they come from a grid of points, three by three in the
paper, its code and this project. `Sampled` is the same model with other points:

- *grid*: the centres of as many equal cells, a square number. Nine are what the model does by itself.
- *sam*: of `CANDIDATES` times `CANDIDATES` cell centres, SAM-2 draws the mask at each and predicts its overlap with the
  truth. The best are taken one after the other, except where a mask's overlap with one taken before is above
  `SAME_MASK`: then both show the same thing. A picture that holds fewer things gets fewer points.
- *attention*: the model embeds the picture with its own grid, and the last token's attention to each image token is
  averaged over all layers and heads. The highest cells are taken one after the other, neighbours of cells taken before
  only when nothing else is left; a point stands in each cell's centre.

The words that a model reads do not change, even where its template puts points in words. Items with a visual prompt or
without a picture are embedded as ever.

Letters: N items, D dimensions, C candidate points of a picture, P pixels of a mask, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from virtue.embedder import Embedder
from virtue.embedder.rows import Row
from virtue.evaluation.embedding import Role, embed
from virtue.evaluation.intervals import bootstrap
from virtue.evaluation.metrics import expected_hit
from virtue.evaluation.ranking import rank
from virtue.evaluation.results import Curve, CurvePoint
from virtue.evaluation.robustness.disturbances import SAMPLING
from virtue.evaluation.sharing import World, from_environment
from virtue.evaluation.store import kept_in
from virtue.evaluation.tasks import Task
from virtue.images import image_key, open_image
from virtue.items import Item
from virtue.model.features import ImageFeatures
from virtue.prompts import Point, VisualPrompt

Way = Literal["grid", "sam", "attention"]
WAYS: dict[Way, str] = dict(zip(("grid", "sam", "attention"), SAMPLING, strict=True))
"""What the curve of each way is called."""

COUNTS = (1, 4, 9, 16, 25, 64)
CANDIDATES = 16
SAME_MASK = 0.7  # as SAM-2's own generator of masks has it
PICTURES = 8  # that are read at once

Vectors = NDArray[np.float32]
Progress = Callable[[int, int], None]


class Sampled:
    """An embedder that gives whole pictures points of another choice.

    Args:
        embedder: The model.
        way: How points are chosen: "grid", "sam" or "attention".
        count: How many, a square number for a grid; a picture has at most as many as there are candidates.

    Raises:
        ValueError: If the model has no segmentation stream, there is no such way, or the count does not fit it.
    """

    def __init__(self, embedder: Embedder, way: Way, count: int) -> None:
        if embedder.model.sam is None:
            raise ValueError(f"{embedder.name} has no segmentation stream, so points make no difference to it.")
        if way not in WAYS:
            raise ValueError(f"Points come from {', '.join(WAYS)}, not from {way!r}.")
        if count < 1 or (way == "grid" and isqrt(count) ** 2 != count):
            kind = "a square number such as 9" if way == "grid" else "at least 1"
            raise ValueError(f"The number of {WAYS[way]} is {kind}, not {count}.")
        self.embedder = embedder
        self.way = way
        self.count = count
        self._orders: dict[Hashable, NDArray[np.float64]] | None = None

    @property
    def name(self) -> str:
        """The model's name and what is done to it."""
        return f"{self.embedder.name}, {WAYS[self.way]}: {self.count}"

    @property
    def fingerprint(self) -> str:
        """The model's, and what is done to it."""
        return f"{self.embedder.fingerprint} {self.way} {self.count}"

    @property
    def dimension(self) -> int:
        """D."""
        return self.embedder.dimension

    def encode(self, items: Sequence[Item], *, batch_size: int = 32) -> Vectors:
        """Unit embeddings, (N, D)."""
        out = np.empty((len(items), self.embedder.width), dtype=np.float32)
        pictures: dict[Hashable, list[tuple[int, Item]]] = {}
        rest = []
        for place, item in enumerate(items):
            if item.image is None or item.prompt is not None:
                rest.append(place)
            else:
                pictures.setdefault(image_key(item.image), []).append((place, item))
        groups = list(pictures.values())
        with torch.inference_mode():
            for start in range(0, len(groups), PICTURES):
                self._encode(groups[start : start + PICTURES], out, batch_size)
        embeddings = self.embedder.truncated(out)
        if rest:
            embeddings[rest] = self.embedder.encode([items[place] for place in rest], batch_size=batch_size)
        return embeddings

    encode_query = encode
    encode_document = encode

    def points(self, item: Item) -> VisualPrompt:
        """The points that an item's whole picture gets, source pixels.

        Raises:
            ValueError: If the item has no picture.
        """
        if item.image is None:
            raise ValueError("An item without a picture gets no points.")
        with torch.inference_mode():
            features, rows = self._read([[(0, replace(item, prompt=None))]])
            return self._prompts(features, rows, [item])[0]

    def _encode(self, groups: Sequence[list[tuple[int, Item]]], out: Vectors, batch_size: int) -> None:
        """Embed the items of a few pictures."""
        features, rows = self._read(groups)
        prompts = self._prompts(features, rows, [item for group in groups for _, item in group])
        chosen = [replace(row, prompt=prompt) for row, prompt in zip(rows, prompts, strict=True)]
        self.embedder.rows.embed(chosen, features, out, batch_size)

    def _read(self, groups: Sequence[list[tuple[int, Item]]]) -> tuple[ImageFeatures, list[Row]]:
        """The features of a few pictures, and the rows of their items, worded as without a visual prompt."""
        own = self.embedder.rows
        images = [open_image(group[0][1].image) for group in groups if group[0][1].image is not None]
        inputs = [own.processor.image_inputs([image]) for image in images]
        features = own.features(inputs, previews=self.way == "sam")
        rows = [
            row
            for number, (group, image) in enumerate(zip(groups, images, strict=True))
            for row in own.image_rows(group, number, image.size, len(features.visual[number]), numbered=False)
        ]
        return features, rows

    def _prompts(self, features: ImageFeatures, rows: Sequence[Row], items: Sequence[Item]) -> list[VisualPrompt]:
        """The points of each row."""
        known = {} if self._orders is None else self._orders
        prompts = []
        for row, item in zip(rows, items, strict=True):
            assert item.image is not None
            words = (item.text, item.instruction) if self.way == "attention" else ()
            key = (image_key(item.image), *words)
            if key not in known:
                known[key] = self._order(features, row)
            places = known[key][: self.count] * row.size
            prompts.append(VisualPrompt(tuple(Point(float(x), float(y)) for x, y in places)))
        return prompts

    def _order(self, features: ImageFeatures, row: Row) -> NDArray[np.float64]:
        """All points that a row may get, the first ones first, XY as shares of width and height, (n, 2)."""
        if self.way == "grid":
            return grid_points(isqrt(self.count))
        return self._best_of_sam(features, row) if self.way == "sam" else self._looked_at(features, row)

    def _best_of_sam(self, features: ImageFeatures, row: Row) -> NDArray[np.float64]:
        candidates = grid_points(CANDIDATES)
        prompts = [VisualPrompt((Point(float(x), float(y)),)) for x, y in candidates * row.size]
        sam = self.embedder.rows.sam_prompts(prompts, [row.size] * len(prompts))
        index = torch.full((len(prompts),), row.image, device=self.embedder.device)
        logits, quality = self.embedder.model.masks(features, index, sam)
        return candidates[distinct_best((logits > 0).flatten(1).float().cpu(), quality.float().cpu())]

    def _looked_at(self, features: ImageFeatures, row: Row) -> NDArray[np.float64]:
        model = self.embedder.model
        scratch = np.empty((row.place + 1, self.embedder.width), dtype=np.float32)
        with _watched(model.vlm.language_model) as seen:
            self.embedder.rows.embed([row], features, scratch, 1)
        start = model.config.segmentation_side**2 + row.ids.index(model.config.image_token_id)
        rows, columns = features.grids[row.image]
        attention = torch.stack(seen).mean(0)[start : start + rows * columns]
        cells = spread_peaks(attention.float().cpu().numpy().reshape(rows, columns))
        return (cells[:, ::-1] + 0.5) / (columns, rows)


@contextmanager
def _watched(language_model: Any) -> Iterator[list[Tensor]]:
    """Gathers each layer's attention of the last token, mean over heads, (tokens,); L of them after one row.

    Only eager attention gives its weights, so the model computes with it meanwhile.
    """
    seen: list[Tensor] = []

    def keep(module: torch.nn.Module, inputs: object, output: tuple[Tensor, Tensor]) -> None:
        del module, inputs
        seen.append(output[1][0, :, -1].mean(0))

    usual = language_model.config._attn_implementation
    hooks = [layer.self_attn.register_forward_hook(keep) for layer in language_model.layers]
    language_model.set_attn_implementation("eager")
    try:
        yield seen
    finally:
        language_model.set_attn_implementation(usual)
        for hook in hooks:
            hook.remove()


def grid_points(side: int) -> NDArray[np.float64]:
    """Centres of side x side equal cells, row by row, XY as shares of width and height, (side * side, 2)."""
    centres = (np.arange(side) + 0.5) / side
    return np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)


def distinct_best(masks: Tensor, quality: Tensor) -> list[int]:
    """Numbers of the best masks of which no two show the same thing, the best first.

    Args:
        masks: 1 where a mask is set, else 0, (C, P) float32. One without a pixel shows nothing and is not taken, unless
            none has any.
        quality: (C,).
    """
    shared = masks @ masks.T  # (C, C) pixels
    areas = masks.sum(1)
    overlap = shared / (areas[:, None] + areas[None] - shared).clamp(min=1)
    taken: list[int] = []
    order = torch.argsort(quality, descending=True, stable=True).tolist()
    for number in order:
        if areas[number] > 0 and not (overlap[number, taken] > SAME_MASK).any():
            taken.append(number)
    return taken or order[:1]


def spread_peaks(heights: NDArray[np.float32]) -> NDArray[np.int64]:
    """Rows and columns of the highest cells, neighbours of cells taken before only when nothing else is left.

    Args:
        heights: (rows, columns).

    Returns:
        All of them in the order in which they are taken, (rows * columns, 2).
    """
    order = np.argsort(-heights, axis=None, kind="stable")
    cells = np.stack(np.unravel_index(order, heights.shape), axis=1)
    taken: list[NDArray[np.int64]] = []
    left: list[NDArray[np.int64]] = []
    for cell in cells:
        near = any(abs(cell - other).max() <= 1 for other in taken)
        (left if near else taken).append(cell)
    return np.array([*taken, *left])


def turned_round(task: Task) -> Task:
    """The task that looks for a task's queries by its candidates; candidates that are right for no query are left out.

    Raises:
        ValueError: If the task has lists of candidates of its own for each query.
    """
    if task.lists is not None:
        raise ValueError(f"The task {task.name} ranks each query's own list, so it cannot be turned round.")
    right: dict[int, list[int]] = {}
    for number, places in enumerate(task.relevant):
        for place in places.tolist():
            right.setdefault(place, []).append(number)
    asked = sorted(right)
    return Task(
        name=f"{task.name} turned round",
        queries=[task.candidates[place] for place in asked],
        candidates=task.queries,
        relevant=[np.array(right[place], dtype=np.intp) for place in asked],
        ids=[str(place) for place in asked],
        missing=task.missing,
    )


def sampling_curves(
    model: Embedder,
    task: Task,
    *,
    ways: Sequence[Way] = ("grid", "sam", "attention"),
    counts: Sequence[int] = COUNTS,
    store: str | Path | None = None,
    batch_size: int = 32,
    resamples: int = 2000,
    progress: Progress | None = None,
    world: World | None = None,
) -> list[Curve]:
    """Hit@1 of a task of whole pictures against the number of points, for each way to choose them.

    Args:
        model: The model.
        task: Pictures without visual prompts among its queries or its candidates, or both.
        ways: Keys of `WAYS`.
        counts: Numbers of points; square ones where "grid" is among the ways.
        store: Folder of embeddings; None keeps none.
        batch_size: Items of a batch at most.
        resamples: Of the bootstrap.
        progress: Called with how many of the points of all curves are done and how many there are.
        world: The processes that share the work; by default those that torchrun started.

    Raises:
        ValueError: If the model is none of this project's or has no segmentation stream, the task has no whole
            pictures, or a way or a count makes no sense.
    """
    if not isinstance(model, Embedder):
        raise ValueError("Points are sampled for this project's models only: give an Embedder.")
    sides: list[tuple[Sequence[Item], Role]] = [(task.queries, "query"), (task.candidates, "document")]
    if not any(_has_whole(items) for items, _ in sides):
        raise ValueError(f"The task {task.name} has no picture without a visual prompt, so no points are sampled.")
    place = from_environment() if world is None else world
    encoders = [encoder for way in ways for encoder in _of_counts(model, way, counts)]
    made: dict[Way, list[CurvePoint]] = {way: [] for way in ways}
    with kept_in(store, place) as kept:
        for number, encoder in enumerate(encoders):
            queries, candidates = (
                # Texts are embedded once for all, by the model itself.
                embed(
                    encoder if _has_whole(items) else model, items, role, store=kept, batch_size=batch_size, world=place
                )
                for items, role in sides
            )
            hits = expected_hit(rank(queries, candidates, task).placings, 1)
            interval = bootstrap(hits, task.groups, resamples=resamples)
            made[encoder.way].append(CurvePoint(float(encoder.count), str(encoder.count), interval, len(hits)))
            if progress is not None:
                progress(number + 1, len(encoders))
    return [Curve(task.name, WAYS[way], "points", points) for way, points in made.items()]


def _has_whole(items: Sequence[Item]) -> bool:
    return any(item.image is not None and item.prompt is None for item in items)


def _of_counts(model: Embedder, way: Way, counts: Sequence[int]) -> list[Sampled]:
    """The model with each number of points; what is found in a picture serves all of them."""
    encoders = [Sampled(model, way, count) for count in counts]
    orders: dict[Hashable, NDArray[np.float64]] = {}
    for encoder in encoders:
        # Keys of pictures in memory are good while these live, as those of a task do.
        encoder._orders = None if way == "grid" else orders
    return encoders
