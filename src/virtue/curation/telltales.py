"""Words that give the true captions of a set away: those that nearly only wrong captions say, or only true ones.

A word counts once for each sample: as wrong where only wrong captions have it, as true where the true one has it and
not all others do. With three swaps for each element, words that are swapped in as often as they are true count three
times as often as wrong; what is three times rarer or commoner than that tells. Where all words are too rare for that,
what true captions say elsewhere is still what false ones should say.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

from virtue.curation.relations import words
from virtue.curation.samples import KINDS, Kind, Sample

_SWAPS = 3  # wrong captions for each true one
_TELLING = 3  # how many times rarer or commoner
_LEAST = 4  # other samples that a word is seen in
_SHOWN = 5


class Telltales:
    """How often each word is true and wrong.

    Args:
        samples: A set, or a part of it.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._true, self._wrong = Counter[str](), Counter[str]()
        self._elements: dict[Kind, Counter[str]] = {kind: Counter() for kind in KINDS}
        for sample in samples:
            for kind, counts in self._elements.items():
                counts[getattr(sample.elements, kind)] += 1
            true, wrong = _said(sample)
            self._true.update(true)
            self._wrong.update(wrong)

    def objection(self, sample: Sample) -> str:
        """What is wrong with a sample of the set whose true caption is given away, for its writer to read.

        Args:
            sample: The sample; what it says itself is no evidence.
        """
        true, wrong = _said(sample)
        of_wrong = [word for word in sorted(wrong) if self._odds(word, wrong=1) < 1 / _TELLING]
        of_true = [word for word in sorted(true) if self._odds(word, true=1) > _TELLING]
        parts = ["The true caption can be told from the wrong ones by their words, without the picture."]
        if of_wrong:
            shown = sorted(of_wrong, key=lambda word: self._odds(word, wrong=1))[:_SHOWN]
            parts += [f"Captions that say {_listed(shown)} are mostly wrong: do not use that in replacements."]
        if of_true:
            shown = sorted(of_true, key=lambda word: -self._odds(word, true=1))[:_SHOWN]
            parts += [f"Captions that say {_listed(shown)} are mostly true: use that in replacements too."]
        examples = [f"the {kind}s {_listed(said)}" for kind in KINDS if (said := self._examples(sample, kind))]
        if examples:
            parts += [f"True captions say, for example, {'; '.join(examples)}: replacements may be like that."]
        swaps = dict.fromkeys(getattr(distractor.elements, distractor.kind) for distractor in sample.distractors)
        return " ".join([*parts, f"Use other replacements than {_listed(swaps)}."])

    def _examples(self, sample: Sample, kind: Kind) -> list[str]:
        """What others truly say, the likelier the more say it; the same of a region each time."""
        counts = {said: n for said, n in sorted(self._elements[kind].items()) if said != getattr(sample.elements, kind)}
        rng = random.Random(f"{sample.region.id}/{kind}")
        drawn = rng.choices(list(counts), list(counts.values()), k=4 * _SHOWN) if counts else []
        return list(dict.fromkeys(drawn))[:_SHOWN]

    def _odds(self, word: str, *, true: int = 0, wrong: int = 0) -> float:
        """How many times as often as it should be a word is true elsewhere; 1 where it is too rare to say."""
        in_true, in_wrong = self._true[word] - true, self._wrong[word] - wrong
        if in_true + in_wrong < _LEAST:
            return 1.0
        return (in_true + 1) * _SWAPS / (in_wrong + _SWAPS)


def _said(sample: Sample) -> tuple[set[str], set[str]]:
    """The words of the true caption that not all others have, and those that only others have."""
    true, others = set(words(sample.caption)), [set(words(distractor.text)) for distractor in sample.distractors]
    return true - true.intersection(*others), set[str]().union(*others) - true


def _listed(said: Iterable[str]) -> str:
    return ", ".join(f'"{one}"' for one in said)
