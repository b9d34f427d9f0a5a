"""What a training will need, computed and not measured: operations, memory, hours. No weights are read.

1. The model of a configuration is made on the meta device and prepared as the recipe says, so parameters are counted
   and not guessed.
2. The towers see a picture, and each kind of chunk that the recipe cuts a typical step into is embedded as often as a
   step embeds it: without its graph, and with it and backwards (`dry_run`).
3. A step is so many of each; a training is so many steps, on a card that reaches a certain share of its peak.

What is left out: the loss and the optimizer's arithmetic, the loading of data, what processes say to each other, and
what a CUDA context and a fragmented allocator take, about 1 GB.

Letters: D width, S segmentation tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from virtue.model import VirtueConfig, VirtueModel
from virtue.training.adaptation import parameter_counts, prepare
from virtue.training.dry_run import META, Cost, checkpoint, cost
from virtue.training.settings import Recipe
from virtue.training.towers import Towers

UTILISATION = 0.35
"""Share of a card's published peak that a training reaches: assumed. Published runs of language models reach 0.3 to
0.5; short rows, small chunks and adapters speak for the lower end."""

FEW_LAYERS = 3  # of a language model, enough for Qwen3-VL's, whose first three take more
WAITING = 1  # batches that each loading process holds ready, as `running` tells it
_TRAINED_BYTES = 16  # of a number that learns: itself, its gradient and AdamW's two moments, all float32


@dataclass(frozen=True)
class Card:
    """A kind of GPU.

    Attributes:
        name: Its name.
        memory: Bytes.
        bf16: Published peak of dense bfloat16 products, operations per second.
        float32: The same of float32, without TF32.
    """

    name: str
    memory: int
    bf16: float
    float32: float


RTX_4090 = Card("RTX 4090, 24 GB", 24 * 2**30, 165.2e12, 82.6e12)
A100 = Card("A100, 80 GB", 80 * 2**30, 312e12, 19.5e12)
H100 = Card("H100 SXM, 80 GB", 80 * 2**30, 989.4e12, 66.9e12)


@dataclass(frozen=True)
class Load:
    """A typical step on one card.

    Attributes:
        image_tokens: Of a picture.
        text_tokens: Of a row.
        pictures: Distinct ones.
        queries: Rows of the queries with a picture, and without.
        targets: Rows of the targets with a picture, and without, hard negatives among them.
    """

    image_tokens: int
    text_tokens: int
    pictures: int
    queries: tuple[int, int]
    targets: tuple[int, int]

    def __post_init__(self) -> None:
        """Refuses what cannot be.

        Raises:
            ValueError: If a number is negative, or pictures and rows with a picture do not go together.
        """
        shown = self.queries[0] + self.targets[0]
        if min(self.image_tokens, self.text_tokens) < 1 or min(*self.queries, *self.targets, self.pictures) < 0:
            raise ValueError(f"A step has no negative numbers and no empty rows: {self}.")
        if self.pictures > shown or (shown and not self.pictures):
            raise ValueError(f"{shown} rows with a picture cannot be about {self.pictures} pictures.")


@dataclass(frozen=True)
class Estimate:
    """What a training needs, computed. Operations are those of one step, bytes those of one card or its host.

    Attributes:
        parameters: Of the whole model.
        learning: Of them, those that learn.
        steps: Optimizer steps.
        half: Whether products are in bfloat16.
        tower_flops: Both towers over every distinct picture.
        first_flops: Pass 1: prompts, connector and language model, without a graph.
        second_flops: Pass 2: the same with its graph, backwards, and again where activations are checkpointed.
        weights: Bytes of what is frozen.
        trained: Bytes of what learns, its gradients and AdamW's moments.
        towers: Most bytes of one group of pictures in the towers.
        chunk: Most bytes of one chunk in pass 2: activations, temporary tensors, its pictures' features.
        features: Bytes that the towers' features take between the passes.
        on_host: Whether they wait there.
        embeddings: Bytes of all embeddings and their gradients.
        pixels: Bytes of one batch's pictures as the towers take them.
        batches: How many batches the loading processes hold ready.
    """

    parameters: int
    learning: int
    steps: int
    half: bool
    tower_flops: int
    first_flops: int
    second_flops: int
    weights: int
    trained: int
    towers: int
    chunk: int
    features: int
    on_host: bool
    embeddings: int
    pixels: int
    batches: int

    @property
    def flops(self) -> int:
        """Operations of a step."""
        return self.tower_flops + self.first_flops + self.second_flops

    @property
    def device_bytes(self) -> int:
        """Most memory of the card: what stays, and the larger of what comes and goes."""
        stays = self.weights + self.trained + self.embeddings + (0 if self.on_host else self.features)
        return stays + max(self.towers, self.chunk)

    @property
    def host_bytes(self) -> int:
        """Memory of the host for pictures and features, beside the program and its libraries."""
        return self.pixels * self.batches + (self.features if self.on_host else 0)

    def hours(self, card: Card, cards: int = 1, utilisation: float = UTILISATION) -> float:
        """Time of all steps.

        Args:
            card: The kind.
            cards: How many share each step's rows, as if sharing were free.
            utilisation: Share of the card's peak that is reached.
        """
        peak = card.bf16 if self.half else card.float32
        return self.steps * self.flops / (peak * utilisation * cards) / 3600


def estimate(config: VirtueConfig, recipe: Recipe, load: Load) -> Estimate:
    """What a recipe needs with a model of this shape and steps of this kind."""
    model = blank_model(config, recipe)
    counts = parameter_counts(model).values()
    learning = sum(each for _, each in counts)
    weights = sum(each.numel() * each.element_size() for each in model.parameters() if not each.requires_grad)
    rehearsal = _Rehearsal(model, recipe, load)
    first, second, chunk = rehearsal.passes()
    limit = recipe.chunks.keep_bytes
    features = load.pictures * rehearsal.feature_bytes()
    kept = features if limit is None else min(features, limit)
    again = (features - kept) / features if features else 0.0  # the share of pictures that does not fit is seen twice
    return Estimate(
        parameters=sum(each for each, _ in counts),
        learning=learning,
        steps=recipe.run.steps,
        half=recipe.run.bf16,
        tower_flops=round(load.pictures * rehearsal.picture.flops * (1 + again)),
        first_flops=first,
        second_flops=second,
        weights=weights,
        trained=_TRAINED_BYTES * learning,
        towers=min(recipe.chunks.pictures, load.pictures) * rehearsal.picture.peak,
        chunk=chunk,
        features=kept,
        on_host=recipe.chunks.keep == "host",
        embeddings=2 * sum(load.queries + load.targets) * config.hidden_size * 4,
        pixels=load.pictures * rehearsal.pixel_bytes(),
        batches=1 + WAITING * recipe.data.workers,
    )


def blank_model(config: VirtueConfig, recipe: Recipe) -> VirtueModel:
    """The model that a recipe trains, with shapes and no numbers: on the meta device, gradients there."""
    with META:
        model = VirtueModel(config)
    model.to(getattr(torch, recipe.model.dtype))
    prepare(model, recipe.model.part, recipe.adapter)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.empty_like(parameter)
    if recipe.run.checkpointing:
        checkpoint(model, recipe.run.bf16)
    model.train()
    return model


class _Rehearsal:
    """Runs the parts of a step on a blank model.

    The language model's layers are alike, so a chunk is embedded with few of them and with one more, and the rest is
    counted as so many times the difference.

    Args:
        model: From `blank_model`; loses layers here.
        recipe: The recipe.
        load: The step.
    """

    def __init__(self, model: VirtueModel, recipe: Recipe, load: Load) -> None:
        self.model, self.recipe, self.load = model, recipe, load
        self.rows = isqrt(load.image_tokens)
        self.columns = load.image_tokens // self.rows
        self.layers = list(model.vlm.language_model.layers)
        self.seen = Towers(model, [self._image()] if load.pictures else [])
        self.picture = self._cost(lambda: self.seen.inputs([0])) if load.pictures else Cost(0, 0)

    def passes(self) -> tuple[int, int, int]:
        """Operations of pass 1 and of pass 2, and the most bytes of pass 2."""
        chunks = self._chunks("queries", *self.load.queries) + self._chunks("targets", *self.load.targets)
        kinds, cached = Counter(chunks), self.recipe.chunks.cached
        second = {kind: self._embed(*kind, backwards=True) for kind in kinds}
        first = {kind: self._embed(*kind, backwards=False) if cached else Cost(0, 0) for kind in kinds}
        peaks = [second[kind].peak for kind in chunks]
        first_flops, second_flops = (sum(costs[kind].flops for kind in chunks) for costs in (first, second))
        return first_flops, second_flops, max(peaks) if cached else sum(peaks)

    def feature_bytes(self) -> int:
        """Bytes of what the towers make of one picture."""
        if not self.load.pictures:
            return 0
        made = self.seen.inputs([0])
        kept = made.get("images", made.get("sam_features"))
        return 0 if kept is None else kept.nbytes

    def pixel_bytes(self) -> int:
        """Bytes of one picture as the towers take it."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._image().values())

    def _chunks(self, side: str, shown: int, plain: int) -> list[tuple[int, int]]:
        """Rows with a picture and without of each chunk of a side."""
        if not self.recipe.chunks.cached:
            return [(shown, plain)] if shown + plain else []
        with_picture = self.model.config.segmentation_side**2 + self.rows * self.columns + self.load.text_tokens
        chunks = self.recipe.chunks.chunks(side, [with_picture] * shown + [self.load.text_tokens] * plain)
        return [(sum(row < shown for row in rows), sum(row >= shown for row in rows)) for rows in chunks]

    def _embed(self, shown: int, plain: int, *, backwards: bool) -> Cost:
        """A chunk whose pictures have been seen, without its graph or with it and backwards."""

        def work() -> None:
            inputs = self._texts(shown, plain)
            if shown:
                inputs |= self.seen.inputs([0] * shown) | self._prompts(shown, plain)
            with torch.set_grad_enabled(backwards):
                embeddings: Tensor = self.model(**inputs).embeddings
            if embeddings.requires_grad:
                torch.autograd.backward(embeddings, torch.empty_like(embeddings))

        return self._of_all_layers(work)

    def _of_all_layers(self, work: Callable[[], None]) -> Cost:
        costs = []
        few = min(len(self.layers), FEW_LAYERS)
        for count in {few, min(len(self.layers), few + 1)}:
            self.model.vlm.language_model.layers = nn.ModuleList(self.layers[:count])
            costs.append(self._cost(work))
        less, more = costs[0], costs[-1]
        rest = len(self.layers) - few
        return Cost(less.flops + rest * (more.flops - less.flops), less.peak + rest * (more.peak - less.peak))

    def _image(self) -> dict[str, Tensor]:
        """A picture as the collator gives it."""
        merge = int(self.model.vlm.visual.spatial_merge_size)
        grid = torch.tensor([[1, merge * self.rows, merge * self.columns]])
        volume = self.model.vlm.visual.patch_embed.proj.weight[0].numel()
        picture = {"pixel_values": torch.empty(int(grid.prod()), volume, device=META), "image_grid_thw": grid}
        if self.model.sam is not None:
            side = self.model.config.sam_image_size
            picture["sam_pixel_values"] = torch.empty(1, 3, side, side, device=META)
        return picture

    def _texts(self, shown: int, plain: int) -> dict[str, Any]:
        """Token ids and mask of rows, those with a picture first."""
        words, image = self.load.text_tokens, self.rows * self.columns if shown else 0
        mask = torch.ones(shown + plain, image + words, dtype=torch.long)
        mask[shown:, words:] = 0
        image_token = self.model.config.image_token_id
        ids = torch.full_like(mask, 0 if image_token else 1)
        ids[:shown, :image] = image_token
        return {"input_ids": ids, "attention_mask": mask}

    def _prompts(self, shown: int, plain: int) -> dict[str, Any]:
        """Whose picture is whose, and a grid of points for each."""
        points = self.model.config.points_per_side**2
        return {
            "image_index": torch.tensor([*range(shown), *[-1] * plain]),
            "prompt_points": torch.empty(shown, points, 2, device=META),
            "prompt_labels": torch.ones(shown, points, dtype=torch.long),
        }

    def _cost(self, work: Callable[[], object]) -> Cost:
        return cost(work, self.model, self.recipe.run.bf16)
