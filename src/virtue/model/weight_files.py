"""Files of other people's checkpoints, read with suspicion.

Folders and Hub ids are found, JSON and tensors are read, and whatever is missing, truncated or hostile ends in a
`CheckpointError`: one sentence that names the file and what to do. A pickle (`.bin`, `.pt`, `.pth`) is read through
`torch.load(weights_only=True)` alone, which builds tensors and plain containers and runs nothing.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

State = dict[str, Tensor]

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class CheckpointError(ValueError):
    """A checkpoint cannot be read or written; the message names the file and the remedy."""


def find_folder(name: str | Path, patterns: Sequence[str], revision: str | None = None) -> Path:
    """The folder `name`, or a Hub id's files that match `patterns`, downloaded unless they are in the cache.

    Args:
        name: A folder, or a Hub id such as `Sony/VIRTUE-2B-SCaR`.
        patterns: Which files to download, as shell patterns.
        revision: Branch, tag or commit on the Hub.

    Raises:
        CheckpointError: If there is no such folder and the Hub does not give it.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointError(f"{folder} is a file; name the folder that holds the checkpoint.")
    if not _HUB_ID.fullmatch(str(name)):
        raise CheckpointError(f"{name} is neither a folder nor a Hub id of the form owner/name.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=list(patterns)))
    except (OSError, ValueError, RuntimeError) as error:  # no such id, not allowed, offline: all are one of these
        raise CheckpointError(
            f"There is no folder {name} here, and the Hub did not give {name}"
            f"{f' at {revision}' if revision else ''} ({type(error).__name__}): check the name, the network and "
            f"`hf auth login`, or download it elsewhere and give the folder."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: If the file is missing or holds no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing: this folder is no checkpoint, or its download is incomplete."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable as JSON ({error}); get it again.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not a {type(value).__name__}; get it again.")
    return value


def write_json(fields: Mapping[str, Any], path: Path) -> None:
    """Write an object as a JSON file."""
    path.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def read_tensors(path: Path) -> State:
    """The tensors of one `.safetensors` file.

    Raises:
        CheckpointError: If the file is missing, truncated or no safetensors file.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; complete the download.")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or no safetensors file ({error}); get it again.") from error


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a PyTorch pickle; nothing in it is run.

    Raises:
        CheckpointError: If the file is missing, truncated, no PyTorch file, or holds more than tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; complete the download.")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is truncated or holds more than tensors, so nothing in it was run; get it again from a source you "
            f"trust, if there is one as .safetensors."
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is truncated or no PyTorch file; get it again.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a dictionary of tensors, not a {type(value).__name__}.")
    return value


def only_tensors(value: object, path: Path, key: str) -> State:
    """`value` as a state dict, which stands in `path` under `key`.

    Raises:
        CheckpointError: If it is none.
    """
    if not isinstance(value, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    ):
        raise CheckpointError(f"{path} must hold named tensors under {key!r}; it is not a file of this kind.")
    return value


def read_weights(folder: Path) -> State:
    """All tensors of a folder: one file or shards with an index, safetensors before pickles.

    Raises:
        CheckpointError: If there is none, or a shard is missing, unreadable or incomplete.
    """
    path = weight_file(folder)
    if path is None:
        raise CheckpointError(f"{folder} holds no weights ({', '.join(WEIGHT_FILES)}); complete the download.")
    if path.suffix != ".json":
        return _read_file(path)
    places = read_json(path).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{path} has no weight_map; get it again.")
    state: State = {}
    for shard in sorted({str(place) for place in places.values()}):
        if Path(shard).name != shard:
            raise CheckpointError(f"{path} names a shard outside its folder ({shard}); get it from a source you trust.")
        state |= _read_file(folder / shard)
    for key, shard in places.items():
        if key not in state:
            raise CheckpointError(
                f"{folder / str(shard)} lacks the tensor {key}, which {path.name} promises; get it again."
            )
    return state


def weight_file(folder: Path) -> Path | None:
    """The file that `read_weights` starts from, if the folder has one."""
    return next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)


def check_tensors(state: State, shapes: Mapping[str, tuple[int, ...]], places: Mapping[str, Path]) -> None:
    """See that every tensor is there, none is left over, and each has its shape.

    Args:
        state: Tensors under our names, `vlm.*`, `sam.*`, `connector.*`.
        shapes: The shape of every tensor that there must be.
        places: The file that the tensors of "vlm", "sam" and "connector" came from, for messages.

    Raises:
        CheckpointError: If a tensor is missing, left over or of another shape.
    """

    def place(key: str) -> Path | str:
        return places.get(key.split(".")[0], "The checkpoint")

    for key in sorted(shapes.keys() - state.keys()):
        raise CheckpointError(
            f"{place(key)} lacks the tensor {key}: it is incomplete, or config.json is another model's; get both."
        )
    for key in sorted(state.keys() - shapes.keys()):
        raise CheckpointError(
            f"{place(key)} holds the tensor {key}, for which its configuration has no place; get both again."
        )
    for key, shape in shapes.items():
        if tuple(state[key].shape) != shape:
            raise CheckpointError(
                f"{place(key)} holds {key} of shape {tuple(state[key].shape)}, but the configuration asks for {shape}: "
                "weights and configuration are of different models."
            )


def _read_file(path: Path) -> State:
    return read_tensors(path) if path.suffix == ".safetensors" else only_tensors(read_pickle(path), path, "the top")
