"""A handful of pairs on tiny pictures: regions, whole pictures and texts, with ragged hard negatives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.tiny import picture
from virtue.data.collator import PairBatch, PairCollator
from virtue.data.mixture import Mixture, Part
from virtue.data.pairs import Pair
from virtue.items import Item
from virtue.model import VirtueProcessor
from virtue.prompts import Box, Mask, Point

PICTURES = [picture(seed=seed) for seed in range(4)]  # 80 x 60


class TinyPairs:
    """`count` pairs: each picture stands in several of them."""

    name = "tiny"

    def __init__(self, count: int = 12) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> Pair:
        image = PICTURES[row % len(PICTURES)]
        box, mask = Box(4 + row % 5, 6, 40, 30 + row % 7), np.zeros((60, 80), dtype=bool)
        mask[10:30, 20 : 40 + row] = True
        prompt = (None, box, Mask(mask), Point(20 + row, 30), box + Mask(mask))[row % 5]
        query = Item(text="what" * (1 + row % 3), image=image, prompt=prompt)
        target = Item(text=f"thing number {row}") if row % 4 else Item(image=PICTURES[(row + 1) % 4], text=f"row {row}")
        negatives = tuple(Item(text=f"no {row} {i}" + "!" * i) for i in range(row % 3))
        return Pair(query, (target,), negatives, where=f"tiny row {row}")


def tiny_mixture(count: int = 12, seed: int = 0) -> Mixture:
    return Mixture([Part(TinyPairs(count))], seed=seed, block=4)


def tiny_batch(processor: VirtueProcessor, rows: Sequence[int] = range(7)) -> PairBatch:
    return PairCollator(processor)([TinyPairs()[row] for row in rows])
