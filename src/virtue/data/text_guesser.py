"""A guesser that reads lists of texts and nothing else, and tries to tell which of each list is right.

It measures how much the wording of wrong texts gives away: a figure of a model says little where the guesser gets the
same. It knows nothing of any benchmark. It learns from the lists of other groups which of a list's texts tends to be
right, so every list is guessed by one that has not seen its group:

1. Groups are dealt into five folds.
2. `_looks` says of each text how it compares with the others of its list: length, words and pairs of words that it
   shares with them or has alone, beginnings and ends, punctuation, capitals.
3. `_histories` says of each text how often its words and pairs of words stood in right and in wrong texts of other
   folds. Texts of the list itself are left out of that count, wherever else they stand: where wrong texts are right
   ones of other lists, what was right elsewhere would be wrong here, and that is no wording. Only labels, texts of more
   than a tenth of all lists, count as themselves: that "no" is mostly right is worth knowing.
4. A `ChoiceNetwork` learns to score the right text of a list highest, and the held-out fold is guessed.

The order of a list is not looked at.

Letters: Q lists, N texts of the longest list, F what is known of a text, E words of all texts (each word of a text
once), G folds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from virtue.data.choice_network import ChoiceNetwork

_FOLDS, _LABEL = 5, 0.1
_SMOOTH = 1.0  # how often a word counts as seen, right and wrong, before it is
_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")
_START, _END = "<", ">"  # no words by `_WORD`

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Guesses:
    """What the guesser made of each list.

    Attributes:
        hits: How surely a right text scored highest, a tie counting as an even chance, (Q,).
        belief: Probability that the guesser gave to the right texts, (Q,).
    """

    hits: NDArray[np.float64]
    belief: NDArray[np.float64]


def guess_rate(
    lists: Sequence[Sequence[str]],
    right: Sequence[int] | None = None,
    groups: Sequence[str] = (),
    *,
    compare: bool = True,
    seed: int = 0,
) -> float | None:
    """How often a guesser that reads the texts only puts the right one first.

    Args:
        lists: Lists of texts. A text that stands twice in a list counts once.
        right: Place of the right text in each list; by default the first.
        groups: Which group each list is in; lists of one group are never learned from one another. By default every
            list is its own.
        compare: Whether the guesser may see which words the texts of a list share, and which text is in the middle of
            the others. Without, it gives each text points by itself, for its words, its length and its punctuation.
        seed: Deals the folds and starts the network.

    Returns:
        Hit@1 in [0, 1]; None where there is but one group, so that there is nothing to learn from.

    Raises:
        ValueError: If a list is empty, or there are not as many right texts, or groups, as lists.
    """
    found = guesses(lists, right, groups, compare=compare, seed=seed)
    return None if found is None else float(found.hits.mean())


def guesses(
    lists: Sequence[Sequence[str]],
    right: Sequence[int] | None = None,
    groups: Sequence[str] = (),
    *,
    compare: bool = True,
    seed: int = 0,
) -> Guesses | None:
    """What `guess_rate` is the mean of, list by list; its arguments and errors are the same.

    Returns:
        The guesses; None where there is but one group.
    """
    if not all(lists):
        raise ValueError("Every list must hold a text to guess.")
    if right is not None and len(right) != len(lists):
        raise ValueError(f"There are {len(lists)} lists, but {len(right)} right texts; each list needs one.")
    groups = groups or [str(number) for number in range(len(lists))]
    places = {text: place for place, text in enumerate(dict.fromkeys(chain.from_iterable(lists)))}
    listed = [np.array([places[text] for text in dict.fromkeys(own)]) for own in lists]
    first = right or [0] * len(lists)
    found = [np.array([places[own[place]]]) for own, place in zip(lists, first, strict=True)]
    return guesses_of_places(list(places), listed, found, groups, compare=compare, seed=seed)


def guesses_of_places(
    texts: Sequence[str],
    listed: Sequence[NDArray[np.integer]],
    right: Sequence[NDArray[np.integer]],
    groups: Sequence[str],
    *,
    compare: bool = True,
    seed: int = 0,
) -> Guesses | None:
    """The same of lists that are written as places in one sequence of texts, with one right text or several.

    Args:
        texts: All texts.
        listed: Of each list, the places of its texts.
        right: Of each list, the places of those that are right.
        groups: As of `guess_rate`, one for each list.
        compare: As there.
        seed: As there.

    Returns:
        The guesses; None where there is but one group.

    Raises:
        ValueError: If there are not as many groups as lists.
    """
    if len(groups) != len(listed):
        raise ValueError(f"There are {len(listed)} lists, but {len(groups)} groups; each list is in one.")
    if len(set(groups)) < 2:
        return None
    rng = np.random.default_rng(seed)
    lists, folds = _Lists.of(texts, listed, right), _deal(groups, rng)
    words, pairs = (_Parts.of(lists, len(texts), parts) for parts in _all_parts(texts))
    looks = _in_lists(_looks(lists, words, pairs, compare), lists)
    hits, belief = np.zeros(len(lists.there)), np.zeros(len(lists.there))
    for fold in range(int(folds.max()) + 1):
        histories = [_histories(parts, lists, folds, fold) for parts in (words, pairs)]
        known = np.concatenate([looks, _in_lists(np.concatenate(histories, axis=1), lists)], axis=-1)  # (Q, N, F)
        held = folds == fold
        mean, scale = known[~held].mean((0, 1)), known[~held].std((0, 1)) + 1e-6
        known = (known - mean) / scale
        network = ChoiceNetwork.fit(known[~held], lists.there[~held], lists.right[~held], rng, layered=compare)
        scores = network.score(known[held])
        hits[held], belief[held] = _hits(scores, lists.only(held)), _belief(scores, lists.only(held))
    return Guesses(hits, belief)


# The lists


@dataclass(frozen=True, eq=False)
class _Lists:
    """The texts of all lists, padded to the longest.

    Attributes:
        candidates: Which candidate each is, (Q, N), 0 where there is none.
        there: Where there is one, (Q, N).
        right: Which are right, (Q, N).
        texts: By candidate.
    """

    candidates: Ints
    there: NDArray[np.bool_]
    right: NDArray[np.bool_]
    texts: Sequence[str]

    @classmethod
    def of(
        cls, texts: Sequence[str], listed: Sequence[NDArray[np.integer]], relevant: Sequence[NDArray[np.integer]]
    ) -> _Lists:
        places = [np.sort(own) for own in listed]
        shape = len(places), max(map(len, places))
        candidates, there, right = np.zeros(shape, np.int64), np.zeros(shape, bool), np.zeros(shape, bool)
        for query, own in enumerate(places):
            candidates[query, : len(own)], there[query, : len(own)] = own, True
            right[query, : len(own)] = np.isin(own, relevant[query])
        return cls(candidates, there, right, texts)

    def only(self, chosen: NDArray[np.bool_]) -> _Lists:
        """Some of the lists."""
        return _Lists(self.candidates[chosen], self.there[chosen], self.right[chosen], self.texts)


@dataclass(frozen=True, eq=False)
class _Parts:
    """Words, or pairs of neighbouring words, of all texts of all lists; each part of a text once.

    Attributes:
        ids: Which part, (E,).
        texts: In which text, counted through all lists, (E,), rising.
        here: Which part within which list, (E,): two are equal where texts of one list share a part.
        around: How many texts of the list have the part, (E,).
    """

    ids: Ints
    texts: Ints
    here: Ints
    around: Ints

    @classmethod
    def of(cls, lists: _Lists, count: int, parts: Sequence[Ints]) -> _Parts:
        flat = lists.candidates[lists.there]
        sizes = np.array([len(parts[candidate]) for candidate in range(count)])[flat]
        ids = np.concatenate([parts[candidate] for candidate in flat])
        texts = np.repeat(np.arange(len(flat)), sizes)
        query = np.repeat(np.nonzero(lists.there)[0], sizes)
        _, here, counts = np.unique(query * (ids.max() + 1) + ids, return_inverse=True, return_counts=True)
        return cls(ids, texts, here, counts[here])


def _all_parts(texts: Sequence[str]) -> tuple[list[Ints], list[Ints]]:
    """Of each text the ids of its words, and of its pairs of words with its beginning and end."""
    names: tuple[dict[object, int], dict[object, int]] = {}, {}
    found: tuple[list[Ints], list[Ints]] = [], []
    for text in texts:
        words = [_START, *_tokens(text), _END]
        for kind, parts in enumerate((words, pairwise(words))):
            ids = {names[kind].setdefault(part, len(names[kind])) for part in parts}
            found[kind].append(np.array(sorted(ids), dtype=np.int64))
    return found


def _tokens(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _deal(groups: Sequence[str], rng: np.random.Generator) -> Ints:
    """Which fold each query is in, (Q,): queries of one group are in the same."""
    names, numbers = np.unique(np.asarray(groups), return_inverse=True)
    dealt: Ints = rng.permutation(len(names))[numbers] % min(_FOLDS, len(names))
    return dealt


def _in_lists(features: Floats, lists: _Lists) -> Floats:
    """Features of all texts, (texts, F), by list: as they are, and against the mean of the list; (Q, N, 2F)."""
    table = np.zeros((*lists.there.shape, features.shape[1]), np.float32)
    table[lists.there] = features
    means = table.sum(axis=1, keepdims=True) / lists.there.sum(axis=1)[:, None, None]
    return np.concatenate([table, np.where(lists.there[..., None], table - means, 0)], axis=-1)


# What is known of a text


def _looks(lists: _Lists, words: _Parts, pairs: _Parts, compare: bool) -> Floats:
    """What each text shows by itself and, if they are compared, against the others of its list, (texts, F)."""
    alone = np.array([_look(text) for text in lists.texts], dtype=np.float32)[lists.candidates[lists.there]]
    if not compare:
        return alone
    return np.concatenate([alone, _shared(words, lists), _shared(pairs, lists), _ends(lists)], axis=1)


def _look(text: str) -> tuple[float, ...]:
    """What a text shows by itself: length, capitals, digits, punctuation."""
    words = _tokens(text)
    return (
        len(text),
        len(words),
        len(text) / max(len(words), 1),
        text[:1].isupper(),
        sum(letter.isupper() for letter in text),
        sum(letter.isdigit() for letter in text),
        text.count(","),
        sum(not (letter.isalnum() or letter.isspace()) for letter in text),
        text.rstrip().endswith((".", "!", "?")),
    )


def _shared(parts: _Parts, lists: _Lists) -> Floats:
    """How far the others of its list have the same parts as each text, (texts, 6)."""
    others = np.maximum(lists.there.sum(axis=1)[np.nonzero(lists.there)[0]] - 1, 1)  # (texts,)
    share = (parts.around - 1) / others[parts.texts]
    columns = _summed(share, parts.texts)
    alone, everywhere = (np.add.reduceat((share == bound).astype(float), columns.starts) for bound in (0, 1))
    most, least = _most_and_least_alike(parts, lists)
    return np.stack([columns.mean, columns.lowest, alone, everywhere, most, least], axis=1).astype(np.float32)


def _most_and_least_alike(parts: _Parts, lists: _Lists) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shared parts by all parts of both, with the text of the list that is most like each, and with the least like."""
    counts = lists.there.sum(axis=1)
    ends = np.cumsum(counts)
    bounds = np.searchsorted(parts.texts, np.concatenate([[0], ends]))
    most, least = np.zeros(ends[-1]), np.zeros(ends[-1])
    for query, (end, count) in enumerate(zip(ends, counts, strict=True)):
        if count < 2:
            continue
        own = slice(bounds[query], bounds[query + 1])
        _, here = np.unique(parts.here[own], return_inverse=True)
        has = np.zeros((count, int(here.max()) + 1))
        has[parts.texts[own] - (end - count), here] = 1
        both = has @ has.T
        sizes = has.sum(axis=1)
        alike = both / (sizes[:, None] + sizes[None] - both)
        np.fill_diagonal(alike, 0)
        most[end - count : end] = alike.max(axis=1)
        np.fill_diagonal(alike, 1)
        least[end - count : end] = alike.min(axis=1)
    return most, least


