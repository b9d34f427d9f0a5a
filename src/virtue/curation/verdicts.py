"""Which samples go into a set, in whose words: what `review.outcomes` says of a sample, and what is to be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from virtue.curation.review.edits import edited
from virtue.curation.review.outcomes import Outcome
from virtue.curation.samples import Sample

Keep = Literal["accepted", "unless-rejected", "all"]
"""Samples that people accepted; all but those that they rejected or dispute; or all, whatever people decided."""

UNSEEN, REJECTED, DISPUTED, SPOILT = "not reviewed", "rejected by people", "disputed by people", "edited to no use"
"""Why a sample is left out."""


@dataclass(frozen=True)
class Kept:
    """A sample that goes into the set.

    Attributes:
        sample: With the captions that hold.
        reviewers: Who wanted it so, in the order in which they decided.
        edited: Whether its captions are not those that were written.
    """

    sample: Sample
    reviewers: tuple[str, ...] = ()
    edited: bool = False


def default_keep(decided: Mapping[str, Outcome]) -> Keep:
    """Which samples are kept unless it is said otherwise: what people accepted, or all where nobody decided anything.

    Args:
        decided: What people's decisions come to, by region id.
    """
    return "accepted" if any(one.state != "open" for one in decided.values()) else "all"


def judged(sample: Sample, outcome: Outcome | None, keep: Keep) -> Kept | str:
    """What becomes of a sample.

    Args:
        sample: As it was written.
        outcome: What people's decisions about it come to, None where there are none.
        keep: Which samples are kept.

    Returns:
        The sample as it is kept, or why it is not.
    """
    if keep == "all":
        return Kept(sample)
    if outcome is None or outcome.state == "open":
        return UNSEEN if keep == "accepted" else Kept(sample)
    if outcome.state != "kept":
        return REJECTED if outcome.state == "rejected" else DISPUTED
    words = sample if outcome.captions is None else _reworded(sample, outcome.captions)
    return SPOILT if words is None else Kept(words, _reviewers(outcome), edited=words != sample)


def _reviewers(outcome: Outcome) -> tuple[str, ...]:
    """Those who said what holds."""
    looks = (*outcome.independent, outcome.final) if outcome.final else outcome.independent
    agreed = (one.reviewer for one in looks if one.verdict != "reject" and one.captions == outcome.captions)
    return tuple(dict.fromkeys(agreed))


def _reworded(sample: Sample, captions: Sequence[str]) -> Sample | None:
    """The sample with other captions; None where they are not as many, all different."""
    if len(captions) != len(sample.captions) or not all(caption.strip() for caption in captions):
        return None
    return edited(sample, captions) if len(set(captions)) == len(captions) else None
