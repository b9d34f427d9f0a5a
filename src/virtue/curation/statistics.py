"""What a set is like in numbers: of a run that is being made, and of files in the published layout.

Of a run that is what an export would hold now, in the words of people's edits; what it would leave out is counted by
reason. How the run was made is told of all that was written.

Counts are those of the paper's table: images and annotations of each source, to train on and to measure on. A
photograph that two sources have counts once in each.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from virtue.curation.checks import Design
from virtue.curation.layout import Split
from virtue.curation.published import PublishedFile, published_files
from virtue.curation.relations import words
from virtue.curation.review.agreement import Agreement, agreement
from virtue.curation.review.outcomes import outcomes
from virtue.curation.samples import KINDS, Sample
from virtue.curation.sampling import split_of
from virtue.curation.store import Curation
from virtue.curation.verdicts import default_keep, judged
from virtue.curation.wording import Wording, wording, wording_of_captions

MEASURED = 20_000
"""Samples at most that the text-only baseline reads: the first of a run, which are a fair mix; a fair part of files."""


@dataclass(frozen=True)
class Count:
    """A cell of the paper's table.

    Attributes:
        images: Different ones.
        annotations: Regions with ten captions.
    """

    images: int
    annotations: int


@dataclass(frozen=True)
class Spread:
    """How long captions are, in words.

    Attributes:
        mean: Of all.
        low: What a twentieth does not reach.
        median: What half does not reach.
        high: What all but a twentieth does not exceed.
        most: The longest.
    """

    mean: float
    low: int
    median: int
    high: int
    most: int

    @classmethod
    def of(cls, lengths: Counter[int]) -> Spread | None:
        """The spread of lengths that were counted; None without any."""
        total = lengths.total()
        if not total:
            return None
        ordered = sorted(lengths.items())
        low, median, high = (_at(ordered, rank) for rank in (total // 20, total // 2, total - 1 - total // 20))
        return cls(sum(length * n for length, n in ordered) / total, low, median, high, ordered[-1][0])


@dataclass(frozen=True)
class Words:
    """Which words an element or a category has.

    Attributes:
        distinct: How many different ones.
        commonest: The commonest, with how often each occurs.
    """

    distinct: int
    commonest: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Making:
    """How the samples of a run came about.

    Attributes:
        settings: What the run was begun with.
        states: Regions by source, then by "new", "written", "dropped".
        left_out: What sources left out or mended, by scope and reason.
        dropped: Regions given up, by the check they failed or another reason.
        problems: In how many attempts each check found something.
        attempts: Samples by how often their distractors were written.
        totals: What the LLM used: answers, tokens, money.
        models: Answers by what the endpoint calls the LLM that gave them, often with its date.
    """

    settings: dict[str, Any]
    states: dict[str, Counter[str]]
    left_out: dict[str, Counter[str]]
    dropped: Counter[str]
    problems: Counter[str]
    attempts: Counter[int]
    totals: dict[str, float]
    models: Counter[str]


@dataclass(frozen=True)
class Statistics:
    """A set in numbers.

    Attributes:
        counts: By source, then by split.
        true_lengths: Of true captions, in words.
        false_lengths: Of distractors, in words.
        words: Of "category", "object", "relation" and "scene", as far as they are known.
        swaps: Distractors by what was swapped; "unclear" where a published file does not show it.
        wording: The text-only baseline; None if it was not asked for.
        making: Of a run.
        people: What people decided about a run; None where nobody did.
        left_out: Samples of a run that are in none of these numbers, by why an export would leave them out.
        design: Of the distractors; None of files that do not say, or not the same, which are measured as single swaps.
    """

    counts: dict[str, dict[Split, Count]]
    true_lengths: Spread | None
    false_lengths: Spread | None
    words: dict[str, Words]
    swaps: Counter[str]
    wording: Wording | None = None
    making: Making | None = None
    people: Agreement | None = None
    left_out: Counter[str] = field(default_factory=Counter)
    design: Design | None = None

    def table(self) -> list[tuple[str, int, int, int, int]]:
        """The paper's table: source, train images and annotations, eval images and annotations; the total last."""
        none = Count(0, 0)
        rows = []
        for source, splits in sorted(self.counts.items()):
            train, measured = splits.get("train", none), splits.get("eval", none)
            rows.append((source, train.images, train.annotations, measured.images, measured.annotations))
        numbers = [sum(int(row[column]) for row in rows) for column in range(1, 5)]
        return [*rows, ("total", numbers[0], numbers[1], numbers[2], numbers[3])]

    def to_json(self) -> dict[str, Any]:
        """As plain dicts and lists; what is not known, such as an undefined kappa, is None."""
        values: dict[str, Any] = _plain_json(self)
        return values


def statistics_of_run(
    run: Curation | str | Path, *, eval_share: float = 0.05, seed: int | None = None, baseline: bool = True
) -> Statistics:
    """The numbers of a run, as an export without options would hold it.

    Args:
        run: The run, or its folder.
        eval_share: Which share of the images an export would put aside to measure on.
        seed: Of that split; the run's own by default.
        baseline: Measure the text-only baseline, which takes a while.

    Raises:
        FileNotFoundError: If there is no run.
    """
    opened = run if isinstance(run, Curation) else Curation(run)
    try:
        settings = opened.settings
        design = cast("Design", settings.get("design", "single"))
        split_seed = int(settings.get("seed", 0)) if seed is None else seed
        gathered, first = _Gathered(), list[Sample]()
        for sample in _exported(opened, gathered):
            gathered.add_sample(sample, split_of(sample.region.image_id, eval_share, split_seed))
            if baseline and len(first) < MEASURED:
                first.append(sample)
        people = agreement(opened) if opened.decisions() else None
        measured = wording(first, design=design) if first else None
        return gathered.statistics(measured, design, _making(opened, gathered.attempts), people)
    finally:
        if opened is not run:
            opened.close()


