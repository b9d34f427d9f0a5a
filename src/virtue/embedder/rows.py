"""The model's side of embedding: pictures to features, rows to vectors, whoever asks and however they are batched.

`Embedder.encode` and `ImageView.encode` both end here, so an item's embedding does not depend on the path taken.

Letters: N pictures, R rows, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from virtue.embedder.batching import halving, length_batches
from virtue.items import Item
from virtue.model import VirtueModel, VirtueProcessor
from virtue.model.features import ImageFeatures
from virtue.model.segmentation import SamPrompts
from virtue.prompts import VisualPrompt, as_visual_prompt

TOKEN_BUDGET = {"cpu": 16_384, "mps": 32_768, "cuda": 131_072}
"""Rows of a batch times its longest row, by device: beyond, a batch gains no speed."""


@dataclass(frozen=True)
class Row:
    """One item on its way to the language model.

    Attributes:
        place: Where its embedding belongs.
        ids: Its token ids.
        image: Which of the pictures at hand is its own, -1 for none.
        prompt: Its visual prompt, checked against the picture.
        size: Width and height of its picture.
    """

    place: int
    ids: list[int]
    image: int = -1
    prompt: VisualPrompt | None = None
    size: tuple[int, int] = (0, 0)


class RowEncoder:
    """A model and its processor at work on pictures and rows.

    Args:
        model: In evaluation mode.
        processor: Its processor.
    """

    def __init__(self, model: VirtueModel, processor: VirtueProcessor) -> None:
        self.model = model
        self.processor = processor
        self.token_budget = TOKEN_BUDGET.get(model.device.type, TOKEN_BUDGET["cpu"])

    def features(self, inputs: Sequence[dict[str, Tensor]], *, previews: bool = False) -> ImageFeatures:
        """Features of N pictures.

        Args:
            inputs: What `VirtueProcessor.image_inputs` makes of each.
            previews: Keep what mask previews need.
        """
        joined = {name: torch.cat([each[name] for each in inputs]).to(self.model.device) for name in inputs[0]}
        return self.model.encode_images(**joined, previews=previews)

    def text_rows(self, items: Sequence[tuple[int, Item]]) -> list[Row]:
        """Rows of items without a picture, each given with its place."""
        texts = [self.processor.render(item) for _, item in items]
        ids = self.processor.token_ids(texts, [0] * len(texts))
        return [Row(place, own) for (place, _), own in zip(items, ids, strict=True)]

    def image_rows(
        self, items: Sequence[tuple[int, Item]], image: int, size: tuple[int, int], image_tokens: int, *, numbered: bool
    ) -> list[Row]:
        """Rows of items of one picture, each given with its place.

        Args:
            items: Place and item.
            image: Which of the pictures at hand it is.
            size: Its width and height.
            image_tokens: How many image tokens it has.
            numbered: Whether an error says which item it is about, because there are several.

        Raises:
            ValueError: If a visual prompt does not fit the picture.
        """
        prompts, texts = [], []
        for place, item in items:
            try:
                prompts.append(None if item.prompt is None else as_visual_prompt(item.prompt, *size))
                texts.append(self._render(item, prompts[-1]))
            except ValueError as error:
                raise ValueError(f"Input {place}: {error}" if numbered else str(error)) from error
        ids = self.processor.token_ids(texts, [image_tokens] * len(texts))
        return [
            Row(place, own, image, prompt, size) for (place, _), own, prompt in zip(items, ids, prompts, strict=True)
        ]

    def embed(
        self,
        rows: Sequence[Row],
        features: ImageFeatures | None,
        out: NDArray[np.float32],
        batch_size: int,
        advance: Callable[[int], None] = lambda done: None,
    ) -> None:
        """Write each row's embedding to its place in `out`, (places, D).

        Args:
            rows: All with a picture, or all without.
            features: Of the pictures at hand.
            out: Where the embeddings go.
            batch_size: Rows of a batch at most.
            advance: Told how many more rows are done.
        """

        def compute(batch: Sequence[Row]) -> None:
            embeddings = self._forward(batch, features)
            out[[row.place for row in batch]] = embeddings.cpu().numpy()
            advance(len(batch))

        segmentation = self.model.config.segmentation_side**2 if features is not None else 0
        lengths = [segmentation + len(row.ids) for row in rows]
        for numbers in length_batches(lengths, batch_size, self.token_budget):
            halving(compute, [rows[number] for number in numbers])

    def sam_prompts(self, prompts: Sequence[VisualPrompt | None], sizes: Sequence[tuple[int, int]]) -> SamPrompts:
        """Visual prompts in SAM-2's frame, on the model's device."""
        return self.processor.prompt_inputs(prompts, sizes).to(self.model.device)

    def _render(self, item: Item, prompt: VisualPrompt | None) -> str:
        text = self.processor.render(item, prompt)
        if self.model.sam is None and prompt is not None and text == self.processor.render(item):
            raise ValueError("This model has no segmentation stream and cannot take such a visual prompt.")
        return text

    def _forward(self, rows: Sequence[Row], features: ImageFeatures | None) -> Tensor:
        """Embeddings of one batch, (R, D) float32."""
        padded = self.processor.pad([row.ids for row in rows])
        tokens = padded["input_ids"].to(self.model.device), padded["attention_mask"].to(self.model.device)
        if features is None:
            return self.model.embed(*tokens)
        index = torch.tensor([row.image for row in rows], device=self.model.device)
        segmentation = self._segmentation(rows, features) if features.segmentation is not None else None
        return self.model.embed(*tokens, features, index, segmentation)

    def _segmentation(self, rows: Sequence[Row], features: ImageFeatures) -> Tensor:
        """Segmentation tokens of each row (R, S, D); rows that point at the same thing share the computation."""
        asked = [(row.image, row.prompt, row.size) for row in rows]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(asked))}
        images, prompts, sizes = zip(*numbers, strict=True)
        where = torch.tensor(images, device=self.model.device)
        tokens = self.model.segmentation_tokens(features, where, self.sam_prompts(prompts, sizes))
        if len(numbers) == len(rows):
            return tokens
        return tokens[torch.tensor([numbers[key] for key in asked], device=tokens.device)]
