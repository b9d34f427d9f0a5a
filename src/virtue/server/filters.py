"""Which filters a server takes from whoever can reach it: comparisons of the index's columns, nothing that computes.

A whole SQL expression could ask for a text of two gigabytes, or nest so deeply that the process ends. What the words
and signs below mean is left to the index; here is only looked at what may stand in a filter at all.
"""

from __future__ import annotations

import re
from dataclasses import fields

from virtue.index.table import Row

COLUMNS = tuple(field.name for field in fields(Row) if field.name != "vector")

MOST_TERMS = 200
"""Comparisons, and words that join them, of one filter."""

DEEPEST = 20
"""Brackets in one another."""

_VALUES = {"true", "false", "null"}
_WORDS = {"and", "or", "not", "in", "like", "ilike", "between", "is", "escape"}
_TOKEN = re.compile(
    r"""\s*(?: (?P<text> '(?:[^']|'')*')
             | (?P<number> -?[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)
             | (?P<word> `?[a-z_][a-z_0-9]*`?)
             | (?P<sign> <=|>=|<>|!=|[=<>])
             | (?P<mark> [(),])
             | (?P<end> $)
             | (?P<other> .))""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)


def check_filter(text: str) -> None:
    """Refuses what is no condition of columns, values, comparisons and brackets.

    Args:
        text: The filter.

    Raises:
        ValueError: With a sentence that says what does not belong there.
    """
    depth = terms = 0
    after_value = False
    for token in _TOKEN.finditer(text):
        kind, own = str(token.lastgroup), token[0].strip()
        if kind == "end":
            break
        word = own.strip("`").lower() if kind == "word" else ""
        is_value = kind in ("text", "number") or word in _VALUES or word in COLUMNS
        if kind == "other" or (word and not is_value and word not in _WORDS):
            raise ValueError(_refusal(own))
        if after_value and (is_value or own == "("):
            raise ValueError(_refusal(f"{own} after a value"))
        depth += (own == "(") - (own == ")")
        terms += kind == "sign" or word in _WORDS
        if depth < 0:
            break
        if depth > DEEPEST or terms > MOST_TERMS:
            raise ValueError(f"A filter has {MOST_TERMS} comparisons and {DEEPEST} brackets in one another at most.")
        after_value = is_value or own == ")"
    if depth:
        raise ValueError("The brackets of the filter do not match.")


def _refusal(what: str) -> str:
    return (
        f"A filter takes no {what[:40]}: it compares the columns {', '.join(COLUMNS)} with numbers and 'texts', "
        "by =, !=, <, >, IN, LIKE, BETWEEN or IS NULL, joined by AND, OR, NOT and brackets."
    )
