"""The tables of `virtue curate stats`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from virtue.curation.again import Rewording
    from virtue.curation.review.agreement import Agreement
    from virtue.curation.statistics import Making, Spread, Statistics
    from virtue.curation.wording import Wording

_COMMONEST = 8


def show(found: Statistics, console: Console) -> None:
    """Prints a set's numbers, the paper's table first."""
    rows = [[row[0], *(f"{n:,}" for n in row[1:])] for row in found.table()]
    headers = ["source", "train images", "train annotations", "eval images", "eval annotations"]
    _print(console, "Images and annotations", headers, rows)
    _print(console, "Words of a caption", ["", "mean", "5 %", "median", "95 %", "longest"], _lengths(found))
    words = [[name, f"{own.distinct:,}", _commonest(own.commonest)] for name, own in found.words.items()]
    _print(console, "Words", ["", "different", "commonest"], words)
    _print(console, "Swaps", ["what was swapped", "distractors"], _counted(found.swaps))
    if found.making is not None:
        _show_making(found.making, console)
    if found.people is not None:
        _show_people(found.people, console)
    if found.wording is not None:
        lines = wording_lines(found.wording)
        if found.making is not None and not found.wording.is_near:
            lines += ["`virtue curate build` with --try-again wording, else as the run was built, writes them again."]
        if found.design is None:
            lines += ["The files do not name one design of their distractors: they are taken as single swaps."]
        for line in lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def wording_lines(found: Wording) -> list[str]:
    """The text-only baseline in sentences, and beside it the guesser that is not the baseline of the design."""
    if found.baseline is None or found.alone is None or found.comparing is None:
        return [f"Text-only baseline: not measured, {found.samples:,} samples are too few."]
    most = f"chance is {found.chance:.1%}, and up to {found.chance + found.noise:.1%} counts as near it."
    start = f"Text-only baseline, hit@1 over {found.samples:,} samples"
    if found.design == "corners":
        lines = [f"{start}, comparing the ten: {found.comparing:.1%}; {most}"]
        lines += [f"Beside it, each caption scored by itself: {found.alone:.1%}."]
    else:
        lines = [f"{start}, each caption scored by itself as an embedding model does: {found.alone:.1%}; {most}"]
        lines += [
            f"Beside it, comparing the ten: {found.comparing:.1%}, as the true one is the centre of single swaps by "
            "construction; --design corners is for models that compare."
        ]
    if not found.is_near:
        count = f", most surely those of {len(found.surest):,} samples" if found.surest else ""
        lines += [f"That is above it: the wording gives true captions away{count}."]
    return lines


def rewording_line(found: Rewording) -> str:
    """What came of writing samples again, in a sentence."""
    spared = f"; left alone, as people decided about them or look at them: {found.spared:,}" if found.spared else ""
    if not found.asked:
        return f"Nothing was written again for its wording{spared}."
    left = found.asked - found.rewritten
    kept = f"; {left:,} stay as they were, for want of a better one" if left else ""
    return f"Written again for their wording: {found.rewritten:,} samples{kept}{spared}."


def money_line(totals: Mapping[str, float]) -> str:
    """What a run has used, in a line; "" if nothing."""
    if not totals.get("answers"):
        return ""
    tokens = f"{totals.get('tokens_in', 0):,.0f} tokens in, {totals.get('tokens_out', 0):,.0f} out"
    money = f", {totals['money']:,.4g} in money" if "money" in totals else ""
    line = f"{totals['answers']:,.0f} answers bought: {tokens}{money}"
    if money and totals.get("unpriced_in"):
        line += ", without that of commands that gave no prices"
    if estimated := totals.get("answers_estimated"):
        line += f"; the endpoint did not say what {estimated:,.0f} of them took, so that is estimated"
    return line


def _show_making(found: Making, console: Console) -> None:
    states = [
        [source, *(f"{own[state]:,}" for state in ("new", "written", "dropped"))]
        for source, own in sorted(found.states.items())
    ]
    _print(console, "Regions", ["source", "new", "written", "dropped"], states)
    left_out = [[scope, *row] for scope, own in found.left_out.items() for row in _counted(own)]
    _print(console, "Left out or mended in sources", ["", "", "annotations"], left_out)
    total = sum(own["written"] + own["dropped"] for own in found.states.values())
    dropped = [[*row, f"{found.dropped[row[0]] / total:.1%}"] for row in _counted(found.dropped)]
    _print(console, "Dropped", ["why", "regions", "of those tried"], dropped)
    _print(console, "Found by checks, in any attempt", ["check", "attempts"], _counted(found.problems))
    _print(console, "Answered by", ["LLM", "answers"], _counted(found.models))
    settings = [[name, "none" if value is None else str(value)] for name, value in found.settings.items()]
    _print(console, "Made with", ["setting", ""], settings)
    if line := money_line(found.totals):
        console.print(line, markup=False, highlight=False)


def _show_people(found: Agreement, console: Console) -> None:
    _print(console, "Looked at by people", ["", "samples"], _counted(found.states))
    reviewers = [
        [name, *(f"{own.get(verdict, 0):,}" for verdict in _VERDICTS)] for name, own in found.reviewers.items()
    ]
    _print(console, "Reviewers", ["", *_VERDICTS], reviewers)
    _print(console, "Rejected", ["why", "decisions"], _counted(found.reasons))
    kappa = found.kappa
    if math.isnan(kappa.value):
        line = kappa.note
    else:
        line = f"Cohen's kappa {kappa.value:.2f} over {kappa.samples:,} samples that two people saw"
        line += f"; they agree on {kappa.observed:.1%}, by chance they would on {kappa.expected:.1%}."
    console.print(line, markup=False, highlight=False, soft_wrap=True)


_VERDICTS = ("accept", "edit", "reject", "skip")


def _lengths(found: Statistics) -> list[list[str]]:
    pairs: list[tuple[str, Spread | None]] = [("true", found.true_lengths), ("distractors", found.false_lengths)]
    return [
        [name, f"{own.mean:.1f}", *map(str, (own.low, own.median, own.high, own.most))] for name, own in pairs if own
    ]


def _commonest(words: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{word} {n:,}" for word, n in list(words)[:_COMMONEST])


def _counted(counts: Mapping[str, int]) -> list[list[str]]:
    """Names and numbers, the largest first."""
    return [[name, f"{n:,}"] for name, n in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))]


def _print(console: Console, title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table, numbers to the right; nothing without rows."""
    if not rows:
        return
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for place, header in enumerate(headers):
        numbers = place > 0 and all(row[place].replace(",", "").replace(".", "").strip(" %").isdigit() for row in rows)
        table.add_column(header, justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    console.print()
