import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tests.evaluation.reports.made_results import PICTURE, curve, example, results, task
from virtue.evaluation.reports.comparison import compare
from virtue.evaluation.reports.page import page
from virtue.evaluation.results import Results
from virtue.evaluation.tasks import NotMeasured

VOID = {"meta", "img", "br"}


def written(*runs: Results) -> str:
    return page(runs, compare(runs))


class Reader(HTMLParser):
    """Collects elements and checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def read(document: str) -> Reader:
    reader = Reader()
    reader.feed(document)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture
def run() -> Results:
    made = task("scenes/region-to-caption", [1.0, 0.0], examples=[example()], wrong={"a cat on a beach": 7})
    return results(made, curves=[curve(), curve("picture blurred")])


def test_a_page_has_all_its_parts(run: Results) -> None:
    document = written(run)
    titles = (
        "Summary",
        "Plots",
        "Robustness",
        "Tables",
        "Worst cases",
        "Commonest wrong answers",
        "How it was measured",
    )
    assert all(f"<h2>{title}</h2>" in document for title in titles)
    assert all(words in document for words in ("a dog on a beach", "f00d", "torch 2.13.0", "Boxes that are off"))
    assert '<td class="words">a cat on a beach</td><td>7</td>' in document
    assert document.count("<svg") == 3  # bars, a panel for each curve


def test_a_page_stands_alone_and_can_be_read_aloud(run: Results) -> None:
    reader = read(written(run))
    assert not reader.all("script") + reader.all("link")
    assert [image["src"] for image in reader.all("img")] == [PICTURE]
    assert all(image["alt"] for image in reader.all("img"))
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in reader.all("svg"))
    assert all(cell.get("scope") in ("col", "row") for cell in reader.all("th"))
    assert len(reader.all("caption")) == len(reader.all("table"))
    ids = [attributes["id"] for _, attributes in reader.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {link["href"] for link in reader.all("a")}
    assert targets == {f"#{attributes['id']}" for attributes in reader.all("section")}


def test_whatever_a_result_says_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    made = task(
        f"own/{evil}",
        [0.0],
        examples=[
            example(id=evil, text=evil, right=evil, said=evil, image='x" onerror="alert(1)', said_image=f'"{evil}')
        ],
        wrong={evil: 1},
        wrong_images={evil: evil},
        missing={evil: 1},
    )
    document = written(results(made, model=evil, fingerprint=evil, settings={evil: evil}, versions={evil: evil}))
    reader = read(document)
    assert evil not in document
    assert not reader.all("script")
    assert not reader.all("img")  # what is no picture is left out


def test_candidates_that_are_pictures_are_shown() -> None:
    shown = example(right_image=f"{PICTURE}R", said_image=f"{PICTURE}S")
    made = task("a/a", [0.0], examples=[shown], wrong={"candidate 3": 1, "b.png": 1})
    document = written(results(replace(made, wrong_images={"candidate 3": f"{PICTURE}W"})))
    images = read(document).all("img")
    assert [image["src"] for image in images] == [PICTURE, f"{PICTURE}R", f"{PICTURE}S", f"{PICTURE}W"]
    assert [image["alt"] for image in images][1:] == [
        "Picture of a dog on a beach",
        "Picture of a cat on a beach",
        "Picture of candidate 3",
    ]


def test_what_was_not_measured_is_loud() -> None:
    lost = NotMeasured("mmeb/OVEN", "it has no queries")
    document = written(results(task("mmeb/CIRR", [1.0]), not_measured=[lost]))
    assert document.count('<p class="note loud">NOT MEASURED: mmeb/OVEN, because it has no queries.</p>') == 2


def test_what_a_definition_leaves_out_is_not_loud() -> None:
    document = written(results(task("own/mine", [1.0], excluded={"with unknown elements": 3})))
    assert '<p class="note">Not asked in own/mine, by its definition: 3 with unknown elements.</p>' in document
    assert "PARTIAL" not in document


def test_runs_stand_side_by_side(run: Results) -> None:
    document = written(run, results(task("scenes/region-to-caption", [1.0, 1.0]), strategy="none"))
    assert "<title>nano, prompt and nano, none</title>" in document
    assert "<h2>Tables of nano, none</h2>" in document
    assert "nano, none: hit@1 less that of nano, prompt" in document


def test_what_is_partial_is_loud() -> None:
    document = written(results(task("own/mine", [1.0], missing={"beyond the limit": 3})))
    assert '<p class="note loud">PARTIAL: own/mine is not whole, left out are 3 beyond the limit.</p>' in document


def test_without_matplotlib_the_page_says_so(run: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib.figure", "matplotlib.backends.backend_svg"):
        monkeypatch.setitem(sys.modules, name, None)
    document = written(run)
    assert "Plots need matplotlib" in document
    assert "<svg" not in document
