"""Checkpoints in and out: the authors' layout, SAM-2 weights, VLM2Vec checkpoints, PEFT adapters, and new models.

    model, processor = load_released("Sony/VIRTUE-2B-SCaR")
    load_adapter(model, "their/adapter", merge=True)
    save_released(model, processor, "back")
    compose("Qwen/Qwen2.5-VL-3B-Instruct", "facebook/sam2.1-hiera-small")

What the weights were trained with is set in the configuration (`VirtueConfig.as_released`), so a model loaded here and
saved with `save_pretrained` goes on computing what its authors' code computed. `released.py` describes the layout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoTokenizer, PreTrainedConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from virtue.model.adapters import ADAPTER_CONFIG, load_adapter
from virtue.model.configuration_virtue import VirtueConfig
from virtue.model.modeling_virtue import VirtueModel
from virtue.model.processing_virtue import VirtueProcessor
from virtue.model.quiet import no_progress_bars
from virtue.model.released import (
    CONNECTOR_FILE,
    LARGEST_IMAGE,
    RELEASED_PATTERNS,
    SAM_FOLDER,
    VLM_PATTERNS,
    VLM_TYPES,
    from_released,
    read_connector,
    read_vlm_config,
    released_config,
    to_released,
    virtue_config,
    write_connector,
    write_processor,
)
from virtue.model.sam_weights import DEFAULT_SAM, hub_id, load_sam
from virtue.model.segmentation import Connector
from virtue.model.weight_files import (
    CheckpointError,
    State,
    check_tensors,
    find_folder,
    read_json,
    read_weights,
    weight_file,
    write_json,
)

__all__ = [
    "CheckpointError",
    "compose",
    "is_released",
    "load_adapter",
    "load_released",
    "load_saved",
    "merge_adapter",
    "save_released",
]

EMBEDDINGS = "vlm.language_model.embed_tokens.weight"


def is_released(folder: str | Path) -> bool:
    """Whether a folder holds the authors' layout, or VLM2Vec's, rather than this project's own."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        return (Path(folder) / ADAPTER_CONFIG).is_file()  # an adapter that names its model
    return read_json(path).get("model_type") in VLM_TYPES


def load_saved(folder: Path, dtype: torch.dtype | str | None = None) -> tuple[VirtueModel, VirtueProcessor]:
    """Load a checkpoint in this project's own layout, as `save_pretrained` of model and processor writes it.

    Args:
        folder: The checkpoint.
        dtype: Of the whole model; by default that of its weights.

    Returns:
        The model, in evaluation mode on the CPU, and its processor.

    Raises:
        CheckpointError: If a file is missing, unreadable or does not fit; the message names it and the remedy.
    """
    kind = read_json(folder / "config.json").get("model_type")
    if kind != "virtue":
        raise CheckpointError(
            f"{folder / 'config.json'} describes a {kind!r} model, which is no VIRTUE or VLM2Vec embedder."
        )
    try:
        config = VirtueConfig.from_pretrained(folder)
        processor = VirtueProcessor.from_pretrained(folder)
    except Exception as error:  # at a broken file transformers and tokenizers raise almost anything
        raise CheckpointError(
            f"{folder} lacks a readable configuration or tokenizer ({_in_a_line(error)}); get it again."
        ) from error
    weights = weight_file(folder) or folder
    return build(config, read_weights(folder), dict.fromkeys(("vlm", "sam", "connector"), weights), dtype), processor


