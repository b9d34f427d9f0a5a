"""Linear layers by oneDNN where that is faster: in float32 on a CPU, without gradients.

PyTorch multiplies float32 matrices with MKL, which leaves AVX-512 alone on processors that Intel has not made; oneDNN,
which PyTorch ships beside it, uses it everywhere and takes half the time there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEAST_WORK = 2**20
"""Multiplications of a call below which starting oneDNN costs more than it saves."""

_HAS_ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")  # some builds of PyTorch have none


class OneDnnLinear(nn.Linear):
    """An `nn.Linear` with the same parameters and, but for rounding, the same results."""

    def forward(self, input: Tensor) -> Tensor:  # the name that Linear gives it
        """Map (..., inputs) to (..., outputs)."""
        if not self._suits(input):
            return super().forward(input)
        output: Tensor = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        return output

    def _suits(self, input: Tensor) -> bool:
        return (
            input.numel() * self.out_features >= LEAST_WORK
            and input.is_cpu
            and input.dtype == self.weight.dtype == torch.float32
            and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu")
        )


def use_onednn(model: nn.Module) -> None:
    """Turn every plain `nn.Linear` of a model that lies on a CPU into an `OneDnnLinear`, in place."""
    if not _HAS_ONEDNN:
        return
    for layer in model.modules():
        if type(layer) is nn.Linear and layer.weight.is_cpu:
            layer.__class__ = OneDnnLinear
