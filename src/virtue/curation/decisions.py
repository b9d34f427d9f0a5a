"""What people decide about samples, kept in a run's file: every decision, also those that were taken back.

A reviewer may decide about a sample again; the last decision that was not taken back counts. A decision that is sent
twice under one key, because the first answer was lost on the way, is kept once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast, get_args

from virtue.curation.database import Database

Verdict = Literal["accept", "reject", "edit", "skip"]

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

_COLUMNS = "number, key, region_id, reviewer, verdict, reason, captions, made, undone"


@dataclass(frozen=True)
class Decision:
    """What one person decided about one sample.

    Attributes:
        number: Counts decisions of a run, from 1.
        key: Under which it was sent, None without.
        region_id: Of the sample.
        reviewer: Who decided.
        verdict: "accept", "reject", "edit" (accepted with other words) or "skip".
        reason: Why it was rejected or skipped; "" without.
        captions: After an edit, all captions of the sample, the true one first; else None.
        made: When, ISO 8601 in UTC.
        undone: Whether it was taken back.
    """

    number: int
    key: str | None
    region_id: str
    reviewer: str
    verdict: Verdict
    reason: str
    captions: tuple[str, ...] | None
    made: str
    undone: bool


class Decisions(Database):
    """The part of a run that people write."""

    def decide(
        self,
        region_id: str,
        reviewer: str,
        verdict: Verdict,
        *,
        reason: str = "",
        captions: Sequence[str] | None = None,
        key: str | None = None,
        made: str | None = None,
    ) -> Decision:
        """Keeps a decision; it is on disk when this returns.

        Args:
            region_id: Of the sample.
            reviewer: Who decides.
            verdict: What.
            reason: Why.
            captions: For an edit, all captions of the sample, the true one first.
            key: Tells one sending from another: a second decision under a key is the first one.
            made: When, ISO 8601; now by default. An import says when it was made elsewhere.

        Returns:
            The decision as it is kept.

        Raises:
            ValueError: If there is no such sample or verdict, nobody decides, or an edit has no captions.
        """
        _check(reviewer, verdict, captions)
        with self.transaction(durable=True) as connection:
            known = self._where("key = ?", (key,)) if key is not None else []
            if known:
                return known[0]
            if not self.has_sample(region_id):
                raise ValueError(f"There is no sample {region_id!r} to decide about in {self.folder}.")
            texts = json.dumps(list(captions)) if captions is not None else None
            values = (key, region_id, reviewer, verdict, reason, texts, made or datetime.now(UTC).isoformat())
            cursor = connection.execute(
                "INSERT INTO decisions (key, region_id, reviewer, verdict, reason, captions, made)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            connection.execute("DELETE FROM leases WHERE region_id = ? AND reviewer = ?", (region_id, reviewer))
            return self._where("number = ?", (cursor.lastrowid,))[0]

    def undo(self, number: int) -> Decision:
        """Takes a decision back; doing so twice is doing so once.

        Raises:
            ValueError: If there is no such decision.
        """
        with self.transaction(durable=True) as connection:
            connection.execute("UPDATE decisions SET undone = 1 WHERE number = ?", (number,))
            found = self._where("number = ?", (number,))
        if not found:
            raise ValueError(f"There is no decision {number} in {self.folder} to take back.")
        return found[0]

    def reviewer_of(self, number: int) -> str | None:
        """Who made a decision; None where there is none of this number."""
        found = self.rows("SELECT reviewer FROM decisions WHERE number = ?", (number,))
        return str(found[0][0]) if found else None

    def has_decision(self, key: str) -> bool:
        """Whether a decision was kept under a key."""
        return bool(self.rows("SELECT 1 FROM decisions WHERE key = ?", (key,)))

    def has_sample(self, region_id: str) -> bool:
        """Whether there is a sample to decide about."""
        return bool(self.rows("SELECT 1 FROM samples WHERE region_id = ?", (region_id,)))

    def decisions(self, region_id: str | None = None, *, reviewer: str | None = None) -> list[Decision]:
        """The decisions that count: of each reviewer about each sample the last one that was not taken back.

        Args:
            region_id: Those about one sample only.
            reviewer: Those of one person only.

        Returns:
            In the order in which they were made.
        """
        last = {
            (decision.region_id, decision.reviewer): decision
            for decision in self.all_decisions(region_id, reviewer=reviewer)
            if not decision.undone
        }
        return sorted(last.values(), key=lambda decision: decision.number)

    def last_decisions(self, reviewer: str, count: int) -> list[Decision]:
        """The last of a reviewer's decisions that count, in the order in which they were made.

        Args:
            reviewer: Whose.
            count: How many at most.
        """
        later = (
            "SELECT 1 FROM decisions AS later WHERE later.region_id = decisions.region_id"
            " AND later.reviewer = decisions.reviewer AND later.undone = 0 AND later.number > decisions.number"
        )
        condition = f"reviewer = ? AND undone = 0 AND NOT EXISTS ({later}) ORDER BY number DESC LIMIT ?"
        rows = self.rows(f"SELECT {_COLUMNS} FROM decisions WHERE {condition}", (reviewer, count))
        return [_decision(row) for row in reversed(rows)]

    def all_decisions(self, region_id: str | None = None, *, reviewer: str | None = None) -> list[Decision]:
        """Every decision, with those that were made again or taken back, in the order in which they were made."""
        asked = {"region_id": region_id, "reviewer": reviewer}
        given = {column: value for column, value in asked.items() if value is not None}
        condition = " AND ".join(f"{column} = ?" for column in given) or "TRUE"
        return self._where(condition, tuple(given.values()))

    def lease(self, region_id: str, reviewer: str, seconds: float) -> None:
        """Notes that a sample is being looked at, so that the queue gives others another one for a while."""
        with self.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (region_id, reviewer, time.time() + seconds)
            )

    def release(self, reviewer: str) -> None:
        """Forgets what a reviewer was looking at."""
        with self.transaction() as connection:
            connection.execute("DELETE FROM leases WHERE reviewer = ?", (reviewer,))

    def leases(self) -> dict[str, set[str]]:
        """Who is looking at which sample now: reviewers by region id."""
        found: dict[str, set[str]] = {}
        for region_id, reviewer in self.rows("SELECT region_id, reviewer FROM leases WHERE until > ?", (time.time(),)):
            found.setdefault(region_id, set()).add(reviewer)
        return found

    def _where(self, condition: str, values: Sequence[Any]) -> list[Decision]:
        statement = f"SELECT {_COLUMNS} FROM decisions WHERE {condition} ORDER BY number"
        return [_decision(row) for row in self.rows(statement, values)]


def _check(reviewer: str, verdict: str, captions: Sequence[str] | None) -> None:
    if verdict not in VERDICTS:
        raise ValueError(f"A decision is one of {', '.join(VERDICTS)}, not {verdict!r}.")
    if not reviewer.strip():
        raise ValueError("A decision needs the name of the person who makes it.")
    if (verdict == "edit") != (captions is not None):
        raise ValueError("An edit, and only an edit, comes with the captions as they are to be.")


def _decision(row: tuple[Any, ...]) -> Decision:
    number, key, region_id, reviewer, verdict, reason, captions, made, undone = row
    texts = None if captions is None else tuple(json.loads(captions))
    return Decision(number, key, region_id, reviewer, cast("Verdict", verdict), reason, texts, made, bool(undone))
