import re
import sys
from xml.etree import ElementTree

import pytest

from tests.evaluation.reports.made_results import curve
from virtue.evaluation.reports.plots import curve_panel, task_bars
from virtue.evaluation.results import Interval

NAN = float("nan")
RUNS = {
    "nano, prompt": {"scar/ADE20K": Interval(0.6, 0.5, 0.7), "scar/RefCOCOg": Interval(0.4, NAN, NAN)},
    "nano, $x$": {"scar/ADE20K": Interval(0.2, 0.1, 0.3)},
}


def words(drawing: str) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(drawing).iter() if is_text(element)]


def is_text(element: ElementTree.Element) -> bool:
    return element.tag.rpartition("}")[2] == "text"


def test_bars_say_their_tasks_and_runs_in_words() -> None:
    shown = words(task_bars(RUNS, {"scar/ADE20K": 0.1}, "Hits", "a"))
    assert {"scar/ADE20K", "scar/RefCOCOg", "nano, prompt", "nano, $x$", "100"} <= set(shown)


def test_the_length_of_a_bar_is_its_figure() -> None:
    """From 0 to 100 % the axis is as long as its grid lines are apart five times."""
    drawing = task_bars({"nano": {"t": Interval(0.6, NAN, NAN)}}, {}, "Hits", "a")
    ticks = [
        float(x) for x in re.findall(r'<use xlink:href="#\w+" x="([\d.]+)" y="[\d.]+" style="fill: currentC', drawing)
    ]
    scale = (max(ticks) - min(ticks)) / 100
    (left, right) = re.search(
        r'd="M ([\d.]+) [\d.]+ \nL ([\d.]+) [^"]*" clip-path="[^"]*" style="fill: #0072b2"', drawing
    ).groups()  # type: ignore[union-attr]
    assert float(right) - float(left) == pytest.approx(60 * scale, rel=1e-3)


def test_a_drawing_takes_its_colours_font_and_width_from_the_page() -> None:
    drawing = task_bars(RUNS, {}, 'Hits "1 < 2"', "a")
    assert set(re.findall("#[0-9a-fA-F]{6}", drawing)) == {"#0072b2", "#d55e00"}
    assert "currentColor" in drawing
    assert "font-family" not in drawing
    head = drawing.partition(">")[0]
    assert "viewBox" in head
    assert 'width="' not in head
    assert ElementTree.fromstring(drawing).attrib["aria-label"] == 'Hits "1 < 2"'


def test_drawings_do_not_change_and_share_no_names() -> None:
    first, again, other = (curve_panel({"a": curve()}, "Jitter", salt) for salt in ("a", "a", "b"))
    assert first == again
    ids = [set(re.findall(r' id="([^"]+)"', drawing)) for drawing in (first, other)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_a_panel_names_severities_unit_and_lines() -> None:
    shown = words(curve_panel({"prompt": curve(), "none": curve()}, "Jitter", "a"))
    assert {"0 %", "10 %", "20 %", "share of the side", "prompt", "none"} <= set(shown)


def test_eighteen_runs_can_be_told_apart() -> None:
    runs = {f"run {number}": {"t": Interval(0.5, 0.4, 0.6)} for number in range(18)}
    bars = re.findall(r'clip-path="[^"]*" style="(fill: #\w{6}|fill: url[^;"]*)[;"]', task_bars(runs, {}, "Hits", "a"))
    assert len(bars) == len(set(bars)) == 18
    lines = curve_panel({name: curve() for name in runs}, "Jitter", "a")
    styles = re.findall(r'fill: none; (?:stroke-dasharray: ([^;]*);[^"]*)?stroke: (#\w{6})', lines)
    assert len({style for style in styles if style[1]}) == 18


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib.figure", "matplotlib.backends.backend_svg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        ModuleNotFoundError, match=r'Plots need matplotlib; install it with `pip install "virtue\[eval\]"`'
    ):
        task_bars(RUNS, {}, "Hits", "a")
