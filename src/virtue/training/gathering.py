"""What the processes of a training tell each other: everybody's embeddings, and the sum of their gradients.

Every process computes the loss of the whole batch from all embeddings and sends back the gradients of its own rows; the
sum over the processes is the gradient of the whole. Without `torch.distributed` there is one process and nothing to do.

Letters: D width.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, distributed, nn

BUCKET = 16_000_000  # numbers of a message


def process_count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def process_rank() -> int:
    """The number of this process."""
    return distributed.get_rank() if process_count() > 1 else 0


def gather_rows(rows: Tensor) -> list[Tensor]:
    """Everybody's rows, those of this process with their graph.

    Args:
        rows: (rows, ...), as many as this process has.

    Returns:
        One tensor for each process, in their order.
    """
    if process_count() == 1:
        return [rows]
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(count) for _ in range(process_count())]
    distributed.all_gather(counts, count)
    longest = max(int(each) for each in counts)
    if longest == 0:
        return [rows] * process_count()
    padded = rows.new_zeros(longest, *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    gathered = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(gathered, padded)
    parts = [part[: int(each)] for part, each in zip(gathered, counts, strict=True)]
    parts[process_rank()] = rows
    return parts


def total(values: Tensor) -> Tensor:
    """The sum of a tensor over the processes."""
    if process_count() > 1:
        distributed.all_reduce(values)
    return values


def most(values: Tensor) -> Tensor:
    """The largest of each number of a tensor over the processes."""
    if process_count() > 1:
        distributed.all_reduce(values, distributed.ReduceOp.MAX)
    return values


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the sum of all gradients; a parameter that no row reached has gradient 0.

    A few messages behind the last chunk, rather than some in every chunk's backward pass.
    """
    if process_count() == 1:
        return
    learning = list(parameters)
    for parameter in learning:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for bucket in _buckets([parameter.grad for parameter in learning if parameter.grad is not None]):
        flat = torch.cat([grad.flatten() for grad in bucket])
        distributed.all_reduce(flat)
        for grad, summed in zip(bucket, flat.split([grad.numel() for grad in bucket]), strict=True):
            grad.copy_(summed.view_as(grad))


def _buckets(tensors: list[Tensor]) -> list[list[Tensor]]:
    """Tensors of one kind of number together, up to `BUCKET` numbers, so that few are copied at once."""
    buckets: list[list[Tensor]] = []
    size = 0
    for tensor in sorted(tensors, key=lambda each: str(each.dtype)):
        if not buckets or size + tensor.numel() > BUCKET or buckets[-1][0].dtype != tensor.dtype:
            buckets.append([])
            size = 0
        buckets[-1].append(tensor)
        size += tensor.numel()
    return buckets
