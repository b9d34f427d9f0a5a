"""A report of one run or several in one HTML file that fetches nothing and runs nothing: it works from a disk.

Summary, plots, tables, worst cases with their pictures, the commonest wrong answers, and what is needed to get the
figures again. It is light or dark as the reader's system is, and its tables and pictures can be read aloud. Whatever
comes from a result is escaped, because results travel between people.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from virtue.evaluation.reports.comparison import Compared, comparison_sheets, run_names
from virtue.evaluation.reports.plots import curve_panel, task_bars
from virtue.evaluation.reports.tables import HIT, Sheet, benchmark, facts_of, sheets, short
from virtue.evaluation.robustness.disturbances import FAMILIES, family_of

if TYPE_CHECKING:
    from virtue.evaluation.results import Curve, Example, Results

_PICTURE = "data:image/"
_LOUD = ("PARTIAL", "NOT MEASURED", "No ")  # how notes begin that nobody should miss

_FAMILY_TITLES = {
    "box": "Boxes that are off",
    "point": "Points that are off",
    "mask": "Masks that are off",
    "object": "Wrong objects",
    "picture": "Pictures that are worse",
    "natural": "Objects that are harder",
    "sampling": "Pictures without a visual prompt: where points come from",
}


def page(runs: Sequence[Results], compared: Sequence[Compared]) -> str:
    """The report of one run, or of several side by side.

    Args:
        runs: At least one; the others are compared with the first.
        compared: What `comparison.compare` found of them.

    Returns:
        A whole HTML document.
    """
    names = run_names(runs)
    sections = {
        "Summary": _tables(comparison_sheets(runs, compared)),
        "Plots": _figures(_bars(runs)),
        "Robustness": _robustness(runs),
    }
    for name, run in zip(names, runs, strict=True):
        behind = f" of {name}" if len(runs) > 1 else ""
        sections[f"Tables{behind}"] = _tables(sheets(run))
        sections[f"Worst cases{behind}"] = _worst(run)
        sections[f"Commonest wrong answers{behind}"] = _wrong(run)
        sections[f"How it was measured{behind}"] = _facts(run)
    shown = {title: body for title, body in sections.items() if body}
    template = Template((files("virtue.evaluation") / "data" / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=_text(" and ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} others"),
        summary=_text(
            "Hit@1 and all other figures in percent, in square brackets the 95 % bootstrap interval. "
            "Ties count as the mean over their orders."
        ),
        contents="\n".join(f'<li><a href="#s{i}">{_text(title)}</a></li>' for i, title in enumerate(shown)),
        sections="\n".join(
            f'<section id="s{i}"><h2>{_text(title)}</h2>\n{body}\n</section>'
            for i, (title, body) in enumerate(shown.items())
        ),
    )


def _tables(tables: Iterable[Sheet]) -> str:
    return "\n".join(map(_table, tables))


def _table(sheet: Sheet) -> str:
    """A table that scrolls sideways by itself where the page is narrow, and its notes."""
    head = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in sheet.header)
    rows = "\n".join(
        f'<tr><th scope="row">{_text(row[0])}</th>{"".join(f"<td>{_text(cell)}</td>" for cell in row[1:])}</tr>'
        for row in sheet.rows
    )
    return (
        f"{_scrolling(sheet.title)}<table><caption>{_text(sheet.title)}</caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>\n{_notes(sheet.notes)}"
    )


def _scrolling(title: str) -> str:
    """The start of an element that can be scrolled with the keyboard too."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{_text(title)}">'


def _notes(notes: Iterable[str]) -> str:
    loud = "note loud", "note"
    return "\n".join(f'<p class="{loud[not note.startswith(_LOUD)]}">{_text(note)}</p>' for note in notes)


def _figures(drawings: Iterator[tuple[str, str]]) -> str:
    """Drawings side by side as far as the page is wide; a sentence where nothing can be drawn."""
    try:
        found = [
            f'<figure class="plot"><figcaption>{_text(title)}</figcaption>{svg}</figure>' for title, svg in drawings
        ]
    except ModuleNotFoundError as error:
        return _notes([str(error)])
    return f'<div class="plots">\n{"".join(found)}</div>' if found else ""


