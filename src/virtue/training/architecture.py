"""The bundled model's shape: a VIRTUE of a few million parameters, its tokenizer and its starting weights.

Everything is the full model made small: SAM-2 at 256 x 256 pixels with 64 channels (64 segmentation tokens), a
Qwen2-VL of five layers (64 image tokens). Three choices are not just smaller. M-RoPE's base is 4, because a million
leaves no phase between neighbouring tokens of an 8 x 8 picture, and relations are never learnt. A segmentation token
summarises 2 x 2 cells of the map, because 4 x 4 blur what lies in front of what. And weights start at
the scale of their layer's width, because transformers' fixed 0.02 is far too small for 24 channels, and drowns what
tells a box's corner from a click.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen2VLConfig, Sam2Config
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from virtue.model import VirtueConfig, VirtueModel, VirtueProcessor
from virtue.model.sam_weights import config_from_meta
from virtue.model.segmentation import Connector
from virtue.templates import END_TOKEN, IMAGE_TOKEN

SAM_SIDE = 256
CHANNELS = 64
PIXELS = 224 * 224  # area that the vision tower reads, 64 tokens when the picture is square
VOCABULARY = 1536
SPECIAL_TOKENS = [END_TOKEN, IMAGE_TOKEN, "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]


def nano_config() -> VirtueConfig:
    """The configuration of the bundled model."""
    return VirtueConfig(
        vlm_config=_vlm_config(),
        sam_config=_sam_config(),
        connector_stride=2,
        template="virtue",
        position_rule="image_frame",
    )


def _vlm_config() -> Qwen2VLConfig:
    text: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 5,
        "num_attention_heads": 6,
        "num_key_value_heads": 6,
        "max_position_embeddings": 128,
        "rope_parameters": {"rope_type": "default", "rope_theta": 4.0, "mrope_section": [4, 6, 6]},
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    vision = {"depth": 6, "embed_dim": 128, "hidden_size": 192, "num_heads": 4, "mlp_ratio": 4, "hidden_act": "gelu"}
    ids = {"image_token_id": 1, "video_token_id": 2, "vision_start_token_id": 3, "vision_end_token_id": 4}
    return Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)


def _sam_config() -> Sam2Config:
    trunk = {
        "embed_dim": 24,
        "num_heads": 1,
        "stages": [2, 2, 6, 1],
        "global_att_blocks": [6, 9],
        "window_pos_embed_bkg_spatial_size": [8, 8],
        "window_spec": [8, 4, 8, 8],
    }
    neck = {"d_model": CHANNELS, "fpn_top_down_levels": [2, 3]}
    config = config_from_meta({"image_size": SAM_SIDE, "image_encoder": {"trunk": trunk, "neck": neck}})
    config.prompt_encoder_config.mask_input_channels = 16
    decoder = config.mask_decoder_config
    decoder.mlp_dim, decoder.num_attention_heads, decoder.iou_head_hidden_dim = 4 * CHANNELS, 4, CHANNELS
    decoder.dynamic_multimask_via_stability = False  # only the single-mask token is trained
    return config


def nano_tokenizer(texts: Iterator[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE learnt from captions: every word of the drawn world is one token, any other text still works."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=END_TOKEN,
        eos_token=END_TOKEN,
        additional_special_tokens=SPECIAL_TOKENS[1:],
        padding_side="right",
        model_max_length=64,
        clean_up_tokenization_spaces=False,
    )


def nano_processor(tokenizer: PreTrainedTokenizerFast) -> VirtueProcessor:
    """The bundled model's processor: a picture is read at about 224 x 224 pixels, aspect kept."""
    image_processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": PIXELS})
    return VirtueProcessor(image_processor, tokenizer, nano_config())


def nano_model(seed: int) -> VirtueModel:
    """The bundled model before training."""
    torch.manual_seed(seed)
    model = VirtueModel(nano_config())
    depths = {"sam": 11, "vlm.visual": 6, "vlm.language_model": 5}
    with torch.no_grad():
        for prefix, depth in depths.items():
            _scale_to_width(model.get_submodule(prefix), depth)
        start_connector(model.get_submodule("connector"))
        embeddings = model.get_input_embeddings()
        assert isinstance(embeddings, nn.Embedding)
        nn.init.normal_(embeddings.weight, std=0.5)
        for layer in model.get_submodule("sam").modules():
            if isinstance(layer, nn.Embedding):  # as loud as the positions they are added to
                nn.init.normal_(layer.weight, std=0.8)
    return model


@torch.no_grad()
def start_connector(connector: nn.Module) -> None:
    """Start a connector at the scale of its widths; its convolution, where there is one, as the mean of its cells."""
    _scale_to_width(connector, 1)
    if isinstance(connector, Connector):
        kernel = connector.conv.weight
        nn.init.dirac_(kernel[..., :1, :1])
        kernel.copy_(kernel[..., :1, :1].expand_as(kernel) / kernel[0, 0].numel())


def _scale_to_width(module: nn.Module, depth: int) -> None:
    """Start linear and convolution weights at 1 / sqrt(inputs), those that end a residual branch smaller still."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv3d):
            ends_branch = (
                name.endswith(("proj", "fc2", "o_proj", "down_proj", "proj_out")) and "patch_embed" not in name
            )
            scale = 1 / math.sqrt(2 * depth) if ends_branch else 1.0
            nn.init.trunc_normal_(layer.weight, std=scale / math.sqrt(layer.weight[0].numel()))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
