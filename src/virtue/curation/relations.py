"""Words for how two things stand: which say the same, which say the opposite, and which may both be true.

A relation such as "sitting on", "to the left of a boat" or "riding" is read as an action (which may be missing), a
preposition out of a small table, and the rest. WordNet has no prepositions, so the table is written by hand; actions
are compared by WordNet where there is one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from virtue.curation.wordnet import Likeness, WordNet

ARTICLES = frozenset({"a", "an", "the"})

_SAME = (
    ("on", "upon", "atop", "on top of", "onto"),
    ("above", "over", "higher than"),
    ("below", "under", "beneath", "underneath", "lower than"),
    ("next to", "beside", "by", "near", "nearby", "close to", "alongside", "adjacent to", "at side of", "on side of"),
    ("in front of", "before", "nearer than", "closer than", "ahead of"),
    ("behind", "farther than", "further back than", "in back of", "at back of"),
    ("left of", "to left of", "on left of", "on left side of", "at left of", "left side of"),
    ("right of", "to right of", "on right of", "on right side of", "at right of", "right side of"),
    ("in", "inside", "within", "inside of", "into"),
    ("outside", "outside of", "out of"),
    ("between", "in between"),
    ("among", "amid", "amidst", "in middle of"),
    ("around", "surrounding"),
    ("across from", "opposite", "opposite to"),
    ("at",),
    ("with",),
    ("against",),
    ("along",),
    ("across",),
    ("through",),
    ("toward", "towards"),
    ("off",),
    ("from",),
    ("of",),
)
"""Prepositions that say the same of a picture, the plainest first."""

_OPPOSITES = (
    ("left of", "right of"),
    ("above", "below"),
    ("on", "below"),
    ("in front of", "behind"),
    ("in", "outside"),
    ("next to", "across from"),
)

# Either may be said of what the other is said of, so that neither is surely false where the other is true.
_BOTH = {frozenset({"next to", side}) for side in ("left of", "right of", "at", "along", "against")} | {
    frozenset(pair)
    for pair in (
        *(("on", "above"), ("on", "in"), ("on", "at"), ("in", "at"), ("in", "among")),
        *(("on", "against"), ("across from", "in front of"), ("on", "along"), ("on", "across"), ("in", "through")),
        *(("riding", "on"), ("wearing", "in"), ("wearing", "has"), ("holding", "has")),
    )
}

_SAME_ACTIONS = (
    ("holding", "carrying", "grasping", "gripping", "clutching", "has in hand", "holds"),
    ("wearing", "dressed in", "clad in", "has on", "wears"),
    ("has", "having", "with", "have"),
    ("looking at", "watching", "viewing", "facing", "gazing at", "staring at"),
    ("riding", "riding on", "rides"),
    ("lying", "laying", "lies"),
    ("eating", "chewing", "munching", "eats"),
)
_IDLE = frozenset({"is", "are", "being", "that", "which", "who", "seen", "located", "positioned", "situated", "placed"})
_POSTURES = frozenset(
    "sitting seated standing lying laying resting sits stands lies rests perched placed set kept parked".split()
)

_PHRASES = {tuple(phrase.split()): phrases[0] for phrases in _SAME for phrase in phrases}
_LONGEST = max(map(len, _PHRASES))
_ACTIONS = {tuple(phrase.split()): phrases[0] for phrases in _SAME_ACTIONS for phrase in phrases}


@dataclass(frozen=True)
class Reading:
    """A relation in its parts.

    Attributes:
        action: What is done, as in "sitting"; "" for none.
        preposition: The plainest one that says the same; "" for none.
        rest: What follows.
    """

    action: str
    preposition: str
    rest: tuple[str, ...]


def words(text: str) -> list[str]:
    """The words of a text in lower case, without articles and punctuation."""
    return [word for word in re.findall(r"\w+(?:['\u2019-]\w+)*", text.lower()) if word not in ARTICLES]


def read_relation(relation: str) -> Reading:
    """A relation in its parts, different words for the same made one.

    Args:
        relation: As in "to the left of a boat".
    """
    said = [word for word in words(relation) if word not in _IDLE]
    if (whole := _ACTIONS.get(tuple(said))) is not None:
        return Reading(whole, "", ())
    for start in range(len(said)):
        for length in range(min(_LONGEST, len(said) - start), 0, -1):
            phrase = _PHRASES.get(tuple(said[start : start + length]))
            if phrase is not None:
                return Reading(_action(said[:start]), phrase, tuple(said[start + length :]))
    return Reading(_action(said), "", ())


def opposites(relation: str) -> tuple[str, ...]:
    """What says the opposite, the most so first: "right of a boat" for "left of a boat"; nothing for most.

    Args:
        relation: As in "left of a boat".
    """
    reading = read_relation(relation)
    found = [two if one == reading.preposition else one for one, two in _OPPOSITES if reading.preposition in (one, two)]
    text = f" {relation} "
    spellings = sorted((" ".join(p) for p, plain in _PHRASES.items() if plain == reading.preposition), key=len)
    said = next((spelling for spelling in reversed(spellings) if f" {spelling} " in text), None)
    return tuple(text.replace(f" {said} ", f" {other} ", 1).strip() for other in found) if said else ()


def compare_relations(one: str, other: str, wordnet: WordNet | None = None) -> Likeness | None:
    """How alike two relations are: "same", "kind" where both may be true of a picture, or None.

    Args:
        one: As in "on".
        other: As in "sitting on".
        wordnet: Compares actions; without, only the tables here are.
    """
    a, b = read_relation(one), read_relation(other)
    if a == b:
        return "same"
    if a.rest != b.rest:
        return None
    if a.preposition == b.preposition:
        return _compare_actions(a.action, b.action, wordnet)
    if frozenset({a.preposition, b.preposition}) in _BOTH:
        return "kind" if _may_both(a.action, b.action) else None
    return "kind" if frozenset({f"{r.action} {r.preposition}".strip() for r in (a, b)}) in _BOTH else None


def _compare_actions(one: str, other: str, wordnet: WordNet | None) -> Likeness | None:
    if _may_both(one, other) or frozenset({one, other}) in _BOTH:
        return "kind"
    if not one or not other or wordnet is None or {one, other} <= _POSTURES:
        return None
    return wordnet.compare_actions(one, other)


def _may_both(one: str, other: str) -> bool:
    """Whether two actions are one, or one is a posture that the other leaves open."""
    return one == other or (not one and other in _POSTURES) or (not other and one in _POSTURES)


def _action(said: list[str]) -> str:
    return _ACTIONS.get(tuple(said), " ".join(said))
