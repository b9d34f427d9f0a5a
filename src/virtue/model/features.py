"""What a model knows of pictures before any visual prompt or text: computed once per image, kept, and used again.

Letters: N images, C channels and h x w size of SAM-2's map, T image tokens of one picture, D width of the language
model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageFeatures:
    """Prompt-independent features of N pictures.

    Attributes:
        visual: Image tokens H_v of each picture, N tensors (T, D).
        grids: Rows and columns of each picture's image tokens.
        deepstack: Qwen3-VL's features for its first layers, per picture a tuple of (T, D); empty for other models.
        segmentation: SAM-2's map that prompts meet, (N, C, h, w); None without a segmentation stream.
        fine: SAM-2's (N, C/8, 4h, 4w) map for mask previews, or None when previews were not asked for.
        middle: SAM-2's (N, C/4, 2h, 2w) map for mask previews, or None.
    """

    visual: tuple[Tensor, ...]
    grids: tuple[tuple[int, int], ...]
    deepstack: tuple[tuple[Tensor, ...], ...] = ()
    segmentation: Tensor | None = None
    fine: Tensor | None = None
    middle: Tensor | None = None

    def __len__(self) -> int:
        return len(self.visual)

    @property
    def nbytes(self) -> int:
        """Memory held, bytes: what a cache of open images counts."""
        tensors = [*self.visual, *(t for row in self.deepstack for t in row)]
        tensors += [t for t in (self.segmentation, self.fine, self.middle) if t is not None]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def select(self, images: Sequence[int]) -> ImageFeatures:
        """The features of some of the pictures, in the order asked for."""
        index = torch.tensor(list(images), dtype=torch.long)

        def pick(features: Tensor | None) -> Tensor | None:
            return None if features is None else features[index.to(features.device)]

        return ImageFeatures(
            tuple(self.visual[i] for i in images),
            tuple(self.grids[i] for i in images),
            tuple(self.deepstack[i] for i in images) if self.deepstack else (),
            pick(self.segmentation),
            pick(self.fine),
            pick(self.middle),
        )

    def to(self, device: torch.device) -> ImageFeatures:
        """The same features on another device."""

        def move(features: Tensor | None) -> Tensor | None:
            return None if features is None else features.to(device)

        return ImageFeatures(
            tuple(tokens.to(device) for tokens in self.visual),
            self.grids,
            tuple(tuple(layer.to(device) for layer in row) for row in self.deepstack),
            move(self.segmentation),
            move(self.fine),
            move(self.middle),
        )

    @classmethod
    def join(cls, parts: Sequence[ImageFeatures]) -> ImageFeatures:
        """The features of several sets of pictures as those of one, in order; all of them from one model."""

        def joined(features: list[Tensor | None]) -> Tensor | None:
            there = [each for each in features if each is not None]
            return torch.cat(there) if there else None

        return cls(
            tuple(tokens for part in parts for tokens in part.visual),
            tuple(grid for part in parts for grid in part.grids),
            tuple(row for part in parts for row in part.deepstack),
            joined([part.segmentation for part in parts]),
            joined([part.fine for part in parts]),
            joined([part.middle for part in parts]),
        )
