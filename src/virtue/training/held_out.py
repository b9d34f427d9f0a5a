"""How often a held-out query finds its own positive among its own hard negatives: SCaR's question, asked in training.

Letters: B pairs, M targets, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def own_ranks(queries: Tensor, targets: Tensor, owners: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Whether each query finds its positive first, and its loss, among the targets of its own pair.

    A pair without hard negatives would always be right: it is asked for its positive among all targets.

    A tie with the positive counts as the mean over all orders of what is tied, so it never helps.

    Args:
        queries: Unit embeddings, (B, D).
        targets: Unit embeddings, the B positives first, (M, D).
        owners: The pair of each target, (M,).
        temperature: Divides similarities.

    Returns:
        Shares in [0, 1] and losses, (B,) float32 each.
    """
    count = len(queries)
    scores = queries @ targets.T  # (B, M)
    own = owners == torch.arange(count, device=owners.device)[:, None]
    own |= (own.sum(1) == 1)[:, None]  # a pair without negatives of its own
    scores = scores.masked_fill(~own, float("-inf"))
    right = scores.diagonal()[:, None]  # (B, 1)
    better, tied = (~(scores <= right)).any(1), (scores == right).sum(1)  # what is no number does not help either
    hits = torch.where(better, 0.0, 1.0 / tied.clamp(min=1))
    losses = functional.cross_entropy(scores / temperature, torch.arange(count, device=scores.device), reduction="none")
    return hits, losses
