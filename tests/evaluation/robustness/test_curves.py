"""A stand-in for a model that looks at the size of a box: every figure follows by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from virtue.embedder import Embedder
from virtue.evaluation.benchmarks.scene_tasks import scene_tasks
from virtue.evaluation.results import Curve
from virtue.evaluation.robustness.curves import curves
from virtue.evaluation.robustness.measures import bins, measured
from virtue.evaluation.tasks import Task
from virtue.images import open_image
from virtue.items import Item
from virtue.prompts import Box, Mask, Point, VisualPrompt

PICTURE = np.full((80, 100, 3), 100, dtype=np.uint8)
LEFT, RIGHT = Box(10, 20, 30, 40), Box(60, 20, 80, 40)


class Sizing:
    """Says "left" or "right" by where a box of up to twice 20 x 20 pixels is, and "neither" of larger ones."""

    name = "sizing"
    fingerprint = "1"
    words = ("left", "right", "neither")

    def __init__(self) -> None:
        self.asked: list[Item] = []

    def encode_query(self, items: Sequence[Item], *, batch_size: int = 32) -> NDArray[np.float32]:
        self.asked += items
        return np.stack([self._say(self._answer(item)) for item in items])

    def encode_document(self, items: Sequence[Item], *, batch_size: int = 32) -> NDArray[np.float32]:
        return np.stack([self._say(item.text) for item in items])

    def _say(self, word: str | None) -> NDArray[np.float32]:
        assert word is not None
        return np.eye(3, dtype=np.float32)[self.words.index(word)]

    def _answer(self, item: Item) -> str:
        if item.prompt is None:
            return "neither"
        prompt = item.prompt + VisualPrompt()
        if prompt.box is None:
            raise ValueError("only boxes are read")
        if (prompt.box.x2 - prompt.box.x1) * (prompt.box.y2 - prompt.box.y1) > 800:
            return "neither"
        if np.asarray(open_image(item.image)).mean() < 40:  # type: ignore[arg-type]  # it has a picture
            return "neither"
        return "left" if prompt.box.x1 + prompt.box.x2 < 100 else "right"


def task(prompts: Sequence[Box | Mask | Point | None] = (LEFT, RIGHT), right: Sequence[int] = (0, 1)) -> Task:
    return Task(
        name="test/boxes",
        queries=[Item(image=PICTURE, prompt=prompt) for prompt in prompts],
        candidates=[Item(text=word) for word in Sizing.words],
        relevant=[np.array([place]) for place in right],
    )


def hits(curve: Curve) -> list[float]:
    return [point.hit.value for point in curve.points]


def test_boxes_that_grow_are_missed_when_they_are_too_large() -> None:
    (grown,) = curves(Sizing(), task(), names=["box grown"], resamples=10)
    assert (grown.task, grown.disturbance) == ("test/boxes", "box grown")
    assert [point.label for point in grown.points] == ["0 %", "25 %", "50 %", "100 %", "200 %", "300 %"]
    assert hits(grown) == [1, 1, 0, 0, 0, 0]  # 400, 625 and 900 pixels
    assert {point.queries for point in grown.points} == {2}


def test_pictures_that_darken_are_missed() -> None:
    (dark,) = curves(Sizing(), task(), names=["picture dark"], resamples=10)
    assert hits(dark) == [1, 1, 1, 0, 0]  # 100, 75, 50, 25, 10


def test_the_other_object_is_answered_for() -> None:
    own, answered = curves(Sizing(), task(), names=["wrong object"], resamples=10)
    assert (own.disturbance, answered.disturbance) == ("wrong object", "wrong object answered")
    assert hits(own) == [1, 0]
    assert hits(answered) == [0, 1]


def test_the_other_objects_answer_joins_a_list_that_lacks_it() -> None:
    asked = task()
    listed = Task(
        asked.name, asked.queries, asked.candidates, asked.relevant, lists=[np.array([0, 2]), np.array([1, 2])]
    )
    own, answered = curves(Sizing(), listed, names=["wrong object"], resamples=10)
    assert hits(own) == [1, 0.5]  # "right" is as far from "left" as from "neither"
    assert hits(answered) == [0, 1]


def test_alone_in_its_picture_nothing_is_mistaken() -> None:
    assert curves(Sizing(), task([LEFT], [0]), names=["wrong object"], resamples=10) == []


def test_a_strategy_comes_after_the_disturbance() -> None:
    (shifted,) = curves(Sizing(), task(), names=["box shifted"], strategy="none", resamples=10)
    assert set(hits(shifted)) == {0}


def test_without_visual_prompts_only_pictures_are_disturbed() -> None:
    found = curves(Sizing(), task(), strategy="none", resamples=10)
    assert {curve.disturbance.split()[0] for curve in found} == {"picture", "object"}


def test_nothing_is_embedded_twice(tmp_path: Path) -> None:
    model = Sizing()
    names = ["box grown", "box shrunk", "picture dark"]
    first = curves(model, task(), names=names, store=tmp_path, resamples=10)
    # Each query undisturbed, five times grown and four times shrunk; and in four darker pictures.
    assert len(model.asked) == 2 * (1 + 5 + 4 + 4)
    assert curves(model, task(), names=names, store=tmp_path, resamples=10) == first
    assert len(model.asked) == 2 * (1 + 5 + 4 + 4)


def test_all_that_boxes_allow_and_the_model_takes(caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[int, int]] = []
    found = curves(Sizing(), task(), resamples=10, progress=lambda done, total: told.append((done, total)))
    families = {curve.disturbance.split()[0] for curve in found}
    assert families == {"box", "wrong", "picture", "object"}
    assert not {"object size", "box size"} & {curve.disturbance for curve in found}  # both boxes are of one size
    assert told[-1][0] == told[-1][1]
    assert not caplog.records


def test_what_a_model_does_not_take_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    mask = np.zeros((80, 100), dtype=bool)
    mask[20:40, 10:30] = True
    asked = task([Mask(mask)], [0])
    with pytest.raises(ValueError, match="only boxes are read"):
        curves(Sizing(), asked, resamples=10, names=["mask eroded"])
    with pytest.raises(ValueError, match="only boxes are read"):
        curves(Sizing(), asked, resamples=10)  # the pictures are shown with the masks that the task has
    assert [record.getMessage() for record in caplog.records] == [
        f"sizing takes no {family}, so their curves are left out: only boxes are read" for family in ("point", "mask")
    ]


def test_what_makes_no_sense_is_said() -> None:
    with pytest.raises(ValueError, match="There is no disturbance 'rain'; there are box jittered"):
        curves(Sizing(), task(), names=["rain"])
    with pytest.raises(
        ValueError, match="'mask holed' needs the mask of every query's object, which the queries of test"
    ):
        curves(Sizing(), task(), names=["mask holed"])
    texts = Task("test/texts", [Item(text="left")], [Item(text="left")], [np.array([0])])
    with pytest.raises(ValueError, match="test/texts has queries without a picture"):
        curves(Sizing(), texts)
    with pytest.raises(ValueError, match="has 2 queries, but 'hidden' has 1"):
        curves(Sizing(), task(), measures={"hidden": [0.5]})


def test_a_measure_of_the_callers_gives_a_curve() -> None:
    asked = task([LEFT, RIGHT, LEFT, RIGHT], [0, 1, 0, 0])
    (hidden,) = curves(Sizing(), asked, names=[], measures={"hidden": [0.1, 0.1, float("nan"), 0.6]}, resamples=10)
    assert [(point.severity, point.label, point.hit.value, point.queries) for point in hidden.points] == [
        (0.1, "0.1 to 0.1", 1, 2),
        (0.6, "0.6 to 0.6", 0, 1),
    ]


def test_bins_hold_as_many_each() -> None:
    values = np.array([5, 1, 4, 2, 3, 0], dtype=float)
    assert [values[part].tolist() for part in bins(values, 3)] == [[1, 0], [2, 3], [5, 4]]
    assert [part.tolist() for part in bins(np.array([1.0, 1.0, np.nan]), 5)] == [[0, 1]]
    assert bins(np.array([np.nan])) == []


def test_size_contrast_and_cover_of_two_rectangles() -> None:
    picture = np.zeros((80, 100, 3), dtype=np.uint8)
    whole, half = np.zeros((80, 100), dtype=bool), np.zeros((80, 100), dtype=bool)
    whole[20:40, 20:40] = True
    whole[30:40, 30:40] = False  # a quarter of its box, which the other one covers
    half[30:50, 30:50] = True
    picture[half] = 255
    items = [Item(image=picture, prompt=Mask(mask)) for mask in (whole, half)]
    assert measured("object size", items).tolist() == [300 / 8000, 400 / 8000]
    assert measured("object covered", items).tolist() == [0.25, 0]
    assert measured("object contrast", items)[1] == pytest.approx(1)  # white on black
    # The window of the first one, 30 x 30 pixels, holds 225 white ones among 600 that are not its own.
    assert measured("object contrast", items)[0] == pytest.approx(225 / 600)


def test_of_boxes_alone_the_size_is_called_that_of_the_box() -> None:
    small, large = Box(10, 20, 20, 30), Box(0, 0, 50, 40)  # 1/80 and 1/4 of the picture
    asked = task([small, large], [0, 0])
    sizes = [curve for curve in curves(Sizing(), asked, resamples=10) if curve.disturbance.endswith("size")]
    assert [(curve.disturbance, curve.unit) for curve in sizes] == [("box size", "share of the picture")]
    assert [(point.severity, point.hit.value) for point in sizes[0].points] == [(1 / 80, 1), (1 / 4, 0)]
    (named,) = curves(Sizing(), asked, names=["box size"], resamples=10)
    assert hits(named) == hits(sizes[0])
    with pytest.raises(ValueError, match="'object size' needs the mask of every query's object"):
        curves(Sizing(), asked, names=["object size"])


def test_nano_end_to_end_on_two_scenes() -> None:
    asked = scene_tasks(2, 5, shown="mask")[0]
    names = ["box grown", "object size"]
    grown, size = curves(Embedder.from_pretrained("nano"), asked, names=names, resamples=20)
    assert len(grown.points) == 6
    assert all(0 <= value <= 1 for value in (*hits(grown), *hits(size)))
    assert sum(point.queries for point in size.points) == len(asked.queries)
