"""Results as tables: for a terminal while they come in, and as Markdown for a page.

Figures are percent with one decimal, and in square brackets the 95 % interval. Each benchmark has a table of its own
form: SCaR by kind of swap with the mean of its five sets, MMEB with the means of its meta-tasks, everything else with
all its metrics. What is partial or was not measured is said, and no mean over sets or tasks is given that one of them
is missing from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from virtue.evaluation.benchmarks.mmeb import means, mmeb_table
from virtue.evaluation.benchmarks.scar import SETS
from virtue.evaluation.results import mean_of_queries, mean_of_tasks, means_of_tasks
from virtue.evaluation.tasks import counted

if TYPE_CHECKING:
    from rich.table import Table

    from virtue.evaluation.results import Curve, Interval, Results, TaskResult
    from virtue.evaluation.tasks import NotMeasured

NOTHING = "–"  # noqa: RUF001 - a dash in a table
HIT = "hit@1"
METRICS = {"hit@5": "hit@5", "hit@10": "hit@10", "ndcg@10": "nDCG@10", "recall@5": "recall@5", "recall@10": "recall@10"}
"""What stands beside hit@1 and MRR, and how it is written."""

SWAPS = ("object", "relation", "scene")
MEANS = {
    "classification": "Classification",
    "vqa": "VQA",
    "retrieval": "Retrieval",
    "grounding": "Grounding",
    "ind": "IND",
    "ood": "OOD",
    "overall": "Overall",
}
"""MMEB's means, as `mmeb.means` calls them and as the paper does."""

_GUESSER = "Guesser: sees neither image nor query, and learned from other rows which candidates tend to be right."

SCAR = tuple(f"scar/{name}" for name in SETS)
"""The tasks that SCaR's overall is the mean of."""


@dataclass(frozen=True)
class Sheet:
    """A table of text.

    Attributes:
        title: What it shows; "" for a table that stands below a heading of its own.
        header: One cell per column; the first column holds names, all others figures.
        rows: As long as the header each.
        notes: What has to be known to read it, a sentence each.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def to_rich(self) -> Table:
        """For a terminal."""
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        table = Table(
            title=escape(self.title) or None, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD
        )
        for number, name in enumerate(self.header):
            table.add_column(escape(name), justify="right" if number else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*map(escape, row))
        table.caption = escape("\n".join(self.notes)) or None
        return table

    def to_markdown(self) -> str:
        """For a page: a heading where there is a title, the table, the notes."""
        lines = [self.header, ("---", *["---:"] * (len(self.header) - 1)), *self.rows]
        table = "\n".join(f"| {' | '.join(map(_cell, cells))} |" for cells in lines)
        heading = [f"### {self.title}"] if self.title else []
        return "\n\n".join([*heading, table, *self.notes])


def percent(figure: Interval | float | None) -> str:
    """A share in percent with one decimal, "82.4 [80.1, 84.7]" where its interval is known, a dash for None."""
    if figure is None:
        return NOTHING
    if isinstance(figure, float | int):
        return f"{100 * figure:.1f}"
    bounds = "" if math.isnan(figure.low) else f" [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"
    return f"{100 * figure.value:.1f}{bounds}"


def sheets(results: Results) -> list[Sheet]:
    """All tables of a run: for each benchmark its own and hit@1 by every tag of its tasks, then the curves."""
    benchmarks: dict[str, list[TaskResult]] = {}
    for task in results.tasks:
        benchmarks.setdefault(benchmark(task.name), []).append(task)
    for lost in results.not_measured:
        benchmarks.setdefault(benchmark(lost.name), [])
    found: list[Sheet] = []
    for name, tasks in benchmarks.items():
        found += _FORMS.get(name, _plain)(name, results, tasks)
        found += _by_tags(name, tasks)
    return [*found, *_curve_sheets(results)]


def report(results: Results) -> str:
    """A run as a Markdown document: what was measured, all tables, the settings and versions."""
    facts = "\n".join(f"- {name}: {value}" for name, value in facts_of(results).items())
    tables = [sheet.to_markdown() for sheet in sheets(results)]
    return "\n\n".join([f"# {results.model}, {results.strategy}", facts, *tables]) + "\n"


def facts_of(results: Results) -> dict[str, str]:
    """What has to be known to get the figures again: model, strategy, settings, versions, digests of the tasks."""
    return {
        "model": results.model,
        "fingerprint": results.fingerprint,
        "strategy": results.strategy,
        "dimension": str(results.dimension),
        **{name.replace("_", " "): str(value) for name, value in results.settings.items() if value is not None},
        "versions": ", ".join(f"{name} {version}" for name, version in results.versions.items()),
        "made": results.made,
        **{f"digest of {task.name}": task.digest for task in results.tasks},
        "figures": "percent; in square brackets the 95 % bootstrap interval; ties count as the mean over their orders",
    }


def benchmark(task: str) -> str:
    """The benchmark of a task, "scar" of "scar/ADE20K"."""
    return task.partition("/")[0]


def short(task: str) -> str:
    """The set of a task, "ADE20K" of "scar/ADE20K"."""
    return task.partition("/")[2] or task


def left_out(tasks: Iterable[TaskResult]) -> tuple[str, ...]:
    """A sentence for each task that is not whole, saying what is missing of it, and for what definitions leave out."""
    sentences = []
    for task in tasks:
        if task.is_partial:
            sentences.append(f"PARTIAL: {task.name} is not whole, left out are {counted(task.missing)}.")
        if any(task.excluded.values()):
            sentences.append(f"Not asked in {task.name}, by its definition: {counted(task.excluded)}.")
    return tuple(sentences)


def not_measured(lost: Iterable[NotMeasured]) -> tuple[str, ...]:
    """A sentence for each set of which nothing could be asked."""
    return tuple(f"NOT MEASURED: {one.name}, because {one.reason}." for one in lost)


def mmeb_means(results: Results) -> dict[str, Interval | None]:
    """MMEB's means of hit@1, by the keys of `MEANS`; None where a task of the mean is missing or partial."""
    return means_of_tasks(results, means())


