"""Where two captions differ, word by word: what was swapped in one of them shows by it.

Case, punctuation and articles are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_ARTICLES = frozenset({"a", "an", "the"})


def caption_words(caption: str) -> list[str]:
    """The words of a caption in small letters, without articles."""
    return [word for word in re.findall(r"[\w'-]+", caption.lower()) if word not in _ARTICLES]


def shared_ends(one: Sequence[str], other: Sequence[str]) -> tuple[int, int]:
    """How many first words two captions share, and how many last words; no word counts as both."""
    most = min(len(one), len(other))
    first = next((i for i in range(most) if one[i] != other[i]), most)
    last = next((i for i in range(most - first) if one[-1 - i] != other[-1 - i]), most - first)
    return first, last
