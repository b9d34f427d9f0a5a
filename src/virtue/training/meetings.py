"""Which of two things lies in front: where every stage learns the relations "in front of" and "behind" from.

Two things meet where the one hides part of the other, or might. It is asked pair by pair, with what there is to see of
both pooled over the place where they meet: from maps of what is hidden, pixel by pixel, nothing is learnt.

Letters: R rows (one object each), P meetings, h x w cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from virtue.scenes.renderer import Scene, SceneObject

CELLS = 16  # per side of the maps
MARGIN = 8  # pixels around two things' common frame that belong to their meeting
CROWDED = 0.8  # of the objects that stand by another on purpose, in scenes that teach it


@dataclass(frozen=True)
class Meetings:
    """P meetings of a row's object with another.

    Attributes:
        rows: Whose, (P,) int64.
        ours: Share of each cell that the row's object covers where they meet, (P, h, w).
        theirs: Share of each cell that the other covers there, (P, h, w).
        in_front: Whether the row's object lies in front, (P,) bool.
    """

    rows: Tensor
    ours: Tensor
    theirs: Tensor
    in_front: Tensor

    @classmethod
    def of(cls, things: Sequence[tuple[Scene, int]]) -> Meetings:
        """Of rows that are the object of this number in this scene; scenes' sides are multiples of `CELLS` pixels."""
        rows, ours, theirs, in_front = [], [], [], []
        for row, (scene, number) in enumerate(things):
            for first, relation, second in scene.relations:
                if first == number and relation in ("in front of", "behind"):
                    a, b = scene.objects[first], scene.objects[second]
                    place = _common_frame(a, b)
                    rows.append(row)
                    ours.append(_shares(a.mask, place))
                    theirs.append(_shares(b.mask, place))
                    in_front.append(relation == "in front of")
        return cls(
            torch.tensor(rows, dtype=torch.long), _maps(ours), _maps(theirs), torch.tensor(in_front, dtype=torch.bool)
        )

    def signs(self, count: int, side: int) -> Tensor:
        """Share of each cell that lies behind each of `count` rows' objects, less that in front, (R, side, side)."""
        signed = torch.where(self.in_front.view(-1, 1, 1), self.theirs, -self.theirs)
        summed = signed.new_zeros(count, *signed.shape[1:]).index_add(0, self.rows, signed)
        return functional.adaptive_avg_pool2d(summed.unsqueeze(1), side)[:, 0]

    def pooled(self, features: Tensor) -> Tensor:
        """The rows' features (R, C, h, w) over the other thing and over their own, where they meet, (P, 2 C)."""
        own = features[self.rows]
        pools = []
        for share in (self.theirs, self.ours):
            weight = functional.adaptive_avg_pool2d(share.unsqueeze(1), features.shape[-1])
            pools.append((own * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1e-3))
        return torch.cat(pools, dim=1)


def _common_frame(a: SceneObject, b: SceneObject) -> tuple[slice, slice]:
    """Rows and columns of the pixels that lie in both objects' boxes, and a margin around them."""
    left, top = (int(max(a.box[k], b.box[k])) - MARGIN for k in (0, 1))
    right, bottom = (int(min(a.box[k], b.box[k])) + MARGIN for k in (2, 3))
    return slice(max(top, 0), bottom), slice(max(left, 0), right)


def _shares(mask: np.ndarray, place: tuple[slice, slice]) -> np.ndarray:
    """Share of each cell that a mask covers in a place, (CELLS, CELLS)."""
    height, width = mask.shape
    there = np.zeros((height, width), dtype=np.float32)
    there[place] = mask[place]
    shares: np.ndarray = there.reshape(CELLS, height // CELLS, CELLS, width // CELLS).mean((1, 3))
    return shares


def _maps(shares: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.array(shares, dtype=np.float32).reshape(-1, CELLS, CELLS))
