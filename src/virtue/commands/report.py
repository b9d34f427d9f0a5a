"""`virtue report`: runs of `virtue eval` side by side, beside the paper's figures."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from virtue.evaluation.intervals import Difference, Interval
    from virtue.evaluation.reports.comparison import Compared
    from virtue.evaluation.reports.tables import Sheet
    from virtue.evaluation.results import Results

EXAMPLES = (
    "virtue report runs/eval",
    "virtue report runs/eval/prompt runs/eval/none --html report.html",
    "virtue report before.json after.json --markdown report.md",
)
RESULTS = "results.json"
_WIDE = 240  # columns of a file, which nothing has to fit into


def report(
    runs: Annotated[list[Path], typer.Argument(help="Files of results, or folders that `virtue eval` wrote.")],
    to_html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with plots and pictures here.", show_default=False)
    ] = None,
    to_markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write the tables as Markdown here.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON, not as tables.")] = False,
) -> None:
    """Put runs side by side, beside the paper's figures.

    Marks what differs from the first run beyond noise. Of a single run it prints the tables. All figures are percent,
    those of --json shares of 1.
    """
    from virtue.evaluation.reports.comparison import compare
    from virtue.evaluation.results import Results

    for path in (to_html, to_markdown):
        if path is not None and not path.absolute().parent.is_dir():
            raise NotADirectoryError(f"{path.absolute().parent} is not a folder; name a file in one that exists.")
    loaded = [run for path in runs for run in sorted(map(Results.load, _files(path)), key=lambda run: run.made)]
    compared = compare(loaded)
    if to_html is not None:
        from virtue.evaluation.reports.page import page

        write_text(to_html, page(loaded, compared))
    if to_markdown is not None:
        write_text(to_markdown, markdown(loaded, compared))
    if as_json:
        typer.echo(json.dumps(_as_json(loaded, compared), indent=1, ensure_ascii=False))
        return
    show(loaded, compared)


def markdown(runs: Sequence[Results], compared: Sequence[Compared]) -> str:
    """The runs as one Markdown document: the comparison, where there is one, then each run's own report."""
    from virtue.evaluation.reports.comparison import beside_the_paper, comparison_sheets
    from virtue.evaluation.reports.tables import report

    sheets = comparison_sheets(runs, compared) if len(runs) > 1 else []
    after = beside_the_paper(runs) if len(runs) == 1 else []
    parts = ["# Runs side by side", *(sheet.to_markdown() for sheet in sheets)] if sheets else []
    return (
        "\n\n".join([*parts, *(report(run).rstrip() for run in runs), *(sheet.to_markdown() for sheet in after)]) + "\n"
    )


def write_text(path: Path, text: str) -> None:
    """Writes a file, whole or not at all."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _files(path: Path) -> list[Path]:
    """The file itself, or all results of a folder: its own, and those of strategies in folders of their own."""
    if not path.is_dir():
        return [path]
    found = [file for file in (path / RESULTS, *sorted(path.glob(f"*/{RESULTS}"))) if file.is_file()]
    if not found:
        raise FileNotFoundError(f"{path} holds no {RESULTS}; name a folder that `virtue eval --to` wrote, or a file.")
    return found


def show(runs: Sequence[Results], compared: Sequence[Compared]) -> None:
    """Prints the tables of one run, or the comparison of several."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    for sheet in _sheets(runs, compared):
        console.print(sheet.to_rich(), "")


def _sheets(runs: Sequence[Results], compared: Sequence[Compared]) -> list[Sheet]:
    """The tables of one run, or the comparison of several."""
    from virtue.evaluation.reports.comparison import beside_the_paper, comparison_sheets
    from virtue.evaluation.reports.tables import sheets

    return comparison_sheets(runs, compared) if len(runs) > 1 else [*sheets(runs[0]), *beside_the_paper(runs)]


def _as_json(runs: Sequence[Results], compared: Sequence[Compared]) -> dict[str, object]:
    """What the tables show, as shares of 1."""
    from virtue.evaluation.reports.comparison import run_names

    return {
        "runs": [
            {
                "name": name,
                "fingerprint": run.fingerprint,
                "tasks": {
                    task.name: {
                        "queries": task.queries,
                        "partial": task.is_partial,
                        "metrics": {metric: _plain(figure) for metric, figure in task.metrics.items()},
                    }
                    for task in run.tasks
                },
                "not_measured": {one.name: one.reason for one in run.not_measured},
            }
            for name, run in zip(run_names(runs), runs, strict=True)
        ],
        "differences": [
            {
                "task": one.task,
                "run": one.run,
                "comparable": one.difference is not None,
                "asked_otherwise": one.otherwise or None,
                "difference": None if one.difference is None else _plain(one.difference),
                "beyond_noise": bool(one.mark),
            }
            for one in compared
        ],
    }


def _plain(figure: Interval | Difference) -> dict[str, float | None]:
    """What JSON can hold: nothing where a number is not known."""
    return {name: None if math.isnan(value) else value for name, value in asdict(figure).items()}
