"""How far reviewers agree where two saw the same sample, and what each of them decided, and why.

Agreement is Cohen's kappa (1960): with p the share of samples on which two reviewers say the same, and e the share on
which they would if each said the same things as often but at random,

    kappa = (p - e) / (1 - e)

It is 1 when they always agree, 0 when they agree as often as chance would have it. What they say is whether a sample
is kept (accepted or edited) or rejected, which is what decides about a set. Where more than two people review, each
pair has its own kappa, and the whole is pooled as De Vries et al. do ("Using pooled kappa to summarize interrater
agreement across many items", Field Methods 20, 2008): p and e are the means over pairs, weighted by their samples.

Only what was decided before a dispute is measured: who takes the third look knows what the others said.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from virtue.curation.review.outcomes import Outcome, disputed, outcomes_of
from virtue.curation.review.reasons import counted_as

if TYPE_CHECKING:
    from virtue.curation.decisions import Decision
    from virtue.curation.store import Curation


@dataclass(frozen=True)
class Kappa:
    """How far two reviewers agree, or all pairs of them.

    Attributes:
        samples: How many both saw.
        observed: The share on which they agree, in [0, 1]; NaN where there is none.
        expected: The share on which they would by chance.
        value: Cohen's kappa, in [-1, 1]; NaN where it is undefined.
        note: Why it is undefined; "" where it is not.
    """

    samples: int
    observed: float
    expected: float
    value: float
    note: str = ""


@dataclass(frozen=True)
class Agreement:
    """What people decided about a run.

    Attributes:
        kappa: Of all pairs of reviewers together.
        pairs: Of each pair, by their names.
        states: How many samples are "kept", "rejected", "disputed" or "open" (skipped only).
        reasons: How often each reason was given, the commonest first; all decisions that count.
        reviewers: By reviewer, how often each verdict was given.
        disputed: Region ids of what waits for a third look, the longest first.
    """

    kappa: Kappa
    pairs: dict[tuple[str, str], Kappa]
    states: dict[str, int]
    reasons: dict[str, int]
    reviewers: dict[str, dict[str, int]]
    disputed: list[str]


def cohens_kappa(first: Sequence[str], second: Sequence[str]) -> Kappa:
    """Cohen's kappa of two reviewers.

    Args:
        first: What the one says of each sample.
        second: What the other says of the same samples, in the same order.

    Returns:
        Its value is NaN, with a sentence, where there is no sample or both always say one and the same thing.

    Raises:
        ValueError: If they are not about as many samples.
    """
    if len(first) != len(second):
        raise ValueError(f"One reviewer saw {len(first)} samples, the other {len(second)}: give those that both saw.")
    if not first:
        return _kappa(0, math.nan, math.nan)
    count, own, other = len(first), Counter(first), Counter(second)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / count
    expected = sum(own[word] * other[word] for word in own) / count**2
    return _kappa(count, observed, expected)


def pooled(kappas: Sequence[Kappa]) -> Kappa:
    """The kappa of several pairs together, each weighted by its samples."""
    count = sum(kappa.samples for kappa in kappas)
    if not count:
        return _kappa(0, math.nan, math.nan)
    seen = [kappa for kappa in kappas if kappa.samples]
    observed = math.fsum(kappa.samples * kappa.observed for kappa in seen) / count
    expected = math.fsum(kappa.samples * kappa.expected for kappa in seen) / count
    return _kappa(count, observed, expected)


def agreement(curation: Curation) -> Agreement:
    """What people decided about the samples of a run, and how far they agree."""
    return agreement_of(curation.all_decisions())


def agreement_of(decisions: Sequence[Decision]) -> Agreement:
    """What `agreement` gives, of decisions.

    Args:
        decisions: All of a run, in the order in which they were made.
    """
    found = outcomes_of(decisions)
    counted = {(decision.region_id, decision.reviewer): decision for decision in decisions if not decision.undone}
    reasons: Counter[str] = Counter()
    reviewers: dict[str, Counter[str]] = {}
    for decision in counted.values():
        reviewers.setdefault(decision.reviewer, Counter())[decision.verdict] += 1
        if decision.verdict == "reject":
            reasons[counted_as(decision.reason)] += 1
    pairs = _pairs(found)
    return Agreement(
        kappa=pooled(list(pairs.values())),
        pairs=pairs,
        states=dict(Counter(own.state for own in found.values())),
        reasons=dict(reasons.most_common()),
        reviewers={name: dict(reviewers[name]) for name in sorted(reviewers)},
        disputed=disputed(found),
    )


def _pairs(found: Mapping[str, Outcome]) -> dict[tuple[str, str], Kappa]:
    """The kappa of each pair of reviewers who saw a sample both."""
    said: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for own in found.values():
        ordered = sorted(own.independent, key=lambda decision: decision.reviewer)
        for one, other in combinations(ordered, 2):
            said.setdefault((one.reviewer, other.reviewer), []).append((_kept(one), _kept(other)))
    return {pair: cohens_kappa(*(list(words) for words in zip(*said[pair], strict=True))) for pair in sorted(said)}


def _kept(decision: Decision) -> str:
    return "reject" if decision.verdict == "reject" else "keep"


def _kappa(count: int, observed: float, expected: float) -> Kappa:
    if not count:
        return Kappa(0, observed, expected, math.nan, "No sample was seen by two reviewers, so agreement is not known.")
    if expected > 1 - 1e-12:
        note = (
            f"Both reviewers said the same of all {count} samples and nothing else of any, "
            "so kappa is not defined: chance would agree as well."
        )
        return Kappa(count, observed, expected, math.nan, note)
    return Kappa(count, observed, expected, (observed - expected) / (1 - expected))