def load_released(
    name: str | Path,
    *,
    sam: str | Path | None = None,
    sam_config: dict[str, Any] | str | Path | None = None,
    revision: str | None = None,
    dtype: torch.dtype | str | None = None,
) -> tuple[VirtueModel, VirtueProcessor]:
    """Load a checkpoint in the authors' layout, or VLM2Vec's, to compute what its authors' code computed.

    Args:
        name: A folder or a Hub id, such as `Sony/VIRTUE-2B-SCaR`.
        sam: SAM-2 weights: Meta's `.pt`, a folder or a Hub id; by default those beside the checkpoint, else the public
            ones that its `virtue_sam` names.
        sam_config: Meta's hyper-parameters (a dictionary, a YAML or JSON file) of a `.pt` that is no public size.
        revision: Branch, tag or commit of `name` on the Hub.
        dtype: Of the whole model, such as torch.float32 or "bfloat16"; by default that of the VLM's weights.

    Returns:
        The model, in evaluation mode on the CPU, and its processor.

    Raises:
        CheckpointError: If a file is missing, unreadable or does not fit; the message names it and the remedy.
    """
    folder = find_folder(name, RELEASED_PATTERNS, revision)
    adapter = weight_file(folder) is None and (folder / ADAPTER_CONFIG).is_file()
    base = _base_of_adapter(folder) if adapter else folder
    vlm, settings = read_vlm_config(folder if (folder / "config.json").is_file() else base)
    state = from_released(read_weights(base))
    places = {"vlm": weight_file(base) or base}
    segmenter, stride = None, 1
    if settings is not None:
        connector = read_connector(folder / CONNECTOR_FILE)
        source = sam or _default_sam(folder, settings)
        segmenter, weights = load_sam(source, sam_config)
        stride = connector["connector.conv.weight"].shape[-1]
        state |= connector | {f"sam.{key}": tensor for key, tensor in weights.items()}
        places |= {"connector": folder / CONNECTOR_FILE, "sam": Path(source)}
    elif sam is not None:
        raise CheckpointError(f"{folder} has no segmentation stream (no virtue_sam in config.json): leave out `sam`.")
    try:
        config = virtue_config(vlm, segmenter, stride, settings or {})
    except (TypeError, ValueError, StrictDataclassError) as error:
        raise CheckpointError(
            f"{folder / 'config.json'} has settings that make no sense ({_in_a_line(error)}); get it again."
        ) from error
    model = build(config, state, places, torch.float32 if adapter else dtype)
    if adapter:
        model = merge_adapter(model, folder, dtype or state[EMBEDDINGS].dtype)
    return model, _processor(folder if (folder / "preprocessor_config.json").is_file() else base, config)


def merge_adapter(model: VirtueModel, name: str | Path, dtype: torch.dtype | str) -> VirtueModel:
    """The model with an adapter in its weights, rounded once, after the sum: so it is the same in every precision.

    Args:
        model: The model that the adapter was trained on, in float32; it is used up.
        name: A PEFT folder or a Hub id.
        dtype: Of the result.

    Raises:
        CheckpointError: If the adapter is missing or unreadable, or does not fit the model.
    """
    load_adapter(model, name, merge=True)
    return build(model.config, model.state_dict(), {}, dtype)


def compose(
    vlm: str | Path,
    sam: str | Path | None,
    *,
    revision: str | None = None,
    dtype: torch.dtype | str | None = None,
    **settings: Any,
) -> tuple[VirtueModel, VirtueProcessor]:
    """Join a pretrained vision-language model and a pretrained SAM-2 by a new connector, to be trained.

    The connector is drawn from torch's generator: seed it to get the same one again. Pictures are read at a million
    pixels at most, whatever the checkpoint says.

    Args:
        vlm: A Qwen2-VL, Qwen2.5-VL or Qwen3-VL in transformers' layout, folder or Hub id.
        sam: SAM-2 weights of a public size: Meta's `.pt`, a folder or a Hub id; None for an embedder without a
            segmentation stream, as VLM2Vec is.
        revision: Branch, tag or commit of `vlm` on the Hub.
        dtype: Of the whole model, such as torch.float32 or "bfloat16"; by default that of the VLM's weights.
        settings: Fields of `VirtueConfig` that are not to have their defaults, such as `template`.

    Returns:
        The model, in evaluation mode on the CPU, and its processor.

    Raises:
        CheckpointError: If a file is missing, unreadable or does not fit; the message names it and the remedy.
    """
    folder = find_folder(vlm, VLM_PATTERNS, revision)
    vlm_config, _ = read_vlm_config(folder)
    state = from_released(read_weights(folder))
    sources = {"vlm": weight_file(folder) or folder}
    if sam is None:
        config = VirtueConfig(vlm_config=vlm_config, sam_config=None, **settings)
        return build(config, state, sources, dtype), _processor(folder, config)
    sam_config, weights = load_sam(sam)
    config = VirtueConfig(vlm_config=vlm_config, sam_config=sam_config, **settings)
    channels = sam_config.mask_decoder_config.hidden_size
    connector = Connector(channels, config.connector_stride, config.hidden_size, config.connector_depth)
    state |= {f"sam.{key}": tensor for key, tensor in weights.items()}
    state |= {f"connector.{key}": tensor for key, tensor in connector.state_dict().items()}
    return build(config, state, sources | {"sam": Path(sam)}, dtype), _processor(folder, config)


