"""LoRA and DoRA adapters: PEFT folders of the authors, of VLM2Vec, and of this project's training, attached or merged.

The authors' adapters name modules of `Qwen2VLForConditionalGeneration`. They are renamed and aimed at just the modules
they have tensors for: by suffix alone, as PEFT folders say it, `q_proj` would also match SAM-2's. PEFT itself puts them
in (`PreTrainedModel.load_adapter` of transformers 5.23 leaves DoRA's magnitudes out).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file
from torch import nn

from virtue.model.modeling_virtue import VirtueModel
from virtue.model.released import CONNECTOR_FILE, read_connector, vlm_key
from virtue.model.weight_files import (
    CheckpointError,
    State,
    check_tensors,
    find_folder,
    only_tensors,
    read_json,
    read_pickle,
    read_tensors,
)

if TYPE_CHECKING:
    from peft import LoraConfig

ADAPTER_CONFIG = "adapter_config.json"
CONNECTOR = "connector.safetensors"  # beside an adapter of this project, which trains the connector too
ADAPTER_PATTERNS = (ADAPTER_CONFIG, "adapter_model.safetensors", "adapter_model.bin", CONNECTOR, CONNECTOR_FILE)
_SETTINGS = ("r", "lora_alpha", "use_dora", "use_rslora", "fan_in_fan_out", "lora_bias")
_PATTERNS = ("rank_pattern", "alpha_pattern")
# Settings that change more of a model than the layers that an adapter adds, and their values that do not.
_MUST_BE: dict[str, tuple[object, ...]] = {
    "bias": ("none", None),
    "modules_to_save": (None, []),
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal", None),
    "alora_invocation_tokens": (None,),
}


def load_adapter(
    model: VirtueModel, name: str | Path, *, merge: bool = False, trainable: bool = False, revision: str | None = None
) -> None:
    """Attach a LoRA or DoRA adapter to a model, in place.

    A connector that lies beside the adapter, as `save_adapter` and the authors' training write it, is loaded too.

    Args:
        model: The model that the adapter was trained on.
        name: A PEFT folder or a Hub id.
        merge: Add it into the weights, so that nothing is left to compute at run time.
        trainable: Leave its weights trainable.
        revision: Branch, tag or commit on the Hub.

    Raises:
        CheckpointError: If a file is missing or unreadable, or the adapter does not fit the model.
    """
    folder = find_folder(name, ADAPTER_PATTERNS, revision)
    config_path = folder / ADAPTER_CONFIG
    fields = read_json(config_path)
    if fields.get("peft_type") != "LORA":
        raise CheckpointError(
            f"{config_path} is of peft_type {fields.get('peft_type')!r}; only LORA (and DoRA) adapters can be loaded."
        )
    for setting, harmless in _MUST_BE.items():
        if fields.get(setting) not in harmless:
            raise CheckpointError(
                f"{config_path} has {setting} = {fields[setting]!r}, which changes more than an adapter's own layers; "
                "merge it with the code that trained it and load the whole model."
            )
    state, path = _read_adapter(folder)
    modules = dict(model.named_modules())
    ours = {vlm_key(key): tensor for key, tensor in state.items()}
    for module in _adapted(ours):
        if module not in modules:
            raise CheckpointError(
                f"{path} adapts {module}, which this model does not have: it belongs to another model."
            )
    for connector in (folder / CONNECTOR, folder / CONNECTOR_FILE):
        if connector.is_file() and model.connector is not None:
            _load_connector(model, connector)
    training = model.training
    _inject(model, ours, path, _lora_config(config_path, fields, state, trainable))
    if merge:
        merge_layers(model)
    model.train(training)


def add_adapter(
    model: VirtueModel, *, rank: int, alpha: int, dropout: float, dora: bool, targets: Sequence[str]
) -> None:
    """Put a new LoRA or DoRA adapter around linear layers of the language model, in place and trainable.

    Its A matrices are gaussian and its B matrices 0, so the model computes what it did before. What learns is float32.

    Args:
        model: To adapt.
        rank: Of the update matrices.
        alpha: The update is scaled by alpha / rank.
        dropout: Of the adapter's input while training.
        dora: Learn magnitude and direction apart.
        targets: Last names of the layers, such as "q_proj".

    Raises:
        ValueError: If a setting is out of range or no layer has such a name.
    """
    from peft import LoraConfig, inject_adapter_in_model

    if rank < 1 or not 0 <= dropout < 1:
        raise ValueError(f"An adapter has a rank of 1 or more and a dropout in [0, 1), not {rank} and {dropout}.")
    linear = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    inside = [name for name in linear if name.startswith("vlm.language_model.")]
    if unknown := [target for target in targets if not any(name.endswith(f".{target}") for name in inside)]:
        have = sorted({name.rpartition(".")[2] for name in inside})
        raise ValueError(f"The language model has no layer {unknown[0]!r} to adapt; it has {', '.join(have)}.")
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        use_dora=dora,
        init_lora_weights="gaussian",
        target_modules=[name for name in inside if name.rpartition(".")[2] in targets],
    )
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()
    model._hf_peft_config_loaded = True  # as `load_adapter` leaves a model


def save_adapter(model: VirtueModel, folder: Path, base: str) -> None:
    """Write a model's adapter as a PEFT folder, and its connector beside it; `load_adapter` reads both.

    Args:
        model: With an adapter attached.
        folder: Made if need be.
        base: Name of the model that the adapter belongs to, for `adapter_config.json`.
    """
    from peft import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"base_model.model.{key}": t for key, t in get_peft_model_state_dict(model).items()}
    save_file({key: t.detach().cpu().contiguous() for key, t in tensors.items()}, folder / "adapter_model.safetensors")
    config = model.peft_config["default"]
    config.base_model_name_or_path = base
    config.save_pretrained(folder)
    if model.connector is not None:
        state = {f"connector.{key}": t.detach().cpu() for key, t in model.connector.state_dict().items()}
        save_file(state, folder / CONNECTOR)


def _read_adapter(folder: Path) -> tuple[State, Path]:
    """An adapter's tensors under its own modules' names, and the file they came from."""
    path = folder / "adapter_model.safetensors"
    if path.is_file() or not (folder / "adapter_model.bin").is_file():
        state = read_tensors(path)
    else:
        path = folder / "adapter_model.bin"
        state = only_tensors(read_pickle(path), path, "the top")
    strange = [key for key in state if ".lora_" not in key]
    if strange or not state:
        raise CheckpointError(f"{path} is no LoRA adapter: it holds {strange[0] if strange else 'nothing'}.")
    return {key.removeprefix("base_model.model."): tensor for key, tensor in state.items()}, path


def _adapted(state: State) -> list[str]:
    """The modules that an adapter's tensors belong to."""
    return sorted({key.split(".lora_")[0] for key in state})