def _lacking(name: str, results: Results, tasks: Sequence[TaskResult]) -> tuple[str, ...]:
    """What of a benchmark was not asked."""
    lost = [one for one in results.not_measured if benchmark(one.name) == name]
    return (*not_measured(lost), *left_out(tasks))


def _scar(name: str, results: Results, tasks: Sequence[TaskResult]) -> list[Sheet]:
    """SCaR as published ("scar") or with other distractors ("scar-image", "scar-others")."""
    header = ("set", "queries", HIT, *SWAPS, "guesser", "chance")
    rows = [
        (
            short(task.name),
            f"{task.queries:,}",
            percent(task.metrics[HIT]),
            *(percent(task.by.get("swap", {}).get(kind)) for kind in SWAPS),
            percent(task.guesser),
            percent(task.chance),
        )
        for task in tasks
    ]
    notes = list(_lacking(name, results, tasks))
    if any("swap" in task.by for task in tasks):
        notes.append("By kind of swap: the true caption against the distractors of that kind only.")
    notes.append(_GUESSER)
    sets = [f"{name}/{each}" for each in SETS]
    overall = {"mean of sets": mean_of_tasks(results, sets), "all samples": mean_of_queries(results, sets)}
    if all(overall.values()):
        count = f"{sum(task.queries for task in tasks if task.name in sets):,}"
        rows += [(what, count, percent(mean), *[NOTHING] * (len(header) - 3)) for what, mean in overall.items()]
    else:
        absent = [short(each) for each in sets if each not in {task.name for task in tasks}]
        why = f"there is no {', '.join(absent)}" if absent else "some are partial"
        notes.append(f"No overall is given, because it takes all five sets: {why}.")
    title = "SCaR" if name == "scar" else f"SCaR, distractors: {name.removeprefix('scar-')}"
    return [Sheet(title, header, tuple(rows), tuple(notes))]


