"""SAM-2 weights from where people have them: Meta's `.pt` files, and `facebook/sam2*-hiera-*` in transformers' layout.

Meta's state dict has other names than `Sam2Model` and holds the video memory too, which is dropped. The head counts and
the blocks with global attention cannot be read off tensor shapes: for the four public sizes they are in `TRUNKS`, for
any other model they come from Meta's own hyper-parameter file (`sam2.1_hiera_b+.yaml` and its like).
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import PreTrainedConfig, Sam2Config

from virtue.model.weight_files import (
    CheckpointError,
    State,
    find_folder,
    only_tensors,
    read_json,
    read_pickle,
    read_weights,
)

DEFAULT_SAM = "facebook/sam2.1-hiera-base-plus"
SAM_PATTERNS = ("config.json", "model*.safetensors", "model*.safetensors.index.json")

# Meta's hyper-parameters of the public sizes; what a trunk leaves out has Meta's default, `_TRUNK_DEFAULTS`.
TRUNKS: dict[str, dict[str, Any]] = {
    "tiny": {
        "embed_dim": 96,
        "num_heads": 1,
        "stages": [1, 2, 7, 2],
        "global_att_blocks": [5, 7, 9],
        "window_pos_embed_bkg_spatial_size": [7, 7],
    },
    "small": {
        "embed_dim": 96,
        "num_heads": 1,
        "stages": [1, 2, 11, 2],
        "global_att_blocks": [7, 10, 13],
        "window_pos_embed_bkg_spatial_size": [7, 7],
    },
    "base-plus": {"embed_dim": 112, "num_heads": 2},
    "large": {
        "embed_dim": 144,
        "num_heads": 2,
        "stages": [2, 6, 36, 4],
        "global_att_blocks": [23, 33, 43],
        "window_pos_embed_bkg_spatial_size": [7, 7],
        "window_spec": [8, 4, 16, 8],
    },
}
_TRUNK_DEFAULTS: dict[str, Any] = {
    "embed_dim": 96,
    "num_heads": 1,
    "stages": [2, 3, 16, 3],
    "global_att_blocks": [12, 16, 20],
    "window_pos_embed_bkg_spatial_size": [14, 14],
    "window_spec": [8, 4, 14, 7],
}
_SIZE_LETTERS = {"t": "tiny", "s": "small", "b+": "base-plus", "l": "large"}

_IMAGE_PARTS = ("vision_encoder.", "prompt_encoder.", "mask_decoder.", "shared_image_embedding.", "no_memory_embedding")
_VIDEO_PARTS = re.compile(
    r"(maskmem_tpos_enc|no_mem_pos_enc|no_obj_ptr|no_obj_embed_spatial|mask_downsample|memory_attention|memory_encoder"
    r"|obj_ptr_proj|obj_ptr_tpos_proj)(\.|$)"
)
# Applied in turn to each of Meta's names.
_RENAMES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"^no_mem_embed$", "no_memory_embedding"),
        (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
        (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
        (r"^sam_(prompt_encoder|mask_decoder)\.", r"\1."),
        (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
        (r"\.norm(\d)\.", r".layer_norm\1."),
        (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
        (r"\.out_proj\.", ".o_proj."),
        (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
        (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
        (r"(_mlps\.\d|_head)\.layers\.0\.", r"\1.proj_in."),
        (r"(_mlps\.\d|_head)\.layers\.1\.", r"\1.layers.0."),
        (r"(_mlps\.\d|_head)\.layers\.2\.", r"\1.proj_out."),
        (r"\.output_upscaling\.0\.", ".upscale_conv1."),
        (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
        (r"\.output_upscaling\.3\.", ".upscale_conv2."),
        (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
        (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
        (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
        (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
        (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
        (r"\.pe_layer\.positional_encoding_gaussian_matrix$", ".shared_embedding.positional_embedding"),
    ]
]
_POINT_EMBEDDINGS = [f"sam_prompt_encoder.point_embeddings.{label}.weight" for label in range(4)]
_CODES = ("prompt_encoder.shared_embedding.positional_embedding", "shared_image_embedding.positional_embedding")


def load_sam(
    source: str | Path, settings: dict[str, Any] | str | Path | None = None, revision: str | None = None
) -> tuple[Sam2Config, State]:
    """Read a SAM-2 from Meta's `.pt`, a folder, or a Hub id.

    Args:
        source: A `.pt` file, a folder in transformers' layout (of the image or the video model), or a Hub id.
        settings: Meta's hyper-parameters, a dictionary or a YAML or JSON file; only a `.pt` that is none of the four
            public sizes needs it.
        revision: Branch, tag or commit on the Hub.

    Returns:
        The configuration, and the state dict of a `Sam2Model`.

    Raises:
        CheckpointError: If something is missing, unreadable or does not fit.
    """
    path = Path(source)
    if path.is_file():
        content = read_pickle(path)
        return from_meta(only_tensors(content.get("model", content), path, "model"), path, settings)
    if path.suffix in (".pt", ".pth"):
        raise CheckpointError(f"{path} is missing; give SAM-2 weights as Meta's .pt file, a folder or a Hub id.")
    if settings is not None:
        raise CheckpointError(f"SAM-2 settings belong to a .pt file of Meta's, and {source} is none; leave them out.")
    folder = find_folder(source, SAM_PATTERNS, revision)
    return _folder_config(folder), _one_code(
        {k: v for k, v in read_weights(folder).items() if k.startswith(_IMAGE_PARTS)}
    )


def from_meta(
    state: State, path: Path, settings: dict[str, Any] | str | Path | None = None
) -> tuple[Sam2Config, State]:
    """Configuration and `Sam2Model` state dict of Meta's state dict; the video memory is dropped.

    Args:
        state: The content of a `.pt` file under `model`.
        path: That file, for messages.
        settings: As in `load_sam`.

    Raises:
        CheckpointError: If the tensors are not those of a SAM-2, or its size is not public and `settings` is missing.
    """
    missing = [key for key in ("image_encoder.trunk.patch_embed.proj.weight", *_POINT_EMBEDDINGS) if key not in state]
    if missing:
        raise CheckpointError(f"{path} is no SAM-2 checkpoint of Meta's: it lacks {missing[0]}.")
    config = config_from_meta(read_settings(settings)) if settings is not None else config_from_shapes(state, path)
    kept = {
        key: tensor for key, tensor in state.items() if not _VIDEO_PARTS.match(key) and key not in _POINT_EMBEDDINGS
    }
    renamed = {_rename(key): tensor for key, tensor in kept.items()}
    renamed["prompt_encoder.point_embed.weight"] = torch.cat([state[key] for key in _POINT_EMBEDDINGS])
    return config, _one_code(renamed)


def config_from_meta(settings: dict[str, Any]) -> Sam2Config:
    """The configuration that Meta's hyper-parameters describe.

    Args:
        settings: The content of a `sam2*_hiera_*.yaml`, or what stands there under `model`.

    Raises:
        CheckpointError: If there is no image encoder in it.
    """
    model = settings.get("hydra_model") or settings.get("model") or settings
    try:
        encoder = model["image_encoder"]
        trunk, neck = {**_TRUNK_DEFAULTS, **encoder["trunk"]}, encoder["neck"]
        return _config(trunk, int(neck["d_model"]), int(model.get("image_size", 1024)), neck.get("fpn_top_down_levels"))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"The SAM-2 settings are not Meta's (image_encoder with trunk and neck): {error!r} is missing or wrong."
        ) from error


def config_from_shapes(state: State, path: Path) -> Sam2Config:
    """The configuration of one of the four public sizes, recognised by width and blocks per stage.

    Args:
        state: Meta's state dict.
        path: Its file, for messages.

    Raises:
        CheckpointError: If it is none of the four.
    """
    width, stages = _trunk_shape(state)
    for trunk in ({**_TRUNK_DEFAULTS, **given} for given in TRUNKS.values()):
        if (trunk["embed_dim"], trunk["stages"]) == (width, stages):
            return _config(trunk, 256, 1024, [2, 3])
    raise CheckpointError(
        f"{path} is none of the public SAM-2 sizes (width {width}, blocks per stage {stages}); give its YAML or JSON "
        "hyper-parameters as the SAM-2 settings."
    )


def size_name(config: Sam2Config) -> str | None:
    """Which public size a configuration is: "tiny", "small", "base-plus", "large" or None."""
    vision = config.vision_config
    assert isinstance(vision, PreTrainedConfig)
    backbone = vision.backbone_config
    for name, given in TRUNKS.items():
        trunk = {**_TRUNK_DEFAULTS, **given}
        if (trunk["embed_dim"], trunk["stages"]) == (backbone.hidden_size, list(backbone.blocks_per_stage)):
            return name
    return None


def config_path(config: Sam2Config) -> str | None:
    """The authors' name for a public size, `configs/sam2.1/sam2.1_hiera_b+.yaml`; None for any other."""
    name = size_name(config)
    letters = {size: letter for letter, size in _SIZE_LETTERS.items()}
    return f"configs/sam2.1/sam2.1_hiera_{letters[name]}.yaml" if name else None


