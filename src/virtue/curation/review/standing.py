"""Where a review stands, kept up to date by reading only what changed since it was last asked.

A deal is asked for after every decision; going through all samples or decisions of a large run each time would keep
reviewers waiting. Decisions are only ever added or marked as taken back, so what is new is told from their numbers and
marks, whichever process wrote them; and what a change does to counts and to who needs to see a sample is worked out for
that sample alone. Samples that a build adds meanwhile are looked for every few seconds, or when none is left to deal:
to count them takes longer than all the rest.
"""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from virtue.curation.decisions import Decision, Verdict
from virtue.curation.review.outcomes import outcome
from virtue.curation.store import Curation

RECOUNTED = 2.0
"""Seconds after which new samples are looked for again."""


class Standing:
    """What was decided so far.

    Args:
        curation: The run.
        looks: How many reviewers are to see a sample, by its region id.

    Attributes:
        verdicts: By region id and reviewer, the verdict that counts.
        disputes: Region ids of what waits for a third look, with the number of the decision since which it does.
        samples: Region ids of all samples, in the order of the run.
        done: How many samples were seen by as many as are to see them, and are not disputed.
    """

    def __init__(self, curation: Curation, looks: Callable[[str], int]) -> None:
        self.verdicts: dict[str, dict[str, Verdict]] = {}
        self.disputes: dict[str, int] = {}
        self.samples: list[str] = []
        self.done = 0
        self._curation, self._looks = curation, looks
        self._places: dict[str, int] = {}
        self._said: dict[str, Counter[str]] = {}  # by reviewer, how often each verdict
        self._skips: dict[str, dict[str, int]] = {}  # by reviewer and region id, the decision's number
        self._needed: dict[str, list[int]] = {}  # by reviewer who asked, places of samples, in order
        self._counted = -RECOUNTED  # when
        self._last = 0
        self._undone: set[int] = set()

    def refresh(self, *, recount: bool = False) -> None:
        """Reads what changed. Call it, and use what it read, inside a transaction: threads share this.

        Args:
            recount: Look for new samples, however short ago that was done.
        """
        if recount or time.monotonic() - self._counted >= RECOUNTED:
            self._read_samples()
        undone = {number for (number,) in self._curation.rows("SELECT number FROM decisions WHERE undone = 1")}
        fresh = self._curation.rows("SELECT number, region_id FROM decisions WHERE number > ?", (self._last,))
        if not self._last:
            self._note_all(self._curation.all_decisions())
        else:
            for region_id in {region_id for _, region_id in fresh} | self._regions_of(undone - self._undone):
                self._note(region_id, self._curation.all_decisions(region_id))
        self._last = max((number for number, _ in fresh), default=self._last)
        self._undone = undone

    def needed(self, reviewer: str) -> Iterator[str]:
        """What a reviewer has not seen and not enough others saw, in the order of the run."""
        if reviewer not in self._needed:
            places = (place for place, name in enumerate(self.samples) if self._needs(name, reviewer))
            self._needed[reviewer] = list(places)
        return (self.samples[place] for place in self._needed[reviewer])

    def is_needed(self, region_id: str, reviewer: str) -> bool:
        """Whether a sample is among those."""
        return region_id in self._places and self._needs(region_id, reviewer)

    def in_order(self, region_ids: Iterable[str]) -> list[str]:
        """Those of some region ids that have a sample, in the order of the run."""
        return sorted((name for name in region_ids if name in self._places), key=self._places.__getitem__)

    def said(self, reviewer: str) -> Counter[str]:
        """How often each verdict of a reviewer counts."""
        return self._said.get(reviewer, Counter())

    def skips(self, reviewer: str) -> list[str]:
        """What a reviewer skipped, the longest ago first."""
        own = self._skips.get(reviewer, {})
        return sorted(own, key=own.__getitem__)

    def _needs(self, region_id: str, reviewer: str) -> bool:
        verdicts = self.verdicts.get(region_id, {})
        return reviewer not in verdicts and len(voters(verdicts)) < self._looks(region_id)

    def _read_samples(self) -> None:
        ((count,),) = self._curation.rows("SELECT COUNT(*) FROM regions WHERE state = 'written'")
        if count != len(self.samples):
            self.samples = self._curation.sample_ids()
            self._places = {name: place for place, name in enumerate(self.samples)}
            self._needed.clear()
        self._counted = time.monotonic()

    def _regions_of(self, numbers: set[int]) -> set[str]:
        found = set[str]()
        for number in numbers:
            found.update(name for (name,) in self._curation.rows(_REGION_OF, (number,)))
        return found

    def _note_all(self, decisions: Sequence[Decision]) -> None:
        about: dict[str, list[Decision]] = {}
        for decision in decisions:
            about.setdefault(decision.region_id, []).append(decision)
        for region_id, history in about.items():
            self._note(region_id, history)

    def _note(self, region_id: str, history: Sequence[Decision]) -> None:
        """Keeps what the decisions about one sample, in the order in which they were made, come to."""
        self.done -= self._is_done(region_id)
        counted = {own.reviewer: own for own in history if not own.undone}
        before, now = self.verdicts.get(region_id, {}), {name: own.verdict for name, own in counted.items()}
        self.verdicts[region_id] = now
        for name, verdict in before.items():
            self._said[name][verdict] -= 1
            self._skips.get(name, {}).pop(region_id, None)
        for name, own in counted.items():
            self._said.setdefault(name, Counter())[own.verdict] += 1
            if own.verdict == "skip":
                self._skips.setdefault(name, {})[region_id] = own.number
        found = outcome(history)
        self.disputes.pop(region_id, None)
        if found.state == "disputed":
            self.disputes[region_id] = found.independent[-1].number
        self.done += self._is_done(region_id)
        self._note_needed(region_id)

    def _note_needed(self, region_id: str) -> None:
        """Puts a sample into the lists of those who need to see it, and takes it out of the others."""
        place = self._places.get(region_id)
        if place is None:
            return
        for reviewer, places in self._needed.items():
            at = bisect_left(places, place)
            is_listed = at < len(places) and places[at] == place
            is_needed = self._needs(region_id, reviewer)
            if is_listed and not is_needed:
                del places[at]
            elif is_needed and not is_listed:
                insort(places, place)

    def _is_done(self, region_id: str) -> bool:
        verdicts = self.verdicts.get(region_id, {})
        return region_id not in self.disputes and len(voters(verdicts)) >= self._looks(region_id)


def voters(verdicts: Mapping[str, str]) -> set[str]:
    """Who decided, which a skip does not."""
    return {reviewer for reviewer, verdict in verdicts.items() if verdict != "skip"}


_REGION_OF = "SELECT region_id FROM decisions WHERE number = ?"
