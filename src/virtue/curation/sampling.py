"""Which regions of a source are taken, and which split an image belongs to: decided by hashes, not by an order.

Images are gone through in the order of a hash of the seed and the photograph's name, regions of an image in that of a
hash of their ids, each category of the image once before any comes again. Caps are met by taking no more. So a sample
depends on seed, caps and source alone; a larger limit only adds to it; and two sources that show the same photographs
come to the same ones first. The split goes by the photograph's name too: whatever is sampled, in whatever order, and
from however many sources, no photograph is in two splits.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Literal

from virtue.curation.samples import Region
from virtue.curation.sources.source import Candidate, Source

Split = Literal["train", "eval"]

BEYOND_IMAGE, BEYOND_CATEGORY = "beyond the cap of their image", "beyond the cap of their category"
DOUBLE = "with an id that another one has"


def sample(
    source: Source,
    seed: int = 0,
    *,
    per_image: int | None = None,
    per_category: int | None = None,
    limit: int | None = None,
) -> Iterator[Region]:
    """Regions of a source, in the order in which they should be worked on.

    What the caps leave out is counted in the source's `left_out`; what the limit leaves out is never looked at. Counts
    start anew.

    Args:
        source: The source.
        seed: Another seed is another order.
        per_image: How many regions of an image at most.
        per_category: How many regions of a category at most.
        limit: How many regions at most.

    Raises:
        ValueError: If a cap or the limit is not positive.
    """
    for name, cap in (("per_image", per_image), ("per_category", per_category), ("limit", limit)):
        if cap is not None and cap < 1:
            raise ValueError(f"{name} is {cap}; it must be at least 1, or None for no cap.")
    source.left_out.clear()
    source.mended.clear()
    return _sampled(source, seed, per_image, per_category, limit)


def split_of(image_id: str, eval_share: float = 0.05, seed: int = 0) -> Split:
    """Which split a photograph belongs to.

    Args:
        image_id: The photograph, as `Region.image_id`.
        eval_share: What share of photographs is for evaluation, 0 to 1; a larger share keeps those of a smaller one.
        seed: Another seed is another split.

    Raises:
        ValueError: If the share is not from 0 to 1.
    """
    if not 0 <= eval_share <= 1:
        raise ValueError(f"The share of images for evaluation is from 0 to 1, got {eval_share}.")
    return "eval" if rank(seed, f"split/{image_id}") < eval_share * 2**64 else "train"


def rank(seed: int, name: str) -> int:
    """The place of a name in the order of a seed, a number of 64 bits that is the same on every machine."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _sampled(
    source: Source,
    seed: int,
    per_image: int | None,
    per_category: int | None,
    limit: int | None,
) -> Iterator[Region]:
    taken: Counter[str] = Counter()  # by category
    seen: set[str] = set()
    count = 0
    # The key tells two images of one photograph apart, as Visual Genome has a few.
    for picture in sorted(source.pictures(), key=lambda p: (rank(seed, p.image_id), str(p.key))):
        of_image = 0
        for candidate in _in_order(source.candidates(picture), seed):
            reason = _refusal(candidate, seen, taken, of_image, per_image, per_category)
            if reason:
                source.left_out[reason] += 1
                continue
            seen.add(candidate.id)
            taken[candidate.category] += 1
            of_image += 1
            count += 1
            yield candidate.region()
            if count == limit:
                return


def _refusal(
    candidate: Candidate,
    seen: set[str],
    taken: Counter[str],
    of_image: int,
    per_image: int | None,
    per_category: int | None,
) -> str | None:
    """Why a candidate is not taken; None where it is."""
    if candidate.id in seen:
        return DOUBLE
    if per_image is not None and of_image >= per_image:
        return BEYOND_IMAGE
    if per_category is not None and taken[candidate.category] >= per_category:
        return BEYOND_CATEGORY
    return None


def _in_order(candidates: list[Candidate], seed: int) -> list[Candidate]:
    """Candidates of one image by hash, the first of every category before the second of any."""
    ranked = sorted(candidates, key=lambda candidate: (rank(seed, candidate.id), candidate.id))
    before: Counter[str] = Counter()
    rounds = []
    for candidate in ranked:
        rounds.append(before[candidate.category])
        before[candidate.category] += 1
    return [ranked[i] for i in sorted(range(len(ranked)), key=lambda i: rounds[i])]
