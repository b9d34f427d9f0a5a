"""Stage 1: a nano SAM-2 learns promptable segmentation on generated scenes.

Masks alone would leave F_s with shape and no meaning (a real SAM-2 has seen a billion masks), so two linear heads,
thrown away afterwards, ask the features what they show: one asks F_s for the class of the thing pointed at, one asks
the image map for everything. The loss is 20 focal + 4 dice on the mask, the predicted IoU, and the two classes.

Letters: N images, R prompts, C channels, K classes and one more for nothing.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from virtue.model import VirtueModel, VirtueProcessor
from virtue.model.segmentation import PADDING_LABEL, SamPrompts, encode_prompts, encode_sam_image
from virtue.prompts import VisualPrompt
from virtue.scenes.renderer import Scene, render
from virtue.scenes.vocabulary import OBJECTS, object_id
from virtue.training.prompting import KINDS, draw_prompt

KIND_WEIGHTS = (0.32, 0.28, 0.15, 0.15, 0.1)  # of prompting.KINDS
NOTHING_WEIGHT = 0.05  # of cells that show no object


class Segmenter(nn.Module):
    """SAM-2 with the two heads that teach it meaning."""

    def __init__(self, model: VirtueModel) -> None:
        super().__init__()
        assert model.sam is not None
        self.sam = model.sam
        channels = model.sam.config.mask_decoder_config.hidden_size
        self.pointed = nn.Conv2d(channels, len(OBJECTS) + 1, 1)
        self.all = nn.Conv2d(channels, len(OBJECTS) + 1, 1)

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


class SegmentationBatches:
    """Scenes of a step with one visual prompt for every object.

    Args:
        processor: Makes the tensors.
        images: Scenes per step.
        seed: Of the run; a step's scenes and prompts follow from it and the step's number.
    """

    def __init__(self, processor: VirtueProcessor, images: int, seed: int) -> None:
        self.processor, self.images, self.seed = processor, images, seed

    def __call__(self, step: int) -> tuple[Tensor, SamPrompts, Tensor, Tensor, Tensor]:
        """Pictures (N, 3, size, size), prompts, their images (R,), masks (R, size, size) bool and classes (R,)."""
        rng = np.random.default_rng([self.seed, 1, step])
        first = int(self.seed) * 10_000_000 + step * self.images
        scenes = [render(first + i) for i in range(self.images)]
        prompts: list[VisualPrompt] = []
        for scene in scenes:
            kinds = rng.choice(len(KINDS), len(scene.objects), p=KIND_WEIGHTS)
            prompts += [draw_prompt(KINDS[k], thing.mask, rng) for k, thing in zip(kinds, scene.objects, strict=True)]
        pixels = sam_pixels(self.processor, scenes)
        things = [thing for scene in scenes for thing in scene.objects]
        rows = torch.tensor([i for i, scene in enumerate(scenes) for _ in scene.objects])
        sam_prompts = self.processor.prompt_inputs(prompts, [thing.mask.shape[::-1] for thing in things])
        masks = torch.from_numpy(np.stack([thing.mask for thing in things]))
        classes = torch.tensor([object_id(thing.name) for thing in things])
        return pixels, sam_prompts, rows, masks, classes


def sam_pixels(processor: VirtueProcessor, scenes: list[Scene]) -> Tensor:
    """The scenes as SAM-2 takes them, (N, 3, size, size)."""
    return processor.image_inputs([Image.fromarray(scene.image) for scene in scenes])["sam_pixel_values"]


def segmentation_losses(
    segmenter: Segmenter, batch: tuple[Tensor, SamPrompts, Tensor, Tensor, Tensor]
) -> dict[str, Tensor]:
    """Loss terms of one step.

    Args:
        segmenter: What learns.
        batch: As `SegmentationBatches` makes it.
    """
    pixels, prompts, rows, masks, classes = batch
    coarse, fine, middle = encode_sam_image(segmenter.sam, pixels)
    side = coarse.shape[-1]
    share = functional.adaptive_avg_pool2d(masks.float().unsqueeze(1), side).squeeze(1)  # (R, h, w)
    target = (functional.adaptive_avg_pool2d(masks.float().unsqueeze(1), 4 * side).squeeze(1) > 0.5).float()
    everything = coarse.new_zeros(len(pixels), len(OBJECTS), side, side)
    everything = everything.index_put((rows, classes), share)
    terms = {"all": 0.3 * cell_loss(segmenter.all(coarse), everything)}
    sums = {"focal": coarse.new_zeros(()), "dice": coarse.new_zeros(()), "iou": coarse.new_zeros(())}
    sums["pointed"] = coarse.new_zeros(())
    counts = (prompts.labels != PADDING_LABEL).sum(1)
    for count in counts.unique().tolist():
        own = torch.nonzero(counts == count).squeeze(1)
        image = rows[own]
        logits, quality, features = segmenter.decode((coarse[image], fine[image], middle[image]), prompts.rows(own))
        sums["focal"] = sums["focal"] + focal_loss(logits, target[own])
        sums["dice"] = sums["dice"] + dice_loss(logits, target[own])
        sums["iou"] = sums["iou"] + (quality - mask_iou(logits > 0, target[own] > 0)).square().sum()
        wanted = features.new_zeros(len(own), len(OBJECTS), side, side)
        wanted[torch.arange(len(own)), classes[own]] = share[own]
        sums["pointed"] = sums["pointed"] + cell_loss(segmenter.pointed(features), wanted) * len(own)
    weights = {"focal": 20.0, "dice": 4.0, "iou": 0.5, "pointed": 1.0}
    return terms | {name: weights[name] * value / len(classes) for name, value in sums.items()}


def cell_loss(logits: Tensor, shares: Tensor) -> Tensor:
    """Cross-entropy of every cell with the classes that cover it, mean over objects' cells and, lightly, empty ones.

    Args:
        logits: (N, K + 1, h, w), the last class nothing.
        shares: How much of each cell each class covers, (N, K, h, w) in [0, 1].
    """
    nothing = (1 - shares.sum(1, keepdim=True)).clamp(min=0)
    target = torch.cat([shares, nothing], dim=1)
    weight = 1 - (1 - NOTHING_WEIGHT) * nothing.squeeze(1)  # (N, h, w)
    entropy = -(target * functional.log_softmax(logits, dim=1)).sum(1)
    return (entropy * weight).sum() / weight.sum()


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
