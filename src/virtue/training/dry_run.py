"""What a computation takes, found out without computing it: it runs on tensors that have a shape and no numbers.

The code that runs is the model's own, on torch's meta device, so nothing that it does is left out: an adapter's extra
products, what checkpointing computes again, the temporary tensors in between. What code reads as numbers (token ids,
grids, labels) stays on the CPU. Two things are taken as a GPU does them: attention without its T x T matrix, and the
casts of `torch.autocast` to bfloat16. The T x T masks of padded rows are left out.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, ValuesView
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry
from transformers import PreTrainedModel

from virtue.training.adaptation import compute_again

META = torch.device("meta")
_HALVED = (nn.functional.linear, nn.functional.conv2d, torch.conv2d, torch.matmul, torch.bmm, Tensor.matmul)
_WIDENED = (nn.functional.layer_norm, nn.functional.softmax, nn.functional.normalize, torch.linalg.norm)
_CASTS: dict[Any, torch.dtype] = dict.fromkeys(_HALVED, torch.bfloat16) | dict.fromkeys(_WIDENED, torch.float32)


@dataclass(frozen=True)
class Cost:
    """Of one computation.

    Attributes:
        flops: Floating-point operations of products and attention, two for a multiplication and an addition.
        peak: Most bytes that were alive at once, beside the model and its gradients.
    """

    flops: int
    peak: int


def cost(work: Callable[[], object], model: nn.Module, half: bool = False) -> Cost:
    """What some work on a model would take.

    Args:
        work: Computes with meta tensors; small CPU tensors may be among them.
        model: On the meta device; its parameters and their gradients are not counted as alive.
        half: As under `torch.autocast` to bfloat16.
    """
    there = [tensor for tensor in (*model.parameters(), *model.buffers())]
    there += [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    with _Card(half), _Count(there) as count:
        work()
    return Cost(count.flops, count.peak)


def checkpoint(model: PreTrainedModel, half: bool = False) -> None:
    """Let a model compute its activations again in the backward pass, in a dry run; with `half` as `cost` has it."""
    compute_again(model, context_fn=lambda: (nullcontext(), _Card(half)))


class _Count(TorchDispatchMode):
    """Adds up operations and the memory of meta tensors that are alive; lets CPU tensors stand among them."""

    def __init__(self, there: Iterable[Tensor]) -> None:
        super().__init__()
        self.flops = self.peak = self._now = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in there}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if len({tensor.is_meta for tensor in _tensors((args, kwargs.values()))}) > 1:
            args, kwargs = tree_map(_to_meta, (_numbered(func, args), kwargs))
        result = func(*args, **kwargs)
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=result)
        for tensor in _tensors((result,)):
            if tensor.is_meta:
                self._see(tensor.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self._now += size
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


class _Card(TorchFunctionMode):
    """Does as a GPU does: attention, and the casts of `torch.autocast`, which does not know meta tensors."""

    def __init__(self, half: bool) -> None:
        super().__init__()
        self.half = half

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is nn.functional.scaled_dot_product_attention:
            return _attend(*args, **kwargs)
        if func in (torch.tensor, torch.arange):  # what is made of Python's numbers stays readable
            kwargs = {name: value for name, value in kwargs.items() if name != "device"}
        elif func is Tensor.to and not args[0].is_meta and not args[0].is_floating_point():
            dtypes = [each for each in (*args[1:], *kwargs.values()) if isinstance(each, torch.dtype)]
            return args[0].type(dtypes[0]) if dtypes else args[0]
        elif self.half and func in _CASTS:
            dtype = _CASTS[func]
            args, kwargs = tree_map(lambda leaf: _cast(leaf, dtype), (args, kwargs))
        return func(*args, **kwargs)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention of heads (..., heads, tokens, width)."""
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (each.repeat_interleave(groups, -3) for each in (key, value))
    flat = [each.to(query.dtype).reshape(-1, *each.shape[-3:]) for each in (query, key, value)]
    attended: Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(*flat, None, True, dropout_p, is_causal)[
        0
    ]
    return attended.reshape(*query.shape[:-1], value.shape[-1])


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Those among an operator's arguments or results, in lists or alone."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple | ValuesView):
            yield from _tensors(value)


def _numbered(func: Any, args: Any) -> Any:
    """Arguments of an indexing operator with numbers instead of masks, which cannot be counted once they are meta."""
    if func.overloadpacket not in (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_):
        return args
    numbers: list[Tensor | None] = []
    for index in args[1]:
        is_mask = isinstance(index, Tensor) and index.dtype == torch.bool and not index.is_meta
        numbers += index.nonzero(as_tuple=True) if is_mask else [index]
    return (args[0], numbers, *args[2:])


def _to_meta(leaf: Any) -> Any:
    return leaf.to(META) if isinstance(leaf, Tensor) else leaf


def _cast(leaf: Any, dtype: torch.dtype) -> Any:
    return leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf
