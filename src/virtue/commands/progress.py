"""The bar by which a command says how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(
    doing: str, things: str, console: Console | None = None, *, transient: bool = False
) -> Iterator[Callable[[int, int], None]]:
    """A bar that counts; gives the function to call with how many are done and how many there are.

    Args:
        doing: What is being done, before the bar.
        things: What is counted, behind it.
        console: Where to; standard error by default.
        transient: Leave nothing behind when it is done.
    """
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn(things), TimeRemainingColumn())
    with Progress(*columns, console=console or Console(stderr=True), transient=transient) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
