"""What the paper's own tables say, to stand beside what is measured here.

`data/paper.json` holds the figures as the paper prints them, hit@1 in percent; here they are shares in [0, 1], as all
figures are. Columns are called as this project calls what they show: a set of SCaR by the second part of its task's
name ("ADE20K" of "scar/ADE20K"), a mean of MMEB as `mmeb.scores` does ("ind"), and "overall".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper.

    Attributes:
        title: What it shows.
        note: What has to be known to compare with it.
        source: Where it was published.
        columns: What was measured, in the paper's order.
        rows: By model, hit@1 in [0, 1] for each column.
    """

    title: str
    note: str
    source: str
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, float]]


@cache
def paper_tables() -> Mapping[str, PaperTable]:
    """The tables by benchmark, "scar" and "mmeb"; read when they are first asked for."""
    published = json.loads((files("virtue.evaluation") / "data" / "paper.json").read_text(encoding="utf-8"))
    return {name: _table(table, published["source"]) for name, table in published["tables"].items()}


def _table(published: Mapping[str, object], source: str) -> PaperTable:
    columns, rows = published["columns"], published["rows"]
    assert isinstance(columns, list) and isinstance(rows, dict)
    return PaperTable(
        title=str(published["title"]),
        note=str(published["note"]),
        source=source,
        columns=tuple(columns),
        rows={
            model: {column: percent / 100 for column, percent in zip(columns, figures, strict=True)}
            for model, figures in rows.items()
        },
    )
