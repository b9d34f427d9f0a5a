"""What the sources of a set are licensed under, as their makers publish it: for the card, and no legal advice.

A set made of annotations carries the terms of its sources on: of the images where they are put in, and of the words and
boxes either way. The strictest decides what may be done with the whole.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """The terms of a source.

    Attributes:
        images: Of the images.
        annotations: Of boxes, masks, names and captions.
        page: Where its makers say so.
        identifier: What the Hub calls the strictest of them; "other" where it has no name for it.
        commercial: Whether the terms, as published, allow commercial use; None where that is not said.
    """

    images: str
    annotations: str
    page: str
    identifier: str = "other"
    commercial: bool | None = None


_COCO_IMAGES = "of their owners; use has to abide by the Flickr Terms of Use (COCO)"

LICENCES: dict[str, Licence] = {
    "RefCOCOg": Licence(
        images=_COCO_IMAGES,
        annotations="expressions CC BY 4.0 (Google RefExp); boxes and masks CC BY 4.0 (COCO); the UMD split comes "
        "without terms of its own",
        page="https://github.com/mjhucla/Google_Refexp_toolbox",
    ),
    "RefCOCO_plus": Licence(
        images=_COCO_IMAGES,
        annotations="expressions are offered for download without a licence of their own; boxes and masks CC BY 4.0 "
        "(COCO)",
        page="https://github.com/lichengunc/refer",
    ),
    "COCO_Stuff": Licence(
        images=_COCO_IMAGES,
        annotations="CC BY 4.0 (COCO-Stuff, and COCO's captions)",
        page="https://github.com/nightrome/cocostuff#licensing",
    ),
    # Any set in COCO's format goes by this name unless it is given another.
    "COCO": Licence(
        images=f"if these are COCO's own: {_COCO_IMAGES}; else not known here: say it",
        annotations="if these are COCO's own: CC BY 4.0; else not known here: say it",
        page="https://cocodataset.org/#termsofuse",
    ),
    "VisualGenome": Licence(
        images="of their owners; taken from Flickr through YFCC100M and COCO, under what each was uploaded with",
        annotations="CC BY 4.0",
        page="https://visualgenome.org/about",
    ),
    "ADE20K": Licence(
        images="non-commercial research and education only; registration with the makers is asked for",
        annotations="BSD 3-Clause",
        page="https://groups.csail.mit.edu/vision/datasets/ADE20K/terms/",
        commercial=False,
    ),
    "scenes": Licence(
        images="drawn by this project (Apache-2.0) from sprites of Noto Color Emoji (SIL OFL 1.1)",
        annotations="Apache-2.0",
        page="https://github.com/googlefonts/noto-emoji",
        identifier="apache-2.0",
        commercial=True,
    ),
}
"""By source. What is not in it is the maker's own, of whom this module knows nothing."""

UNKNOWN = Licence(images="not known here: say it", annotations="not known here: say it", page="")


def licence_of(source: str) -> Licence:
    """The terms of a source; `UNKNOWN` of an own one.

    Args:
        source: As regions name it.
    """
    return LICENCES.get(source, UNKNOWN)


def identifier_of(sources: Collection[str]) -> str:
    """What the Hub calls the licence of a set of these sources: theirs where it is the same, else "other".

    Args:
        sources: As regions name them.
    """
    found = {licence_of(source).identifier for source in sources}
    return found.pop() if len(found) == 1 else "other"


def non_commercial(sources: Collection[str]) -> list[str]:
    """The sources whose published terms do not allow commercial use, in the order given.

    Args:
        sources: As regions name them.
    """
    return [source for source in sources if licence_of(source).commercial is False]
