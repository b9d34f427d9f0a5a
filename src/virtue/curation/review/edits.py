"""Samples in other words: what an edit changes, with the elements brought along.

Reviewers edit texts. Which element a new word belongs to is told by laying the words of the old text beside those of
the new one: what replaces a word of the relation belongs to the relation, what is put behind a word belongs to its
element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from virtue.curation.relations import words
from virtue.curation.samples import KINDS, Elements, Problem, Sample

MAX_LENGTH = 300
"""Characters of a caption, at most."""

Check = Callable[[Sample], Sequence[Problem]]
"""Finds what is wrong with a sample; nothing if it passes."""


def edited(sample: Sample, captions: Sequence[str]) -> Sample:
    """A sample with other words.

    Args:
        sample: As it was written.
        captions: All of them, the true one first.

    Raises:
        ValueError: If there are more or fewer captions than the sample has.
    """
    if len(captions) != 1 + len(sample.distractors):
        raise ValueError(f"The sample has {1 + len(sample.distractors)} captions, the edit {len(captions)}.")
    distractors = tuple(
        replace(old, text=text, elements=_moved(old.elements, old.text, text))
        for old, text in zip(sample.distractors, captions[1:], strict=True)
    )
    elements = _moved(sample.elements, sample.caption, captions[0])
    return replace(sample, caption=captions[0], elements=elements, distractors=distractors)


def problems_of(sample: Sample, captions: Sequence[str], check: Check | None = None) -> list[Problem]:
    """What is wrong with an edit: a caption is empty, too long or there twice, or a check finds something.

    Args:
        sample: As it was written.
        captions: All of them, the true one first.
        check: What the written sample passed.

    Raises:
        ValueError: If there are more or fewer captions than the sample has.
    """
    changed = edited(sample, captions)
    found, seen = [], set[str]()
    for number, text in enumerate(captions):
        where = number - 1 if number else None
        if not text.strip():
            found.append(Problem("empty", "A caption is empty.", where))
        elif len(text) > MAX_LENGTH:
            found.append(Problem("length", f"A caption has {len(text)} characters; {MAX_LENGTH} is the most.", where))
        elif text.casefold() in seen:
            found.append(Problem("duplicate", f'"{text}" is there twice.', where))
        seen.add(text.casefold())
    return found or list(check(changed) if check else ())


def _moved(elements: Elements, old: str, new: str) -> Elements:
    """The elements of the new text."""
    if old == new:
        return elements
    before, after = old.split(), new.split()
    owners = _owners(elements, before)
    said: dict[str, list[str]] = {kind: [] for kind in KINDS}
    matcher = SequenceMatcher(None, _plain(before), _plain(after), autojunk=False)
    for _, start, end, to_start, to_end in matcher.get_opcodes():
        for place in range(to_start, to_end):
            origin = start + (place - to_start) * (end - start) // (to_end - to_start) if end > start else start - 1
            if kind := owners[max(origin, 0)] if owners else "":
                said[kind].append(after[place])
    return Elements(*(" ".join(said[kind]) for kind in KINDS))


def _owners(elements: Elements, said: Sequence[str]) -> list[str]:
    """Of each word the kind of element it belongs to, "" for words between elements."""
    owners, start, plain = [""] * len(said), 0, _plain(said)
    for kind in KINDS:
        wanted = _plain(getattr(elements, kind).split())
        places = range(start, len(said) - len(wanted) + 1)
        found = next((place for place in places if plain[place : place + len(wanted)] == wanted), None)
        if wanted and found is not None:
            owners[found : found + len(wanted)] = [kind] * len(wanted)
            start = found + len(wanted)
    return owners


def _plain(said: Sequence[str]) -> list[str]:
    """Each word as it is compared, "" for an article."""
    return [" ".join(words(word)) for word in said]