def _mmeb(name: str, results: Results, tasks: Sequence[TaskResult]) -> list[Sheet]:
    known = mmeb_table()
    header = ("task", "meta-task", "split", "queries", "candidates", HIT, "MRR", "nDCG@10", "chance")
    rows = tuple(
        (
            short(task.name),
            *(
                (known[short(task.name)].meta_task, known[short(task.name)].split)
                if short(task.name) in known
                else ("",) * 2
            ),
            f"{task.queries:,}",
            f"{task.candidates:,}",
            *(_metric(task, metric) for metric in (HIT, "mrr", "ndcg@10")),
            percent(task.chance),
        )
        for task in tasks
    )
    over, found = means(), mmeb_means(results)
    lacking = any(mean is None for mean in found.values())
    notes = ("No mean is given of which a task is not there, or is partial.",) if lacking else ()
    return [
        Sheet("MMEB", header, rows, _lacking(name, results, tasks)),
        Sheet(
            "MMEB, means of tasks",
            ("mean over", "tasks", HIT),
            tuple((MEANS[mean], str(len(over[mean])), percent(figure)) for mean, figure in found.items()),
            notes,
        ),
    ]


def _plain(name: str, results: Results, tasks: Sequence[TaskResult]) -> list[Sheet]:
    guessed = any(task.guesser is not None for task in tasks)
    header = ("task", "queries", "candidates", HIT, "MRR", *(["guesser"] if guessed else []), "chance")
    rows = tuple(
        (
            short(task.name),
            f"{task.queries:,}",
            f"{task.candidates:,}",
            *(_metric(task, metric) for metric in (HIT, "mrr")),
            *([percent(task.guesser)] if guessed else []),
            percent(task.chance),
        )
        for task in tasks
    )
    notes = (*_lacking(name, results, tasks), *([_GUESSER] if guessed else []))
    shown = [metric for metric in METRICS if any(metric in task.metrics for task in tasks)]
    further = tuple((short(task.name), *(_metric(task, metric) for metric in shown)) for task in tasks)
    sheets = [Sheet(name, header, rows, notes)]
    return (
        [*sheets, Sheet(f"{name}, further metrics", ("task", *map(METRICS.__getitem__, shown)), further)]
        if shown
        else sheets
    )


def _metric(task: TaskResult, metric: str) -> str:
    """A metric's cell; the interval stands at hit@1 only, so that a row fits a terminal."""
    figure = task.metrics.get(metric)
    return percent(figure if figure is None or metric == HIT else figure.value)


def _by_tags(name: str, tasks: Sequence[TaskResult]) -> list[Sheet]:
    """Hit@1 by each word of each tag, a table per tag; SCaR's kinds of swap stand in its own table."""
    tags = dict.fromkeys(tag for task in tasks for tag in task.by if tag != "swap" or _FORMS.get(name) is not _scar)
    return [_by_tag(name, tag, [task for task in tasks if tag in task.by]) for tag in tags]


def _by_tag(name: str, tag: str, tasks: Sequence[TaskResult]) -> Sheet:
    words = dict.fromkeys(word for task in tasks for word in task.by[tag])
    rows = tuple((word, *(percent(task.by[tag].get(word)) for task in tasks)) for word in words)
    notes = ("The true one against that kind's distractors only.",) if tag == "swap" else ()
    return Sheet(f"{name}, {HIT} by {tag}", (tag, *(short(task.name) for task in tasks)), rows, notes)


def _curve_sheets(results: Results) -> list[Sheet]:
    """The points of curves, a table for each task: every cell a severity and hit@1 at it."""
    by_task: dict[str, list[Curve]] = {}
    for curve in results.curves:
        by_task.setdefault(curve.task, []).append(curve)
    return [_curve_sheet(task, curves) for task, curves in by_task.items()]


def _curve_sheet(task: str, curves: Sequence[Curve]) -> Sheet:
    longest = max(len(curve.points) for curve in curves)
    rows = []
    for curve in curves:
        cells = [f"{point.label}: {percent(point.hit.value)}" for point in curve.points]
        name = f"{curve.disturbance}, {curve.unit}" if curve.unit else curve.disturbance
        rows.append((name, *cells, *[NOTHING] * (longest - len(cells))))
    header = ("disturbance", *(f"step {number}" for number in range(1, longest + 1)))
    return Sheet(f"{task}, {HIT} by severity", header, tuple(rows))


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


_Form = Callable[[str, "Results", Sequence["TaskResult"]], list[Sheet]]
_FORMS: Mapping[str, _Form] = {"scar": _scar, "scar-image": _scar, "scar-others": _scar, "mmeb": _mmeb}
