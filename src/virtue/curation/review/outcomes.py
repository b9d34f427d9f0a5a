"""What the decisions about a sample come to: kept, with which words, or rejected, or for a third look.

Decisions are taken in the order in which they were made, without those that were taken back; a skip decides nothing.

1. Each reviewer's last decision counts. If all say the same (accept, reject, or the same edit), that is the outcome.
2. If they differ, the sample is *disputed* and listed for a third look.
3. The decision that is made while a sample is disputed is that look, whoever makes it, and settles the matter. A later
   look settles it anew.

So one reviewer suffices where one was asked, and an edit that another person saw differently is not kept unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from virtue.curation.decisions import Decision
    from virtue.curation.store import Curation

State = Literal["open", "kept", "rejected", "disputed"]


@dataclass(frozen=True)
class Outcome:
    """What was decided about a sample.

    Attributes:
        state: "open" while nobody decided, "kept", "rejected", or "disputed": it waits for a third look.
        captions: All captions as an edit wants them, the true one first; None where the written ones stay.
        independent: What reviewers decided before there was a dispute, the last decision of each; what agreement is
            measured on.
        final: The third look, if there was one.
    """

    state: State
    captions: tuple[str, ...] | None
    independent: tuple[Decision, ...]
    final: Decision | None


def outcome(decisions: Iterable[Decision]) -> Outcome:
    """What the decisions about one sample come to.

    Args:
        decisions: All about one sample, in the order in which they were made; those taken back and skips may be among
            them.
    """
    independent: dict[str, Decision] = {}
    final: Decision | None = None
    for decision in decisions:
        if decision.undone or decision.verdict == "skip":
            continue
        if final is not None or _differ(independent.values()):
            final = decision
        else:
            independent[decision.reviewer] = decision
    last = final or next(iter(independent.values()), None)
    looks = tuple(sorted(independent.values(), key=lambda decision: decision.number))
    if last is None:
        return Outcome("open", None, looks, None)
    if final is None and _differ(looks):
        return Outcome("disputed", None, looks, None)
    return Outcome("rejected" if last.verdict == "reject" else "kept", last.captions, looks, final)


def outcomes(curation: Curation) -> dict[str, Outcome]:
    """The outcomes of all samples that anybody decided about, by region id; the others are open."""
    return outcomes_of(curation.all_decisions())


def outcomes_of(decisions: Sequence[Decision]) -> dict[str, Outcome]:
    """The outcomes of decisions about any number of samples, by region id.

    Args:
        decisions: In the order in which they were made.
    """
    about: dict[str, list[Decision]] = {}
    for decision in decisions:
        about.setdefault(decision.region_id, []).append(decision)
    return {region_id: outcome(own) for region_id, own in about.items()}


def disputed(found: Mapping[str, Outcome]) -> list[str]:
    """Region ids of what waits for a third look, those that wait longest first."""
    waiting = {name: own.independent[-1].number for name, own in found.items() if own.state == "disputed"}
    return sorted(waiting, key=lambda name: waiting[name])


def _differ(decisions: Iterable[Decision]) -> bool:
    """Whether some reject and others do not, or the words that they would keep differ."""
    return len({(decision.verdict, decision.captions) for decision in decisions}) > 1
