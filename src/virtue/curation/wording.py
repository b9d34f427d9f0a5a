"""Whether the wording of a whole set gives its true captions away, and which samples to write again if it does.

Two guessers that never see an image read the ten captions of each sample, after learning from samples of other images
(`virtue.data.text_guesser`). One sees which words the captions of a list share. With single swaps it finds nearly every
true caption, because the true one is the centre of the ten; no wording can change that, only another design
(`corners`). The other gives each caption points by itself, for its words, its length and its punctuation, and takes the
one with most. It finds what writers can avoid, such as words that only distractors use, and must stay near chance,
or below it, in any design.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from virtue.curation.checks import Design
from virtue.curation.corners import CHANCE, corners
from virtue.curation.relations import words
from virtue.curation.samples import Sample
from virtue.data.text_guesser import Guesses, guesses

__all__ = ["Wording", "balance", "corners", "wording", "wording_of_captions"]


@dataclass(frozen=True)
class Wording:
    """What guessers that never see the image make of a set's captions. Rates are hit@1 in [0, 1].

    Attributes:
        samples: How many were read.
        chance: Rate of a guesser to whom wording tells nothing: 0.1 for ten captions, 1/8 for corners, two of which
            show by what they share that they are none.
        rate: Of the guesser that sees what captions share; None where all samples are of one image.
        alone: Of the guesser that takes each caption by itself; None likewise. Single swaps whose wording gives nothing
            away lie below chance: the one in the middle rarely has the most points.
        noise: Two standard errors of an even guess over as many samples.
        commonest: Of taking the caption that shares most words with the other ones; a tie is an even chance.
        surest: Ids of regions whose true caption is given away, the surest first: as many as must be written again for
            the guesser that counts to come down to chance and noise. That is `alone` for single swaps, `rate` for
            corners.
    """

    samples: int
    chance: float
    rate: float | None
    alone: float | None
    noise: float
    commonest: float | None
    surest: tuple[str, ...]


def wording(samples: Sequence[Sample], *, design: Design = "single", seed: int = 0) -> Wording:
    """How much the wording of a set gives away.

    Args:
        samples: The set, or a fair part of it: some hundred samples at least, for the guessers to learn from.
        design: Of its distractors.
        seed: Of the guessers.

    Raises:
        ValueError: If there is no sample, or no such design.
    """
    if design not in ("single", "corners"):
        raise ValueError(f"The design is 'single' or 'corners', not {design!r}.")
    lists = [sample.captions for sample in samples]
    return _measured(
        lists, [sample.region.image_id for sample in samples], design, seed, [sample.region.id for sample in samples]
    )


def wording_of_captions(lists: Sequence[Sequence[str]], images: Sequence[str], *, seed: int = 0) -> Wording:
    """The same of captions alone, as published files have them; nothing is said of which to write again.

    Args:
        lists: Of each sample its captions, the true one first.
        images: Of each sample the image.
        seed: Of the guessers.

    Raises:
        ValueError: If there is no sample.
    """
    return _measured(lists, images, "single", seed, None)


def balance(
    samples: Sequence[Sample], *, design: Design = "single", seed: int = 0
) -> tuple[list[Sample], list[Sample]]:
    """Splits a set into samples to keep and samples to write again; see `Wording.surest`.

    Args:
        samples: As for `wording`.
        design: As there.
        seed: As there.

    Returns:
        Both in the order of the samples. What is written again should be measured with the rest: the guessers learn.

    Raises:
        ValueError: If there is no sample, or no such design.
    """
    again = set(wording(samples, design=design, seed=seed).surest)
    return [s for s in samples if s.region.id not in again], [s for s in samples if s.region.id in again]


def _measured(
    lists: Sequence[Sequence[str]], images: Sequence[str], design: Design, seed: int, ids: Sequence[str] | None
) -> Wording:
    if not lists:
        raise ValueError("There are no captions whose wording could be measured.")
    even = float(np.mean([1 / len(set(own)) for own in lists]))
    chance = even if design == "single" else max(even, CHANCE)
    noise = 2 * math.sqrt(chance * (1 - chance) / len(lists))
    compared, alone = (guesses(lists, None, images, compare=compare, seed=seed) for compare in (True, False))
    counts = alone if design == "single" else compared
    return Wording(
        samples=len(lists),
        chance=chance,
        rate=_rate(compared),
        alone=_rate(alone),
        noise=noise,
        commonest=float(np.mean([_centre(own) for own in lists])),
        surest=() if ids is None or counts is None else _surest(counts, ids, chance, noise),
    )


def _rate(found: Guesses | None) -> float | None:
    return None if found is None else float(found.hits.mean())


def _surest(found: Guesses, ids: Sequence[str], chance: float, noise: float) -> tuple[str, ...]:
    """As many of the guessed samples as bring the rate to chance and noise, if they are at chance afterwards."""
    above = float(found.hits.mean()) - chance - noise
    count = max(0, math.ceil(above * len(ids) / (1 - chance)))
    guessed: NDArray[np.float64] = np.where(found.hits > 0, found.belief, -1)
    order = np.argsort(-guessed, kind="stable")[:count]
    return tuple(ids[place] for place in order)


def _centre(captions: Sequence[str]) -> float:
    """How surely the first caption is the one that shares most words with the others."""
    said = [Counter(words(caption)) for caption in captions]
    shared = [sum((one & other).total() for other in said) / (one.total() or 1) for one in said]
    best = [place for place, value in enumerate(shared) if value > max(shared) - 1e-9]
    return (0 in best) / len(best)
