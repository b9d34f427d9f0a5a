"""Whether the wording of a whole set gives its true captions away, and which samples to write again if it does.

Two guessers that never see an image read the ten captions of each sample, after learning from samples of other images
(`virtue.data.text_guesser`). One of them is the *text-only baseline*, by the design of the set; it has to stay near
chance, which is two standard errors above it at most.

- `alone` gives each caption points by itself, for its words, its length and its punctuation, and takes the one with
  most. An embedding model is measured so: each caption becomes one vector, which knows of no other. It is the baseline
  of single swaps, and finds what writers can avoid, such as words that only distractors use. Where nothing is given
  away it lies below chance, because the truth comes first only if its object, its relation and its scene have more
  points than three swaps each, which luck brings about once in 64 times.
- `comparing` sees which words the ten share. With single swaps it finds nearly every true caption, because the true one
  is the centre of the ten by construction; no wording can change that, only another design (`corners`), for which it is
  the baseline, with a chance of 1/8.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from virtue.curation.checks import Design
from virtue.curation.corners import CHANCE
from virtue.curation.relations import words
from virtue.curation.samples import Sample
from virtue.data.text_guesser import Guesses, guesses


@dataclass(frozen=True)
class Wording:
    """What guessers that never see the image make of a set's captions. Rates are hit@1 in [0, 1].

    Attributes:
        samples: How many were read.
        design: Of the distractors; it says which of the guessers is the baseline.
        alone: Of the guesser that scores each caption by itself; None where all samples are of one image, or it was
            not asked for.
        comparing: Of the guesser that sees what the captions share; None likewise.
        chance: Rate of a guesser to whom wording tells nothing: 0.1 for ten captions, 1/8 for corners, two of which
            show by what they share that they are none.
        noise: Two standard errors of an even guess over as many samples.
        commonest: Of taking the caption that shares most words with the other ones; a tie is an even chance.
        surest: Ids of regions whose true caption is given away, the surest first: as many as must be written again for
            the baseline to come down to chance; none where it is near.
        spared: How many would be among them, but are not to be written again.
    """

    samples: int
    design: Design
    alone: float | None
    comparing: float | None
    chance: float
    noise: float
    commonest: float
    surest: tuple[str, ...] = ()
    spared: int = 0

    @property
    def baseline(self) -> float | None:
        """The rate that has to stay near chance: `alone` of single swaps, `comparing` of corners."""
        return self.alone if self.design == "single" else self.comparing

    @property
    def is_near(self) -> bool:
        """Whether the baseline is not above chance and noise, as far as it was measured."""
        return self.baseline is None or self.baseline <= self.chance + self.noise

    def of(self, design: Design) -> Self:
        """The same captions, held to be of a design: of files, which do not say; nothing is said of the surest."""
        chance = max(self.chance, CHANCE) if design == "corners" else self.chance
        noise = _noise(chance, self.samples)
        return replace(self, design=design, chance=chance, noise=noise, surest=(), spared=0)


def wording(
    samples: Sequence[Sample],
    *,
    design: Design = "single",
    seed: int = 0,
    spare: Collection[str] = (),
    beside: bool = True,
) -> Wording:
    """How much the wording of a set gives away.

    Args:
        samples: The set, or a fair part of it: some hundred samples at least, for the guessers to learn from.
        design: Of its distractors.
        seed: Of the guessers.
        spare: Ids of regions whose samples are not to be written again.
        beside: Measure the guesser that is not the baseline as well.

    Raises:
        ValueError: If there is no sample, or no such design.
    """
    if design not in ("single", "corners"):
        raise ValueError(f"The design is 'single' or 'corners', not {design!r}.")
    lists, images = [sample.captions for sample in samples], [sample.region.image_id for sample in samples]
    counts = design == "corners"  # whether the guesser counts that compares the ten
    measured, made = _measured(lists, images, seed, (False, True) if beside else (counts,))
    found, guessed = measured.of(design), made[counts]
    if guessed is None:
        return found
    surest = _surest(guessed, [sample.region.id for sample in samples])
    first = surest[: _excess(found)]
    left = [name for name in surest if name not in spare]
    return replace(found, surest=tuple(left[: len(first)]), spared=sum(name in spare for name in first))


def wording_of_captions(lists: Sequence[Sequence[str]], images: Sequence[str], *, seed: int = 0) -> Wording:
    """The same of captions alone, as published files have them, which are single swaps; see `Wording.of`.

    Args:
        lists: Of each sample its captions, the true one first.
        images: Of each sample the image.
        seed: Of the guessers.

    Raises:
        ValueError: If there is no sample.
    """
    return _measured(lists, images, seed)[0]


def centre(captions: Sequence[str]) -> float:
    """How surely the first caption is the centre of all, the one that shares most words with the others.

    Args:
        captions: Of a sample, the true one first.

    Returns:
        0 if another one shares more, 1 if every other one shares less, 1/n where n share as much.
    """
    said = [Counter(words(caption)) for caption in captions]
    shared = [sum((one & other).total() for other in said) / (one.total() or 1) for one in said]
    best = [place for place, value in enumerate(shared) if value > max(shared) - 1e-9]
    return (0 in best) / len(best)


def _measured(
    lists: Sequence[Sequence[str]], images: Sequence[str], seed: int, guessers: Sequence[bool] = (False, True)
) -> tuple[Wording, dict[bool, Guesses | None]]:
    """What holds of captions as single swaps, with the guesses of those who compare the ten, or do not."""
    if not lists:
        raise ValueError("There are no captions whose wording could be measured.")
    chance = float(np.mean([1 / len(set(own)) for own in lists]))
    made = {compare: guesses(lists, None, images, compare=compare, seed=seed) for compare in guessers}
    found = Wording(
        samples=len(lists),
        design="single",
        alone=_rate(made.get(False)),
        comparing=_rate(made.get(True)),
        chance=chance,
        noise=_noise(chance, len(lists)),
        commonest=float(np.mean([centre(own) for own in lists])),
    )
    return found, made


def _rate(found: Guesses | None) -> float | None:
    return None if found is None else float(found.hits.mean())


def _noise(chance: float, samples: int) -> float:
    return 2 * math.sqrt(chance * (1 - chance) / samples)


def _excess(found: Wording) -> int:
    """How many samples bring the baseline down to chance if it is above, and they are at chance once written again."""
    if found.baseline is None or found.is_near:
        return 0
    return math.ceil((found.baseline - found.chance) * found.samples / (1 - found.chance))


def _surest(guessed: Guesses, ids: Sequence[str]) -> list[str]:
    """The samples that were guessed, the surest first."""
    belief: NDArray[np.float64] = np.where(guessed.hits > 0, guessed.belief, -1)
    order = np.argsort(-belief, kind="stable")
    return [ids[place] for place in order if belief[place] >= 0]
