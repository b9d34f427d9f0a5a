"""Why a sample is rejected, in words that are counted."""

from __future__ import annotations

REASONS: dict[str, str] = {
    "not true": "The true caption is not true of the region.",
    "ambiguous": "Another caption is true as well.",
    "wrong box": "The region is not where, or not what, it should be.",
    "wording": "A caption reads wrong, or its wording gives it away.",
    "not one element": "A caption changes more than one element, or none.",
    "offensive": "It should not be shown to anybody.",
    "other": "In your own words.",
}
"""Reasons with what they mean, in the order of their keys on the page, from 1."""

OTHER = "other"


def written(reason: str, note: str = "") -> str:
    """How a decision keeps a reason: "wording", or "other: too dark".

    Args:
        reason: One of `REASONS`.
        note: In the reviewer's words.

    Raises:
        ValueError: If there is no such reason, or the other one comes without words.
    """
    if reason not in REASONS:
        raise ValueError(f"A reason is one of {', '.join(REASONS)}, not {reason!r}.")
    words = " ".join(note.split())
    if reason == OTHER and not words:
        raise ValueError("The reason other needs words of your own.")
    return f"{reason}: {words}" if words else reason


def counted_as(reason: str) -> str:
    """What a kept reason is counted under: the part before its words, "other" where it is none of `REASONS`."""
    name = reason.partition(":")[0].strip()
    return name if name in REASONS else OTHER
