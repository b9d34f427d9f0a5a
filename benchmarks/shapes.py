"""Models with random weights at the shapes that are measured; no file is read and nothing is downloaded."""

from typing import Any

import torch
from transformers import Qwen2VLConfig, Sam2Config

from virtue.embedder import Embedder
from virtue.model import VirtueConfig, VirtueModel
from virtue.training.architecture import nano_config, nano_model, nano_processor, nano_tokenizer

SIDE = 1024  # pixels of SAM-2's square input
WORDS = "a dog cat car tree is on under beside behind the beach street snow forest red small".split()


def tiny() -> Embedder:
    """A Qwen2-VL of three layers and a SAM-2 of 16 channels at 1024 x 1024 pixels, its decoder of full size."""
    return _embedder(_vlm(64, layers=3, heads=4), _sam([16, 32, 64, 128], [1, 2, 3, 2], [1, 2, 4, 8], [4], [7, 7]))


def base_plus() -> Embedder:
    """SAM-2.1 base-plus as published, beside a Qwen2-VL of four narrow layers."""
    sam = _sam([112, 224, 448, 896], [2, 3, 16, 3], [2, 4, 8, 16], [12, 16, 20], [14, 14])
    return _embedder(_vlm(256, layers=4, heads=4), sam)


def nano() -> Embedder:
    """The bundled model's shape, for a checkout that has no weights yet."""
    return Embedder(nano_model(0), nano_processor(nano_tokenizer(iter(WORDS))), name="nano, random weights")


def _embedder(vlm: Qwen2VLConfig, sam: Sam2Config) -> Embedder:
    torch.manual_seed(0)
    config = VirtueConfig(vlm_config=vlm, sam_config=sam)
    processor = nano_processor(nano_tokenizer(iter(WORDS)))
    processor.config = config
    return Embedder(VirtueModel(config), processor, name="random weights")


def _vlm(width: int, layers: int, heads: int) -> Qwen2VLConfig:
    half = width // heads // 2
    text: dict[str, Any] = {
        "vocab_size": 1536,
        "hidden_size": width,
        "intermediate_size": 5 * width // 2,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [half - 2 * (3 * half // 8), 3 * half // 8, 3 * half // 8],
        },
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": width, "num_heads": 2, "mlp_ratio": 4}
    ids = {name: nano_config().vlm_config.to_dict()[name] for name in _TOKEN_IDS}
    return Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)


_TOKEN_IDS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


def _sam(widths: list[int], blocks: list[int], heads: list[int], whole: list[int], window: list[int]) -> Sam2Config:
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": widths[0],
        "num_attention_heads": heads[0],
        "image_size": [SIDE, SIDE],
        "blocks_per_stage": blocks,
        "embed_dim_per_stage": widths,
        "num_attention_heads_per_stage": heads,
        "window_size_per_stage": [8, 4, 14, 7],
        "global_attention_blocks": whole,
        "window_positional_embedding_background_size": window,
    }
    return Sam2Config(vision_config={"backbone_config": backbone, "backbone_channel_list": widths[::-1]})
