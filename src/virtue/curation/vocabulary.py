"""The words that a set of regions uses in its facts: what stands how to what, where, and how often.

Writing by rules draws its swaps from here, so that false captions are worded like true ones: a relation that other
things of the set have to a table, a table that other things of the set stand on.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Self

from virtue.curation.relations import read_relation
from virtue.curation.samples import Region

MOST_WORDS = 5
"""Of a relation, a thing or a place; what is longer is no name of one."""


class Bag:
    """Words to draw from, each as likely as it is frequent.

    Args:
        counts: How often each occurs.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._words = sorted(counts)  # by name, so that the order of regions does not matter
        self._sums = list(accumulate(counts[word] for word in self._words))

    def draw(self, rng: random.Random, count: int) -> Iterator[str]:
        """Different words, the likelier ones sooner; fewer than `count` where few are drawn, or there are no more."""
        if not self._words:
            return iter(())
        return iter(dict.fromkeys(rng.choices(self._words, cum_weights=self._sums, k=count)))


@dataclass(frozen=True)
class Vocabulary:
    """Counts of words; `of` counts them.

    Attributes:
        objects: What regions with a place or a fact are.
        relations: How they stand to other things.
        things: What they stand to.
        places: Where they are.
        relations_of: Of each thing, the relations that others have to it.
        things_of: Of each relation, the things that others have it to.
        objects_of: Of each relation, what has it to something.
    """

    objects: Counter[str]
    relations: Counter[str]
    things: Counter[str]
    places: Counter[str]
    relations_of: Mapping[str, Counter[str]]
    things_of: Mapping[str, Counter[str]]
    objects_of: Mapping[str, Counter[str]]

    @classmethod
    def of(cls, regions: Iterable[Region]) -> Self:
        """Counted in one pass, whatever the order of the regions.

        Args:
            regions: Those whose samples are to be written, or more of the same kind.
        """
        objects, relations, things, places = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
        relations_of, things_of, objects_of = (defaultdict[str, Counter[str]](Counter) for _ in range(3))
        for region in regions:
            if region.facts:
                objects[region.category] += 1
                places.update(region.scene[:1] if region.scene and is_name(region.scene[0]) else ())
            for fact in region.facts:
                if not (is_name(fact.relation) and is_name(fact.object)):
                    continue
                relations[fact.relation] += 1
                things[fact.object] += 1
                relations_of[fact.object][fact.relation] += 1
                things_of[fact.relation][fact.object] += 1
                objects_of[fact.relation][region.category] += 1
        return cls(objects, relations, things, places, relations_of, things_of, objects_of)

    def bag(self, table: str, key: str | None = None) -> Bag:
        """What to draw from: one of the tables, or what it has under a key.

        Args:
            table: Name of an attribute.
            key: A thing or a relation, for the attributes that go by one.
        """
        found = self._bags.get((table, key))
        if found is None:
            counts = getattr(self, table)
            found = self._bags[table, key] = Bag(counts if key is None else counts.get(key, {}))
        return found

    def spelled(self, relation: str) -> str:
        """A relation as the set mostly says it: "under" for "below" where that is the word it uses."""
        return self._spellings.get(read_relation(relation), relation)

    @cached_property
    def _bags(self) -> dict[tuple[str, str | None], Bag]:
        return {}

    @cached_property
    def _spellings(self) -> dict[object, str]:
        rarest_first = sorted(self.relations, key=lambda relation: (self.relations[relation], relation))
        return {read_relation(relation): relation for relation in rarest_first}


def is_name(text: str) -> bool:
    """Whether a text is short enough to name a relation, a thing or a place, and has nothing but words."""
    said = text.split()
    return 0 < len(said) <= MOST_WORDS and all(word.replace("-", "").replace("'", "").isalpha() for word in said)
