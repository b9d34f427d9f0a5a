"""Frozen weights spread over the processes (FSDP2), for models that one card cannot hold.

Each process keeps a part of every frozen layer of the language model; a layer is gathered when it runs and let go
again. What learns (adapter, connector) is small: it stays whole everywhere, and its gradients are summed as ever, so
the figures are those of a run that is not sharded.

A layer is gathered by all processes together. So all of them have to run it equally often: see
`ContrastiveTrainer._chunks`.
"""

from __future__ import annotations

from torch import nn
from torch.distributed.tensor import DTensor

from virtue.model import VirtueModel
from virtue.training.gathering import process_count


def shard(model: VirtueModel) -> None:
    """Spread the frozen weights of the language model's layers, in place; with one process there is nothing to do.

    Args:
        model: With what learns prepared. Its frozen weights cannot be saved or loaded from here on.

    Raises:
        ValueError: If the layers themselves learn.
    """
    from torch.distributed.fsdp import fully_shard

    layers = model.vlm.language_model.layers
    if all(parameter.requires_grad for parameter in layers.parameters()):
        raise ValueError("Only frozen weights are spread over processes: train an adapter, or leave run.shard off.")
    if process_count() == 1:
        return
    for layer in layers:
        learning = {parameter for parameter in layer.parameters() if parameter.requires_grad}
        fully_shard(layer, ignored_params=learning, reshard_after_forward=True)
    spread = [name for name, parameter in model.named_parameters() if isinstance(parameter, DTensor)]
    model._ddp_params_and_buffers_to_ignore = spread  # what DDP would otherwise send to everybody


def is_sharded(model: nn.Module) -> bool:
    """Whether weights of the model are spread over processes."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())
