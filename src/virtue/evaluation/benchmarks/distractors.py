"""Wrong captions that were not written to be wrong: true captions of other regions.

Distractors that a language model wrote may give themselves away by their wording. Those drawn here cannot: each is the
true caption of some other row. A true caption of another region may be true of this one as well, which costs every
model the same. The same seed and row give the same ones, whichever rows are measured.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

Distractors = Literal["published", "image", "others"]
"""Wrong captions as published, or true ones: of the same image before others, or of other images."""

COUNT = 9


class RealDistractors:
    """Draws wrong captions out of the true ones of a set.

    Args:
        captions: The true caption of each row; "" where it has none.
        images: Of each row, which image it is about.
        seed: Of the draws.
    """

    def __init__(self, captions: Sequence[str], images: Sequence[str], seed: int = 0) -> None:
        self._captions, self._images, self._seed = captions, images, seed
        self._keys = [_key(caption) for caption in captions]
        self._rows: dict[str, list[int]] = defaultdict(list)
        for row, image in enumerate(images):
            self._rows[image].append(row)

    def of_image(self, row: int) -> list[str]:
        """Nine captions: of other regions of the row's image as far as there are, then of other images.

        Returns:
            The captions, fewer than nine where the set has no more; none where the image has no other caption.
        """
        near, taken = self._rows[self._images[row]], {"", self._keys[row]}
        rng = np.random.default_rng([self._seed, row, 0])
        drawn = self._distinct([near[place] for place in rng.permutation(len(near))], taken)
        return [*drawn, *self._elsewhere(row, COUNT - len(drawn))] if drawn else []

    def of_others(self, row: int) -> list[str]:
        """Nine captions of other images that the row's image does not have, fewer where the set has no more."""
        return self._elsewhere(row, COUNT)

    def _elsewhere(self, row: int, count: int) -> list[str]:
        rng = np.random.default_rng([self._seed, row, 1])
        image, drawn = self._images[row], list[str]()
        taken = {"", *(self._keys[other] for other in self._rows[image])}
        size = min(4 * COUNT, len(self._captions))  # nearly always enough, and cheaper than an order of all rows
        while len(drawn) < count:
            rows = rng.choice(len(self._captions), size, replace=False)
            others = [int(other) for other in rows if self._images[other] != image]
            drawn += self._distinct(others, taken, count - len(drawn))
            if size == len(self._captions):
                break
            size = len(self._captions)
        return drawn

    def _distinct(self, rows: Sequence[int], taken: set[str], count: int = COUNT) -> list[str]:
        """The first captions that are not taken yet, and are from now on."""
        drawn: list[str] = []
        for row in rows:
            if len(drawn) < count and self._keys[row] not in taken:
                taken.add(self._keys[row])
                drawn.append(self._captions[row])
        return drawn


def check_distractors(kind: str) -> None:
    """Refuses a kind that does not exist.

    Raises:
        ValueError: If it is none of `Distractors`.
    """
    if kind not in get_args(Distractors):
        raise ValueError(f"Distractors are {', '.join(get_args(Distractors))}, got {kind!r}.")


def _key(caption: str) -> str:
    """What two captions share that say the same in other letters."""
    return " ".join(caption.casefold().split()).rstrip(".")
