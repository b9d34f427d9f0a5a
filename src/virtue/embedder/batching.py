"""How work is cut up: rows into batches of like length, batches into halves when memory runs out.

None of this may change an embedding, only when and beside what it is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

LARGEST_WASTE = 0.2  # share of a batch that may be padding before another batch is cheaper

T = TypeVar("T")


def length_batches(lengths: Sequence[int], most: int, budget: int) -> Iterator[list[int]]:
    """Batches of row numbers, longest rows first, so that memory is claimed at once and little of a batch is padding.

    Args:
        lengths: Tokens of each row.
        most: Rows of a batch at most.
        budget: Rows times longest row at most, unless a single row is longer.
    """
    batch: list[int] = []
    tokens = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batch:
            padded = lengths[batch[0]] * (len(batch) + 1)
            waste = 1 - (tokens + lengths[row]) / padded
            if len(batch) == most or padded > budget or waste > LARGEST_WASTE:
                yield batch
                batch, tokens = [], 0
        batch.append(row)
        tokens += lengths[row]
    if batch:
        yield batch


def cost_batches(
    items: Iterable[T], costs: Callable[[T], tuple[int, ...]], budgets: tuple[int, ...]
) -> Iterator[list[T]]:
    """Consecutive items, as many as fit every budget and one at least."""
    batch: list[T] = []
    total = (0,) * len(budgets)
    for item in items:
        grown = tuple(had + more for had, more in zip(total, costs(item), strict=True))
        if batch and any(sum_ > budget for sum_, budget in zip(grown, budgets, strict=True)):
            yield batch
            batch, grown = [], costs(item)
        batch.append(item)
        total = grown
    if batch:
        yield batch


def halving(compute: Callable[[Sequence[T]], None], work: Sequence[T]) -> None:
    """Compute the work at once, or in halves when memory runs out.

    Raises:
        RuntimeError: If memory does not suffice for one piece.
    """
    try:
        return compute(work)
    except RuntimeError as error:
        if len(work) == 1 or not _is_out_of_memory(error):
            raise
    # Outside the handler the failed attempt's tensors are free.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    halving(compute, work[: len(work) // 2])
    halving(compute, work[len(work) // 2 :])


def _is_out_of_memory(error: RuntimeError) -> bool:
    words = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "t allocate memory" in words or "out of memory" in words


@contextmanager
def progress_bar(total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on the terminal, or nothing; gives the function to call with how many more are done."""
    if not shown:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:  # what the program prints stays clean
        task = progress.add_task("Embedding", total=total)
        yield lambda done: progress.advance(task, done)
