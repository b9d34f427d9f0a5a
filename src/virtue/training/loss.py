"""InfoNCE, and which targets are no negatives of a query although the batch holds them.

Letters: B pairs, Q queries (the B of the pairs, then hard negatives of the other direction), M targets (positives and
hard negatives in any order), D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def info_nce(
    queries: Tensor,
    targets: Tensor,
    temperature: float | Tensor = 0.02,
    *,
    positives: Tensor | None = None,
    symmetric: bool = False,
    same: Tensor | None = None,
    margin: float | None = None,
    dimensions: Sequence[int] = (),
) -> Tensor:
    """InfoNCE (arXiv 1807.03748): each query against every target of the batch, where one is right.

    -log(exp(q . t+ / T) / sum over t of exp(q . t / T)), the mean over queries. Every target that is not the query's
    own positive is a negative: the positives of the others and everybody's hard negatives, as many as there are.

    Args:
        queries: Unit embeddings, (Q, D); the first B have a positive, the others are negatives of the targets.
        targets: Unit embeddings, (M, D).
        temperature: Divides the similarities; the paper's is 0.02. A tensor of one number may be learnt.
        positives: Each query's positive among the targets, (B,) int64. By default the targets are B groups of equal
            size, each a positive followed by its hard negatives.
        symmetric: Also ask of every positive which query it answers, against all queries, and take the mean of both.
        same: Targets that are no negatives of a query, (Q, M) bool, as `same_answers` tells them.
        margin: A negative more similar than the positive by more than this is taken for a false one and left out.
        dimensions: Matryoshka (arXiv 2205.13147): take the mean of the losses of the embeddings cut to these
            dimensions, each D or less, and scaled to unit length again.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: If shapes do not fit each other or a setting is out of range.
    """
    positives = _positives(queries, targets, positives)
    _check(queries, targets, temperature, margin, dimensions)
    losses = []
    for width in dimensions or (queries.shape[1],):
        a, b = queries.float(), targets.float()
        if width < queries.shape[1]:
            a, b = (functional.normalize(rows[:, :width], dim=1) for rows in (a, b))
        with torch.autocast(a.device.type, enabled=False):  # bfloat16 would tell similarities apart to 1/256 only
            similarity = a @ b.T
        losses.append(_loss(similarity, temperature, positives, symmetric, same, margin))
    return torch.stack(losses).mean()


def same_answers(query_keys: Tensor, target_keys: Tensor, positives: Tensor) -> Tensor:
    """Which targets answer a query as well as its own positive does, because they or the queries are the same.

    Target m answers query q if some pair of the batch asks the same as q and has a positive that is the same as m.

    Args:
        query_keys: A number for each query, equal for queries of equal words, image and region, (Q,) int64.
        target_keys: Likewise for the targets, (M,) int64.
        positives: Each pair's positive among the targets, (B,) int64.

    Returns:
        (Q, M) bool.
    """
    asks = query_keys[:, None] == query_keys[: len(positives)]  # (Q, B)
    answers = target_keys[positives][:, None] == target_keys  # (B, M)
    return (asks.float() @ answers.float()) > 0


def _loss(
    similarity: Tensor,
    temperature: float | Tensor,
    positives: Tensor,
    symmetric: bool,
    same: Tensor | None,
    margin: float | None,
) -> Tensor:
    """The loss of similarities (Q, M) in one or both directions."""
    count = len(positives)
    own = torch.zeros_like(similarity, dtype=torch.bool)
    own[torch.arange(count, device=own.device), positives] = True
    left_out = torch.zeros_like(own) if same is None else same & ~own
    scores = similarity / temperature
    right = similarity.detach()[own]  # (B,), in the order of the queries
    of_queries = left_out[:count] | _beyond(similarity[:count], right[:, None], margin)
    loss = functional.cross_entropy(scores[:count].masked_fill(of_queries, float("-inf")), positives)
    if not symmetric:
        return loss
    of_targets = left_out[:, positives] | _beyond(similarity[:, positives], right, margin)  # (Q, B)
    back = scores[:, positives].masked_fill(of_targets, float("-inf")).T
    return (loss + functional.cross_entropy(back, torch.arange(count, device=back.device))) / 2


def _beyond(similarity: Tensor, right: Tensor, margin: float | None) -> Tensor:
    """Where a similarity is above the positive's by more than the margin; never the positive itself."""
    if margin is None:
        return torch.zeros_like(similarity, dtype=torch.bool)
    return similarity.detach() > right + margin


def _positives(queries: Tensor, targets: Tensor, positives: Tensor | None) -> Tensor:
    if positives is not None:
        if len(positives) > len(queries) or (len(positives) and int(positives.max()) >= len(targets)):
            raise ValueError(
                f"{len(positives)} positives do not fit {len(queries)} queries and {len(targets)} targets: give each "
                "query the row of its positive among the targets."
            )
        return positives
    if not len(queries) or len(targets) % len(queries):
        raise ValueError(
            f"{len(targets)} targets are no whole multiple of {len(queries)} queries: say with `positives` which row "
            "is whose."
        )
    return torch.arange(0, len(targets), len(targets) // len(queries), device=queries.device)


def _check(
    queries: Tensor, targets: Tensor, temperature: float | Tensor, margin: float | None, dimensions: Sequence[int]
) -> None:
    if queries.ndim != 2 or targets.ndim != 2 or queries.shape[1] != targets.shape[1]:
        raise ValueError(
            f"Queries and targets are (rows, D) of one width D, got {tuple(queries.shape)} and {tuple(targets.shape)}."
        )
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"The temperature is greater than 0, not {temperature}.")
    if margin is not None and not margin >= 0:
        raise ValueError(f"The margin is 0 or more, not {margin}.")
    if wrong := [width for width in dimensions if not 1 <= width <= queries.shape[1]]:
        raise ValueError(f"A dimension lies between 1 and the embedding's {queries.shape[1]}, not at {wrong[0]}.")