def hub_id(path: str | None) -> str | None:
    """The Hub id of the SAM-2 that the authors' `config_path` names; None if it is no public size.

    Args:
        path: Such as `configs/sam2.1/sam2.1_hiera_b+.yaml`; None means what all released checkpoints use.
    """
    if path is None:
        return DEFAULT_SAM
    match = re.search(r"(sam2(?:\.1)?)_hiera_(t|s|b\+|l)\.ya?ml$", str(path))
    return f"facebook/{match[1]}-hiera-{_SIZE_LETTERS[match[2]]}" if match else None


def read_settings(settings: dict[str, Any] | str | Path) -> dict[str, Any]:
    """Meta's hyper-parameters: a dictionary as it is, or the content of a YAML or JSON file.

    Raises:
        CheckpointError: If the file is missing or unreadable.
    """
    if isinstance(settings, dict):
        return settings
    path = Path(settings)
    if path.suffix == ".json":
        return read_json(path)
    import yaml  # type: ignore[import-untyped]  # comes with transformers

    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path} is not readable as SAM-2 settings in YAML: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold SAM-2 settings by name, not a {type(value).__name__}.")
    return value


def _config(trunk: dict[str, Any], width: int, image_size: int, top_down: list[int] | None) -> Sam2Config:
    widths = [trunk["embed_dim"] * 2**stage for stage in range(4)]
    maps = [[image_size // step] * 2 for step in (4, 8, 16)]
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": trunk["embed_dim"],
        "num_attention_heads": trunk["num_heads"],
        "image_size": [image_size, image_size],
        "window_positional_embedding_background_size": list(trunk["window_pos_embed_bkg_spatial_size"]),
        "blocks_per_stage": list(trunk["stages"]),
        "embed_dim_per_stage": widths,
        "num_attention_heads_per_stage": [trunk["num_heads"] * 2**stage for stage in range(4)],
        "window_size_per_stage": list(trunk["window_spec"]),
        "global_attention_blocks": list(trunk["global_att_blocks"]),
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": widths[::-1],
        "backbone_feature_sizes": maps,
        "fpn_hidden_size": width,
        "fpn_top_down_levels": list(top_down) if top_down is not None else [0, 1, 2, 3],
    }
    prompt = {"hidden_size": width, "image_size": image_size}
    return Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config={"hidden_size": width})