def save_released(model: VirtueModel, processor: VirtueProcessor, folder: str | Path) -> None:
    """Write a model in the authors' layout, tensor for tensor what `load_released` reads.

    SAM-2's weights, which are no part of that layout, go into `sam2/` in transformers' layout, where
    `load_released` looks first.

    Args:
        model: A model with the authors' settings; adapters merged.
        processor: Its processor.
        folder: Where to, made if need be.

    Raises:
        CheckpointError: If the authors' code would compute something else with these weights.
    """
    config = model.config
    assert isinstance(config.vlm_config, PreTrainedConfig)
    if config.vlm_config.model_type != "qwen2_vl":
        raise CheckpointError(f"The authors' layout holds a qwen2_vl model, not {config.vlm_config.model_type}.")
    expected: dict[str, Any] = {"position_rule": "released"}
    if config.sam_config is not None:
        expected = VirtueConfig.as_released() | {"connector_depth": 2}
    wrong = [key for key, value in expected.items() if getattr(config, key) != value]
    if wrong:
        raise CheckpointError(
            f"The authors' layout has no place for {wrong[0]} = {getattr(config, wrong[0])!r}: their code would "
            "compute other embeddings with these weights; save them with save_pretrained."
        )
    state: State = model.state_dict()
    if any(".base_layer." in key for key in state):
        raise CheckpointError("Merge the adapter (load_adapter with merge=True) before saving in the authors' layout.")
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    write_processor(processor, target)
    save_torch_state_dict(to_released(state), target, metadata={"format": "pt"})
    if model.sam is not None:
        write_connector(state, target / CONNECTOR_FILE)
        model.sam.config.save_pretrained(target / SAM_FOLDER)
        save_torch_state_dict(model.sam.state_dict(), target / SAM_FOLDER, metadata={"format": "pt"})
    write_json(released_config(config, model.dtype), target / "config.json")


def build(
    config: VirtueConfig, state: State, places: dict[str, Path], dtype: torch.dtype | str | None = None
) -> VirtueModel:
    """A model of a configuration and all its tensors.

    Args:
        config: The configuration.
        state: The tensors under our names.
        places: The file that the tensors of "vlm", "sam" and "connector" came from, for messages.
        dtype: Of the whole model; by default that of the token embeddings in `state`.

    Raises:
        CheckpointError: If a tensor is missing, left over or of another shape than the configuration says.
    """
    try:
        with torch.device("meta"):
            shapes = {key: tuple(tensor.shape) for key, tensor in VirtueModel(config).state_dict().items()}
    except Exception as error:  # a size that divides nothing, an activation that does not exist: each has its own
        where = " or ".join(str(places[part]) for part in ("vlm", "sam") if part in places)
        raise CheckpointError(
            f"The config.json{f' beside {where}' if where else ''} describes no model that can be built "
            f"({type(error).__name__}: {_in_a_line(error)}); get it again."
        ) from error
    check_tensors(state, shapes, places)
    kind = dtype or state[EMBEDDINGS].dtype
    with no_progress_bars():
        model: VirtueModel = VirtueModel.from_pretrained(None, config=config, state_dict=state, dtype=kind)
    model.eval()
    return model


def _in_a_line(error: Exception) -> str:
    """What an error says, in one line and without a full stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _default_sam(folder: Path, settings: dict[str, Any]) -> str | Path:
    """SAM-2 weights beside the checkpoint, or the public ones that `virtue_sam` names."""
    if (folder / SAM_FOLDER).is_dir():
        return folder / SAM_FOLDER
    checkpoint = settings.get("checkpoint")
    if checkpoint and (folder / Path(str(checkpoint)).name).is_file():
        return folder / Path(str(checkpoint)).name
    found = hub_id(settings.get("config_path"))
    if found is None:
        raise CheckpointError(
            f"{folder / 'config.json'} names the SAM-2 {settings.get('config_path')!r}, which is no public size: give "
            f"its weights as `sam` (Meta's .pt, a folder, or a Hub id such as {DEFAULT_SAM})."
        )
    return found


def _processor(folder: Path, config: VirtueConfig) -> VirtueProcessor:
    try:
        images = Qwen2VLImageProcessorPil.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # as in `load_saved`
        raise CheckpointError(
            f"{folder} lacks a readable preprocessor_config.json or tokenizer.json; complete the download "
            f"({_in_a_line(error)})."
        ) from error
    images.size["longest_edge"] = min(images.size["longest_edge"], LARGEST_IMAGE)
    return VirtueProcessor(images, tokenizer, config)


def _base_of_adapter(folder: Path) -> Path:
    """The folder of the model, in the authors' layout, that an adapter names as its own."""
    base = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not base:
        raise CheckpointError(
            f"{folder} holds an adapter but no model, and {ADAPTER_CONFIG} does not say which it belongs to: load the "
            "model, then the adapter with load_adapter."
        )
    place = find_folder(str(base), VLM_PATTERNS)
    if not is_released(place):
        raise CheckpointError(
            f"{folder} holds an adapter of {base}: load that and name the adapter, as in "
            f"Embedder.from_pretrained({str(base)!r}, adapter={str(folder)!r})."
        )
    return place
