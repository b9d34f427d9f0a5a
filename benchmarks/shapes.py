"""Models with random weights at the shapes that are measured; no file is read and nothing is downloaded."""

from typing import Any

import torch
from transformers import Qwen2VLConfig, Sam2Config

from virtue.embedder import Embedder
from virtue.model import VirtueConfig, VirtueModel
from virtue.model.sam_weights import config_from_meta
from virtue.training.architecture import nano_config, nano_model, nano_processor, nano_tokenizer

WORDS = "a dog cat car tree is on under beside behind the beach street snow forest red small".split()


def tiny() -> Embedder:
    """A Qwen2-VL of three layers and a SAM-2 of 16 channels at 1024 x 1024 pixels, its decoder of full size."""
    stages = {"stages": [1, 2, 3, 2], "global_att_blocks": [4], "window_pos_embed_bkg_spatial_size": [7, 7]}
    return _embedder(_vlm(64, layers=3, heads=4), _sam(embed_dim=16, num_heads=1, **stages))


def base_plus() -> Embedder:
    """SAM-2.1 base-plus as published, beside a Qwen2-VL of four narrow layers."""
    return _embedder(_vlm(256, layers=4, heads=4), _sam())


def released(size: str = "2B", *, sam: bool = True, **less: int) -> VirtueConfig:
    """Qwen2-VL of 2 or 7 billion parameters with SAM-2.1 base-plus, as the released checkpoints have them.

    Args:
        size: "2B" or "7B".
        sam: With a segmentation stream.
        less: "layers" of the language model, "blocks" of the vision tower, "vocabulary"; as published if left out.
    """
    text, vision = _RELEASED_TEXT | _RELEASED_WIDTHS[size], _RELEASED_VISION
    text |= {"num_hidden_layers": less.get("layers", 28)}
    if "vocabulary" in less:
        text |= {"vocab_size": less["vocabulary"], "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}
    vision = vision | {"depth": less.get("blocks", 32), "hidden_size": text["hidden_size"]}
    vlm = Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=size == "2B", **_token_ids(less))
    return VirtueConfig(vlm_config=vlm, sam_config=_sam() if sam else None)


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
    return Qwen2VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True, **_token_ids({"vocabulary": 1536})
    )


def _token_ids(less: dict[str, int]) -> dict[str, int]:
    """The bundled tokenizer's ids for a small vocabulary, Qwen2-VL's own (its configuration's defaults) for a whole."""
    return {name: nano_config().vlm_config.to_dict()[name] for name in _TOKEN_IDS} if "vocabulary" in less else {}


_TOKEN_IDS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


# config.json of Qwen/Qwen2-VL-2B-Instruct and -7B-Instruct
_RELEASED_TEXT: dict[str, Any] = {
    "max_position_embeddings": 32768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
_RELEASED_WIDTHS: dict[str, dict[str, Any]] = {
    "2B": {
        "vocab_size": 151936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
    },
    "7B": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
}
_RELEASED_VISION: dict[str, Any] = {"embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4}


def _sam(**trunk: Any) -> Sam2Config:
    """A SAM-2 at 1024 x 1024 pixels by Meta's names for its trunk; what is left out is that of base-plus."""
    base, neck = {"embed_dim": 112, "num_heads": 2}, {"d_model": 256, "fpn_top_down_levels": [2, 3]}
    return config_from_meta({"image_encoder": {"trunk": base | trunk, "neck": neck}})
