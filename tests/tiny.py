"""Tiny random models, their tokenizer and pictures, made in milliseconds and the same in every run.

SAM-2 reads 64 x 64 pixels and has a 4 x 4 map of 16 channels, of which 2 x 2 segmentation tokens are made. A vision
tower makes one image token of 28 x 28 pixels (32 x 32 for Qwen3-VL). The tokenizer's tokens are bytes, so a text of n
ASCII letters has n tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerFast, Sam2Config
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from virtue.embedder import Embedder
from virtue.model import VirtueConfig, VirtueModel, VirtueProcessor
from virtue.templates import END_TOKEN, IMAGE_TOKEN

BACKBONES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
WIDTH = 32
SAM_SIDE = 64
SPECIAL_TOKENS = [END_TOKEN, IMAGE_TOKEN, "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]


def vlm_config(backbone: str = "qwen2_vl") -> PreTrainedConfig:
    text: dict[str, Any] = {
        "vocab_size": len(SPECIAL_TOKENS) + 256,
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 256,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 3, 3]},
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    vision: dict[str, Any] = {"depth": 3, "hidden_size": WIDTH, "num_heads": 2}
    if backbone == "qwen2_vl":
        vision |= {"embed_dim": WIDTH, "mlp_ratio": 2}
    else:
        vision |= {"intermediate_size": 48, "out_hidden_size": WIDTH}
    if backbone == "qwen2_5_vl":
        vision |= {"window_size": 56, "fullatt_block_indexes": [1]}
    if backbone == "qwen3_vl":
        text |= {"head_dim": 16}
        vision |= {"num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
    ids = {"image_token_id": 1, "video_token_id": 2, "vision_start_token_id": 3, "vision_end_token_id": 4}
    return AutoConfig.for_model(backbone, text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)


def sam_config() -> Sam2Config:
    widths = [8, 16, 32, 64]
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": widths[0],
        "num_attention_heads": 1,
        "image_size": [SAM_SIDE, SAM_SIDE],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": widths,
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [4, 2, 4, 4],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
    }
    vision = {
        "backbone_config": backbone,
        "backbone_channel_list": widths[::-1],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 16,
        "fpn_top_down_levels": [2, 3],
    }
    decoder = {"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    prompts = {"hidden_size": 16, "image_size": SAM_SIDE, "patch_size": 16, "mask_input_channels": 16}
    return Sam2Config(vision_config=vision, mask_decoder_config=decoder, prompt_encoder_config=prompts)


def tiny_config(backbone: str = "qwen2_vl", *, sam: bool = True, **settings: Any) -> VirtueConfig:
    settings = {"connector_stride": 2} | settings
    return VirtueConfig(vlm_config=vlm_config(backbone), sam_config=sam_config() if sam else None, **settings)


def tiny_model(config: VirtueConfig | None = None, seed: int = 0) -> VirtueModel:
    """A model in evaluation mode whose weights are large enough for everything to matter."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = VirtueModel(config or tiny_config())
        for module in model.modules():
            for name, weight in module.named_parameters(recurse=False):
                if weight.dim() == 1:
                    weight.normal_(0.0 if name == "bias" else 1.0, 0.05)
                elif isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
                    weight.normal_(0.0, weight[0].numel() ** -0.5)
                else:
                    weight.normal_(0.0, 0.5)
    return model.eval()


def tiny_tokenizer(*, padding_side: str = "right", longest: int = 64) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=END_TOKEN,
        eos_token=END_TOKEN,
        additional_special_tokens=SPECIAL_TOKENS[1:],
        padding_side=padding_side,
        model_max_length=longest,
        clean_up_tokenization_spaces=False,
    )


def tiny_processor(config: VirtueConfig, *, padding_side: str = "right", longest: int = 64) -> VirtueProcessor:
    """A picture is read at 56 x 56 to 112 x 112 pixels (Qwen3-VL: 64 x 64 to 128 x 128), aspect kept."""
    patch = config.vlm_config.vision_config.patch_size
    size = {"shortest_edge": (4 * patch) ** 2, "longest_edge": (8 * patch) ** 2}
    images = Qwen2VLImageProcessorPil(patch_size=patch, size=size)
    return VirtueProcessor(images, tiny_tokenizer(padding_side=padding_side, longest=longest), config)


def tiny_embedder(*, sam: bool = True, position_rule: str = "image_frame", seed: int = 0) -> Embedder:
    """An embedder of 32 dimensions."""
    config = tiny_config(sam=sam, position_rule=position_rule)
    return Embedder(tiny_model(config, seed), tiny_processor(config), name="tiny")


def picture(width: int = 80, height: int = 60, seed: int = 0) -> Image.Image:
    """Coloured blocks, a different set for each seed."""
    colours = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST)