def _lora_config(path: Path, fields: dict[str, object], state: State, trainable: bool) -> LoraConfig:
    from peft import LoraConfig

    given = {key: fields[key] for key in _SETTINGS if key in fields}
    targets = [vlm_key(module) for module in _adapted(state)]
    dropout = fields.get("lora_dropout", 0.0) if trainable else 0.0
    try:
        given |= {key: _by_module(fields.get(key) or {}, _adapted(state)) for key in _PATTERNS}
        return LoraConfig(**given, lora_dropout=dropout, target_modules=targets, inference_mode=not trainable)
    except (TypeError, ValueError, re.error) as error:
        raise CheckpointError(f"{path} has a setting that PEFT does not accept ({error}); get it again.") from error


def _by_module(pattern: object, modules: list[str]) -> dict[str, object]:
    """What a pattern of PEFT says of each module it matches, under our name, as a pattern that matches it alone."""
    from peft.utils.other import get_pattern_key

    if not isinstance(pattern, dict):
        raise TypeError(f"a pattern is a table of modules, not {pattern!r}")
    keys = {module: get_pattern_key(pattern.keys(), module) for module in modules}
    return {re.escape(vlm_key(module)): pattern[key] for module, key in keys.items() if key in pattern}


def _load_connector(model: VirtueModel, path: Path) -> None:
    state = read_tensors(path) if path.name == CONNECTOR else read_connector(path)
    shapes = {key: tuple(t.shape) for key, t in model.state_dict().items() if key.startswith("connector.")}
    check_tensors(state, shapes, {"connector": path})
    model.load_state_dict(state, strict=False)


def _inject(model: VirtueModel, state: State, path: Path, config: LoraConfig) -> None:
    """Put the adapter's layers around the modules and fill them.

    Raises:
        CheckpointError: If its tensors do not fill exactly those layers.
    """
    from peft import inject_adapter_in_model, set_peft_model_state_dict

    try:
        inject_adapter_in_model(config, model)
        result = set_peft_model_state_dict(model, state)
    except ValueError as error:
        raise CheckpointError(f"{ADAPTER_CONFIG} beside {path} does not go with this model: {error}.") from error
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} holds tensors of another shape than this model's: it belongs to another."
        ) from error
    lacking = [key for key in result.missing_keys if ".lora_" in key]
    if lacking or result.unexpected_keys:
        raise CheckpointError(
            f"{path} and {ADAPTER_CONFIG} do not agree about {(lacking + result.unexpected_keys)[0]}; get both again."
        )
    model._hf_peft_config_loaded = True  # so that save_pretrained writes the adapter alone, as transformers means it


def merge_layers(model: VirtueModel) -> None:
    """Add the adapter into the weights and take its layers away."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())
    del model.peft_config
    model._hf_peft_config_loaded = False
