"""Stage 1: a nano SAM-2 learns promptable segmentation on generated scenes, and its connector to say what it sees.

Masks alone would leave F_s with shape and no meaning (a real SAM-2 has seen a billion masks), so linear heads, thrown
away afterwards, ask the features what they show: of F_s the class of the thing pointed at, and whether it lies in front
of each thing it meets; of the image map everything there is. The connector learns along, as it is the connector's
tokens that have to hold the meaning: ideal tokens of the pointed object, and of everything where the point grid points
at nothing in particular. The loss is 20 focal + 4 dice on the mask, the predicted IoU, the classes, the order of what
meets, and the tokens.

Letters: N images, R prompts, C channels, K classes and one more for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from virtue.data.prompting import KINDS, draw_prompt
from virtue.model import VirtueModel, VirtueProcessor
from virtue.model.segmentation import PADDING_LABEL, SamPrompts, encode_prompts, encode_sam_image, segmentation_features
from virtue.prompts import VisualPrompt
from virtue.scenes.renderer import render
from virtue.scenes.vocabulary import OBJECTS, object_id
from virtue.training.codes import (
    IdealCodes,
    cell_loss,
    pointed_shares,
    token_loss,
)
from virtue.training.meetings import CROWDED, Meetings
from virtue.training.pairs import everywhere
from virtue.training.pictures import sam_bytes, sam_pixels

KIND_WEIGHTS = (0.32, 0.28, 0.15, 0.15, 0.1)  # of prompting.KINDS


class Segmenter(nn.Module):
    """SAM-2 and the connector, with the heads that teach them meaning.

    Args:
        model: Whose SAM-2 and connector learn.
        seed: Of the run.
    """

    def __init__(self, model: VirtueModel, seed: int) -> None:
        super().__init__()
        assert model.sam is not None
        assert model.connector is not None
        self.sam = model.sam
        self.connector = model.connector
        self.side = model.config.segmentation_side
        self.codes = IdealCodes(model.config.hidden_size, seed)
        channels = model.sam.config.mask_decoder_config.hidden_size
        self.pointed = nn.Conv2d(channels, len(OBJECTS) + 1, 1)
        self.all = nn.Conv2d(channels, len(OBJECTS) + 1, 1)
        self.order = nn.Linear(2 * channels, 1)

    def decode(self, maps: tuple[Tensor, Tensor, Tensor], prompts: SamPrompts) -> tuple[Tensor, Tensor, Tensor]:
        """Mask logits (R, 4h, 4w), predicted IoU (R,) and F_s (R, C, h, w) of prompts with equally many points.

        Args:
            maps: Each prompt's image maps: coarse, fine, middle.
            prompts: R prompts.
        """
        coarse, fine, middle = maps
        kept: list[Tensor] = []
        transformer = self.sam.mask_decoder.transformer
        handle = transformer.register_forward_hook(lambda _module, _inputs, output: kept.append(output[1]))
        try:
            sparse, dense = encode_prompts(self.sam, prompts)
            masks, iou, *_ = self.sam.mask_decoder(
                image_embeddings=coarse,
                image_positional_embeddings=self.sam.get_image_wide_positional_embeddings().expand(
                    len(coarse), -1, -1, -1
                ),
                sparse_prompt_embeddings=sparse.unsqueeze(1),
                dense_prompt_embeddings=dense,
                multimask_output=False,
                high_resolution_features=[fine, middle],
            )
        finally:
            handle.remove()
        features = kept[0].squeeze(1).transpose(1, 2).reshape(coarse.shape)
        return masks[:, 0, 0], iou[:, 0, 0], features


@dataclass(frozen=True)
class SegmentationBatch:
    """One step's tensors.

    Attributes:
        pictures: The scenes at SAM-2's size, (N, size, size, 3) uint8.
        prompts: One visual prompt for every object.
        grids: The point grid of every picture.
        rows: Each prompt's picture, (R,).
        masks: Visible pixels of each prompt's object, (R, H, W) bool.
        meetings: Of the prompts' objects with others that they hide or that hide them.
        classes: Each prompt's object, (R,).
    """

    pictures: Tensor
    prompts: SamPrompts
    grids: SamPrompts
    rows: Tensor
    masks: Tensor
    meetings: Meetings
    classes: Tensor

    def pin_memory(self) -> SegmentationBatch:
        """The same in memory that a GPU reads from directly; a data loader asks for it."""
        pinned: SegmentationBatch = everywhere(self, Tensor.pin_memory)
        return pinned


class SegmentationBatches:
    """Scenes of a step with one visual prompt for every object.

    Args:
        processor: Makes the tensors.
        images: Scenes per step.
        seed: Of the run; a step's scenes and prompts follow from it and the step's number.
    """

    def __init__(self, processor: VirtueProcessor, images: int, seed: int) -> None:
        self.processor, self.images, self.seed = processor, images, seed

    def __call__(self, step: int) -> SegmentationBatch:
        """The batch of a step."""
        rng = np.random.default_rng([self.seed, 1, step])
        first = self.seed * 10_000_000 + step * self.images
        scenes = [render(first + i, near=CROWDED) for i in range(self.images)]
        prompts: list[VisualPrompt] = []
        for scene in scenes:
            kinds = rng.choice(len(KINDS), len(scene.objects), p=KIND_WEIGHTS)
            prompts += [draw_prompt(KINDS[k], thing.mask, rng) for k, thing in zip(kinds, scene.objects, strict=True)]
        things = [thing for scene in scenes for thing in scene.objects]
        sizes = [scene.image.shape[1::-1] for scene in scenes]
        return SegmentationBatch(
            pictures=sam_bytes([scene.image for scene in scenes], self.processor),
            prompts=self.processor.prompt_inputs(prompts, [thing.mask.shape[::-1] for thing in things]),
            grids=self.processor.prompt_inputs([None] * len(scenes), sizes),
            rows=torch.tensor([i for i, scene in enumerate(scenes) for _ in scene.objects]),
            masks=torch.from_numpy(np.stack([thing.mask for thing in things])),
            meetings=Meetings.of([(scene, i) for scene in scenes for i in range(len(scene.objects))]),
            classes=torch.tensor([object_id(thing.name) for thing in things]),
        )


def segmentation_losses(segmenter: Segmenter, batch: SegmentationBatch) -> dict[str, Tensor]:
    """Loss terms of one step.

    Only the image encoder follows an autocast: what comes after it has other shapes in every step, for which kernels
    in half precision would be made anew each time.
    """
    maps = encode_sam_image(segmenter.sam, sam_pixels(batch.pictures))
    with torch.autocast(batch.masks.device.type, enabled=False):
        coarse, fine, middle = (level.float() for level in maps)
        return _prompted_losses(segmenter, batch, coarse, fine, middle)


def _prompted_losses(
    segmenter: Segmenter, batch: SegmentationBatch, coarse: Tensor, fine: Tensor, middle: Tensor
) -> dict[str, Tensor]:
    side = coarse.shape[-1]
    target = (functional.adaptive_avg_pool2d(batch.masks.float().unsqueeze(1), 4 * side)[:, 0] > 0.5).float()
    pointed = pointed_shares(batch.masks, batch.classes, side)  # (R, K + 1, h, w)
    everything = coarse.new_zeros(len(coarse), *pointed.shape[1:]).index_add(0, batch.rows, pointed)
    everything[:, -1] = 1 - everything[:, :-1].sum(1)
    features = coarse.new_zeros(len(batch.rows), *coarse.shape[1:])
    masks = {"focal": coarse.new_zeros(()), "dice": coarse.new_zeros(()), "iou": coarse.new_zeros(())}
    counts = (batch.prompts.labels != PADDING_LABEL).sum(1)
    for count in counts.unique().tolist():
        own = torch.nonzero(counts == count).squeeze(1)
        maps = [each[batch.rows[own]] for each in (coarse, fine, middle)]
        logits, quality, seen = segmenter.decode((maps[0], maps[1], maps[2]), batch.prompts.rows(own))
        features = features.index_copy(0, own, seen)
        masks["focal"] = masks["focal"] + focal_loss(logits, target[own])
        masks["dice"] = masks["dice"] + dice_loss(logits, target[own])
        masks["iou"] = masks["iou"] + (quality - mask_iou(logits > 0, target[own] > 0)).square().sum()
    weights = {"focal": 20.0, "dice": 4.0, "iou": 0.5}
    unprompted = segmentation_features(segmenter.sam, coarse, batch.grids)
    signs = batch.meetings.signs(len(batch.rows), segmenter.side)
    return {name: weights[name] * value / len(batch.rows) for name, value in masks.items()} | {
        "all": 0.3 * cell_loss(segmenter.all(coarse), everything),
        "pointed": 0.5 * cell_loss(segmenter.pointed(features), pointed),
        "order": 3.0 * order_loss(segmenter.order(batch.meetings.pooled(features))[:, 0], batch.meetings),
        "tokens": segmenter.codes.region_loss(segmenter.connector(features), _coarser(segmenter, pointed), signs),
        "grid_tokens": 0.3
        * token_loss(segmenter.connector(unprompted), segmenter.codes.pointed, _coarser(segmenter, everything)),
    }


def order_loss(logits: Tensor, meetings: Meetings) -> Tensor:
    """Cross-entropy of "in front" for P meetings, logits (P,), 0 if there are none."""
    entropy = functional.binary_cross_entropy_with_logits(logits, meetings.in_front.float(), reduction="sum")
    return entropy / max(len(logits), 1)


def _coarser(segmenter: Segmenter, shares: Tensor) -> Tensor:
    """Shares of F_s's cells (B, K + 1, h, w) as those of the segmentation tokens', (B, K + 1, side, side)."""
    return functional.adaptive_avg_pool2d(shares, segmenter.side)


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss (gamma 2, alpha 0.25; arXiv 1708.02002), mean over pixels, sum over the R masks (R, H, W)."""
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    right = torch.exp(-entropy)
    alpha = 0.25 * target + 0.75 * (1 - target)
    return (alpha * (1 - right).square() * entropy).mean((1, 2)).sum()


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - dice coefficient of the probabilities, with one pixel of smoothing, sum over the R masks (R, H, W)."""
    probability = logits.sigmoid()
    both = (probability * target).sum((1, 2))
    return (1 - (2 * both + 1) / (probability.sum((1, 2)) + target.sum((1, 2)) + 1)).sum()


def mask_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of bool masks (R, H, W), (R,) float; 1 where both are empty."""
    union = (a | b).sum((1, 2))
    return torch.where(union > 0, (a & b).sum((1, 2)) / union.clamp(min=1), 1.0)
