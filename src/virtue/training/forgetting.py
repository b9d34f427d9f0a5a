"""Elastic weight consolidation (arXiv 1612.00796): a pull that holds in place what an earlier training needs.

The penalty is strength / 2 * sum over weights of F (w - w*)^2, where w* are the weights at the start and F, the
diagonal of the empirical Fisher information, is the mean square of the earlier loss's gradients. It is measured over
batches, as in-batch negatives leave no loss of one row alone, and scaled to a mean of 1, so that a strength means the
same for every model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


@dataclass(frozen=True)
class Anchor:
    """Weights that training is pulled back to.

    Attributes:
        strength: Of the pull.
        weights: Where each learning parameter was, by name.
        importance: How much each of its numbers matters, by name; mean 1 over all.
    """

    strength: float
    weights: dict[str, Tensor]
    importance: dict[str, Tensor]

    @classmethod
    def measure(cls, model: nn.Module, gradients: Iterable[object], strength: float) -> Anchor:
        """Measure what matters.

        Args:
            model: At the weights to hold.
            gradients: Each item drawn from it adds the gradients of one batch to the parameters, which start at none.
            strength: Of the pull.

        Raises:
            ValueError: If no batch gave a gradient.
        """
        learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
        squares = {name: torch.zeros_like(p) for name, p in learning.items()}
        model.zero_grad()
        for _ in gradients:
            for name, parameter in learning.items():
                if parameter.grad is not None:
                    squares[name] += parameter.grad.square()
            model.zero_grad()
        mean = sum(float(s.sum()) for s in squares.values()) / sum(s.numel() for s in squares.values())
        if not mean > 0:
            raise ValueError("The earlier data gives no gradient, so it says nothing of what must not be forgotten.")
        weights = {name: p.detach().clone() for name, p in learning.items()}
        return cls(strength, weights, {name: square / mean for name, square in squares.items()})

    def to(self, device: torch.device) -> Anchor:
        """The same anchor where the model is."""
        tables = (
            {name: tensor.to(device) for name, tensor in table.items()} for table in (self.weights, self.importance)
        )
        return Anchor(self.strength, *tables)

    def pull(self, model: nn.Module) -> Tensor:
        """Add the penalty's gradient to the parameters'; gives the penalty, a scalar."""
        penalty = torch.zeros(())
        for name, parameter in model.named_parameters():
            if name not in self.weights:
                continue
            away = parameter.detach() - self.weights[name]
            force = self.strength * self.importance[name] * away
            parameter.grad = force if parameter.grad is None else parameter.grad + force
            penalty = penalty.to(away.device) + 0.5 * (force * away).sum()
        return penalty

    def save(self, path: Path) -> None:
        """Write the anchor, whole or not at all."""
        tensors = {f"weights.{name}": tensor.cpu().contiguous() for name, tensor in self.weights.items()}
        tensors |= {f"importance.{name}": tensor.cpu().contiguous() for name, tensor in self.importance.items()}
        partial = path.with_suffix(".partial")
        save_file(tensors, partial)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path, strength: float) -> Anchor:
        """Read an anchor that `save` wrote."""
        tensors = load_file(path)
        parts = [
            {name.removeprefix(part): tensor for name, tensor in tensors.items() if name.startswith(part)}
            for part in ("weights.", "importance.")
        ]
        return cls(strength, parts[0], parts[1])
