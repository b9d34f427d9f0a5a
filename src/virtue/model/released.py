"""The authors' layout, as files and names: what `checkpoints.py` reads models from and writes them back to.

    config.json                         flat Qwen2-VL configuration, plus `virtue_sam`
    model*.safetensors                  Qwen2-VL weights `visual.*`, `model.*`, or the newer `model.visual.*`; or .bin
    sam2_reducer_and_vlm_layer.pth      the connector: {"sam2_reducer": conv, "sam2vlm_layer": MLP}
    preprocessor_config.json, tokenizer files

SAM-2's weights are not among them; the authors fetch Meta's. Where this project writes the layout, it puts them beside,
in `sam2/`, in transformers' layout. VLM2Vec's checkpoints are the same without `virtue_sam` and the connector.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig, Sam2Config

from virtue.model.configuration_virtue import VirtueConfig
from virtue.model.processing_virtue import VirtueProcessor
from virtue.model.sam_weights import config_path
from virtue.model.weight_files import CheckpointError, State, only_tensors, read_json, read_pickle, write_json

CONNECTOR_FILE = "sam2_reducer_and_vlm_layer.pth"
SAM_FOLDER = "sam2"
VLM_PATTERNS = ("*.json", "model*.safetensors", "pytorch_model*.bin", "merges.txt", "*.jinja")
RELEASED_PATTERNS = (*VLM_PATTERNS, CONNECTOR_FILE, f"{SAM_FOLDER}/*", "adapter_model.*")
VLM_TYPES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
LARGEST_IMAGE = 1280 * 28 * 28  # pixels; the authors' code sets it over whatever the checkpoint says

# Where the language model and the vision tower have been kept, over the versions of transformers; longest first.
_PREFIXES = {
    "model.language_model.": "vlm.language_model.",
    "language_model.model.": "vlm.language_model.",
    "language_model.": "vlm.language_model.",
    "model.visual.": "vlm.visual.",
    "visual.": "vlm.visual.",
    "model.": "vlm.language_model.",
}
_CONNECTOR = {"sam2_reducer": "connector.conv.", "sam2vlm_layer": "connector.mlp."}


def read_vlm_config(folder: Path) -> tuple[PreTrainedConfig, dict[str, Any] | None]:
    """The vision-language model's configuration and the authors' `virtue_sam`, None where there is none.

    Raises:
        CheckpointError: If `config.json` is unreadable or describes something else.
    """
    path = folder / "config.json"
    fields = read_json(path)
    sam = fields.pop("virtue_sam", None)
    model_type = fields.pop("model_type", None)
    if model_type == "virtue":
        raise CheckpointError(f"{folder} is in this project's own layout: load it with VirtueModel.from_pretrained.")
    if model_type not in VLM_TYPES:
        raise CheckpointError(f"{path} is of a {model_type!r} model; the layout holds one of {', '.join(VLM_TYPES)}.")
    try:
        config: PreTrainedConfig = AutoConfig.for_model(model_type, **fields)
    except (TypeError, ValueError, AttributeError, KeyError, StrictDataclassError) as error:
        raise CheckpointError(
            f"{path} has a setting that {model_type} does not accept ({error}); get it again."
        ) from error
    config.get_text_config().rope_parameters.pop("type", None)  # the older name of rope_type, kept beside it
    return config, sam if isinstance(sam, dict) and sam.get("enabled", True) else None


def virtue_config(vlm: PreTrainedConfig, sam: Sam2Config | None, stride: int, settings: dict[str, Any]) -> VirtueConfig:
    """The configuration with which released weights compute what their authors' code computed.

    Args:
        vlm: Configuration of the vision-language model.
        sam: Configuration of SAM-2, or None for a VLM2Vec checkpoint.
        stride: The connector's stride.
        settings: The authors' `virtue_sam`.
    """
    if sam is None:
        return VirtueConfig(vlm_config=vlm, sam_config=None, position_rule="released", template="vlm2vec")
    points = settings.get("points_per_side", 3)
    return VirtueConfig(
        vlm_config=vlm, sam_config=sam, connector_stride=stride, points_per_side=points, **VirtueConfig.as_released()
    )


def from_released(state: State) -> State:
    """The vision-language model's tensors under our names; `lm_head` is dropped, an embedder computes no logits."""
    kept = {key: t for key, t in state.items() if key != "lm_head.weight" and not key.endswith(".rotary_emb.inv_freq")}
    return {vlm_key(key): tensor for key, tensor in kept.items()}