def _ends(lists: _Lists) -> Floats:
    """How many others of its list begin, and end, with the same one, two and three words, as shares; (texts, 6)."""
    words = [_tokens(text) for text in lists.texts]
    columns = []
    query = np.nonzero(lists.there)[0]
    others = np.maximum(lists.there.sum(axis=1)[query] - 1, 1)
    for length in (1, 2, 3):
        for own in (slice(None, length), slice(-length, None)):
            names: dict[tuple[str, ...], int] = {}
            ids = np.array([names.setdefault(tuple(text[own]), len(names)) for text in words])
            key = query * len(names) + ids[lists.candidates[lists.there]]
            _, here, counts = np.unique(key, return_inverse=True, return_counts=True)
            columns.append((counts[here] - 1) / others)
    return np.stack(columns, axis=1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Summary:
    """Of each text: where its parts start, and sum, mean, lowest and highest of a value of its parts."""

    starts: Ints
    total: NDArray[np.float64]
    mean: NDArray[np.float64]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]


def _summed(values: NDArray[np.float64], texts: Ints) -> _Summary:
    starts = np.flatnonzero(np.diff(texts, prepend=-1))  # every text has parts: its beginning and its end
    total = np.add.reduceat(values, starts)
    mean = total / np.diff(starts, append=len(texts))
    return _Summary(starts, total, mean, np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts))


