"""How far a build is: a bar in a terminal, a line now and then elsewhere, both on standard error."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from virtue.commands.train_progress import SECONDS_BETWEEN_LINES

if TYPE_CHECKING:
    from virtue.curation.pipeline import Tally
    from virtue.curation.samples import Region

_STEP = 100  # regions between two updates while they are read


class BuildProgress:
    """Shows what a build is doing.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._row: TaskID | None = None
        self._said = time.monotonic()

    def reading(self, name: str, regions: Iterable[Region]) -> Iterator[Region]:
        """The same regions, counted as they go by."""
        for number, region in enumerate(regions, start=1):
            if number % _STEP == 0:
                self._show(f"Reading {name}", number, None)
            yield region
        self.stop()

    def built(self, tally: Tally) -> None:
        """Shows how far the samples are."""
        from virtue.curation.pipeline import describe

        if self._console.is_terminal:
            shares = f"{tally.written:,} written, {tally.dropped.total():,} dropped"
            self._show(f"Writing samples ({shares})", tally.done, tally.total)
        elif self._due():
            self.say(describe(tally))

    def say(self, sentence: str) -> None:
        """Prints a line beside the bar."""
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._row = None

    def _show(self, doing: str, done: int, total: int | None) -> None:
        if not self._console.is_terminal:
            if self._due():
                self.say(f"{doing}: {done:,}" + (f" of {total:,}" if total else ""))
            return
        if self._bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self._console)
            self._bar.start()
            self._row = self._bar.add_task(doing, total=total)
        if self._row is not None:
            self._bar.update(self._row, description=doing, completed=done, total=total)

    def _due(self) -> bool:
        """Whether a line was said long enough ago."""
        now = time.monotonic()
        if now - self._said < SECONDS_BETWEEN_LINES:
            return False
        self._said = now
        return True
