"""Visual prompts drawn from an object's mask, as a person would give them: clicks inside, rough boxes, rough masks."""

from typing import Literal

import numpy as np

from virtue.prompts import Box, Mask, Point, VisualPrompt

Kind = Literal["box", "point", "mask", "points", "mixed"]
KINDS: tuple[Kind, ...] = ("box", "point", "mask", "points", "mixed")


def draw_prompt(kind: Kind, mask: np.ndarray, rng: np.random.Generator) -> VisualPrompt:
    """Draw one visual prompt for an object.

    Args:
        kind: "box" a jittered box; "point" one click inside; "points" one to three clicks, some of them on what
            is not meant; "mask" a grown, shrunk or displaced mask; "mixed" a box with a click or a mask with a box.
        mask: The object's visible pixels, bool (H, W), not empty.
        rng: Draws.

    Returns:
        The visual prompt, inside the picture, source pixels.
    """
    if kind == "box":
        return VisualPrompt(box=rough_box(mask, rng))
    if kind == "mask":
        return VisualPrompt(mask=rough_mask(mask, rng))
    if kind == "point":
        return VisualPrompt(points=_clicks(mask, 1, True, rng))
    if kind == "points":
        out = int(rng.integers(3))
        clicks = _clicks(mask, max(1, 3 - out) if rng.integers(2) else 1, True, rng)
        return VisualPrompt(points=clicks + _clicks(~mask, out, False, rng))
    box = rough_box(mask, rng)
    if rng.integers(2):
        return VisualPrompt(box=box, mask=rough_mask(mask, rng))
    return VisualPrompt(points=_clicks(mask, 1, True, rng), box=box)


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """XYXY around the True pixels, far edges exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def rough_box(mask: np.ndarray, rng: np.random.Generator, jitter: float = 0.05) -> Box:
    """The object's box with each edge moved by a normal share of its side, inside the picture."""
    x1, y1, x2, y2 = tight_box(mask)
    height, width = mask.shape
    dx1, dy1, dx2, dy2 = rng.normal(0, jitter, 4) * [x2 - x1, y2 - y1, x2 - x1, y2 - y1]
    left, top = float(np.clip(x1 + dx1, 0, width - 2)), float(np.clip(y1 + dy1, 0, height - 2))
    right, bottom = float(np.clip(x2 + dx2, left + 1, width)), float(np.clip(y2 + dy2, top + 1, height))
    return Box(left, top, right, bottom)


def rough_mask(mask: np.ndarray, rng: np.random.Generator) -> Mask:
    """The object's mask grown, shrunk or displaced by a few pixels; the mask itself where that would leave nothing."""
    change = int(rng.integers(4))
    changed = mask
    if change == 1:
        changed = shrink(mask, 2)
    elif change == 2:
        changed = ~shrink(~mask, 3)
    elif change == 3:
        changed = _displaced(mask, *rng.integers(-4, 5, 2).tolist())
    return Mask(changed if changed.any() else mask)


def _displaced(mask: np.ndarray, down: int, right: int) -> np.ndarray:
    """The mask moved by a few pixels; what leaves the picture is lost."""
    height, width = mask.shape
    padded = np.pad(mask, ((max(down, 0), max(-down, 0)), (max(right, 0), max(-right, 0))))
    return padded[max(-down, 0) :, max(-right, 0) :][:height, :width]


def shrink(mask: np.ndarray, radius: int) -> np.ndarray:
    """Pixels whose whole square of side 2 * radius + 1 is True, outside the picture counting as True; bool (H, W)."""
    for _ in range(2):  # along one axis, then the other
        kept = mask.copy()
        for step in range(1, radius + 1):
            kept[step:] &= mask[:-step]
            kept[:-step] &= mask[step:]
        mask = kept.T
    return mask


def _clicks(mask: np.ndarray, count: int, include: bool, rng: np.random.Generator) -> tuple[Point, ...]:
    """Random pixels of a mask's inside as clicks, each at its column and row."""
    inside = np.flatnonzero(shrink(mask, 2))
    if len(inside) < count:
        inside = np.flatnonzero(mask)
    if not len(inside):
        return ()
    chosen = inside[rng.integers(len(inside), size=count)].tolist()
    return tuple(Point(i % mask.shape[1] + 0.5, i // mask.shape[1] + 0.5, include) for i in chosen)