def _histories(parts: _Parts, lists: _Lists, folds: Ints, held: int) -> Floats:
    """What parts of each text stood in before, in right texts or in wrong ones, as logarithms of odds; (texts, 4).

    Neither the held-out fold is counted nor the list's own: the lists that the network learns from know no more of
    themselves than those it will guess.
    """
    query = np.nonzero(lists.there)[0]
    text_folds, candidates, right = folds[query], lists.candidates[lists.there], lists.right[lists.there]
    kinds = 2 * text_folds + right  # (texts,)
    by_part = _counts(kinds[parts.texts], parts.ids, held)  # (G, 2, parts)
    by_text = _counts(kinds, candidates, held)  # (G, 2, candidates)
    listed = np.bincount(candidates, minlength=by_text.shape[-1])
    by_text[..., listed > _LABEL * len(lists.there)] = 0  # labels count as themselves
    counted = []
    for kind in (0, 1):
        own = by_text[text_folds, kind, candidates]  # (texts,)
        here = np.bincount(parts.here, own[parts.texts])  # by part within a list
        counted.append(by_part[text_folds[parts.texts], kind, parts.ids] - here[parts.here])
    wrong, seen = counted
    ratio = right.sum() / max((~right).sum(), 1)
    odds = np.log((seen + _SMOOTH) / (wrong * ratio + _SMOOTH))
    summary = _summed(odds, parts.texts)
    return np.stack([summary.total, summary.mean, summary.lowest, summary.highest], axis=1).astype(np.float32)