def statistics_of_files(paths: Sequence[str | Path], *, baseline: bool = True) -> Statistics:
    """The numbers of files in the published layout.

    Args:
        paths: Parquet files, or folders of them.
        baseline: Measure the text-only baseline, which takes a while.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file has another layout.
        RowError: If a row does not follow it.
    """
    gathered, measured, seen, rng = _Gathered(), list[tuple[list[str], str]](), 0, random.Random(0)
    files = published_files(paths)
    for file in files:
        for number, row in enumerate(file.rows(), start=1):
            noted = file.provenance.of(number) if file.provenance else {}
            captions, photograph = file.captions(row), noted.get("image_id") or file.photograph(row)
            gathered.add_row(file, photograph, captions, {"category": row.text("category"), **noted})
            if not baseline or len(captions) < 2:
                continue
            seen += 1
            if len(measured) < MEASURED:
                measured.append((captions, photograph))
            elif (place := rng.randrange(seen)) < MEASURED:  # so that every row is kept as likely as any other
                measured[place] = captions, photograph
    lists, images = [captions for captions, _ in measured], [photograph for _, photograph in measured]
    designs = {file.design for file in files}
    design = designs.pop() if len(designs) == 1 else None
    found = wording_of_captions(lists, images).of(design or "single") if lists else None
    return gathered.statistics(found, design)


@dataclass
class _Gathered:
    """What is counted while samples or rows go by."""

    images: dict[tuple[str, Split], set[str]] = field(default_factory=dict)
    annotations: Counter[tuple[str, Split]] = field(default_factory=Counter)
    lengths: dict[bool, Counter[int]] = field(default_factory=lambda: {True: Counter(), False: Counter()})
    words: dict[str, Counter[str]] = field(default_factory=dict)
    swaps: Counter[str] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def add_sample(self, sample: Sample, split: Split) -> None:
        region = sample.region
        self._add(region.source, split, region.image_id, sample.captions)
        self._add_words("category", region.category)
        for kind in KINDS:
            self._add_words(kind, getattr(sample.elements, kind))
        self.swaps.update(distractor.kind for distractor in sample.distractors)

    def add_row(self, file: PublishedFile, photograph: str, captions: list[str], known: Mapping[str, Any]) -> None:
        self._add(file.source, file.split, photograph, captions)
        for name in ("category", *KINDS):
            if known.get(name):
                self._add_words(name, known[name])
        self.swaps.update(known.get("swaps") or (swap_shown(captions[0], caption) for caption in captions[1:]))

    def statistics(
        self,
        measured: Wording | None,
        design: Design | None,
        making: Making | None = None,
        people: Agreement | None = None,
    ) -> Statistics:
        counts: dict[str, dict[Split, Count]] = {}
        for (source, split), images in sorted(self.images.items()):
            counts.setdefault(source, {})[split] = Count(len(images), self.annotations[source, split])
        words = {name: Words(len(found), tuple(found.most_common(20))) for name, found in self.words.items()}
        true, false = Spread.of(self.lengths[True]), Spread.of(self.lengths[False])
        return Statistics(counts, true, false, words, self.swaps, measured, making, people, self.left_out, design)

    def _add(self, source: str, split: Split, image: str, captions: Sequence[str]) -> None:
        self.images.setdefault((source, split), set()).add(image)
        self.annotations[source, split] += 1
        for place, caption in enumerate(captions):
            self.lengths[place == 0][len(caption.split())] += 1

    def _add_words(self, name: str, words: str) -> None:
        self.words.setdefault(name, Counter())[words.lower()] += 1


def swap_shown(true: str, false: str) -> str:
    """What was swapped in a caption, told by where it differs from the true one; articles and punctuation do not count.

    Returns:
        "object" where it differs at the start, "scene" at the end, "relation" in between, else "unclear".
    """
    mine, other = words(true), words(false)
    first, last = _shared(mine, other), _shared(mine[::-1], other[::-1])
    if mine == other or first == last == 0:
        return "unclear"
    return "object" if not first else "relation" if last else "scene"


def _shared(mine: Sequence[str], other: Sequence[str]) -> int:
    pairs = zip(mine, other, strict=False)
    return next((place for place, (one, two) in enumerate(pairs) if one != two), min(len(mine), len(other)))


def _exported(run: Curation, gathered: _Gathered) -> Iterator[Sample]:
    """The samples that an export would hold, in the words that hold; counts the others, and the attempts of all."""
    decided = outcomes(run)
    keep = default_keep(decided)
    for sample in run.samples():
        gathered.attempts[sample.attempts] += 1
        kept = judged(sample, decided.get(sample.region.id), keep)
        if isinstance(kept, str):
            gathered.left_out[kept] += 1
        else:
            yield kept.sample


def _making(run: Curation, attempts: Counter[int]) -> Making:
    dropped = Counter(check for _, check, _ in run.drops())
    return Making(
        run.settings, run.states(), run.counts(), dropped, run.problems(), attempts, run.totals(), run.models()
    )


def _at(ordered: Sequence[tuple[int, int]], rank: int) -> int:
    """The value that stands in a place of all values in order, counted from 0."""
    for value, n in ordered:
        if rank < n:
            return value
        rank -= n
    return ordered[-1][0]


def _plain_json(value: Any) -> Any:
    """A value as JSON knows it: keys are texts, and a number that is none is null."""
    if is_dataclass(value):  # `asdict` would count the entries of a Counter
        return {entry.name: _plain_json(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        names = {key: " and ".join(key) if isinstance(key, tuple) else str(key) for key in value}
        return {names[key]: _plain_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_json(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