def _bars(runs: Sequence[Results]) -> Iterator[tuple[str, str]]:
    """A drawing of bars for each benchmark, with its title."""
    named = dict(zip(run_names(runs), runs, strict=True))
    benchmarks = dict.fromkeys(benchmark(task.name) for run in runs for task in run.tasks)
    for number, name in enumerate(benchmarks):
        tasks = {key: [task for task in run.tasks if benchmark(task.name) == name] for key, run in named.items()}
        figures = {key: {short(task.name): task.metrics[HIT] for task in own} for key, own in tasks.items() if own}
        chance = {short(task.name): task.chance for own in tasks.values() for task in own}
        title = f"{name}: {HIT} by task"
        yield title, task_bars(figures, chance, title, f"bars{number}")


def _robustness(runs: Sequence[Results]) -> str:
    """A panel for each disturbance, those of one family together."""
    curves = [(name, curve) for name, run in zip(run_names(runs), runs, strict=True) for curve in run.curves]
    parts = []
    for family in FAMILIES:
        own = [(name, curve) for name, curve in curves if family_of(curve.disturbance) == family]
        if own:
            parts.append(f"<h3>{_text(_FAMILY_TITLES[family])}</h3>\n{_figures(_panels(own, family))}")
    return "\n".join(parts)


def _panels(curves: Sequence[tuple[str, Curve]], salt: str) -> Iterator[tuple[str, str]]:
    """A drawing for each disturbance: a line per run, and per task where there are several."""
    several_runs = len({name for name, _ in curves}) > 1
    several_tasks = len({curve.task for _, curve in curves}) > 1
    by_disturbance: dict[str, dict[str, Curve]] = {}
    for name, curve in curves:
        parts = [name] * several_runs + [curve.task] * several_tasks
        by_disturbance.setdefault(curve.disturbance, {})[", ".join(parts)] = curve
    for number, (disturbance, lines) in enumerate(by_disturbance.items()):
        yield disturbance, curve_panel(lines, f"{HIT} against {disturbance}", f"{salt}{number}")


def _worst(run: Results) -> str:
    """The queries whose right candidate stands furthest behind, with their pictures."""
    parts = [
        f'<h3>{_text(task.name)}</h3>\n<div class="cases">\n{"".join(map(_case, task.examples))}</div>'
        for task in run.tasks
        if task.examples
    ]
    return "\n".join(parts)


def _case(example: Example) -> str:
    alt = f"Picture of query {example.id} with the region asked about drawn on it"
    picture = _picture(example.image, alt, "query")
    facts = {
        "query": (example.text or example.id, ""),
        "right": (example.right, _picture(example.right_image, f"Picture of {example.right}")),
        "said": (example.said, _picture(example.said_image, f"Picture of {example.said}")),
    }
    rows = "".join(f"<dt>{name}</dt><dd>{_text(words)}{own}</dd>" for name, (words, own) in facts.items())
    rank = f"<dt>rank of the right one</dt><dd>{example.rank:g}</dd>"
    return f'<figure class="case">{picture}<figcaption><dl>{rows}{rank}</dl></figcaption></figure>\n'


def _picture(source: str | None, alt: str, kind: str = "candidate") -> str:
    """A picture that travels in the page; nothing where there is none."""
    if source is None or not source.startswith(_PICTURE):
        return ""
    return f'<img class="{kind}" loading="lazy" alt="{_text(alt)}" src="{_text(source)}">'


def _wrong(run: Results) -> str:
    """What most often scored higher than every right candidate."""
    tables = []
    for task in run.tasks:
        images = {words: _picture(task.wrong_images.get(words), f"Picture of {words}") for words in task.wrong}
        rows = "\n".join(
            f'<tr><td class="words">{images[words]}{_text(words)}</td><td>{count:,}</td></tr>'
            for words, count in task.wrong.items()
        )
        head = '<tr><th class="words" scope="col">answer</th><th scope="col">queries</th></tr>'
        title = f"{task.name}: of {task.queries:,} queries"
        if rows:
            tables.append(
                f"{_scrolling(title)}<table><caption>{_text(title)}</caption>\n"
                f"<thead>{head}</thead>\n<tbody>\n{rows}\n</tbody></table></div>"
            )
    return "\n".join(tables)


def _facts(run: Results) -> str:
    rows = "\n".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts_of(run).items())
    return f'<dl class="facts">\n{rows}\n</dl>'


def _text(words: str) -> str:
    return html.escape(words)