def vlm_key(key: str) -> str:
    """Our name for a tensor or module of a vision-language checkpoint; our own names stay as they are."""
    if key.startswith(("vlm.", "sam.", "connector.")):
        return key
    for theirs, ours in _PREFIXES.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return f"vlm.{key}"


def read_connector(path: Path) -> State:
    """The connector's tensors under our names.

    Raises:
        CheckpointError: If the file is missing, unreadable or holds something else.
    """
    content = read_pickle(path)
    missing = [part for part in _CONNECTOR if part not in content]
    if missing:
        raise CheckpointError(f"{path} is no connector of the authors': it lacks {missing[0]!r}.")
    state = {
        ours + key: tensor
        for part, ours in _CONNECTOR.items()
        for key, tensor in only_tensors(content[part], path, part).items()
    }
    kernel = state.get("connector.conv.weight")
    if kernel is None or kernel.ndim != 4:
        raise CheckpointError(f"{path} is no connector of the authors': sam2_reducer must hold a convolution's weight.")
    return state


def write_connector(state: State, path: Path) -> None:
    """Write the connector's tensors, given under our names, as the authors' file."""
    content = {
        part: {key.removeprefix(ours): tensor.contiguous() for key, tensor in state.items() if key.startswith(ours)}
        for part, ours in _CONNECTOR.items()
    }
    torch.save(content, path)


def to_released(state: State) -> State:
    """The vision-language model's tensors under the authors' names, contiguous."""
    names = {"vlm.visual.": "visual.", "vlm.language_model.": "model."}
    return {
        theirs + key.removeprefix(ours): tensor.contiguous()
        for ours, theirs in names.items()
        for key, tensor in state.items()
        if key.startswith(ours)
    }


def write_processor(processor: VirtueProcessor, folder: Path) -> None:
    """Write image processor and tokenizer as the authors' transformers 4.52 reads them.

    Version 5 calls the tokenizer's further special tokens `extra_special_tokens`, a list that version 4 trips over, and
    leaves out the pixel limits under their older names.
    """
    processor.image_processor.save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    fields = read_json(path)
    if isinstance(fields.get("extra_special_tokens"), list):
        fields["additional_special_tokens"] = fields.pop("extra_special_tokens")
    write_json(fields, path)
    path = folder / "preprocessor_config.json"
    fields = read_json(path)
    size = fields["size"]
    write_json(fields | {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}, path)


def released_config(config: VirtueConfig, dtype: torch.dtype) -> dict[str, Any]:
    """`config.json` of the authors' layout: the flat form that their code and older versions of transformers read.

    Args:
        config: Configuration of a model with the authors' settings.
        dtype: Of the weights.
    """
    assert isinstance(config.vlm_config, PreTrainedConfig)
    nested = config.vlm_config.to_dict()
    text, vision = nested.pop("text_config"), nested.pop("vision_config")
    rope = text.pop("rope_parameters")
    flat = {key: value for key, value in {**nested, **text}.items() if key not in ("dtype", "layer_types")}
    flat |= {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
        "tie_word_embeddings": True,  # there is no lm_head: nothing is computed with it
        "torch_dtype": str(dtype).removeprefix("torch."),
        "vision_config": {key: v for key, v in vision.items() if key not in ("rope_parameters", "dtype")}
        | {"model_type": "qwen2_vl"},
    }
    if isinstance(config.sam_config, Sam2Config):
        flat["virtue_sam"] = {
            "enabled": True,
            "config_path": config_path(config.sam_config),
            "checkpoint": None,
            "points_per_side": config.points_per_side,
            "feature_levels": 2,
        }
    return flat
