"""Which samples a reviewer sees next, so that no two see the same one, except for a share that two are to see.

Whether a sample is seen by one or by two is told from its id and a seed, so it is the same whoever asks and whenever.
A sample that was dealt is *leased*: others get other ones until the lease runs out, which is long after its page last
asked for it to be held. A decision of somebody whose lease ran out is kept all the same. Samples come in the order of
the run, and a reviewer who comes back sees first what was on the page before.

Three modes: "queue" deals what needs to be seen, "disputed" what reviewers differ on (others than those first), and
"skipped" what the reviewer skipped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Literal, get_args

from virtue.curation.review.standing import Standing, voters
from virtue.curation.store import Curation

Mode = Literal["queue", "disputed", "skipped"]

MODES: tuple[Mode, ...] = get_args(Mode)

LEASE = 600.0
"""Seconds for which a sample is held for who looks at it."""

RATE_WINDOW = timedelta(minutes=10)
"""How far back the rate of a reviewer looks."""

RATE_MOST = 1000
"""How many decisions the rate looks at: nobody decides more in ten minutes."""

RATE_LEAST = timedelta(seconds=30)
"""From what stretch of work a rate is told at all."""


@dataclass(frozen=True)
class Progress:
    """How far a review is.

    Attributes:
        samples: All there are.
        done: Seen by as many as are to see them, and not disputed.
        left: The others.
        disputed: Those on which reviewers differ and that nobody took a third look at.
        mine: What the reviewer decided.
        skipped: What the reviewer skipped.
        per_hour: How many the reviewer decides in an hour, as the last ten minutes show; None while they show
            too little.
    """

    samples: int
    done: int
    left: int
    disputed: int
    mine: int
    skipped: int
    per_hour: float | None


class Queue:
    """Deals samples to reviewers.

    Args:
        curation: The run.
        share: Of the samples, in [0, 1], those that two reviewers see.
        seed: Decides which these are.
        lease: Seconds for which a dealt sample is held.

    Raises:
        ValueError: If the share is none.
    """

    def __init__(self, curation: Curation, *, share: float = 0.1, seed: int = 0, lease: float = LEASE) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"The share that two reviewers see lies between 0 and 1, not at {share:g}.")
        self.curation, self.share, self.seed, self.lease = curation, share, seed, lease
        self._looks: dict[str, int] = {}
        self.standing = Standing(curation, self.looks)

    def looks(self, region_id: str) -> int:
        """How many reviewers are to see a sample: 1 or 2."""
        if region_id not in self._looks:
            digest = hashlib.blake2b(f"{self.seed}\n{region_id}".encode(), digest_size=8).digest()
            self._looks[region_id] = 2 if int.from_bytes(digest) < self.share * 2**64 else 1
        return self._looks[region_id]

    def deal(self, reviewer: str, count: int = 1, mode: Mode = "queue") -> list[str]:
        """The samples that a reviewer sees next, and leases them.

        Args:
            reviewer: Who looks.
            count: How many at most.
            mode: Which kind.

        Returns:
            Region ids; fewer than asked for, or none, if there are no more.
        """
        with self.curation.transaction():  # nobody else is dealt to meanwhile
            self.standing.refresh()
            leases = self.curation.leases()
            if mode == "queue":
                dealt = self._needed(reviewer, leases, count)
                if len(dealt) < count:  # a build may have written more
                    self.standing.refresh(recount=True)
                    dealt = self._needed(reviewer, leases, count)
            else:
                wanted = self._disputed_for(reviewer, leases) if mode == "disputed" else self.standing.skips(reviewer)
                held = [name for name in wanted if reviewer in leases.get(name, ())]
                dealt = [*held, *(name for name in wanted if reviewer not in leases.get(name, ()))][:count]
            self.hold(reviewer, dealt)
        return dealt

    def hold(self, reviewer: str, region_ids: Iterable[str]) -> None:
        """Leases samples for a while, or for a while longer."""
        with self.curation.transaction():
            for region_id in region_ids:
                self.curation.lease(region_id, reviewer, self.lease)

    def progress(self, reviewer: str) -> Progress:
        """How far the review is, and the reviewer in it."""
        with self.curation.transaction():
            self.standing.refresh()
            samples, done, disputed = len(self.standing.samples), self.standing.done, len(self.standing.disputes)
            said = self.standing.said(reviewer)
            mine, skipped = said.total() - said["skip"], said["skip"]
        return Progress(
            samples=samples,
            done=done,
            left=samples - done,
            disputed=disputed,
            mine=mine,
            skipped=skipped,
            per_hour=self._rate(reviewer),
        )

    def _needed(self, reviewer: str, leases: Mapping[str, set[str]], count: int) -> list[str]:
        """The first of what the reviewer has not seen and not enough others saw or look at, what is held before all."""

        def is_free(name: str) -> bool:
            others = (leases.get(name, set()) | voters(self.standing.verdicts.get(name, {}))) - {reviewer}
            return len(others) < self.looks(name)

        leased = self.standing.in_order(name for name, who in leases.items() if reviewer in who)
        held = [name for name in leased if self.standing.is_needed(name, reviewer) and is_free(name)]
        others = (name for name in self.standing.needed(reviewer) if name not in held and is_free(name))
        return list(islice(chain(held, others), count))

    def _disputed_for(self, reviewer: str, leases: Mapping[str, set[str]]) -> list[str]:
        """What is disputed, the longest first, and nobody else looks at; others' disputes come before one's own."""
        disputes, verdicts = self.standing.disputes, self.standing.verdicts
        free = [name for name in disputes if not leases.get(name, set()) - {reviewer}]
        return sorted(free, key=lambda name: (reviewer in verdicts[name], disputes[name]))

    def _rate(self, reviewer: str) -> float | None:
        now = datetime.now(UTC)
        rows = self.curation.rows(_MADE, (reviewer, RATE_MOST, (now - RATE_WINDOW).isoformat()))
        times = sorted(datetime.fromisoformat(made) for (made,) in rows)
        if not times or times[-1] - times[0] < RATE_LEAST:
            return None
        return (len(times) - 1) / ((times[-1] - times[0]) / timedelta(hours=1))


_MADE = (
    "SELECT made FROM (SELECT made FROM decisions WHERE reviewer = ? AND undone = 0 AND verdict != 'skip'"
    " ORDER BY number DESC LIMIT ?) WHERE made > ?"
)
