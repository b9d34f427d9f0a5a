"""Pictures of one size as bytes, and the model's inputs from them, made on the device.

Bytes are an eighth of the numbers they turn into, so they are what travels from the processes that draw to the one
that trains; turning them takes a GPU no time and a CPU as long as it would have taken before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from virtue.model import VirtueProcessor
from virtue.model.processing_virtue import SAM_MEAN, SAM_STD, normalized


@dataclass(frozen=True)
class PictureBytes:
    """N pictures of one size, as each stream takes them.

    Attributes:
        seen: At the size that the vision tower reads, (N, H, W, 3) uint8.
        segmented: At SAM-2's size, (N, size, size, 3) uint8.
        patch: Side of the tower's patches, pixels.
        merge: Patches per side of an image token.
        frames: Times that a patch holds its picture.
        mean: Of the tower's normalisation.
        std: Likewise.
    """

    seen: Tensor
    segmented: Tensor
    patch: int
    merge: int
    frames: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, images: Sequence[np.ndarray], processor: VirtueProcessor) -> PictureBytes:
        """Pictures (H, W, 3) uint8, all of one size."""
        pictures = [Image.fromarray(image) for image in images]
        own = processor.image_processor
        return cls(
            torch.from_numpy(np.stack([np.asarray(processor.at_tower_size(picture)) for picture in pictures])),
            sam_bytes(images, processor),
            own.patch_size,
            own.merge_size,
            own.temporal_patch_size,
            tuple(own.image_mean),
            tuple(own.image_std),
        )

    def __len__(self) -> int:
        return len(self.seen)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of image tokens."""
        _, height, width, _ = self.seen.shape
        return height // self.patch // self.merge, width // self.patch // self.merge

    @property
    def patch_grid(self) -> Tensor:
        """`image_grid_thw` of `VirtueModel.encode_images`, (N, 3), on the CPU."""
        rows, columns = self.grid
        return torch.tensor([[1, rows * self.merge, columns * self.merge]]).expand(len(self), -1)

    def patches(self) -> Tensor:
        """`pixel_values` of `VirtueModel.encode_images`, (patches, patch volume), an image token's in a row."""
        rows, columns = self.grid
        pixels = normalized(_planes(self.seen), self.mean, self.std)  # (N, 3, H, W)
        cells = pixels.unflatten(3, (columns, self.merge, self.patch)).unflatten(2, (rows, self.merge, self.patch))
        ordered = cells.permute(0, 2, 5, 3, 6, 1, 4, 7)  # picture, row, column, its four patches, channel, pixels
        twice = ordered.unsqueeze(6).expand(*ordered.shape[:6], self.frames, -1, -1)
        flat: Tensor = twice.reshape(len(self) * rows * columns * self.merge**2, -1)
        return flat

    def sam_pixels(self) -> Tensor:
        """`sam_pixel_values` of `VirtueModel.encode_images`, (N, 3, size, size)."""
        return sam_pixels(self.segmented)


def sam_bytes(images: Sequence[np.ndarray], processor: VirtueProcessor) -> Tensor:
    """Pictures (H, W, 3) uint8 at SAM-2's size, (N, size, size, 3) uint8."""
    squares = [np.asarray(processor.at_sam_size(Image.fromarray(image))) for image in images]
    return torch.from_numpy(np.stack(squares))


def sam_pixels(segmented: Tensor) -> Tensor:
    """`sam_pixel_values` of `VirtueModel.encode_images`, (N, 3, size, size), from `sam_bytes`."""
    return normalized(_planes(segmented), SAM_MEAN, SAM_STD)


def _planes(pixels: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32 in [0, 1]."""
    return pixels.permute(0, 3, 1, 2).float() / 255
