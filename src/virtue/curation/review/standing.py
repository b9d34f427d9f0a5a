"""Where a review stands, kept up to date by reading only what changed since it was last asked.

A deal is asked for after every decision; reading all decisions of a large run each time would keep reviewers waiting.
Decisions are only ever added or marked as taken back, so what is new is told from their numbers and marks, whichever
process wrote them.
"""

from __future__ import annotations

from collections.abc import Sequence

from virtue.curation.decisions import Decision
from virtue.curation.review.outcomes import outcome
from virtue.curation.store import Curation


class Standing:
    """What was decided so far.

    Args:
        curation: The run.

    Attributes:
        verdicts: By region id and reviewer, the verdict that counts.
        disputes: Region ids of what waits for a third look, with the number of the decision since which it does.
        samples: Region ids of all samples, in the order of the run.
    """

    def __init__(self, curation: Curation) -> None:
        self.verdicts: dict[str, dict[str, str]] = {}
        self.disputes: dict[str, int] = {}
        self.samples: list[str] = []
        self._curation = curation
        self._last = 0
        self._undone: set[int] = set()

    def refresh(self) -> None:
        """Reads what changed. Call it, and use what it read, inside a transaction: threads share this."""
        self._read_samples()
        undone = {number for (number,) in self._curation.rows("SELECT number FROM decisions WHERE undone = 1")}
        fresh = self._curation.rows("SELECT number, region_id FROM decisions WHERE number > ?", (self._last,))
        changed = {region_id for _, region_id in fresh} | self._regions_of(undone - self._undone)
        if not self._last:
            self._note_all(self._curation.all_decisions())
        else:
            for region_id in changed:
                self._note(region_id, self._curation.all_decisions(region_id))
        self._last = max((number for number, _ in fresh), default=self._last)
        self._undone = undone

    def _read_samples(self) -> None:
        ((count,),) = self._curation.rows("SELECT COUNT(*) FROM samples")
        if count != len(self.samples):
            self.samples = self._curation.sample_ids()

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
        self.verdicts[region_id] = {own.reviewer: own.verdict for own in history if not own.undone}
        found = outcome(history)
        self.disputes.pop(region_id, None)
        if found.state == "disputed":
            self.disputes[region_id] = found.independent[-1].number


_REGION_OF = "SELECT region_id FROM decisions WHERE number = ?"
