"""Runs side by side, beside the paper's rows, with the differences that are more than noise marked.

Two runs are compared on a task when both were asked the same of the same candidates and lists, which a digest says;
otherwise their figures stand side by side and nothing is said of their difference. The regions may be shown in another
way, and the instruction may be another: that is said. All runs are compared with the first:

1. Of each shared task, the mean difference of hit@1, query by query, its 95 % interval and its two-sided p
   (`intervals.paired_difference`, by groups).
2. Holm's correction over the tasks of the two runs: of T tasks, the smallest p is multiplied by T, the next by T - 1,
   and so on, never falling. The more tasks there are, the more of them would differ by chance alone.
3. What is then below 0.05 is marked, by the sign of the difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from virtue.evaluation.intervals import Difference, paired_difference
from virtue.evaluation.reports.paper import PaperTable, paper_tables
from virtue.evaluation.reports.tables import (
    HIT,
    MEANS,
    NOTHING,
    SCAR,
    Sheet,
    left_out,
    mmeb_means,
    not_measured,
    percent,
    short,
)
from virtue.evaluation.results import mean_of_tasks

if TYPE_CHECKING:
    from virtue.evaluation.results import Results, TaskResult

LEVEL = 0.05
"""Below this, corrected, a difference is more than noise."""

BETTER, WORSE = "▲", "▼"

_UNTOLD = ("robustness", "processes")  # settings that change no figure of a task


@dataclass(frozen=True)
class Compared:
    """One task of one run beside the first run.

    Attributes:
        task: Its name.
        run: What the run is called.
        difference: Of hit@1, this run less the first, with p corrected; None where the two are not comparable.
        otherwise: In which way the run was asked otherwise than the first; "" where it was not.
    """

    task: str
    run: str
    difference: Difference | None
    otherwise: str = ""

    @property
    def mark(self) -> str:
        """What a table shows behind the figure: better or worse beyond noise, or nothing."""
        if self.difference is None or not self.difference.p < LEVEL:
            return ""
        return BETTER if self.difference.mean > 0 else WORSE


def run_names(runs: Sequence[Results]) -> list[str]:
    """What each run is called: its model and strategy.

    Where two would be called the same, the settings follow in which these differ, and a number where none does.
    """
    alike: dict[str, list[Results]] = {}
    for run in runs:
        alike.setdefault(f"{run.model}, {run.strategy}", []).append(run)
    names: list[str] = []
    for run in runs:
        name = f"{run.model}, {run.strategy}"
        name = ", ".join([name, *_differing(run, alike[name])])
        same = sum(one == name or one.startswith(f"{name} (") for one in names)
        names.append(f"{name} ({same + 1})" if same else name)
    return names


def _differing(run: Results, others: Sequence[Results]) -> list[str]:
    """The settings of a run that differ from those of another that has them, such as "shown point"."""
    return [
        f"{name.replace('_', ' ')} {value}"
        for name, value in run.settings.items()
        if name not in _UNTOLD
        and value is not None
        and any(other.settings.get(name, value) != value for other in others)
    ]


def compare(runs: Sequence[Results]) -> list[Compared]:
    """Every other run beside the first, on the tasks that both have."""
    first, *others = runs
    mine = {task.name: task for task in first.tasks}
    found: list[Compared] = []
    for name, run in zip(run_names(runs)[1:], others, strict=True):
        shared = [task for task in run.tasks if task.name in mine]
        found += _corrected([_compared(name, task, mine[task.name]) for task in shared])
    return found


def holm(values: Sequence[float]) -> list[float]:
    """Corrects p values that belong together, in their order (Holm 1979)."""
    order = np.argsort(values, kind="stable")
    scaled = np.asarray(values, dtype=float)[order] * np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in corrected]


def comparison_sheets(runs: Sequence[Results], compared: Sequence[Compared]) -> list[Sheet]:
    """The tables of a comparison: per task, the differences, then each benchmark beside the paper.

    Args:
        runs: At least one; the others are compared with the first.
        compared: What `compare` found of them; it takes a while, and several outputs show it.
    """
    first, *others = run_names(runs)
    differences = [_differences(run, first, compared) for run in others]
    return [_per_task(runs, compared), *(sheet for sheet in differences if sheet.rows), *beside_the_paper(runs)]


def beside_the_paper(runs: Sequence[Results]) -> list[Sheet]:
    """For SCaR and MMEB, where a run has figures that the paper has too: the runs, then the paper's rows."""
    rows = {"scar": [_scar_row(run) for run in runs], "mmeb": [_mmeb_row(run) for run in runs]}
    return [
        _paper_sheet(paper_tables()[name], run_names(runs), figures)
        for name, figures in rows.items()
        if any(figure is not None for row in figures for figure in row.values())
    ]


