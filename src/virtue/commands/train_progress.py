"""How far the stages of the bundled model's training are: bars in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from virtue.training.nano import StageProgress

SECONDS_BETWEEN_LINES = 30


def bars(console: Console) -> Progress:
    """Bars with the time left, drawn in a terminal only."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


@contextmanager
def reporter(console: Console) -> Iterator[StageProgress]:
    """A bar for each stage of the bundled model's training, or a line now and then."""
    with bars(console) as shown:
        tasks: dict[str, TaskID] = {}
        printed: dict[str, float] = {}

        def report(stage: str, step: int, steps: int, figures: dict[str, float]) -> None:
            loss = sum(value for name, value in figures.items() if name != "seconds")
            if console.is_terminal:
                if stage not in tasks:
                    tasks[stage] = shown.add_task(stage, total=steps)
                shown.update(tasks[stage], completed=step, description=f"{stage} loss {loss:.3f}")
            elif time.monotonic() - printed.get(stage, 0.0) > SECONDS_BETWEEN_LINES or step == steps:
                printed[stage] = time.monotonic()
                console.print(f"{stage} {step}/{steps} loss {loss:.3f} {figures['seconds']:.2f} s", highlight=False)

        yield report
