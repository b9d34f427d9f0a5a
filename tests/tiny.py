"""Tiny random models and pictures, made without a network: a Qwen2-VL of two layers and a SAM-2 of 64 x 64 pixels.

Weights are scaled up so that an embedding really depends on its visual prompt, picture and words: with the 0.02 of
transformers a mistake in half the tokens might hide below 1e-5.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2VLConfig, Sam2Config
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from virtue.embedder import Embedder
from virtue.model import VirtueConfig, VirtueModel, VirtueProcessor
from virtue.templates import END_TOKEN, IMAGE_TOKEN

SAM_SIDE = 64
CHANNELS = 16
WIDTH = 32
SPECIAL_TOKENS = [END_TOKEN, IMAGE_TOKEN, "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]


def tiny_tokenizer(padding_side: str = "right") -> PreTrainedTokenizerFast:
    """One token per byte, after the special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=END_TOKEN,
        eos_token=END_TOKEN,
        additional_special_tokens=SPECIAL_TOKENS[1:],
        padding_side=padding_side,
        model_max_length=96,
    )


def tiny_config(
    *, segmentation: bool = True, position_rule: str = "image_frame", template: str = "virtue"
) -> VirtueConfig:
    """Four segmentation tokens, pictures of 4 to 16 image tokens, 32 dimensions."""
    return VirtueConfig(
        vlm_config=_vlm_config(),
        sam_config=_sam_config() if segmentation else None,
        connector_stride=2,
        position_rule=position_rule,
        template=template,
    )


def _vlm_config() -> Qwen2VLConfig:
    text = {
        "vocab_size": 272,
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 3, 3]},
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": WIDTH, "num_heads": 2, "mlp_ratio": 2}
    ids = {"image_token_id": 1, "video_token_id": 2, "vision_start_token_id": 3, "vision_end_token_id": 4}
    return Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)


def _sam_config() -> Sam2Config:
    widths = [8, 16, 32, 64]
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": widths[0],
        "num_attention_heads": 1,
        "image_size": [SAM_SIDE, SAM_SIDE],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": widths,
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 4, 4, 2],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
    }
    vision = {
        "backbone_config": backbone,
        "backbone_channel_list": widths[::-1],
        "backbone_feature_sizes": [[SAM_SIDE // stride, SAM_SIDE // stride] for stride in (4, 8, 16)],
        "fpn_hidden_size": CHANNELS,
        "fpn_top_down_levels": [2, 3],
    }
    decoder = {"hidden_size": CHANNELS, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": CHANNELS}
    # Mask prompts pass a norm over a quarter of their channels; over a single one it would forget the mask.
    prompts = {"hidden_size": CHANNELS, "image_size": SAM_SIDE, "patch_size": 16, "mask_input_channels": 16}
    return Sam2Config(vision_config=vision, mask_decoder_config=decoder, prompt_encoder_config=prompts)


def tiny_model(config: VirtueConfig, seed: int = 0) -> VirtueModel:
    """Random weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = VirtueModel(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1 and "positional" not in name:
                    parameter.normal_(std=1.0 / parameter[0].numel() ** 0.5)
    return model


def tiny_processor(config: VirtueConfig, padding_side: str = "right") -> VirtueProcessor:
    """Pictures are read at 4 to 16 image tokens."""
    image_processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 112 * 112})
    return VirtueProcessor(image_processor, tiny_tokenizer(padding_side), config)


def tiny_embedder(*, segmentation: bool = True, position_rule: str = "image_frame", seed: int = 0) -> Embedder:
    """An embedder of 32 dimensions."""
    config = tiny_config(segmentation=segmentation, position_rule=position_rule)
    return Embedder(tiny_model(config, seed), tiny_processor(config), name="tiny")


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Coarse random colours, so that places in it differ."""
    colours = np.random.default_rng([seed, width, height]).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)
