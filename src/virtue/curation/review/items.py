"""Samples and decisions as the review page gets them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from virtue.curation.decisions import Decision
from virtue.curation.review.outcomes import outcome
from virtue.curation.samples import Region, Sample
from virtue.curation.store import Curation
from virtue.masks import outline_of_rle


def item_json(curation: Curation, region_id: str, reviewer: str, with_others: bool = False) -> dict[str, Any]:
    """A sample, with what was decided about it as far as the reviewer may know.

    Others' decisions are told to those who decided themselves, and to who takes the third look: before that they would
    bring reviewers to agree.

    Args:
        curation: The run.
        region_id: Of the sample.
        reviewer: Who looks.
        with_others: Tell others' decisions in any case.

    Raises:
        KeyError: If there is no such sample.
    """
    sample, history = curation.sample(region_id), curation.all_decisions(region_id)
    counted = curation.decisions(region_id)
    mine = next((own for own in counted if own.reviewer == reviewer), None)
    others = [own for own in counted if own.reviewer != reviewer and own.verdict != "skip"]
    may_know = with_others or (mine is not None and mine.verdict != "skip")
    return {
        "id": region_id,
        "region": _region_json(sample.region),
        "captions": _captions_json(sample),
        "digest": digest(sample.captions),
        "seen": history[-1].number if history else 0,
        "mine": decision_json(mine) if mine else None,
        "others": [decision_json(own) for own in others] if may_know else [],
        "state": outcome(history).state if may_know else "open",
    }


def digest(captions: Sequence[str]) -> str:
    """What tells captions that were shown from those of a sample that was written anew since.

    Args:
        captions: All of a sample.

    Returns:
        16 hex digits.
    """
    return hashlib.blake2b(json.dumps(list(captions)).encode(), digest_size=8).hexdigest()


def decision_json(decision: Decision) -> dict[str, Any]:
    """A decision without the key it was sent under."""
    return {
        "number": decision.number,
        "region": decision.region_id,
        "reviewer": decision.reviewer,
        "verdict": decision.verdict,
        "reason": decision.reason,
        "captions": decision.captions,
        "made": decision.made,
    }


def _region_json(region: Region) -> dict[str, Any]:
    facts = [f"{fact.subject} {fact.relation} {fact.object}" for fact in region.facts]
    return {
        "source": region.source,
        "image": region.image,
        "width": region.width,
        "height": region.height,
        "box": [region.box.x1, region.box.y1, region.box.x2, region.box.y2],
        "outline": _outline(region),
        "category": region.category,
        "caption": region.caption,
        "scene": list(region.scene[:3]),
        "facts": facts[:6],
    }


def _captions_json(sample: Sample) -> list[dict[str, Any]]:
    """All captions, the true one first; of each distractor what was swapped and what stands there now."""
    swapped = [
        {"kind": own.kind, "text": own.text, "changed": getattr(own.elements, own.kind)} for own in sample.distractors
    ]
    return [{"kind": None, "text": sample.caption, "changed": ""}, *swapped]


def _outline(region: Region) -> str | None:
    """The edge of the mask, None where there is none, or it cannot be read: the box is there all the same."""
    if region.segmentation is None:
        return None
    try:
        return outline_of_rle(region.segmentation) or None
    except ValueError:
        return None
