"""How far an evaluation is: a row on standard output for each task that is done, a bar on standard error between."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from virtue.commands.train_progress import SECONDS_BETWEEN_LINES

if TYPE_CHECKING:
    from virtue.evaluation.results import TaskResult
    from virtue.evaluation.tasks import NotMeasured

HEADER = ("task", "queries", "candidates", "hit@1, % [95 %]", "MRR", "guesser", "chance")
WIDTHS = (30, 8, 11, 22, 6, 8, 7)


class EvaluationProgress:
    """Prints tasks as they are done and shows what is being embedded.

    Rows have fixed widths, because a table that is printed as it goes cannot know how wide the last name will be. In a
    terminal a bar with the time left stands below them; elsewhere a line says now and then how far it is.

    Args:
        out: Where rows go.
        err: Where the bar goes.
        quiet: Print nothing at all, as every process but the first of several does.
    """

    def __init__(self, out: Console, err: Console, *, quiet: bool = False) -> None:
        self.out, self.err, self.quiet = out, err, quiet
        self.bar: Progress | None = None
        self.row: TaskID | None = None
        self.what = ""
        self.said = self.began = time.monotonic()

    def heading(self, title: str) -> None:
        """Says what the rows that follow are about."""
        if not self.quiet:
            self.stop()
            self.out.print(title, markup=False, highlight=False)
            self._line(HEADER)

    def task(self, result: TaskResult) -> None:
        """Prints a task's row."""
        from virtue.evaluation.reports.tables import HIT, left_out, percent

        if self.quiet:
            return
        self.stop()
        mrr = result.metrics.get("mrr")
        cells = (f"{result.queries:,}", f"{result.candidates:,}", percent(result.metrics[HIT]))
        figures = (percent(None if mrr is None else mrr.value), percent(result.guesser), percent(result.chance))
        self._line((result.name, *cells, *figures))
        for sentence in left_out([result]):
            self._sentence(f"  {sentence}")

    def not_measured(self, lost: NotMeasured) -> None:
        """Says that nothing is left of a task, where its row would stand."""
        from virtue.evaluation.reports.tables import not_measured

        if self.quiet:
            return
        self.stop()
        for sentence in not_measured([lost]):
            self._sentence(sentence)

    def embedding(self, what: str, done: int, total: int) -> None:
        """Moves the bar, or says how far it is if that was said a while ago."""
        if self.quiet:
            return
        if self.err.is_terminal:
            self._move(what, done, total)
        elif done < total and time.monotonic() - self.said > SECONDS_BETWEEN_LINES:
            self.said = time.monotonic()
            self.err.print(f"{what} {done:,}/{total:,}", markup=False, highlight=False, soft_wrap=True)

    def of(self, what: str) -> Callable[[int, int], None]:
        """What moves the bar of one thing."""
        return lambda done, total: self.embedding(what, done, total)

    def say(self, sentence: str) -> None:
        """Prints a sentence beside the rows."""
        if not self.quiet:
            self.err.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Takes the bar away, so that the terminal has its cursor and a row its place."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = self.row = None

    def _sentence(self, sentence: str) -> None:
        self.out.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def _move(self, what: str, done: int, total: int) -> None:
        if self.bar is None:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
            self.bar = Progress(
                *columns,
                TimeRemainingColumn(),
                console=self.err,
                transient=True,
                redirect_stdout=False,  # standard output may go to a file
            )
            self.bar.start()
        if self.row is None or what != self.what:
            if self.row is not None:
                self.bar.remove_task(self.row)
            self.row, self.what = self.bar.add_task(what, total=total), what
        self.bar.update(self.row, completed=done, total=total)

    def _line(self, cells: tuple[str, ...]) -> None:
        name, *figures = [
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(cells, WIDTHS, strict=True))
        ]
        self.out.print(" ".join([name, *figures]), markup=False, highlight=False, soft_wrap=True)
