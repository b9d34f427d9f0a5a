"""What writes captions and distractors: an LLM (`llm_writer`) or rules (`rules_writer`), alike to those who use them.

Whoever writes them, `true_caption` says what the true caption is and `swap` makes a distractor of it, so that nothing
but one element differs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from virtue.curation.samples import KINDS, Distractor, Elements, Kind, Problem, Region

VOWELS = ("a", "e", "i", "o", "u")
"""Letters that "an" stands before; "an hour" and "a unicorn" are told by their sound, which this does not know."""

__all__ = ["Pick", "Writer", "WriterRefusal", "swap", "true_caption"]


@dataclass(frozen=True)
class Pick:
    """Which of several captions a writer holds to be true of a region.

    Attributes:
        best: Place of the caption that fits best.
        also_true: Places of others that could be true too, ascending; `best` is not among them.
    """

    best: int
    also_true: tuple[int, ...] = ()


class WriterRefusal(Exception):  # noqa: N818 - to refuse is no fault
    """A region that a writer writes nothing for. It is dropped; the others go on.

    Attributes:
        reason: What it is counted under: "refused" where the writer would not, "unreadable" where its answers made no
            sense however often it was asked, "impossible" where there is nothing to write from.
        message: One sentence, in the writer's own words where it gave any.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Writer(Protocol):
    """Writes the parts of a sample. Calls of many regions may be in flight at once."""

    @property
    def name(self) -> str:
        """What samples say of who wrote them: "rules", or the LLM's name."""
        ...

    @property
    def instructions(self) -> str:
        """Version of the instructions that it writes by; "" where there are none."""
        ...

    async def elements(self, region: Region, image: Path) -> Elements | None:
        """The true caption in its three parts; None if the region gives nothing to write.

        Args:
            region: What is described. Where its own caption holds all three elements, they are taken from it.
            image: The file of the image.

        Raises:
            WriterRefusal: If the writer would not, with its reason.
        """
        ...

    async def distractors(
        self, region: Region, image: Path, elements: Elements, problems: Sequence[Problem]
    ) -> list[Distractor]:
        """Nine wrong captions, three of each kind, in the order object, relation, scene. Not yet checked.

        Args:
            region: What is described.
            image: The file of the image.
            elements: The true caption.
            problems: What was wrong with the last attempt; empty at the first.

        Raises:
            WriterRefusal: If the writer would not, with its reason.
        """
        ...

    async def pick(self, region: Region, image: Path, captions: Sequence[str]) -> Pick | None:
        """Which of the captions is true, found by looking; None from a writer that cannot look.

        Args:
            region: What is described. Only where it is in the image is told, not what it is.
            image: The file of the image.
            captions: Ten, shuffled.

        Raises:
            WriterRefusal: If the writer would not, with its reason.
        """
        ...


def true_caption(region: Region, elements: Elements) -> str:
    """The caption that says these elements: the region's own where it holds all three in their order, else they joined.

    Args:
        region: What is described.
        elements: What the caption says.
    """
    if region.caption is not None and _spans(region.caption, elements) is not None:
        return " ".join(region.caption.split())
    return elements.caption()


def swap(caption: str, elements: Elements, kind: Kind, words: str) -> Distractor:
    """The caption with one element replaced, and nothing else.

    Args:
        caption: The true caption, as `true_caption` gives it.
        elements: What it says.
        kind: Which element is replaced.
        words: What stands there instead.
    """
    words = " ".join(words.split())
    changed = replace(elements, **{kind: words})
    spans = _spans(caption, elements)
    if spans is None:
        return Distractor(kind, changed, changed.caption())
    start, end = spans[KINDS.index(kind)]
    return Distractor(kind, changed, f"{_article_for(words, caption[:start])}{words}{caption[end:]}")


def _article_for(words: str, before: str) -> str:
    """What stands before the words, with "a" made "an" or back: a wrong article would give the false caption away."""
    article = re.search(r"\b(a)n?(\s+)$", before, re.IGNORECASE)
    if article is None:
        return before
    right = "n" if words.lower().startswith(VOWELS) else ""
    return f"{before[: article.start()]}{article[1]}{right}{article[2]}"


def _spans(caption: str, elements: Elements) -> list[tuple[int, int]] | None:
    """Where object, relation and scene stand in a caption, one behind the other; None if it does not hold all three."""
    spans, place = [], 0
    for words in (elements.object, elements.relation, elements.scene):
        pattern = r"\s+".join(re.escape(word) for word in words.split())
        found = re.compile(rf"(?<!\w){pattern}(?!\w)", re.IGNORECASE).search(caption, place) if pattern else None
        if found is None:
            return None
        spans.append(found.span())
        place = found.end()
    return spans
