"""What is taken up again in a run: regions that were dropped, and samples that are to be written anew.

A dropped region becomes new again; what checks found in its attempts stays, so its next attempt is told what was wrong
with the last one. How often it was taken up tells a writer to ask anew for what was refused (`tries`).

A sample that is to be written again stays what it is until there is a better one: one change then puts the new one in
its place. A sample that people decided about, or that somebody is looking at, is left alone, whenever that began.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence

from virtue.curation.decisions import Decisions
from virtue.curation.samples import Problem, Sample


class Retries(Decisions):
    """The part of a run that is taken up again."""

    def reopen(self, check: str, *, afresh: bool = False) -> int:
        """Makes regions new again that were dropped for a reason that may have passed.

        Args:
            check: By what they were dropped.
            afresh: Ask again for what was refused.

        Returns:
            How many.
        """
        with self.transaction() as connection:
            if afresh:
                connection.execute(
                    'INSERT INTO tries SELECT region_id, 1 FROM drops WHERE "check" = ?'
                    " ON CONFLICT (region_id) DO UPDATE SET n = n + 1",
                    (check,),
                )
            dropped = '(SELECT region_id FROM drops WHERE "check" = ?)'
            connection.execute(f"UPDATE regions SET state = 'new' WHERE id IN {dropped}", (check,))
            return connection.execute('DELETE FROM drops WHERE "check" = ?', (check,)).rowcount

    def tries(self, region_id: str) -> int:
        """How often a region was taken up afresh."""
        found = self.rows("SELECT n FROM tries WHERE region_id = ?", (region_id,))
        return int(found[0][0]) if found else 0

    def past(self, region_id: str) -> tuple[int, list[Problem]]:
        """How many attempts at a region failed in which something was found, and what was found in the last of them."""
        statement = 'SELECT attempt, "check", message, place FROM problems WHERE region_id = ? ORDER BY attempt, rowid'
        found = self.rows(statement, (region_id,))
        last = found[-1][0] if found else 0
        return last, [Problem(*row) for attempt, *row in found if attempt == last]

    def looked_at(self) -> set[str]:
        """Ids of the samples that people decided about, a skip included, or are looking at."""
        return {region_id for (region_id,) in self.rows(_LOOKED_AT, (time.time(),))}

    def ask_rewrites(self, objections: Mapping[str, str]) -> None:
        """Notes that samples are to be written again.

        Args:
            objections: By region id, what is wrong with them, in a sentence or more.
        """
        values = [(rank(region_id), region_id, objection) for region_id, objection in objections.items()]
        with self.transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO rewrites VALUES (?, ?, ?)", values)

    def rewrites(self) -> list[tuple[str, str]]:
        """Samples that are to be written again, by region id, and what is wrong with them; in the order of the run."""
        return [(name, said) for name, said in self.rows("SELECT region_id, objection FROM rewrites ORDER BY rank")]

    def end_rewrite(self, region_id: str, sample: Sample | None, problems: Sequence[Sequence[Problem]] = ()) -> bool:
        """Puts a sample in place of the one that was to be written again, unless people looked at that meanwhile.

        Args:
            region_id: Of both.
            sample: The new one; None leaves the old one, as there is no better.
            problems: What was found in the attempts before, a sequence for each, the old sample the first of them.

        Returns:
            Whether there is a new sample.
        """
        with self.transaction() as connection:
            connection.execute("DELETE FROM rewrites WHERE region_id = ?", (region_id,))
            self.add_problems(region_id, problems)
            if sample is None or self.rows(_IS_LOOKED_AT, (region_id, time.time())):
                return False
            connection.execute("UPDATE samples SET data = ? WHERE region_id = ?", (kept(sample), region_id))
            return True

    def add_problems(self, region_id: str, problems: Sequence[Sequence[Problem]]) -> None:
        """Keeps what was found in attempts at a region, after those that are known."""
        before, _ = self.past(region_id)
        found = [
            (region_id, attempt, problem.check, problem.message, problem.where)
            for attempt, listed in enumerate(problems, start=before + 1)
            for problem in listed
        ]
        with self.transaction() as connection:
            connection.executemany("INSERT INTO problems VALUES (?, ?, ?, ?, ?)", found)


_LOOKED_AT = "SELECT region_id FROM decisions WHERE undone = 0 UNION SELECT region_id FROM leases WHERE until > ?"
_IS_LOOKED_AT = (
    "SELECT 1 FROM decisions WHERE region_id = ?1 AND undone = 0"
    " UNION ALL SELECT 1 FROM leases WHERE region_id = ?1 AND until > ?2"
)


def rank(region_id: str) -> str:
    """Where a region stands in the order of the run."""
    return hashlib.blake2b(region_id.encode(), digest_size=16).hexdigest()


def kept(sample: Sample) -> str:
    """A sample as it is kept: without its region, which is kept by itself."""
    return json.dumps({name: value for name, value in sample.to_json().items() if name != "region"})
