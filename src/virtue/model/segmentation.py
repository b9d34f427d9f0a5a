"""The segmentation stream: a picture and a visual prompt become segmentation tokens.

    prompt ─► SAM-2 prompt encoder ┐
    image  ─► SAM-2 image encoder ─┴► two-way transformer of the mask decoder ─► F_s (C, h, w)
                                      ─► Conv2d(C, C, kernel k, stride k) ─► Linear, GELU, Linear ─► H_s (S tokens, D)

SAM-2 is `transformers`' own `Sam2Model`. Two things differ from calling it as a whole: no mask is decoded (F_s is the
image side of the two-way transformer, and its last token-to-image attention is not needed for it), and rows whose
visual prompts have different numbers of points are computed in groups of equal length, because a padded point is a
token that the image attends to.

Letters: N images, R rows (one visual prompt each), P points, C channels of SAM-2's map, h x w its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Sam2Config, Sam2Model
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.sam2.modeling_sam2 import Sam2MultiScaleAttention, do_pool, eager_attention_forward

PADDING_LABEL = -10  # a slot that holds no point; dropped before SAM-2 sees it


@dataclass(frozen=True)
class SamPrompts:
    """Visual prompts of R rows in SAM-2's frame.

    Attributes:
        points: XY in pixels of SAM-2's square input, (R, P, 2) float32; a box is its two corners.
        labels: (R, P) int64: 1 include, 0 exclude, 2 and 3 a box's corners, `PADDING_LABEL` for an empty slot.
        masks: Logits of mask prompts at a quarter of SAM-2's input, (R, 1, 4h, 4w), or None when no row has one.
        has_mask: Rows whose mask counts, (R,) bool, or None when no row has one.
    """

    points: Tensor
    labels: Tensor
    masks: Tensor | None = None
    has_mask: Tensor | None = None

    def to(self, device: torch.device) -> SamPrompts:
        """The same prompts on another device."""
        masks = None if self.masks is None else self.masks.to(device)
        has_mask = None if self.has_mask is None else self.has_mask.to(device)
        return SamPrompts(self.points.to(device), self.labels.to(device), masks, has_mask)

    def rows(self, index: Tensor) -> SamPrompts:
        """The prompts of some rows, cut to their longest list of points."""
        labels = self.labels[index]
        length = int((labels != PADDING_LABEL).sum(1).max()) if len(index) else 0
        masks = has_mask = None
        if self.masks is not None and self.has_mask is not None and bool(self.has_mask[index].any()):
            masks, has_mask = self.masks[index], self.has_mask[index]
        return SamPrompts(self.points[index, :length], labels[:, :length], masks, has_mask)


class Connector(nn.Module):
    """SAM-2's feature map to segmentation tokens in the language model's width.

    Args:
        channels: C of the map.
        stride: Side of the square of cells that becomes one token.
        hidden_size: D.
        depth: Linear layers after the convolution, GELU between them; all but the last keep the channels.
    """

    def __init__(self, channels: int, stride: int, hidden_size: int, depth: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=stride, stride=stride)
        inner = [layer for _ in range(depth - 1) for layer in (nn.Linear(channels, channels), nn.GELU())]
        self.mlp = nn.Sequential(*inner, nn.Linear(channels, hidden_size))

    def forward(self, features: Tensor) -> Tensor:
        """Map F_s (R, C, h, w) to H_s (R, S, D), row-major over the map."""
        reduced = self.conv(features.to(self.conv.weight.dtype)).flatten(2).transpose(1, 2)  # (R, S, C)
        tokens: Tensor = self.mlp(reduced)
        return tokens


class HieraAttention(Sam2MultiScaleAttention):
    """The image encoder's attention as `transformers` has it, but without the weights between the heads of one place.

    Those it computes, an eighth of a small encoder's time, and does not use.
    """

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """Attend within each window, (windows, height, width, channels); a query stride makes the result smaller."""
        windows, height, width, _ = hidden_states.shape
        projected = self.qkv(hidden_states).reshape(windows, height * width, 3, self.num_attention_heads, -1)
        query, key, value = projected.unbind(2)  # (windows, height * width, heads, channels / heads)
        if self.query_stride:
            query = do_pool(query.reshape(windows, height, width, -1), self.query_stride)
            height, width = query.shape[1:3]
            query = query.reshape(windows, height * width, self.num_attention_heads, -1)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        heads = (each.transpose(1, 2) for each in (query, key, value))
        attended, _ = attend(self, *heads, attention_mask=None, is_causal=False, scaling=self.scale, **kwargs)
        output: Tensor = self.proj(attended.reshape(windows, height, width, -1))
        return output


def build_sam(config: Sam2Config) -> Sam2Model:
    """A new `Sam2Model` whose prompt encoder and image share one positional code.

    `transformers` draws the two codes independently; without a shared one a click and the place it points at have
    nothing in common and nothing is localised. (On the meta device there is nothing to copy: the weights bring both.)
    """
    sam = Sam2Model(config)
    for module in sam.vision_encoder.modules():
        if type(module) is Sam2MultiScaleAttention:
            module.__class__ = HieraAttention
    sam.prompt_encoder.shared_embedding.positional_embedding.data.copy_(sam.shared_image_embedding.positional_embedding)
    return sam


def encode_sam_image(sam: Sam2Model, pixel_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """SAM-2's image features, with the finer two that mask previews need.

    Args:
        sam: The segmentation model.
        pixel_values: Normalised pictures, (N, 3, size, size).

    Returns:
        The map that prompts meet (N, C, h, w), and the two finer maps that only mask previews need, (N, C/8, 4h, 4w)
        and (N, C/4, 2h, 2w).
    """
    maps = sam.get_image_features(pixel_values.to(sam.dtype), return_dict=True).fpn_hidden_states
    fine, middle, coarse = (
        features.permute(1, 2, 0).unflatten(2, tuple(size))
        for features, size in zip(maps, sam.backbone_feature_sizes, strict=True)
    )
    return coarse + sam.no_memory_embedding.view(1, -1, 1, 1), fine, middle


def encode_sam_map(sam: Sam2Model, pixel_values: Tensor) -> Tensor:
    """The map that prompts meet alone, (N, C, h, w), as `encode_sam_image` gives it.

    The finer levels of the feature pyramid are not computed, nor positional codes that nothing reads.
    """
    encoder = sam.vision_encoder
    stages = encoder.backbone(pixel_values.to(sam.dtype)).intermediate_hidden_states
    convolutions, top = encoder.neck.convs, len(stages) - 1
    features = convolutions[0](stages[top].permute(0, 3, 1, 2))
    for level in range(top - 1, encoder.num_feature_levels - 2, -1):
        lateral = convolutions[top - level](stages[level].permute(0, 3, 1, 2))
        from_above = level in encoder.neck.fpn_top_down_levels
        features = lateral + nn.functional.interpolate(features, scale_factor=2.0) if from_above else lateral
    coarse: Tensor = features + sam.no_memory_embedding.view(1, -1, 1, 1)
    return coarse


def encode_prompts(sam: Sam2Model, prompts: SamPrompts) -> tuple[Tensor, Tensor]:
    """Sparse tokens and dense map of visual prompts that all have the same number of points.

    Args:
        sam: The segmentation model.
        prompts: R prompts without empty slots.

    Returns:
        Sparse embeddings (R, P + 1, C), the last one SAM-2's "not a point", and dense embeddings (R, C, h, w).
    """
    encoder = sam.prompt_encoder
    sparse, dense = encoder(
        input_points=prompts.points.unsqueeze(1),
        input_labels=prompts.labels.unsqueeze(1),
        input_boxes=None,
        input_masks=None,
    )
    if prompts.masks is not None and prompts.has_mask is not None:
        masked = encoder.mask_embed(prompts.masks.to(dense.dtype))
        dense = torch.where(prompts.has_mask.view(-1, 1, 1, 1), masked, dense)
    return sparse.squeeze(1).to(dense.dtype), dense


def segmentation_features(sam: Sam2Model, image_features: Tensor, prompts: SamPrompts) -> Tensor:
    """F_s: the image side of the mask decoder's two-way transformer, for each row's visual prompt.

    Args:
        sam: The segmentation model.
        image_features: Each row's image map, (R, C, h, w).
        prompts: The rows' visual prompts.

    Returns:
        (R, C, h, w).
    """
    counts = (prompts.labels != PADDING_LABEL).sum(1)
    output = image_features.new_empty(image_features.shape)
    for count in counts.unique().tolist():
        rows = torch.nonzero(counts == count).squeeze(1)
        output = output.index_copy(0, rows, _two_way(sam, image_features[rows], prompts.rows(rows)))
    return output


def _two_way(sam: Sam2Model, image_features: Tensor, prompts: SamPrompts) -> Tensor:
    decoder = sam.mask_decoder
    sparse, dense = encode_prompts(sam, prompts)
    learned = torch.cat([decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([learned.expand(len(sparse), -1, -1), sparse], dim=1).unsqueeze(1)  # (R, 1, 6 + P + 1, C)
    where = sam.get_image_wide_positional_embeddings().flatten(2).transpose(1, 2).unsqueeze(1).to(sparse.dtype)
    queries, keys = tokens, (image_features + dense).flatten(2).transpose(1, 2).unsqueeze(1)  # keys (R, 1, h * w, C)
    for layer in decoder.transformer.layers:
        queries, keys, _ = layer(
            queries=queries,
            keys=keys,
            query_point_embedding=tokens,
            key_point_embedding=where.expand_as(keys),
            attention_similarity=None,
        )
    return keys.squeeze(1).transpose(1, 2).reshape(image_features.shape)


def decode_masks(
    sam: Sam2Model, image_features: Tensor, fine: Tensor, middle: Tensor, prompts: SamPrompts
) -> tuple[Tensor, Tensor]:
    """Mask logits and predicted IoU of each row's visual prompt, SAM-2's single-mask output.

    Args:
        sam: The segmentation model.
        image_features: Each row's image map, (R, C, h, w).
        fine: Each row's (C/8, 4h, 4w) map.
        middle: Each row's (C/4, 2h, 2w) map.
        prompts: The rows' visual prompts.

    Returns:
        Logits (R, 4h, 4w) over SAM-2's square frame, and predicted IoU in [0, 1], (R,).
    """
    counts = (prompts.labels != PADDING_LABEL).sum(1)
    logits = fine.new_empty(len(fine), *fine.shape[-2:])
    quality = fine.new_empty(len(fine))
    for count in counts.unique().tolist():
        rows = torch.nonzero(counts == count).squeeze(1)
        sparse, dense = encode_prompts(sam, prompts.rows(rows))
        where = sam.get_image_wide_positional_embeddings().expand(len(rows), -1, -1, -1).to(dense.dtype)
        masks, iou, *_ = sam.mask_decoder(
            image_embeddings=image_features[rows],
            image_positional_embeddings=where,
            sparse_prompt_embeddings=sparse.unsqueeze(1),
            dense_prompt_embeddings=dense,
            multimask_output=False,
            high_resolution_features=[fine[rows], middle[rows]],
        )
        logits = logits.index_copy(0, rows, masks[:, 0, 0].to(logits.dtype))
        quality = quality.index_copy(0, rows, iou[:, 0, 0].to(quality.dtype))
    return logits, quality