def _folder_config(folder: Path) -> Sam2Config:
    """The image parts of a `sam2` or `sam2_video` configuration."""
    fields = read_json(folder / "config.json")
    if fields.get("model_type") not in ("sam2", "sam2_video"):
        raise CheckpointError(
            f"{folder / 'config.json'} is of a {fields.get('model_type')!r} model; give a SAM-2 in transformers' "
            f"layout, such as {DEFAULT_SAM}."
        )
    parts = {
        name: fields[name]
        for name in ("vision_config", "prompt_encoder_config", "mask_decoder_config")
        if name in fields
    }
    try:
        for name in ("prompt_encoder_config", "mask_decoder_config"):  # the video model's parts are named otherwise
            parts[name] = {key: value for key, value in parts.get(name, {}).items() if key != "model_type"}
        return Sam2Config(**parts)
    except (TypeError, ValueError, AttributeError, KeyError, StrictDataclassError) as error:
        raise CheckpointError(
            f"{folder / 'config.json'} has a setting that SAM-2 does not accept ({error}); get it again."
        ) from error


def _trunk_shape(state: State) -> tuple[int, list[int]]:
    """Width of the first stage and blocks per stage; a stage begins where a block widens, that is, has a projection."""
    prefix = "image_encoder.trunk.blocks."
    blocks = sum(key.startswith(prefix) and key.endswith(".norm1.weight") for key in state)
    starts = [0, *(block for block in range(blocks) if f"{prefix}{block}.proj.weight" in state), blocks]
    width = state["image_encoder.trunk.patch_embed.proj.weight"].shape[0]
    return width, [end - start for start, end in pairwise(starts)]


def _rename(key: str) -> str:
    for pattern, replacement in _RENAMES:
        key = pattern.sub(replacement, key)
    return key


def _one_code(state: State) -> State:
    """`Sam2Model` keeps the positional code twice, for prompts and for the image; it is one code."""
    code: Tensor | None = next((state[key] for key in _CODES if key in state), None)
    return state if code is None else {**state, **{key: code.clone() for key in _CODES}}
