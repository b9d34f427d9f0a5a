"""The vision tower over pictures of one size, as one batch.

`transformers` computes attention picture by picture, because pictures may differ in size: many small kernels, which a
GPU cannot be kept busy with. Here all are of one size. On a CPU attention is computed step by step: the gradients of
the fused kernel take far longer there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision
from transformers.vision_utils import get_vision_position_ids

from virtue.training.pictures import PictureBytes


def image_tokens(visual: Any, pictures: PictureBytes) -> Tensor:
    """Image tokens H_v of N pictures, (N, T, D): what `visual`, a Qwen2-VL vision tower, gives one by one."""
    count = len(pictures)
    hidden = visual.patch_embed(pictures.patches())  # (N * P, E)
    grid = pictures.patch_grid[:1]
    places = get_vision_position_ids(grid, visual.spatial_merge_size, kwargs={}).to(hidden.device)
    cos, sin = visual.rotary_pos_emb(hidden, places)
    turns = cos.repeat(count, 1), sin.repeat(count, 1)
    for block in visual.blocks:
        hidden = hidden + _attention(block.attn, block.norm1(hidden), turns, count)
        hidden = hidden + block.mlp(block.norm2(hidden))
    tokens: Tensor = visual.merger(hidden)
    return torch.stack(tokens.chunk(count))


def _attention(layer: Any, hidden: Tensor, turns: tuple[Tensor, Tensor], count: int) -> Tensor:
    parts = layer.qkv(hidden).unflatten(1, (3, layer.num_heads, -1)).unbind(1)  # each (N * P, heads, width)
    turned = apply_rotary_pos_emb_vision(parts[0], parts[1], *turns)
    query, key, value = (part.unflatten(0, (count, -1)).transpose(1, 2) for part in (*turned, parts[2]))
    if hidden.device.type == "cpu":
        scores = query @ key.transpose(2, 3) * layer.scaling
        mixed = functional.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype) @ value
    else:
        mixed = functional.scaled_dot_product_attention(query, key, value.to(query.dtype))
    output: Tensor = layer.proj(mixed.transpose(1, 2).flatten(2).flatten(0, 1))
    return output
