"""A short name for what a model computes, which an index remembers, so that vectors of two models never mix."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from virtue.model import VirtueModel, VirtueProcessor

# Where and how a model runs, not what it computes; and a depth that the weights' names tell.
_INCIDENTAL = (
    "transformers_version",
    "_name_or_path",
    "dtype",
    "torch_dtype",
    "architectures",
    "trained_on",
    "connector_depth",
)


def fingerprint(model: VirtueModel, processor: VirtueProcessor) -> str:
    """Hex digest of configuration, picture size and weights.

    Weights are taken as bfloat16: a checkpoint on another device, and so in another precision, is the same model. Each
    has a digest of its own, so that all processors work on it: billions of them take seconds. Nothing is remembered
    from one process to the next, because weights and settings may have been changed since they were loaded.
    """
    digest = hashlib.blake2b(digest_size=16)
    settings = {"model": _settled(model.config.to_dict()), "image": dict(processor.image_processor.size)}
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    state = sorted(model.state_dict().items())
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (name, tensor), own in zip(state, pool.map(_digest, (tensor for _, tensor in state)), strict=True):
            digest.update(f"{name}{tuple(tensor.shape)}".encode() + own)
    return digest.hexdigest()


def _digest(tensor: Tensor) -> bytes:
    if tensor.is_floating_point():
        tensor = tensor.to(torch.bfloat16).view(torch.int16)
    return hashlib.blake2b(tensor.contiguous().cpu().numpy().data, digest_size=16).digest()


def _settled(value: Any) -> Any:
    """A configuration without what is incidental, at any depth."""
    if isinstance(value, dict):
        return {
            key: _settled(own)
            for key, own in value.items()
            if key not in _INCIDENTAL and not str(key).startswith("_attn_implementation")
        }
    return [_settled(own) for own in value] if isinstance(value, list | tuple) else value
