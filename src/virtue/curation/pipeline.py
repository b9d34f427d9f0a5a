"""Regions to samples: elements, distractors, checks, and a second look that has to find the true caption.

    new region -> elements -> distractors -> checks -> ten captions, shuffled: which is true? -> sample
                                  ^  what was wrong, at most `attempts` times  |  |
                                  +-----------------------------------------------+-> dropped, with its reason

Several regions are under way at once. What becomes of one depends on itself, the seed and the writer only, not on when
answers come or where a run was stopped. Each ends in one change of the store, so a run that was killed goes on with the
regions that are still new, and finds the answers that it had bought.

A region that was taken up again, and a sample that is to be written again, begins with what was wrong with its last
attempt (`retries`); a sample for which there is no better one stays.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from virtue.curation.checks import Design, check
from virtue.curation.corners import corners
from virtue.curation.samples import Problem, Region, Sample
from virtue.curation.sources.image_files import check_folder
from virtue.curation.store import Curation
from virtue.curation.wordnet import WordNet
from virtue.curation.writers import Pick, Writer, WriterRefusal, true_caption

PICKED, AMBIGUOUS = "picked", "ambiguous"
"""The checks of the second look: a wrong caption was taken for the true one, or could be true as well."""

NO_ELEMENTS, NO_IMAGE = "no elements", "missing image"

WORDING = "wording"
"""The check that a sample failed which is to be written again."""


@dataclass(frozen=True)
class Plan:
    """How samples are made; all but `concurrency` belongs to a run's settings.

    Args:
        seed: Of shuffles.
        design: "single": each distractor changes one element, as published; "corners": see `corners.corners`.
        attempts: How often the distractors of a region are written at most, and again when it is taken up again.
        wordnet: For the checks; None leaves them out that need it.
        concurrency: Regions under way at once.

    Raises:
        ValueError: If a number is not positive.
    """

    seed: int = 0
    design: Design = "single"
    attempts: int = 3
    wordnet: WordNet | None = None
    concurrency: int = 8

    def __post_init__(self) -> None:
        """Refuses what cannot be done."""
        for name in ("attempts", "concurrency"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")


@dataclass
class Tally:
    """How far a build is.

    Attributes:
        total: Regions of the run.
        written: Those with a sample.
        dropped: Those given up, by reason.
        rewritten: Samples that were written again in this build.
        rewrites: Samples that this build was to write again.
    """

    total: int
    written: int
    dropped: Counter[str] = field(default_factory=Counter)
    rewritten: int = 0
    rewrites: int = 0

    @property
    def done(self) -> int:
        """Regions that are no longer new."""
        return self.written + self.dropped.total()


def tally(run: Curation) -> Tally:
    """How far a run is."""
    states = sum(run.states().values(), Counter())
    return Tally(states.total(), states["written"], Counter(reason for _, reason, _ in run.drops()))


async def build(run: Curation, writer: Writer, plan: Plan, *, progress: Callable[[Tally], None] | None = None) -> Tally:
    """Makes samples of all new regions of a run and of those whose image was missing before, and those to write again.

    Args:
        run: The run; its regions are there, and it knows where the images are.
        writer: Writes captions.
        plan: How.
        progress: Called after each region.

    Returns:
        How far the run is.

    Raises:
        FileNotFoundError: If a folder of images is gone or empty, as that of a disk that went away; no region is
            dropped for it.
        Exception: What stopped a writer, such as a budget that is spent or an endpoint that is gone. Regions under way
            are finished as far as they can be, and the same call goes on later.
    """
    run.reopen(NO_IMAGE)
    rewrites, found = run.rewrites(), tally(run)
    found.rewrites = len(rewrites)
    work = chain(((region, None) for region in run.regions("new")), ((run.region(name), s) for name, s in rewrites))
    building = _Building(run, writer, plan, found, progress, work)
    async with asyncio.TaskGroup() as workers:
        for _ in range(plan.concurrency):
            workers.create_task(building.work())
    if building.failures:
        raise building.failures[0]
    return building.tally


@dataclass
class _Building:
    """What the workers of a build share."""

    run: Curation
    writer: Writer
    plan: Plan
    tally: Tally
    progress: Callable[[Tally], None] | None
    regions: Iterator[tuple[Region, str | None]]  # with an objection to its sample, if that is to be written again
    failures: list[Exception] = field(default_factory=list)  # what stopped workers

    async def work(self) -> None:
        """Takes one region after the other, until there is none or something stops the build."""
        try:
            while not self.failures and (due := next(self.regions, None)) is not None:
                region, objection = due
                await (self._make(region) if objection is None else self._rewrite(region, objection))
                if self.progress is not None:
                    self.progress(self.tally)
                await asyncio.sleep(0)  # a writer by rules never waits: Ctrl-C is noticed here
        except Exception as error:  # whatever it is, the others finish what they have paid for
            self.failures.append(error)

    async def _make(self, region: Region) -> None:
        """Makes a region's sample, or drops the region."""
        found: list[list[Problem]] = []
        try:
            made = await self._sample(region, *self.run.past(region.id), found)
        except WriterRefusal as refusal:  # perhaps of an image that went away meanwhile
            made = self._missing(region) or Problem(refusal.reason, refusal.message)
        if isinstance(made, Problem):
            self.run.drop(region.id, made.check, made.message, found)
            self.tally.dropped[made.check] += 1
        else:
            self.run.put_sample(made, found)
            self.tally.written += 1

    async def _rewrite(self, region: Region, objection: str) -> None:
        """Writes a sample again; the old one stays where there is no better."""
        before, problems = self.run.past(region.id)
        objections = [Problem(WORDING, objection)]
        found = [objections]  # the old sample is one more attempt that failed
        made: Sample | Problem | None
        try:
            made = await self._sample(region, before + 1, [*objections, *problems], found)
        except WriterRefusal:
            made = self._missing(region)
        sample = made if isinstance(made, Sample) else None
        self.tally.rewritten += self.run.end_rewrite(region.id, sample, found)

    async def _sample(
        self, region: Region, before: int, problems: list[Problem], found: list[list[Problem]]
    ) -> Sample | Problem:
        """A sample that passed, or why there is none.

        Args:
            region: Of what.
            before: How many attempts there were before.
            problems: What was wrong with the last of them.
            found: Gets the problems of each attempt that failed.
        """
        if missing := self._missing(region):
            return missing
        image = self.run.image(region)
        elements = await self.writer.elements(region, image)
        if elements is None:
            return Problem(NO_ELEMENTS, "The region gives nothing to write a caption of.")
        for attempt in range(before + 1, before + self.plan.attempts + 1):
            distractors = await self.writer.distractors(region, image, elements, problems)
            sample = Sample(
                region=region,
                elements=elements,
                caption=true_caption(region, elements),
                distractors=tuple(distractors),
                writer=self.writer.name,
                instructions=self.writer.instructions,
                attempts=attempt,
            )
            sample, problems = self._checked(sample)
            problems = problems or await self._second_look(sample)
            if not problems:
                return sample
            found.append(problems)
        return problems[0]

    def _missing(self, region: Region) -> Problem | None:
        """Whether a region's image is not there.

        Raises:
            FileNotFoundError: If none of its source is.
        """
        image = self.run.image(region)
        if image.is_file():
            return None
        check_folder(self.run.image_folder(region.source))
        return Problem(NO_IMAGE, f"There is no image {image}.")

    def _checked(self, sample: Sample) -> tuple[Sample, list[Problem]]:
        """A sample in the design that is asked for, and what is wrong with it."""
        problems = check(sample, wordnet=self.plan.wordnet)
        if problems or self.plan.design == "single":
            return sample, problems
        made = corners(sample, self.plan.seed)
        return made, check(made, wordnet=self.plan.wordnet, design=self.plan.design)

    async def _second_look(self, sample: Sample) -> list[Problem]:
        """What the writer finds when it has to tell the true caption from the others by looking."""
        texts = sample.captions
        order = list(range(len(texts)))
        random.Random(f"{self.plan.seed}/{sample.region.id}/{sample.attempts}").shuffle(order)
        pick = await self.writer.pick(sample.region, self.run.image(sample.region), [texts[place] for place in order])
        return [] if pick is None else picked(texts, order, pick, single=self.plan.design == "single")


