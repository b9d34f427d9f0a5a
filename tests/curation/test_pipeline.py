import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.curation.made import distractors, region, sample
from virtue.curation import pipeline
from virtue.curation.pipeline import Plan, build, describe, picked, tally
from virtue.curation.samples import Distractor, Elements, Problem, Region, Sample
from virtue.curation.store import Curation
from virtue.curation.writers import Pick, WriterRefusal

TRUTH = Elements("dog", "left of a fence", "on a beach")


class Scripted:
    """A writer that does what a test says, and notes what it was asked."""

    name = "scripted"
    instructions = "v1"

    def __init__(self, **answers: Callable[..., object]) -> None:
        self.answers = answers
        self.asked: list[tuple[object, ...]] = []
        self.under_way = self.most_under_way = 0

    async def elements(self, region: Region, image: Path) -> Elements | None:
        return await self._say("elements", TRUTH, region)

    async def distractors(
        self, region: Region, image: Path, elements: Elements, problems: Sequence[Problem]
    ) -> list[Distractor]:
        return list(await self._say("distractors", distractors(elements), region, tuple(problems)))

    async def pick(self, region: Region, image: Path, captions: Sequence[str]) -> Pick | None:
        return await self._say("pick", Pick(captions.index(TRUTH.caption())), region, tuple(captions))

    async def _say(self, name: str, otherwise: object, *asked: object) -> object:
        self.asked.append((name, *asked))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(random.random() * 0.002)
        self.under_way -= 1
        return self.answers[name](*asked) if name in self.answers else otherwise

    def calls(self, name: str) -> list[tuple[object, ...]]:
        return [asked[1:] for asked in self.asked if asked[0] == name]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run with four regions, whose samples pass the checks."""
    monkeypatch.setattr(pipeline, "check", lambda *args, **named: [])
    with Curation(tmp_path / "run", make=True) as curation:
        curation.add_regions(map(region, range(4)))
        curation.set_images({"made": tmp_path})
        for number in range(4):
            (tmp_path / f"{number}.png").touch()
        yield curation


def go(run: Curation, writer: Scripted, plan: Plan | None = None, **named: object) -> pipeline.Tally:
    return asyncio.run(build(run, writer, plan or Plan(), **named))  # type: ignore[arg-type]


def test_each_region_becomes_a_sample(run: Curation) -> None:
    found = go(run, Scripted())
    assert (found.total, found.written, found.done, found.dropped.total()) == (4, 4, 4, 0)
    assert list(run.samples()) == [sample(one, writer="scripted", instructions="v1") for one in run.regions()]


def test_a_second_build_asks_nothing(run: Curation) -> None:
    go(run, Scripted())
    writer = Scripted()
    assert go(run, writer).done == 4
    assert writer.asked == []


def test_a_region_without_elements_or_image_is_dropped(run: Curation, tmp_path: Path) -> None:
    (tmp_path / "0.png").unlink()
    writer = Scripted(elements=lambda one: None if one.id == "made/1" else TRUTH)
    assert go(run, writer).dropped == {"missing image": 1, "no elements": 1}
    assert ("made/0", "missing image", f"There is no image {tmp_path / '0.png'}.") in run.drops()
    assert len(writer.calls("elements")) == 3


def test_a_region_whose_image_came_back_is_tried_again(run: Curation, tmp_path: Path) -> None:
    (tmp_path / "0.png").unlink()
    assert go(run, Scripted()).dropped == {"missing image": 1}
    (tmp_path / "0.png").touch()
    found = go(run, Scripted())
    assert (found.written, found.dropped.total()) == (4, 0)


@pytest.mark.parametrize("is_noticed_by", ["the build", "the writer"])
def test_a_disk_that_goes_away_ends_the_build_and_drops_nothing(
    run: Curation, tmp_path: Path, is_noticed_by: str
) -> None:
    images, away = tmp_path / "images", tmp_path / "away"
    images.mkdir()
    for number in range(4):
        (images / f"{number}.png").touch()
    run.set_images({"made": images})

    def unmount(one: Region) -> Elements:
        if one.id == second:
            images.rename(away)
            if is_noticed_by == "the writer":
                raise WriterRefusal("image", "There is none.")
        return TRUTH

    _, second, *_ = [one.id for one in run.regions()]
    with pytest.raises(FileNotFoundError, match=r"There is no folder of images .*images\. Is its disk mounted\?"):
        go(run, Scripted(elements=unmount), Plan(concurrency=1))
    assert run.drops() == [] and run.states()["made"]["written"] == (1 if is_noticed_by == "the writer" else 2)
    away.rename(images)
    assert go(run, Scripted()).written == 4


def test_an_image_that_goes_away_while_it_is_looked_at_is_tried_again(run: Curation, tmp_path: Path) -> None:
    def lose(one: Region) -> Elements:
        if one.id == "made/0":
            (tmp_path / one.image).unlink()
            raise WriterRefusal("image", "There is none.")
        return TRUTH

    assert go(run, Scripted(elements=lose)).dropped == {"missing image": 1}


def test_a_refusal_is_counted_by_its_reason(run: Curation) -> None:
    def refuse(one: Region, problems: object) -> object:
        if one.id == "made/2":
            raise WriterRefusal("refused", "I will not look at that.")
        return distractors(TRUTH)

    assert go(run, Scripted(distractors=refuse)).dropped == {"refused": 1}
    assert run.drops() == [("made/2", "refused", "I will not look at that.")]


def test_what_was_wrong_goes_back_to_the_writer(run: Curation, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Problem("synonym", "sofa is a couch", 1)
    monkeypatch.setattr(pipeline, "check", lambda made, **named: [wrong] if made.attempts == 1 else [])
    writer = Scripted()
    go(run, writer)
    assert [made.attempts for made in run.samples()] == [2] * 4
    assert sorted(len(problems) for _, problems in writer.calls("distractors")) == [0] * 4 + [1] * 4
    assert run.problems() == {"synonym": 4}
    assert len(writer.calls("pick")) == 4  # what failed the checks is not looked at


def test_a_region_is_dropped_after_the_last_attempt(run: Curation, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Problem("length", "too long", None), Problem("synonym", "sofa is a couch", 1)]
    monkeypatch.setattr(pipeline, "check", lambda made, **named: found)
    writer = Scripted()
    assert go(run, writer, Plan(attempts=2)).dropped == {"length": 4}
    assert len(writer.calls("distractors")) == 8
    assert run.problems() == {"length": 8, "synonym": 8}


def test_what_is_picked_wrongly_or_ambiguous_is_written_again(run: Curation) -> None:
    def pick(one: Region, captions: tuple[str, ...]) -> Pick:
        true = captions.index(TRUTH.caption())
        wrong = captions.index("cat left of a fence on a beach")
        if one.id == "made/0":
            return Pick(wrong, (true,))
        return Pick(true, (wrong,)) if one.id == "made/1" else Pick(true)

    writer = Scripted(pick=pick)
    assert go(run, writer, Plan(attempts=2)).dropped == {"picked": 1, "ambiguous": 1}
    said = "was taken for the true caption by one who saw the image."
    assert ("made/0", "picked", f'"cat left of a fence on a beach" {said}') in run.drops()
    again = [problems for one, problems in writer.calls("distractors") if problems and one.id == "made/1"]
    assert [(problem.check, problem.where) for problem in again[0]] == [("ambiguous", 0)]


def test_a_writer_that_cannot_look_is_believed(run: Curation) -> None:
    assert go(run, Scripted(pick=lambda *asked: None)).written == 4


def test_captions_are_shown_shuffled_alike_in_every_run(run: Curation, tmp_path: Path) -> None:
    writer = Scripted()
    go(run, writer, Plan(concurrency=1))
    orders = {one.id: captions for one, captions in writer.calls("pick")}
    assert len(set(orders.values())) == 4
    assert all(len(set(captions)) == 10 for captions in orders.values())
    with Curation(tmp_path / "other", make=True) as other:
        other.add_regions(map(region, range(4)))
        other.set_images({"made": tmp_path})
        again = Scripted()
        go(other, again, Plan(concurrency=4))
        assert {one.id: captions for one, captions in again.calls("pick")} == orders


def test_no_more_regions_are_under_way_than_allowed(run: Curation) -> None:
    writer = Scripted()
    go(run, writer, Plan(concurrency=2))
    assert writer.most_under_way == 2


def test_what_stops_a_writer_stops_the_build_and_loses_nothing(run: Curation) -> None:
    def spent(one: Region) -> Elements:
        if one.id == order[1]:
            raise RuntimeError("The budget is spent.")
        return TRUTH

    order = [one.id for one in run.regions()]
    with pytest.raises(RuntimeError, match="The budget is spent"):
        go(run, Scripted(elements=spent), Plan(concurrency=2))
    assert run.sample_ids() == [order[0]]  # under way when the other stopped, and finished
    assert go(run, Scripted()).written == 4


def test_a_cancelled_build_goes_on_later(run: Curation) -> None:
    async def stopped() -> None:
        building = asyncio.create_task(
            build(run, Scripted(), Plan(concurrency=1), progress=lambda _: building.cancel())
        )
        await building

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(stopped())
    assert len(run.sample_ids()) == 1
    assert go(run, Scripted()).written == 4


def test_progress_is_told_after_each_region(run: Curation) -> None:
    lines: list[str] = []
    go(run, Scripted(), progress=lambda found: lines.append(describe(found)))
    assert len(lines) == 4
    assert lines[-1] == "4 of 4 regions: 4 samples, 0 dropped"


def test_a_tally_in_a_line(run: Curation) -> None:
    run.drop("made/0", "synonym", "")
    found = tally(run)
    assert describe(found) == "1 of 4 regions: 0 samples, 1 dropped (1 synonym)"
    found.rewritten, found.rewrites = 2, 3
    assert describe(found).endswith("1 dropped (1 synonym), 2 of 3 written again")


def test_corners_are_checked_as_such_and_not_replaced_by_number(run: Curation, monkeypatch: pytest.MonkeyPatch) -> None:
    designs = []

    def note(made: Sample, *, wordnet: object, design: str = "single") -> list[Problem]:
        designs.append(design)
        return []

    monkeypatch.setattr(pipeline, "check", note)
    monkeypatch.setattr(pipeline, "corners", lambda made, seed: made)
    go(run, Scripted(), Plan(design="corners", concurrency=1))
    assert designs == ["single", "corners"] * 4
    texts = ["true", "first", "second"]
    assert picked(texts, [1, 0, 2], Pick(0), single=False)[0].where is None


def test_a_pick_by_hand() -> None:
    texts = ["true", "first", "second"]
    order = [2, 0, 1]  # shown: second, true, first
    assert picked(texts, order, Pick(1)) == []
    assert [(problem.check, problem.where) for problem in picked(texts, order, Pick(0, (1, 2)))] == [
        ("picked", 1),
        ("ambiguous", 0),
    ]


@pytest.mark.parametrize("name", ["attempts", "concurrency"])
def test_a_plan_needs_positive_numbers(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        Plan(**{name: 0})  # type: ignore[arg-type]
