"""Whether a sample is what it should be, told from its words, WordNet and what is known of its region.

    schema       nine distractors, three of each kind; nothing empty, overlong or of several lines
    elements     the caption, and each distractor, says its three elements in words
    one element  a distractor differs from the truth in the element of its kind, in no other, and nowhere else
    corners      instead, where distractors are corners: it differs in the element of its kind, nowhere outside of the
                 three, and no element of the truth is said clearly more often than another value
    duplicate    no two captions are the same but for case, articles and punctuation
    synonym      a swapped element means something else than the true one
    kind         a swapped thing is no kind of the true one, nor the true one a kind of it; a swapped relation is none
                 that may well be true along with the true one, as "beside" is of what stands "left of"
    distinct     a swapped thing is not next to the true one in a narrow category, as a truck is to a car
    true         a distractor is not known to be true of the region
    length       the true caption is not clearly longer or shorter than all others
    wording      nothing else sets it apart: capitals, a full stop, an article, a comma, a "not", a table on a table

`synonym`, `kind` and `distinct` look things up in WordNet; without it, only equal nouns and the relations of
`virtue.curation.relations` are told apart. An object swap may well be true of another region: that is what makes it
worth asking.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal

from virtue.curation.relations import ARTICLES, compare_relations, read_relation, words
from virtue.curation.samples import KINDS, Elements, Fact, Kind, Problem, Region, Sample
from virtue.curation.wordnet import Likeness, WordNet, head
from virtue.prompts import Box

Design = Literal["single", "corners"]
"""How nine distractors relate to the truth: each changes one element of it, or they are `corners.corners`."""

CHECKS = (
    *("schema", "elements", "one element", "corners", "duplicate"),
    *("synonym", "kind", "distinct", "true", "length", "wording"),
)
"""What a problem may be called, in the order in which they are looked for."""

EACH = 3
"""Distractors of each kind."""

MOST_LETTERS = 300
MARGIN = 0.2
"""By what share of its own length the true caption may be longer or shorter than all others."""

LEAD = 2
"""How many more captions of a corner design may say an element of the truth than say its commonest rival."""

_SAME_PLACE = 0.8  # intersection over union from which on two boxes show one thing under two names
_DENIALS = frozenset("not no without never nothing neither nor none isn't aren't".split())


def check(sample: Sample, *, wordnet: WordNet | None = None, design: Design = "single") -> list[Problem]:
    """What is wrong with a sample.

    Args:
        sample: What is checked.
        wordnet: Tells likenesses; without one, fewer are found.
        design: How its distractors should relate to the truth.

    Returns:
        The problems in the order of `CHECKS`; none if it passes. What has no right schema, or captions that do not say
        their elements, is looked at no further.

    Raises:
        ValueError: If there is no such design.
    """
    if design not in ("single", "corners"):
        raise ValueError(f"The design is 'single' or 'corners', not {design!r}.")
    if problems := [*_schema(sample)] or [*_elements(sample)]:
        return problems
    swaps = _one_element(sample) if design == "single" else _corners(sample)
    found = [*swaps, *_duplicates(sample), *_likenesses(sample, wordnet), *_true(sample, wordnet), *_given_away(sample)]
    return sorted(found, key=lambda problem: CHECKS.index(problem.check))


# Form


def _schema(sample: Sample) -> Iterator[Problem]:
    counts = Counter(distractor.kind for distractor in sample.distractors)
    if any(counts[kind] != EACH for kind in KINDS) or len(sample.distractors) != EACH * len(KINDS):
        found = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS)
        yield Problem("schema", f"There must be three swaps of each kind; there are {found}.", None)
    for where, (text, elements) in _captions(sample).items():
        name = _name(where)
        if empty := [kind for kind in KINDS if not words(getattr(elements, kind))]:
            yield Problem("schema", f"{name} has no words for its {empty[0]}.", where)
        elif not text.strip() or len(text.splitlines()) > 1:
            yield Problem("schema", f"{name} must be one line of text.", where)
        elif len(text) > MOST_LETTERS:
            yield Problem("schema", f"{name} has {len(text)} letters; {MOST_LETTERS} are the most.", where)


def _elements(sample: Sample) -> Iterator[Problem]:
    for where, (text, elements) in _captions(sample).items():
        if _frame(text, elements) is None:
            said = ", ".join(repr(getattr(elements, kind)) for kind in KINDS)
            yield Problem("elements", f"{_name(where)} is {text!r}, which does not say {said}.", where)


def _one_element(sample: Sample) -> Iterator[Problem]:
    frame = _frame(sample.caption, sample.elements)
    for where, distractor in enumerate(sample.distractors):
        changed = _changed(sample.elements, distractor.elements)
        if changed != [distractor.kind]:
            what = " and ".join(changed) or "nothing"
            message = f"{_name(where)} should change the {distractor.kind} and nothing else; it changes {what}."
            yield Problem("one element", message, where)
        elif _frame(distractor.text, distractor.elements) != frame:
            message = f"{_name(where)} is {distractor.text!r}, which changes more of {sample.caption!r} than the "
            yield Problem("one element", message + f"{distractor.kind}.", where)


def _corners(sample: Sample) -> Iterator[Problem]:
    frame = _frame(sample.caption, sample.elements)
    for where, distractor in enumerate(sample.distractors):
        if distractor.kind not in _changed(sample.elements, distractor.elements):
            yield Problem("corners", f"{_name(where)} should change the {distractor.kind}, and does not.", where)
        elif _frame(distractor.text, distractor.elements) != frame:
            message = f"{_name(where)} is {distractor.text!r}, which changes more of {sample.caption!r} than elements."
            yield Problem("corners", message, where)
    for kind in KINDS:
        said = Counter(_key(getattr(elements, kind)) for _, elements in _captions(sample).values())
        true = said.pop(_key(getattr(sample.elements, kind)))
        if true - max(said.values(), default=0) > LEAD:
            message = f"The true {kind} stands in {true} captions, and no other in more than {max(said.values())}"
            yield Problem("corners", message + ", which gives it away.", None)


def _duplicates(sample: Sample) -> Iterator[Problem]:
    seen: dict[tuple[str, ...], int | None] = {}
    for where, (text, _) in _captions(sample).items():
        first = seen.setdefault(_key(text), where)
        if first != where:
            yield Problem("duplicate", f"{_name(where)} says the same as {_name(first).lower()}: {text!r}.", where)


# Meaning


def _likenesses(sample: Sample, wordnet: WordNet | None) -> Iterator[Problem]:
    """Swapped elements that are too like the true ones; each only once, where its own kind names it."""
    for where, distractor in enumerate(sample.distractors):
        kind = distractor.kind
        original, swapped = getattr(sample.elements, kind), getattr(distractor.elements, kind)
        likeness = compare(kind, original, swapped, wordnet)
        # Of the category nothing but the same counts: a woman is a person, and no man.
        if kind == "object" and compare(kind, sample.region.category, swapped, wordnet) == "same":
            original, likeness = sample.region.category, "same"
        if likeness:
            yield _likeness(where, kind, original, swapped, likeness)


def compare(kind: Kind, original: str, swapped: str, wordnet: WordNet | None = None) -> Likeness | None:
    """How alike two elements of one kind are; None for clearly distinct ones, as far as is known.

    Args:
        kind: Of both.
        original: One.
        swapped: The other.
        wordnet: Without one, things are alike only if their last word is the same.
    """
    if _key(original) == _key(swapped):
        return "same"
    if kind == "relation":
        return compare_relations(original, swapped, wordnet)
    if wordnet is not None:
        return wordnet.compare(original, swapped)
    return "same" if head(original) == head(swapped) else None


def _likeness(where: int, kind: Kind, original: str, swapped: str, likeness: Likeness) -> Problem:
    start = f"{_name(where)} swaps {original!r} for {swapped!r}, "
    if likeness == "same":
        return Problem("synonym", start + "which means the same.", where)
    if likeness == "sibling":
        return Problem("distinct", start + "which is of the same narrow category.", where)
    end = "which may be true along with it." if kind == "relation" else "of which one is a kind of the other."
    return Problem("kind", start + end, where)


def _true(sample: Sample, wordnet: WordNet | None) -> Iterator[Problem]:
    """Distractors that are known to be true of the region."""
    for where, distractor in enumerate(sample.distractors):
        changed = _changed(sample.elements, distractor.elements)
        if changed == ["object"]:
            why = known_name(sample.region, distractor.elements.object, wordnet)
        elif "object" in changed:
            continue  # said of another thing
        else:
            why = known_true(sample.region, distractor.elements, sample.elements, wordnet)
        if why:
            yield Problem("true", f"{_name(where)}, {distractor.text!r}, is true of the region: {why}.", where)


def known_true(
    region: Region, elements: Elements, truth: Elements | None = None, wordnet: WordNet | None = None
) -> str:
    """The fact, or the word for the place, by which a caption about the region's own thing is true; "" for none.

    Args:
        region: What is known of it.
        elements: What the caption says of the region.
        truth: The true caption; what it says too does not count.
        wordnet: Compares relations.
    """
    for fact in region.facts:
        if _states(elements, fact, wordnet) and not (truth and _states(truth, fact, wordnet)):
            return f"it is {fact.relation} {fact.object}"
    place = _place(elements.scene)
    if place in map(_place, region.scene) and not (truth and place == _place(truth.scene)):
        return f"the place is called {elements.scene!r}"
    return ""


def _states(elements: Elements, fact: Fact, wordnet: WordNet | None) -> bool:
    """Whether a caption says a fact, or what may well follow from it: "riding" and "horse", or "left of a boat"."""
    if _key(elements.scene) == _key(fact.object) and compare_relations(fact.relation, elements.relation, wordnet):
        return True
    said = read_relation(elements.relation).rest
    whole = f"{fact.relation} {fact.object}"
    return said == _key(fact.object) and compare_relations(whole, elements.relation, wordnet) is not None


def _place(scene: str) -> tuple[str, ...]:
    """The words for a place without what stands before it: "beach" of "on a beach"."""
    said = words(scene)
    while len(said) > 1 and said[0] in ("on", "in", "at", "inside", "near", "by", "under"):
        said = said[1:]
    return tuple(said)


def known_name(region: Region, name: str, wordnet: WordNet | None = None) -> str:
    """The annotation by which a name is one of the region's own thing: another one of the very same box; "" for none.

    Args:
        region: What is known of it.
        name: What it might be called.
        wordnet: Tells other words for the same.
    """
    for other in region.others:
        alike = compare("object", other.category, name, wordnet) == "same"
        if alike and _overlap(region.box, other.box) > _SAME_PLACE:
            return f"the same box is annotated as {other.category!r}"
    return ""


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width, height = min(a.x2, b.x2) - max(a.x1, b.x1), min(a.y2, b.y2) - max(a.y1, b.y1)
    common = max(width, 0) * max(height, 0)
    areas = [(box.x2 - box.x1) * (box.y2 - box.y1) for box in (a, b)]
    return common / (sum(areas) - common)


# What gives the true caption away


def _given_away(sample: Sample) -> Iterator[Problem]:
    own, lengths = len(sample.caption), [len(distractor.text) for distractor in sample.distractors]
    for word, nearest, sign in (("longer", max(lengths), 1), ("shorter", min(lengths), -1)):
        if sign * (own - nearest) > MARGIN * own:
            message = f"The true caption has {own} letters, clearly {word} than all others: {nearest} at the nearest."
            yield Problem("length", message, None)
    marks = [_marks(distractor.text) for distractor in sample.distractors]
    for name, has in _marks(sample.caption).items():
        if all(mark[name] != has for mark in marks):
            yield Problem("wording", f"Only the true caption {'has' if has else 'lacks'} {name}.", None)
    for where, distractor in enumerate(sample.distractors):
        if denials := _DENIALS & {*words(distractor.text)} - {*words(sample.caption)}:
            yield Problem("wording", f"{_name(where)} says {min(denials)!r}: a swap states something else.", where)
        if (twice := _twice(distractor.elements)) and not _twice(sample.elements):
            yield Problem("wording", f"{_name(where)} is {distractor.text!r}, which names {twice!r} twice.", where)


def _twice(elements: Elements) -> str:
    """What stands to itself: "table" in "table on table"."""
    thing = _key(elements.object)
    return elements.object if thing in (_place(elements.scene), read_relation(elements.relation).rest) else ""


def _marks(text: str) -> dict[str, bool]:
    """What may set a text apart whatever it says."""
    first = text.split()[0].lower()
    return {
        "a capital letter at the start": text[:1].isupper(),
        "a full stop": text.rstrip().endswith("."),
        "an article at the start": first in ARTICLES,
        "a comma": "," in text,
    }


# Words


def _captions(sample: Sample) -> dict[int | None, tuple[str, Elements]]:
    """All ten by where they are: None for the true one."""
    captions: dict[int | None, tuple[str, Elements]] = {None: (sample.caption, sample.elements)}
    captions |= {where: (swap.text, swap.elements) for where, swap in enumerate(sample.distractors)}
    return captions


def _name(where: int | None) -> str:
    return "The true caption" if where is None else f"Distractor {where + 1}"


def _changed(one: Elements, other: Elements) -> list[Kind]:
    return [kind for kind in KINDS if _key(getattr(one, kind)) != _key(getattr(other, kind))]


def _key(text: str) -> tuple[str, ...]:
    """What two texts share that say the same in other letters."""
    return tuple(words(text))


def _frame(text: str, elements: Elements) -> tuple[str, ...] | None:
    """A text's words with its elements cut out, each a mark in its place; None where one is not said.

    They are looked for one behind the other; where they are not said in this order, each by itself.
    """
    parts = {kind: words(getattr(elements, kind)) for kind in KINDS}
    return _cut(words(text), parts, ordered=True) or _cut(words(text), parts, ordered=False)


def _cut(said: list[str], parts: dict[Kind, list[str]], *, ordered: bool) -> tuple[str, ...] | None:
    place = 0
    for kind, part in parts.items():
        starts = range(place, len(said) - len(part) + 1)
        start = next((start for start in starts if said[start : start + len(part)] == part), None)
        if start is None:
            return None
        said[start : start + len(part)] = [f"<{kind}>"]  # no word, by `words`
        place = start + 1 if ordered else 0
    return tuple(said)