def _counts(kinds: Ints, ids: Ints, held: int) -> NDArray[np.float64]:
    """By fold and wrong or right, how often each id stands in the other folds but the held-out one, (G, 2, ids)."""
    width, folds = int(ids.max()) + 1, int(kinds.max()) // 2 + 1
    table = np.bincount(kinds * width + ids, minlength=2 * folds * width).reshape(folds, 2, width).astype(float)
    table[held] = 0
    others: NDArray[np.float64] = table.sum(axis=0) - table
    return others


# How a list was guessed


def _hits(scores: Floats, lists: _Lists) -> NDArray[np.float64]:
    """How surely a right text scores highest, (Q,)."""
    scores = np.where(lists.there, scores, -np.inf)
    best = scores >= scores.max(axis=1, keepdims=True) - 1e-6
    hits: NDArray[np.float64] = (best & lists.right).sum(axis=1) / best.sum(axis=1)
    return hits


def _belief(scores: Floats, lists: _Lists) -> NDArray[np.float64]:
    """The softmax of the right texts over their lists, (Q,)."""
    scores = np.where(lists.there, scores, -np.inf)
    odds = np.exp((scores - scores.max(axis=1, keepdims=True)).astype(np.float64))
    belief: NDArray[np.float64] = (odds * lists.right).sum(axis=1) / odds.sum(axis=1)
    return belief
