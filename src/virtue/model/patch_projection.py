"""The vision tower's patch embedding as the matrix product that it is.

The Qwen-VL towers get their patches ready-made, one row per patch, and embed them with a `Conv3d` whose kernel is as
large as a patch. Convolution routines are slow at this, a quarter of a small tower's time on a CPU, and give nothing in
return.
"""

from __future__ import annotations

from torch import Tensor, nn


class PatchProjection(nn.Conv3d):
    """A `Conv3d` over inputs of exactly one kernel, with the parameters and names of any `Conv3d`."""

    @classmethod
    def of(cls, convolution: nn.Conv3d) -> PatchProjection:
        """The same projection with the same parameters, which are shared and not copied."""
        layer = cls(
            convolution.in_channels,
            convolution.out_channels,
            kernel_size=convolution.kernel_size,  # type: ignore[arg-type]  # a Conv3d keeps three numbers
            stride=convolution.stride,  # type: ignore[arg-type]
            bias=convolution.bias is not None,
        )
        layer.weight, layer.bias = convolution.weight, convolution.bias
        return layer

    def forward(self, input: Tensor) -> Tensor:  # the name that Conv3d gives it
        """Project patches (P, C, time, height, width) to (P, D, 1, 1, 1)."""
        projected = nn.functional.linear(input.flatten(1), self.weight.flatten(1), self.bias)
        return projected[:, :, None, None, None]
