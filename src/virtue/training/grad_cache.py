"""GradCache (arXiv 2101.06983): the gradients of a loss over a large batch with the memory of a small one.

A contrastive loss needs all embeddings of a batch at once, their gradients do not: given the gradient of the loss with
respect to one embedding, its row can be computed again and sent backwards alone. So a step is

1. `embed_without_graph`: embed all rows, a chunk at a time, keeping nothing but the embeddings (and the state of the
   random numbers, so that dropout falls the same way again);
2. `loss_gradients`: compute the loss of all embeddings and its gradient with respect to each;
3. `backpropagate`: embed every chunk once more, now with its graph, and send its rows' gradients backwards.

The sum is what the plain loss gives. Frozen parts need not run again in 3: `towers` keeps what they computed.

Rows come in *sides* (the queries, the targets), each cut into chunks of row numbers. Letters: D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

Chunks = Sequence[Sequence[int]]
"""Row numbers of one side, cut up: every row in one chunk."""

Embed = Callable[[int, Sequence[int]], Tensor]
"""From a side's number and some of its rows to their embeddings, (rows, D)."""

Loss = Callable[[Sequence[Tensor]], Tensor]
"""From the embeddings of all sides to the loss."""


def grad_cache(embed: Embed, loss: Loss, chunks: Sequence[Chunks], first: Sequence[Chunks] | None = None) -> Tensor:
    """Add the gradients of the loss to those of whatever `embed` computes with.

    Args:
        embed: Embeds rows; called under `torch.no_grad` and with gradients.
        loss: Of the embeddings of all sides.
        chunks: Each side's chunks.
        first: Each side's chunks of step 1, which may be larger as no graph is kept; by default the same. Only without
            dropout: random numbers are drawn by the chunk.

    Returns:
        The loss, a scalar without a graph.
    """
    embeddings, states = embed_without_graph(embed, first or chunks)
    value, gradients = loss_gradients(loss, embeddings)
    backpropagate(embed, chunks, gradients, states if first is None else None)
    return value


def embed_without_graph(embed: Embed, chunks: Sequence[Chunks]) -> tuple[list[Tensor], list[list[RandomState]]]:
    """Step 1: embeddings of each side (rows, D), and the state of the random numbers before each chunk."""
    embeddings: list[Tensor] = []
    states: list[list[RandomState]] = []
    for own in chunks:
        side = len(states)
        states.append([])
        parts = []
        for rows in own:
            states[-1].append(RandomState.now())
            with torch.no_grad():
                parts.append(embed(side, rows))
        order = torch.tensor([row for rows in own for row in rows], dtype=torch.long, device=parts[0].device)
        embeddings.append(torch.empty_like(torch.cat(parts)).index_copy(0, order, torch.cat(parts)))
    return embeddings, states


def loss_gradients(loss: Loss, embeddings: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Step 2: the loss, and its gradient with respect to each side's embeddings, (rows, D).

    What else the loss learns from, such as a temperature, gets its gradient here.
    """
    leaves = [side.detach().requires_grad_() for side in embeddings]
    with torch.enable_grad():
        value = loss(leaves)
        value.backward()
    return value.detach(), [leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in leaves]


def backpropagate(
    embed: Embed,
    chunks: Sequence[Chunks],
    gradients: Sequence[Tensor],
    states: Sequence[Sequence[RandomState]] | None = None,
) -> None:
    """Step 3: embed each chunk with its graph and send its rows' gradients (rows, D) backwards.

    A chunk that nothing that learns took part in, such as texts while the connector alone is trained, has no graph.
    """
    for side, own in enumerate(chunks):
        for number, rows in enumerate(own):
            wanted = gradients[side][torch.tensor(list(rows), dtype=torch.long, device=gradients[side].device)]
            with nullcontext() if states is None else states[side][number].again():
                embeddings = embed(side, rows)
            if embeddings.requires_grad:
                embeddings.backward(wanted)


@dataclass(frozen=True)
class RandomState:
    """Where the generators of the CPU and of the current accelerator stand."""

    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def now(cls) -> RandomState:
        """The present state."""
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Draw the same numbers once more inside, and go on outside as if nothing had been drawn."""
        devices = [] if self.cuda is None else [torch.cuda.current_device()]
        with torch.random.fork_rng(devices):
            torch.set_rng_state(self.cpu)
            if self.cuda is not None:
                torch.cuda.set_rng_state(self.cuda)
            yield


def chunk_rows(lengths: Sequence[int], rows: int | None = None, tokens: int | None = None) -> list[list[int]]:
    """Cut a side into chunks.

    Args:
        lengths: Tokens of each row.
        rows: Rows of a chunk at most.
        tokens: Rows of a chunk times its longest row at most, unless one row is longer; rows are then sorted by length,
            the longest first, so that little is padding and memory is claimed at once.

    Raises:
        ValueError: If a limit is less than 1.
    """
    for name, limit in (("rows", rows), ("tokens", tokens)):
        if limit is not None and limit < 1:
            raise ValueError(f"A chunk's {name} are 1 or more, not {limit}.")
    order = list(range(len(lengths)))
    if tokens is not None:
        order.sort(key=lambda row: -lengths[row])
    chunks: list[list[int]] = []
    for row in order:
        last = chunks[-1] if chunks else None
        if (
            last is None
            or len(last) == rows
            or (tokens and max(lengths[i] for i in (last[0], row)) * (len(last) + 1) > tokens)
        ):
            chunks.append([])
        chunks[-1].append(row)
    return chunks