def _compared(run: str, task: TaskResult, first: TaskResult) -> Compared:
    is_same = task.digest == first.digest
    if not is_same and (not task.asked or task.asked != first.asked):
        return Compared(task.name, run, None)
    otherwise = ""
    if not is_same:
        ways = f"{task.manner} instead of {first.manner}"
        otherwise = ways if task.manner != first.manner else "other visual prompts or another instruction"
    return Compared(task.name, run, paired_difference(task.hits, first.hits, task.groups), otherwise)


def _corrected(compared: Sequence[Compared]) -> list[Compared]:
    ps = iter(holm([one.difference.p for one in compared if one.difference is not None]))
    return [
        one if one.difference is None else replace(one, difference=replace(one.difference, p=next(ps)))
        for one in compared
    ]


def _per_task(runs: Sequence[Results], compared: Sequence[Compared]) -> Sheet:
    names = run_names(runs)
    marks = {(one.task, one.run): one for one in compared}
    tables = [{task.name: task for task in run.tasks} for run in runs]
    tasks = list(dict.fromkeys(task for table in tables for task in table))
    rows = tuple(
        (task, *(_figure(table.get(task), marks.get((task, name))) for name, table in zip(names, tables, strict=True)))
        for task in tasks
    )
    notes = list(
        dict.fromkeys(note for run in runs for note in (*not_measured(run.not_measured), *left_out(run.tasks)))
    )
    if len(runs) > 1:
        notes.append(
            f"{BETTER} better and {WORSE} worse than {names[0]} beyond noise: paired test over the same queries, "
            f"p < {LEVEL} after Holm's correction over the tasks."
        )
    notes += _otherwise(compared, names[0])
    notes += [
        f"{one.task} of {one.run} is not compared: its queries, candidates or lists are not those of {names[0]}."
        for one in compared
        if one.difference is None
    ]
    return Sheet(f"{HIT} by task", ("task", *names), rows, tuple(notes))


def _otherwise(compared: Sequence[Compared], first: str) -> list[str]:
    """A sentence for each run and way in which its regions were shown otherwise than the first run's."""
    tasks: dict[tuple[str, str], list[str]] = {}
    for one in compared:
        if one.otherwise:
            tasks.setdefault((one.run, one.otherwise), []).append(one.task)
    return [
        f"{run} was asked the same as {first} in another way, {otherwise}: {', '.join(own)}."
        for (run, otherwise), own in tasks.items()
    ]


def _figure(task: TaskResult | None, compared: Compared | None) -> str:
    if task is None:
        return NOTHING
    mark = compared.mark if compared else ""
    return f"{percent(task.metrics[HIT])}{' ' if mark else ''}{mark}"


def _differences(run: str, first: str, compared: Sequence[Compared]) -> Sheet:
    rows = tuple(
        (one.task, *_difference_cells(one.difference), one.mark or NOTHING)
        for one in compared
        if one.run == run and one.difference is not None
    )
    header = ("task", "points", "95 % interval", "p, corrected", "beyond noise")
    return Sheet(f"{run}: {HIT} less that of {first}", header, rows)


def _difference_cells(difference: Difference) -> tuple[str, str, str]:
    interval = f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    return f"{100 * difference.mean:+.1f}", interval if interval.find("nan") < 0 else NOTHING, f"{difference.p:.4f}"


def _scar_row(run: Results) -> dict[str, float | None]:
    """Hit@1 of each whole set, and the mean of the five where all are there."""
    sets = {
        short(task.name): task.metrics[HIT].value for task in run.tasks if task.name in SCAR and not task.is_partial
    }
    overall = mean_of_tasks(run, SCAR)
    return {**sets, "overall": None if overall is None else overall.value}


def _mmeb_row(run: Results) -> dict[str, float | None]:
    """MMEB's means; none where queries were ranked against all candidates, which the paper did not do."""
    if run.settings.get("ranking") == "global":
        return {}
    return {name: None if mean is None else mean.value for name, mean in mmeb_means(run).items()}


def _paper_sheet(table: PaperTable, names: Sequence[str], figures: Sequence[Mapping[str, float | None]]) -> Sheet:
    mine = [_row(name, row, table) for name, row in zip(names, figures, strict=True)]
    published = [_row(f"paper: {model}", row, table) for model, row in table.rows.items()]
    header = ("", *(MEANS.get(column, column) for column in table.columns))
    notes = (f"Rows of the paper: {table.source}. {table.note}", "Sets and means that are not whole are left out.")
    return Sheet(f"{table.title}, {HIT} beside the paper", header, (*mine, *published), notes)


def _row(name: str, figures: Mapping[str, float | None], table: PaperTable) -> tuple[str, ...]:
    return (name, *(percent(figures.get(column)) for column in table.columns))