def picked(texts: Sequence[str], order: Sequence[int], pick: Pick, *, single: bool = True) -> list[Problem]:
    """What a pick says of a sample.

    Args:
        texts: Its captions, the true one first.
        order: Which of them stood in which place of the list that was shown.
        pick: Places in that list.
        single: Whether distractor `i` is what the writer wrote as number `i`, so that it can be told which to replace.

    Returns:
        One problem for each wrong caption that was taken for the true one or could be true; none where the true caption
        alone was found.
    """
    problems = []
    for name, places in ((PICKED, (pick.best,)), (AMBIGUOUS, pick.also_true)):
        for wrong in sorted(order[place] for place in places if order[place] != 0):
            said = "was taken for the true caption" if name == PICKED else "could be true as well"
            where = wrong - 1 if single else None
            problems.append(Problem(name, f'"{texts[wrong]}" {said} by one who saw the image.', where))
    return problems


def describe(found: Tally) -> str:
    """A tally in one line: "120 of 500 regions: 100 samples, 20 dropped (12 synonym, 8 picked)"."""
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in found.dropped.most_common())
    dropped = f"{found.dropped.total():,} dropped" + (f" ({reasons})" if reasons else "")
    again = f", {found.rewritten:,} of {found.rewrites:,} written again" if found.rewrites else ""
    return f"{found.done:,} of {found.total:,} regions: {found.written:,} samples, {dropped}{again}"
