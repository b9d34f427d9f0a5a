"""What a piece of work costs: seconds, floating-point operations, and bytes that its operators read and write."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """Of one run: seconds, floating-point operations, bytes."""

    seconds: float
    flops: int
    moved: int

    def __str__(self) -> str:
        """All three in human units."""
        return f"{self.seconds * 1000:9.1f} ms {self.flops / 1e9:9.2f} GFLOP {self.moved / 1e9:8.2f} GB"


class _Bytes(TorchDispatchMode):
    """Adds up the tensors that operators read and write; a view moves nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
            self.total += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


def _linear_flops(rows: torch.Size, weight: torch.Size, *rest: Any, **named: Any) -> int:
    """Of rows (..., inputs) times a weight (outputs, inputs)."""
    return 2 * rows.numel() * weight[0]


_ONEDNN = {torch.ops.mkldnn._linear_pointwise: _linear_flops} if hasattr(torch.ops.mkldnn, "_linear_pointwise") else {}


def measure(work: Callable[[], object], repeats: int = 3) -> Cost:
    """The fastest of a few runs, after one that is counted and not timed."""
    with FlopCounterMode(display=False, custom_mapping=_ONEDNN) as flops, _Bytes() as moved:
        work()
    return Cost(min(timed(work) for _ in range(repeats)), flops.get_total_flops(), moved.total)


def timed(work: Callable[[], object]) -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
