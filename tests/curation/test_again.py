import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.curation.made import region
from tests.curation.test_wording import drawn
from virtue.curation import again, pipeline
from virtue.curation.again import Rewording, check_reasons, reword, take_up
from virtue.curation.pipeline import Plan, build
from virtue.curation.samples import Distractor, Elements, Problem, Region, Sample
from virtue.curation.store import Curation
from virtue.curation.telltales import Telltales
from virtue.curation.wording import wording
from virtue.curation.writers import Pick, WriterRefusal

COUNT = 60


class Leaking:
    """Puts "fake" before all that it swaps in, until it is told that this tells."""

    name = "leaking"
    instructions = ""

    def __init__(self, learns: bool = True) -> None:
        self.learns, self.told = learns, list[str]()

    async def elements(self, region: Region, image: Path) -> Elements | None:
        return self._sample(region, 0, "").elements

    async def distractors(
        self, region: Region, image: Path, elements: Elements, problems: Sequence[Problem]
    ) -> list[Distractor]:
        self.told += [problem.message for problem in problems]
        is_told = self.learns and any('"fake"' in problem.message for problem in problems)
        return list(self._sample(region, len(problems), "" if is_told else "fake ").distractors)

    async def pick(self, region: Region, image: Path, captions: Sequence[str]) -> Pick | None:
        return None

    def _sample(self, region: Region, turn: int, false: str) -> Sample:
        number = int(region.id.split("/")[1])
        truth = drawn(number, np.random.default_rng([number, 0]))
        swaps = drawn(number, np.random.default_rng([number, turn + 1]), false)
        swapped = {kind: [d for d in swaps.distractors if d.kind == kind] for kind in ("object", "relation", "scene")}
        said = [
            (kind, replace(truth.elements, **{kind: getattr(one.elements, kind)}))
            for kind, listed in swapped.items()
            for one in listed
        ]
        made = tuple(Distractor(kind, elements, elements.caption()) for kind, elements in said)  # type: ignore[arg-type]
        return replace(truth, distractors=made)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run of regions whose samples pass the checks."""
    monkeypatch.setattr(pipeline, "check", lambda *args, **named: [])
    with Curation(tmp_path / "run", make=True) as curation:
        curation.add_regions(map(region, range(COUNT)))
        curation.set_images({"made": tmp_path})
        for number in range(COUNT):
            (tmp_path / f"{number}.png").touch()
        yield curation


def measured(run: Curation) -> tuple[float, float]:
    """The baseline of a run, and the most that is near chance."""
    found = wording(list(run.samples()))
    assert found.baseline is not None
    return found.baseline, found.chance + found.noise


def test_samples_that_give_the_truth_away_are_written_again_until_the_baseline_is_near_chance(run: Curation) -> None:
    writer, lines = Leaking(), list[str]()
    asyncio.run(build(run, writer, Plan()))
    before, near = measured(run)
    assert before > 0.9
    found = asyncio.run(reword(run, writer, Plan(), say=lines.append))
    after, near = measured(run)
    assert after <= near
    assert found.rewritten == found.asked > COUNT / 2 and found.spared == 0
    assert lines[0].startswith("Written again, as their words give the true caption away: ")
    assert 'Captions that say "fake" are mostly wrong: do not use that in replacements.' in writer.told[0]
    assert run.problems()["wording"] == found.rewritten
    assert {sample.attempts for sample in run.samples()} <= {1, 2, 3}
    assert asyncio.run(reword(run, writer, Plan())) == Rewording(0, 0, 0)  # nothing is left to do


def test_what_people_decided_about_is_left_alone_and_counted(run: Curation) -> None:
    writer = Leaking()
    asyncio.run(build(run, writer, Plan()))
    kept = {name: run.sample(name) for name in run.sample_ids()[::2]}
    for name in kept:
        run.decide(name, "ann", "accept")
    found = asyncio.run(reword(run, writer, Plan()))
    assert found.spared > 0 and found.rewritten > 0
    assert {name: run.sample(name) for name in kept} == kept


def test_a_writer_that_does_not_learn_is_not_asked_for_ever(run: Curation) -> None:
    writer = Leaking(learns=False)
    asyncio.run(build(run, writer, Plan()))
    found = asyncio.run(reword(run, writer, Plan(attempts=3)))
    assert found.asked == found.rewritten <= COUNT  # once
    assert len(run.sample_ids()) == COUNT and run.rewrites() == []


def test_a_rewriting_that_was_stopped_goes_on_with_the_next_build(run: Curation) -> None:
    asyncio.run(build(run, Leaking(), Plan()))

    class Stopping(Leaking):
        async def distractors(self, *args: object, **named: object) -> list[Distractor]:
            if len(self.told) > 10:
                raise RuntimeError("The budget is spent.")
            return await super().distractors(*args, **named)  # type: ignore[arg-type]

    with pytest.raises(RuntimeError, match="spent"):
        asyncio.run(reword(run, Stopping(), Plan(concurrency=1)))
    left = len(run.rewrites())
    assert 0 < left < COUNT and len(run.sample_ids()) == COUNT  # the old samples are still there
    assert asyncio.run(build(run, Leaking(), Plan())).rewritten == left
    assert measured(run)[0] < 0.5


def test_a_large_run_is_measured_in_parts(run: Curation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "MEASURED", 30)
    asyncio.run(build(run, Leaking(), Plan()))
    found = asyncio.run(reword(run, Leaking(), Plan(attempts=1)))
    assert found.rewritten > COUNT / 2


def test_a_region_is_told_what_was_wrong_and_counts_on(run: Curation, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Problem("synonym", "sofa is a couch", 1)
    monkeypatch.setattr(pipeline, "check", lambda made, **named: [wrong] if made.attempts <= 2 else [])
    asyncio.run(build(run, Leaking(), Plan(attempts=2)))
    assert run.states()["made"] == {"dropped": COUNT}
    check_reasons(run, ["synonym", "wording", "picked"])
    assert take_up(run, ["synonym", "picked"]) == {"synonym": COUNT, "picked": 0}
    writer = Leaking()
    assert asyncio.run(build(run, writer, Plan(attempts=2))).written == COUNT
    assert writer.told == ["sofa is a couch"] * COUNT
    assert {sample.attempts for sample in run.samples()} == {3}


def test_what_was_refused_may_be_answered_later(run: Curation) -> None:
    class Refusing(Leaking):
        async def elements(self, region: Region, image: Path) -> Elements | None:
            if not run.tries(region.id):
                raise WriterRefusal("refused", "I will not look at that.")
            return await super().elements(region, image)

    asyncio.run(build(run, Refusing(), Plan()))
    take_up(run, ["refused"])
    assert asyncio.run(build(run, Refusing(), Plan())).written == COUNT


def test_a_reason_that_is_none_is_answered_with_those_of_the_run(run: Curation) -> None:
    with pytest.raises(ValueError, match=r"dropped for 'sinonym', but for nothing yet: --try-again takes one of these"):
        check_reasons(run, ["sinonym"])
    for number in range(3):
        run.drop(f"made/{number}", "synonym" if number else "odd", "")
    with pytest.raises(ValueError, match=r"dropped for 'sinonym', but for synonym \(2\), odd \(1\): --try-again"):
        check_reasons(run, ["odd", "sinonym"])


def test_words_that_tell_by_hand() -> None:
    def said(number: int, true: str, *wrong: str) -> Sample:
        elements = Elements(true, "on", "beach")
        swaps = tuple(Distractor("object", replace(elements, object=word), f"{word} on beach") for word in wrong)
        return Sample(region(number), elements, elements.caption(), swaps, "test")

    samples = [said(number, "calm dog", "fake cat", "boat") for number in range(8)]
    samples += [said(8 + number, "boat", "calm dog") for number in range(2)]
    objection = Telltales(samples).objection(samples[0])
    # Of others, with 1 and 3 added: fake 0 true and 7 wrong, 3/10; boat 2 and 7, 9/10; calm 7 and 2, 24/5.
    assert 'Captions that say "cat", "fake" are mostly wrong: do not use that in replacements.' in objection
    assert 'Captions that say "calm", "dog" are mostly true: use that in replacements too.' in objection
    assert objection.endswith('Use other replacements than "fake cat", "boat".')
