"""From a model and tasks to figures that a reader can check."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.fakes import FakeEncoder, WordEncoder
from tests.tiny import picture
from virtue.evaluation import run
from virtue.evaluation.changes import Change
from virtue.evaluation.examples import common_mistakes, expected_rank, picture_of, worst_examples
from virtue.evaluation.ranking import Placing, Ranking
from virtue.evaluation.results import Results
from virtue.evaluation.run import evaluate
from virtue.evaluation.tasks import NotMeasured, Task
from virtue.items import Item
from virtue.prompts import Box, Mask, Point


def texts(*words: str) -> list[Item]:
    return [Item(text=word) for word in words]


def task(name: str = "own/letters", right: tuple[int, ...] = (0, 1, 1), **settings: object) -> Task:
    """By their letters "aab" is nearest to "ab", and "xxy" and "xy" to "xyz"; what is right may be another."""
    return Task(
        name,
        texts("aab", "xxy", "xy"),
        texts("ab", "xyz", "q"),
        [np.array([place]) for place in right],
        **settings,  # type: ignore[arg-type]
    )


def placing(better: list[int], level: list[int], listed: int = 10) -> Placing:
    return Placing(np.array(better), np.array(level), listed)


def test_figures_are_what_a_reader_counts(tmp_path: Path) -> None:
    results = evaluate(WordEncoder(), [task(), task("own/wrong", (0, 0, 0))])
    first, second = results.tasks
    assert (first.metrics["hit@1"].value, first.metrics["mrr"].value) == (1, 1)
    # "xxy" and "xy" have nothing of "ab" nor of "q", so "ab" is level with "q" behind "xyz": rank 2 or 3.
    assert second.metrics["hit@1"].value == pytest.approx(1 / 3)
    assert second.metrics["mrr"].value == pytest.approx((1 + 2 * (1 / 2 + 1 / 3) / 2) / 3)
    assert second.ranks == [[[0, 1]], [[1, 2]], [[1, 2]]]
    assert second.wrong == {"xyz": 2}
    assert [(example.text, example.right, example.said, example.rank) for example in second.examples] == [
        ("xxy", "ab", "xyz", 2.5),
        ("xy", "ab", "xyz", 2.5),
    ]
    assert first.examples == [] and first.wrong == {}
    assert (results.model, results.fingerprint, results.strategy, results.dimension) == (
        "letters",
        "letters-1",
        "prompt",
        26,
    )
    assert results.settings["batch_size"] == 32 and {"virtue", "python", "numpy"} <= set(results.versions)
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results


def test_a_digest_tells_whether_the_questions_are_the_same() -> None:
    results = evaluate(WordEncoder(), [task("a"), task("b"), task("c", (0, 1, 0))], resamples=10)
    a, b, c = (found.digest for found in results.tasks)
    assert a == b != c


def test_what_is_asked_has_a_digest_without_how_it_is_shown() -> None:
    def found(prompt: Box | Point | None, text: str | None = None, instruction: str | None = None, **settings: object):
        query = Item(image=picture(), prompt=prompt, text=text, instruction=instruction)
        asked = Task("a", [query], texts("ab", "cd"), [np.array([0])], **settings)  # type: ignore[arg-type]
        result = evaluate(FakeEncoder(), [asked], resamples=10).tasks[0]
        return result.asked, result.digest, result.manner

    ways = [found(Box(1, 2, 3, 4)), found(Point(1, 2)), found(None), found(Box(1, 2, 3, 4), instruction="Find it.")]
    assert len({asked for asked, _, _ in ways}) == 1
    assert len({digest for _, digest, _ in ways}) == 4
    assert [manner for _, _, manner in ways] == ["box", "point", "no region", "box, with an instruction"]
    assert found(None, text="what?")[0] != found(None, text="who?")[0]  # these are questions
    instructed = [found(None, text=text, instructed=True) for text in (None, "Find it.", "Find the caption.")]
    assert len({asked for asked, _, _ in instructed}) == 1
    assert [manner for _, _, manner in instructed] == ["no region", *["no region, with an instruction"] * 2]
    assert found(None)[0] != found(None, ids=["scene 3 object 1"])[0]  # another region of the picture


def test_what_nothing_is_left_of_does_not_end_a_run(tmp_path: Path) -> None:
    lost, told = NotMeasured("own/lost", "it has no queries: left out were 5 with a missing image"), []
    results = evaluate(WordEncoder(), [task("a"), lost, task("b")], resamples=10, on_not_measured=told.append)
    assert [found.name for found in results.tasks] == ["a", "b"]
    assert results.not_measured == told == [lost]
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json").not_measured == [lost]
    message = "Nothing could be measured: own/lost, because it has no queries: left out were 5 with a missing image"
    with pytest.raises(ValueError, match=message):
        evaluate(WordEncoder(), [lost], resamples=10)


def test_tasks_are_made_when_they_are_asked_for() -> None:
    story: list[str] = []

    def tasks() -> Iterator[Task]:
        for name in ("a", "b"):
            story.append(f"makes {name}")
            yield task(name)

    steps: list[tuple[str, int, int]] = []
    evaluate(
        WordEncoder(),
        tasks(),
        resamples=10,
        on_task=lambda found: story.append(f"tells {found.name}"),
        progress=lambda *step: steps.append(step),
    )
    assert story == ["makes a", "tells a", "makes b", "tells b"]
    assert steps[:4] == [("a: queries", 0, 3), ("a: queries", 3, 3), ("a: candidates", 0, 3), ("a: candidates", 3, 3)]
    assert steps[4:] == [("b: queries", 3, 3), ("b: candidates", 3, 3)]  # kept, though nobody gave a store


def test_the_next_run_embeds_nothing(tmp_path: Path) -> None:
    first = evaluate(FakeEncoder(), [task()], store=tmp_path, resamples=10)
    encoder = FakeEncoder()
    assert evaluate(encoder, [task()], store=tmp_path, resamples=10).tasks == first.tasks
    assert encoder.calls == []


def test_strategies_share_candidates_and_show_regions_of_queries(tmp_path: Path) -> None:
    asked = Task(
        "own/regions",
        [Item(text="what?", image=picture(), prompt=Box(1, 2, 30, 40)), Item(text="who?")],
        texts("ab", "cd"),
        [np.array([0]), np.array([1])],
    )
    encoder = FakeEncoder()
    for strategy in ("prompt", "none", "box-in-text"):
        evaluate(encoder, [asked], strategy=strategy, store=tmp_path, resamples=10)
    shown = [[(item.text, item.prompt) for item in call] for call in encoder.calls]
    assert shown[:3] == [[("who?", None)], [("what?", Box(1, 2, 30, 40))], [("ab", None), ("cd", None)]]
    assert shown[3] == [("what?", None)]
    ((text, prompt),) = shown[4]
    assert prompt is None and str(text).startswith("what?\nReferring object bbox: [1")
    assert len(shown) == 5


def test_the_guesser_learns_once_for_all_strategies(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(run, "text_guesser", lambda own: asked.append(own.name) or 0.25)
    one, other = task(groups=["learnt", "once", "only"]), task(right=(1, 0, 1), groups=["learnt", "once", "only"])
    found = [
        evaluate(FakeEncoder(), [each], strategy=how, resamples=10)
        for each in (one, other)
        for how in ("none", "prompt")
    ]
    assert [results.tasks[0].guesser for results in found] == [0.25] * 4
    assert len(asked) == 2


def test_disturbances_are_for_queries() -> None:
    encoder = FakeEncoder()
    loud = Change("loud", lambda item: Item(text=str(item.text).upper()))
    found = evaluate(encoder, [task()], changes=[loud], resamples=10)
    assert [item.text for item in encoder.calls[0]] == ["AAB", "XXY", "XY"]
    assert [item.text for item in encoder.calls[1]] == ["xyz", "ab", "q"]
    assert found.settings["changes"] == "loud"
    assert found.tasks[0].digest == evaluate(FakeEncoder(), [task()], resamples=10).tasks[0].digest


def test_a_model_by_its_name() -> None:
    seen = evaluate("nano", [Task("own/x", texts("a dog"), texts("a dog", "a red car"), [np.array([0])])], resamples=10)
    assert (seen.model, seen.tasks[0].hits) == ("nano", [1.0])
    assert (str(seen.settings["device"]).partition(":")[0], seen.settings["precision"]) in (
        ("cpu", "float32"),
        ("cuda", "float32"),
        ("mps", "float32"),
    )


def test_what_cannot_be_measured_stops_the_run() -> None:
    with pytest.raises(ValueError, match="the same embedding"):
        evaluate(FakeEncoder(constant=True), [task()])
    with pytest.raises(
        ValueError, match=r"own/letters: fake gives an embedding that is not finite for document 1 \('xyz'"
    ):
        evaluate(FakeEncoder(spoil=["xyz"]), [task()])
    with pytest.raises(ValueError, match="There are no tasks to measure the model on"):
        evaluate(FakeEncoder(), [])
    with pytest.raises(ValueError, match="There is no strategy 'zoom'"):
        evaluate("no-such-model", [], strategy="zoom")


def test_the_rank_of_what_is_level_is_the_mean_over_orders() -> None:
    assert expected_rank(placing([3], [1])) == 4
    assert expected_rank(placing([0], [10])) == 5.5
    # Two right ones among three that are level: the first of them is first, first or second.
    assert expected_rank(placing([2, 2, 7], [3, 3, 1])) == pytest.approx(2 + (1 + 1 + 2) / 3)


def test_worst_cases_are_of_different_groups() -> None:
    asked = Task(
        "own/x",
        texts("a", "b", "c", "d"),
        texts("right", "wrong"),
        [np.array([0])] * 4,
        groups=["one", "one", "two", "three"],
    )
    ranking = Ranking(
        [placing([1], [1]), placing([5], [1]), placing([3], [1]), placing([0], [1])], np.array([1, 1, 1, 1]), {}
    )
    worst = worst_examples(asked, ranking)
    assert [(example.id, example.rank) for example in worst] == [("1", 6), ("2", 4)]
    assert [example.id for example in worst_examples(asked, ranking, count=1)] == ["1"]
    assert common_mistakes(asked, ranking) == ({"wrong": 3}, {})


def test_candidates_without_text_are_named_by_file_or_number() -> None:
    asked = Task(
        "own/x", texts("a", "b"), [Item(image=picture()), Item(image="far/b.png")], [np.array([1]), np.array([0])]
    )
    ranking = Ranking([placing([1], [1]), placing([1], [1])], np.array([0, 1]), {})
    names, images = common_mistakes(asked, ranking)
    assert names == {"candidate 0": 1, "b.png": 1}
    assert list(images) == ["candidate 0"]  # there is no file far/b.png
    assert opened(images["candidate 0"]).size == picture().size
    assert max(opened(picture_of(Item(image=picture().resize((800, 600))), 160)).size) == 160
    shown = worst_examples(asked, ranking, count=1)[0]
    assert (shown.right_image, shown.said_image) == (None, images["candidate 0"])


def test_pictures_show_the_region(tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    Image.new("RGB", (600, 300), "white").save(photo)
    mask = np.zeros((300, 600), dtype=bool)
    mask[100:200, 200:400] = True
    boxed = opened(picture_of(Item(image=photo, prompt=Box(200, 100, 400, 200))))
    assert boxed.size == (256, 128)
    red, green, _ = boxed.getpixel((86, 64))  # the left edge: 200 / 600 * 256 = 85.3
    assert red > 180 and green < 120
    assert min(boxed.getpixel((128, 64))) > 240
    masked = opened(picture_of(Item(image=photo, prompt=Mask(mask))))
    assert min(masked.getpixel((128, 64))) > 240 and max(masked.getpixel((10, 10))) < 150
    pointed = opened(picture_of(Item(image=photo, prompt=Point(300, 150) + Point(60, 30, include=False))))
    assert pointed.getpixel((128, 64))[2] < 150 and pointed.getpixel((26, 13))[0] < 100
    assert opened(picture_of(Item(image=photo))).size == (256, 128)


def test_no_picture_is_better_than_no_report(tmp_path: Path) -> None:
    assert picture_of(Item(text="a dog")) is None
    assert picture_of(Item(image=tmp_path / "gone.png")) is None


def opened(url: str | None) -> Image.Image:
    assert url is not None
    head, _, data = url.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))
