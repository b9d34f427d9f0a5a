"""Draws results as SVG: a bar per task with its interval, and a panel of hit@1 against severity per disturbance.

A drawing is meant to stand in a page: its background is clear and its ink is `currentColor`, so it is dark on a light
page and light on a dark one; its words stay words, in the page's own font. The colours of runs are told apart by the
colour-blind (after Okabe and Ito); where there are more runs than colours, bars are hatched, and lines have other
markers and dashes. It is as wide as a phone, and no wider.

Matplotlib is imported when something is drawn, and only its SVG canvas: no window, no global state of `pyplot`.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from virtue.evaluation.results import Curve, Interval

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
HATCHES = ("", "////", "....")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
LINES = ("-", "--", ":")
"""Eighteen styles: the next hatch and the next line with each round of the colours."""

WIDTH = 4.9
"""Inches; 353 units of the drawing, about as many as a phone has points across."""

ROW = 0.24
"""Inches that a bar takes."""

SHORT = 22
"""Letters of a name that takes no more than half the width."""

TEXT = 10
"""Units that letters are high; about as many points on a phone."""

_INK = "#010203"
"""Stands for the page's own colour of text until the drawing is written."""

_NO_MATPLOTLIB = 'Plots need matplotlib; install it with `pip install "virtue[eval]"`.'


def task_bars(runs: Mapping[str, Mapping[str, Interval]], chance: Mapping[str, float], title: str, salt: str) -> str:
    """Horizontal bars of hit@1, a group per task and a bar per run, each with its 95 % interval.

    Args:
        runs: By run, by task, hit@1 in [0, 1]; a run may lack tasks.
        chance: By task what guessing gets, drawn as a tick.
        title: What the drawing says to who cannot see it.
        salt: Keeps the names inside the drawing apart from those of others on one page.

    Returns:
        An `svg` element.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    tasks = list(dict.fromkeys(task for figures in runs.values() for task in figures))
    rows = len(tasks) * (len(runs) + 0.6)
    figure = _figure(rows * ROW + 0.7 + _legend_height(runs))
    axes = figure.subplots()
    step = 0.8 / max(len(runs), 1)
    for number, (run, figures) in enumerate(runs.items()):
        places = [tasks.index(task) - 0.4 + (number + 0.5) * step for task in figures]
        values = [100 * one.value for one in figures.values()]
        colour, turn = COLOURS[number % len(COLOURS)], number // len(COLOURS)
        hatch = HATCHES[turn % len(HATCHES)]
        axes.barh(places, values, step * 0.9, color=colour, hatch=hatch, edgecolor=_INK, linewidth=0, label=_plain(run))
        axes.errorbar(values, places, xerr=_errors(list(figures.values())), fmt="none", ecolor=_INK, elinewidth=0.9)
    for place, task in enumerate(tasks):
        if task in chance:
            axes.plot([100 * chance[task]] * 2, [place - 0.45, place + 0.45], color=_INK, linestyle=":", linewidth=1)
    axes.set_yticks(range(len(tasks)), [_plain(task) for task in tasks])
    axes.set_ylim(len(tasks) - 0.45, -0.55)
    axes.set_xlim(0, 100)
    axes.set_xlabel("hit@1, %; dotted: chance")
    axes.xaxis.grid(True, color=_INK, alpha=0.15)
    _legend(figure, axes, runs)
    return _svg(figure, title, salt)


def curve_panel(curves: Mapping[str, Curve], title: str, salt: str) -> str:
    """Hit@1 against the severity of one disturbance, a line per run or task with its 95 % interval as a band.

    Severities stand at equal distances, by their labels: they need not be evenly spread, and 1/4 is as far from 1 as 4.

    Args:
        curves: By what the legend calls it; all of one disturbance, with the same severities.
        title: What the drawing says to who cannot see it.
        salt: Keeps the names inside the drawing apart from those of others on one page.

    Returns:
        An `svg` element.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    first = next(iter(curves.values()))
    severities = sorted({(point.severity, point.label) for curve in curves.values() for point in curve.points})
    figure = _figure(2.5 + _legend_height(curves))
    axes = figure.subplots()
    for number, (name, curve) in enumerate(curves.items()):
        points = sorted(curve.points, key=lambda point: point.severity)
        places = [severities.index((point.severity, point.label)) for point in points]
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(
            places,
            [100 * point.hit.value for point in points],
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            linestyle=LINES[number // len(COLOURS) % len(LINES)],
            markersize=4.5,
            clip_on=False,  # 0 and 100 % are common and lie on the frame
            label=_plain(name),
        )
        low, high = [100 * point.hit.low for point in points], [100 * point.hit.high for point in points]
        axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set_xticks(range(len(severities)), [_plain(label) for _, label in severities], rotation=30, ha="right")
    axes.set_ylim(0, 100)
    axes.set_xlabel(_plain(first.unit or first.disturbance))
    axes.set_ylabel("hit@1, %")
    axes.yaxis.grid(True, color=_INK, alpha=0.15)
    _legend(figure, axes, curves)
    return _svg(figure, title, salt)


def _errors(intervals: Sequence[Interval]) -> tuple[list[float], list[float]]:
    """How far the bounds are from the values, in percent; nothing where there are none."""
    low = [100 * max(0.0, one.value - one.low) if one.low == one.low else 0.0 for one in intervals]
    high = [100 * max(0.0, one.high - one.value) if one.high == one.high else 0.0 for one in intervals]
    return low, high


def _plain(words: str) -> str:
    """Words that are drawn as they stand: two dollar signs would make a formula of what is between them."""
    return words.replace("$", r"\$")


def _figure(height: float) -> Figure:
    """An empty drawing of a height in inches."""
    try:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(_NO_MATPLOTLIB) from error
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    return figure


def _legend_height(names: Collection[str]) -> float:
    """Inches that the legend takes; none where there is but one name."""
    return 0.22 * -(-len(names) // _legend_columns(names)) if len(names) > 1 else 0.0


def _legend_columns(names: Collection[str]) -> int:
    """Two where the names are short enough to stand side by side."""
    return 2 if max(map(len, names)) <= SHORT else 1


def _legend(figure: Figure, axes: Axes, names: Collection[str]) -> None:
    if len(names) > 1:
        columns = _legend_columns(names)
        figure.legend(loc="outside lower left", ncols=columns, frameon=False, labelcolor=_INK, fontsize=TEXT)
    axes.patch.set_alpha(0)
    axes.tick_params(colors=_INK, labelsize=TEXT)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(_INK)
        label.set_fontsize(TEXT)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_INK)


def _svg(figure: Figure, title: str, salt: str) -> str:
    """The drawing as an element of a page, the same bytes every time."""
    from matplotlib import rc_context

    data = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None})
    _, _, drawing = data.getvalue().partition("<svg")
    drawing = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r' (?:width|height)="[^"]*pt"', "", drawing, count=2)  # it takes the width that the page gives it
    drawing = re.sub(r'<g id="[^"]*"', "<g", drawing)  # every drawing of a page would have the same ones
    drawing = re.sub(r"font-family: [^;]*; ", "", drawing).replace(_INK, "currentColor")
    head, _, rest = drawing.partition(">")
    words = html.escape(title)
    style = "stroke-linejoin: round; stroke-linecap: butt"
    return f'<svg role="img" aria-label="{words}" style="{style}"{head}><title>{words}</title>{rest.rstrip()}\n'
