"""What the model's thread does with a batch of asks: everything about one picture at once, everything else in one call.

An embedding here is `Embedder.encode`'s, whatever else was in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from virtue.items import Item
from virtue.prompts import VisualPrompt
from virtue.server.opened import Opened

if TYPE_CHECKING:
    from virtue.embedder import Embedder, ImageView


@dataclass(frozen=True, eq=False)
class EmbedAsk:
    """Asks for an embedding; the answer is `Embedded`.

    Attributes:
        text: Words, alone or about the picture.
        picture: The picture.
        prompt: What in it is meant, already known to fit.
        instruction: What the embedding is for.
    """

    text: str | None = None
    picture: Opened | None = None
    prompt: VisualPrompt | None = None
    instruction: str | None = None


@dataclass(frozen=True, eq=False)
class MaskAsk:
    """Asks what the model sees at a visual prompt; the answer is `Masked`.

    Attributes:
        picture: The picture.
        prompt: What in it is meant, already known to fit.
        longest: Pixels of the mask's longer side at most; None for the picture's own size.
    """

    picture: Opened
    prompt: VisualPrompt
    longest: int | None = None


@dataclass(frozen=True, eq=False)
class OpenAsk:
    """Asks to compute what later asks about a picture need; the answer is None."""

    picture: Opened


Ask = EmbedAsk | MaskAsk | OpenAsk


@dataclass(frozen=True, eq=False)
class Embedded:
    """An embedding (D,), and how many tokens the language model read for it."""

    vector: NDArray[np.float32]
    tokens: int


@dataclass(frozen=True, eq=False)
class Masked:
    """A mask, bool (H, W), and the intersection over union that the model predicts for it."""

    mask: NDArray[np.bool_]
    quality: float


class Work:
    """A model at work.

    Args:
        embedder: The model.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    def compute(self, asks: Sequence[Ask]) -> list[Any]:
        """The answers to a batch, in its order."""
        answers: list[Any] = [None] * len(asks)
        loose: list[int] = []
        masks: dict[tuple[Opened, int | None], list[int]] = {}
        views: dict[tuple[Opened, str | None], list[int]] = {}
        for place, ask in enumerate(asks):
            if isinstance(ask, OpenAsk):
                self._view(ask.picture)
            elif isinstance(ask, MaskAsk):
                masks.setdefault((ask.picture, ask.longest), []).append(place)
            elif ask.picture is not None and (ask.picture.keeps or ask.picture.view is not None):
                views.setdefault((ask.picture, ask.instruction), []).append(place)
            else:
                loose.append(place)
        self._draw(asks, masks, answers)
        self._embed_on_views(asks, views, answers)
        self._embed_loose(asks, loose, answers)
        return answers

    def _view(self, picture: Opened) -> ImageView:
        return picture.view if picture.view is not None else picture.viewed(self.embedder.open(picture.image))

    def _draw(
        self, asks: Sequence[Any], groups: dict[tuple[Opened, int | None], list[int]], answers: list[Any]
    ) -> None:
        for (picture, longest), places in groups.items():
            masks, quality = self._view(picture).masks([asks[place].prompt for place in places], longest)
            for place, mask, iou in zip(places, masks, quality, strict=True):
                answers[place] = Masked(mask, float(iou))

    def _embed_on_views(
        self, asks: Sequence[Any], groups: dict[tuple[Opened, str | None], list[int]], answers: list[Any]
    ) -> None:
        for (picture, instruction), places in groups.items():
            prompts, texts = [asks[place].prompt for place in places], [asks[place].text for place in places]
            vectors = self._view(picture).encode(prompts, texts, instruction)
            self._note(asks, places, vectors, answers)

    def _embed_loose(self, asks: Sequence[Any], places: list[int], answers: list[Any]) -> None:
        """Texts, and pictures that are asked one thing each."""
        if not places:
            return
        same: dict[str, Any] = {}  # the same picture in two requests is read once
        items = []
        for place in places:
            ask = asks[place]
            image = None if ask.picture is None else same.setdefault(ask.picture.id, ask.picture.image)
            items.append(Item(text=ask.text, image=image, prompt=ask.prompt, instruction=ask.instruction))
        vectors = self.embedder.encode(items, batch_size=len(items), show_progress_bar=False)
        self._note(asks, places, vectors, answers)

    def _note(self, asks: Sequence[Any], places: list[int], vectors: NDArray[np.float32], answers: list[Any]) -> None:
        for place, vector, count in zip(places, vectors, self._counts([asks[place] for place in places]), strict=True):
            answers[place] = Embedded(vector, count)

    def _counts(self, asks: Sequence[EmbedAsk]) -> list[int]:
        """Lengths of what the language model reads: segmentation, image and text tokens."""
        processor, side = self.embedder.processor, self.embedder.model.config.segmentation_side
        texts, pictures = [], []
        for ask in asks:
            image = None if ask.picture is None else ask.picture.image
            item = Item(text=ask.text, image=image, prompt=ask.prompt, instruction=ask.instruction)
            texts.append(processor.render(item, ask.prompt))
            pictures.append(0 if ask.picture is None else processor.image_tokens(*ask.picture.size))
        ids = processor.token_ids(texts, pictures)
        return [len(own) + (side**2 if image else 0) for own, image in zip(ids, pictures, strict=True)]
