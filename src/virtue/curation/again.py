"""What a run takes up again when it is asked to: regions dropped for a reason, and samples that give the truth away.

1. Regions that were dropped for a reason become new, and the next build works on them (`take_up`). What checks found in
   them goes to the writer; what was refused, or not answered usably, is asked anew.
2. While the text-only baseline is above chance and noise, the samples whose true caption is guessed most surely are
   written again, as many as it takes, with the words that tell; then it is measured anew (`reword`). What people
   decided about, or look at, is left alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from virtue.curation.checks import CHECKS, Design
from virtue.curation.pipeline import AMBIGUOUS, NO_ELEMENTS, NO_IMAGE, PICKED, Plan, Tally, build
from virtue.curation.review.outcomes import outcomes
from virtue.curation.samples import Sample
from virtue.curation.statistics import MEASURED
from virtue.curation.store import Curation
from virtue.curation.telltales import Telltales
from virtue.curation.verdicts import Kept, judged
from virtue.curation.wording import wording
from virtue.curation.writers import Writer

REASONS = (
    *CHECKS,
    *(PICKED, AMBIGUOUS, NO_ELEMENTS, NO_IMAGE),
    *("refused", "unreadable", "impossible", "rejected", "image"),
)
"""What regions may be dropped for."""


@dataclass(frozen=True)
class Rewording:
    """What came of writing samples again.

    Attributes:
        rewritten: Samples that have other distractors now.
        asked: How many were to be written again, one that was so twice counted twice.
        spared: Samples that should be, but people decided about them or look at them.
    """

    rewritten: int
    asked: int
    spared: int


def check_reasons(run: Curation, reasons: Collection[str]) -> None:
    """Whether regions of a run can be taken up again for reasons.

    Args:
        run: The run.
        reasons: What its regions were dropped for; "wording" is for samples as well.

    Raises:
        ValueError: If one is no reason, with those of the run.
    """
    dropped = Counter(check for _, check, _ in run.drops())
    unknown = [reason for reason in reasons if reason not in REASONS and reason not in dropped]
    if unknown:
        counts = ", ".join(f"{reason} ({n:,})" for reason, n in dropped.most_common()) or "nothing yet"
        raise ValueError(
            f"No region of {run.folder} was dropped for {unknown[0]!r}, but for {counts}: --try-again takes one of "
            "these, or wording, for samples that give the true caption away."
        )


def take_up(run: Curation, reasons: Collection[str]) -> Counter[str]:
    """Makes regions new again that were dropped for one of these reasons; how many for each."""
    return Counter({reason: run.reopen(reason, afresh=True) for reason in dict.fromkeys(reasons)})


def standing_samples(run: Curation) -> Iterator[Sample]:
    """The samples of a run in the words that hold, without those that people rejected or dispute."""
    decided = outcomes(run)
    for sample in run.samples():
        found = judged(sample, decided.get(sample.region.id), "unless-rejected")
        if isinstance(found, Kept):
            yield found.sample


async def reword(
    run: Curation,
    writer: Writer,
    plan: Plan,
    *,
    progress: Callable[[Tally], None] | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Rewording:
    """Writes samples again until the baseline is near chance, it no longer helps, or `plan.attempts` times.

    Args:
        run: A run that is built.
        writer: As for `pipeline.build`.
        plan: As there.
        progress: As there.
        say: Gets a sentence before each time.

    Raises:
        Exception: As there. What was to be written again is known, and the next build does it.
    """
    rewritten = asked = spared = 0
    most = math.inf
    for _ in range(plan.attempts):
        objections, spared = _giveaways(run, plan.design)
        count = len(objections)
        if not 0 < count <= most:
            break
        most = most if asked else count / 2  # where the first time did not help, the next will not either
        asked += count
        say(f"Written again, as their words give the true caption away: {count:,} samples.")
        run.ask_rewrites(objections)
        rewritten += (await build(run, writer, plan, progress=progress)).rewritten
    return Rewording(rewritten, asked, spared)


def _giveaways(run: Curation, design: Design) -> tuple[dict[str, str], int]:
    """What to write again and why, by region id, and how many are spared."""
    objections: dict[str, str] = {}
    spare, spared = run.looked_at(), 0
    for samples in _parts(run):
        found = wording(samples, design=design, spare=spare, beside=False)
        telltales = Telltales(samples)
        by_id = {sample.region.id: sample for sample in samples}
        objections |= {name: telltales.objection(by_id[name]) for name in found.surest}
        spared += found.spared
    return objections, spared


def _parts(run: Curation) -> Iterator[Sequence[Sample]]:
    """All samples of a run in about equal parts, none of more than the guessers read at once."""
    count = len(run.sample_ids())
    size = math.ceil(count / math.ceil(count / MEASURED)) if count else 1
    samples = standing_samples(run)
    while part := list(islice(samples, size)):
        yield part
