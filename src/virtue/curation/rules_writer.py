"""Writes captions and distractors by rules, without an LLM, where annotations say how a region stands to other things.

A region needs a fact, such as ("man", "riding", "horse"). Where the annotations also name the place, as those of drawn
scenes do, the caption is "a dog | left of a boat | on a beach": the relation holds the other thing, the scene is the
place. Where they do not, as in Visual Genome, it is "man | riding | horse": the scene is the other thing.

1. One of the region's facts is drawn.
2. Objects are swapped for others of the picture first, then for what has the same relation elsewhere.
3. Relations are swapped for their opposite first, then for what others of the set have to the same thing.
4. Scenes are swapped for other places; or for things to which others of the set have the same relation.

Words are drawn as often as the set uses them, so that false captions are worded as true ones are. What is too like the
truth, or known to be true as well, is passed over by the same rules that `checks` has. The same seed and region give
the same words, whatever else is written; after a failed check the draw is another one.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from virtue.curation.checks import EACH, compare, known_name, known_true
from virtue.curation.relations import opposites, words
from virtue.curation.samples import KINDS, Distractor, Elements, Fact, Kind, Problem, Region
from virtue.curation.vocabulary import Vocabulary, is_name
from virtue.curation.wordnet import WordNet
from virtue.curation.writers import Pick, WriterRefusal, swap, true_caption
from virtue.scenes.vocabulary import OBJECTS

__all__ = ["RulesWriter", "Vocabulary"]

_DRAWS = 48  # of each bag; that nine in ten are passed over is rare
_BEFORE_PLACES = frozenset("on in at under near by inside outside above below behind".split())
_OPEN_PLACES = frozenset("beach street road field court mountain highway bridge runway hill lawn deck roof".split())
_DRAWN = {word.name: str(word) for word in OBJECTS}


@dataclass(frozen=True)
class _Plan:
    """What is said of a region: a fact and, where there is one, the place."""

    fact: Fact
    place: str

    def object(self, name: str) -> str:
        return with_article(name) if self.place else name

    def relation(self, name: str) -> str:
        return f"{name} {with_article(self.fact.object)}" if self.place else name

    def scene(self, name: str) -> str:
        return at_place(name) if self.place else name

    def elements(self) -> Elements:
        scene = self.scene(self.place or self.fact.object)
        return Elements(self.object(self.fact.subject), self.relation(self.fact.relation), scene)


class RulesWriter:
    """Writes by rules; see the module. It is a `Writer`.

    Args:
        vocabulary: What swaps are drawn from: `Vocabulary.of` all regions of the run.
        seed: Of all draws.
        wordnet: Passes over what is too like the truth before it is written; give it the one that checks use.
        tries: How often a region was taken up again, by its id; each time the draw is another one.
    """

    name = "rules"
    instructions = ""

    def __init__(
        self,
        vocabulary: Vocabulary,
        seed: int = 0,
        *,
        wordnet: WordNet | None = None,
        tries: Callable[[str], int] = lambda region_id: 0,
    ) -> None:
        self._vocabulary, self._seed, self._wordnet, self._tries = vocabulary, seed, wordnet, tries

    async def elements(self, region: Region, image: Path) -> Elements | None:
        """The caption of one of the region's facts; None if it has none that makes one. See `Writer`."""
        plan = self._plan(region)
        return None if plan is None else plan.elements()

    async def distractors(
        self, region: Region, image: Path, elements: Elements, problems: Sequence[Problem]
    ) -> list[Distractor]:
        """Nine single swaps. See `Writer`.

        Raises:
            WriterRefusal: If the set has too few words to swap for.
        """
        plan = self._plan(region)
        if plan is None or plan.elements() != elements:
            raise WriterRefusal("impossible", f"No fact of {region.id} says {elements.caption()!r}.")
        told = [json.dumps(problem.to_json()) for problem in problems]
        tries = self._tries(region.id)
        rng = self._rng(region, "swaps", *told, *([f"try {tries}"] if tries else []))
        candidates: dict[Kind, Iterator[str]] = {
            "object": map(plan.object, self._objects(region, plan, rng)),
            "relation": map(plan.relation, self._relations(plan, rng)),
            "scene": map(plan.scene, self._scenes(plan, rng)),
        }
        return [swap for kind in KINDS for swap in self._swaps(region, elements, kind, candidates[kind])]

    async def pick(self, region: Region, image: Path, captions: Sequence[str]) -> Pick | None:
        """None: rules cannot look. See `Writer`."""
        return None

    def _plan(self, region: Region) -> _Plan | None:
        """What is said of a region, the same each time."""
        own = words(region.category)
        usable = [
            fact
            for fact in region.facts
            if is_name(fact.relation) and is_name(fact.object) and own and words(fact.object) != own
        ]
        if not usable:
            return None
        fact = self._rng(region, "fact").choice(usable)
        place = next(iter(region.scene), "")
        return _Plan(replace(fact, subject=region.category), place if is_name(place) else "")

    def _objects(self, region: Region, plan: _Plan, rng: random.Random) -> Iterator[str]:
        present = sorted({other.category for other in region.others if is_name(other.category)})
        rng.shuffle(present)
        others = (self._draw("objects_of", rng, plan.fact.relation), self._draw("objects", rng))
        return (name for name in chain(present, *others) if words(name) != words(plan.fact.object))

    def _relations(self, plan: _Plan, rng: random.Random) -> Iterator[str]:
        opposite = (self._vocabulary.spelled(relation) for relation in opposites(plan.fact.relation))
        return chain(opposite, self._draw("relations_of", rng, plan.fact.object), self._draw("relations", rng))

    def _scenes(self, plan: _Plan, rng: random.Random) -> Iterator[str]:
        if plan.place:
            return self._draw("places", rng)
        others = chain(self._draw("things_of", rng, plan.fact.relation), self._draw("things", rng))
        return (name for name in others if words(name) != words(plan.fact.subject))

    def _draw(self, table: str, rng: random.Random, key: str | None = None) -> Iterator[str]:
        return self._vocabulary.bag(table, key).draw(rng, _DRAWS)

    def _swaps(self, region: Region, truth: Elements, kind: Kind, candidates: Iterable[str]) -> list[Distractor]:
        """Three swaps of a kind: the first candidates that are clearly others."""
        fitting = (word for word in _different(candidates, words) if self._fits(region, truth, kind, word))
        found = list(islice(fitting, EACH))
        if len(found) < EACH:
            message = (
                f"The set has too few words to swap the {kind} of {truth.caption()!r} for: {len(found)}, not {EACH}."
            )
            raise WriterRefusal("impossible", message)
        caption = true_caption(region, truth)
        return [swap(caption, truth, kind, word) for word in found]

    def _fits(self, region: Region, truth: Elements, kind: Kind, word: str) -> bool:
        if compare(kind, getattr(truth, kind), word, self._wordnet):
            return False
        if kind == "object":
            return not known_name(region, word, self._wordnet)
        return not known_true(region, replace(truth, **{kind: word}), truth, self._wordnet)

    def _rng(self, region: Region, *what: str) -> random.Random:
        told = json.dumps([self._seed, region.id, *what]).encode()
        return random.Random(hashlib.blake2b(told, digest_size=8).digest())


def _different(texts: Iterable[str], key: Callable[[str], list[str]]) -> Iterator[str]:
    """Each text once, whatever its articles."""
    seen = set[tuple[str, ...]]()
    for text in texts:
        if (own := tuple(key(text))) and own not in seen:
            seen.add(own)
            yield text


def with_article(name: str) -> str:
    """A noun with "a" or "an", or with none if it is a plural.

    Args:
        name: As in "dog" or "wine glasses".
    """
    if name in _DRAWN:
        return _DRAWN[name]
    if name.endswith("s") and not name.endswith(("ss", "us", "is")):
        return name
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def at_place(name: str) -> str:
    """A place with the words before it: "in a kitchen", "on a beach"; as it stands if it has them.

    Args:
        name: As in "kitchen" or "on a beach".
    """
    said = name.split()
    if said[0].lower() in _BEFORE_PLACES:
        return name
    return f"{'on' if said[-1].lower() in _OPEN_PLACES else 'in'} {with_article(name)}"
