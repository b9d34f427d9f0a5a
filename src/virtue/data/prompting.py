"""Visual prompts drawn from what is annotated, as a person would give them: clicks inside, rough boxes, rough masks.

`draw_prompt` draws one kind from an object's mask, `redraw` any kind that an annotated visual prompt allows.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np

from virtue.prompts import Box, Mask, Point, VisualPrompt

Kind = Literal["box", "point", "mask", "points", "mixed"]
KINDS: tuple[Kind, ...] = ("box", "point", "mask", "points", "mixed")

PromptKinds: TypeAlias = Mapping[Kind, float]
"""How often which kind of visual prompt is drawn; only the ratios count, and a kind left out is never drawn."""

PROMPT_KINDS: PromptKinds = {"box": 0.4, "point": 0.2, "mask": 0.15, "points": 0.1, "mixed": 0.15}
"""Most people drag a box or click once."""

BOX_JITTER = 0.05  # standard deviation of an edge, of the box's side


def checked_kinds(kinds: Mapping[str, float] | PromptKinds) -> PromptKinds:
    """Weights of prompt kinds as a user gives them, refused where they make no sense.

    Raises:
        ValueError: If a kind is unknown, a weight is negative or not finite, or all are zero.
    """
    for kind, weight in kinds.items():
        if kind not in KINDS:
            raise ValueError(f"There is no visual prompt kind {kind!r}; there are {', '.join(KINDS)}.")
        if not 0 <= weight < float("inf"):
            raise ValueError(f"The weight of the visual prompt kind {kind!r} must be 0 or more, got {weight}.")
    if not any(kinds.values()):
        raise ValueError("At least one kind of visual prompt needs a weight above 0.")
    return {kind: float(kinds[kind]) for kind in KINDS if kind in kinds}


def redraw(
    prompt: VisualPrompt,
    rng: np.random.Generator,
    kinds: PromptKinds | None = PROMPT_KINDS,
    size: tuple[int, int] | None = None,
) -> VisualPrompt:
    """Draws what a person might give for an annotated object.

    From a mask any kind is drawn. A box alone says not which of its pixels are the object, so no click or mask is drawn
    from it: it is only jittered, and clicks that came with it stay. Clicks alone stay as they are.

    Args:
        prompt: The annotated box, mask or points, inside the picture.
        rng: Draws.
        kinds: How often which kind is drawn from a mask; None leaves every visual prompt as annotated.
        size: Width and height of the picture; without them a box alone is jittered inwards only, because it is not
            known how far it may reach.

    Returns:
        The visual prompt, inside the picture, source pixels.
    """
    if kinds is None:
        return prompt
    if prompt.mask is not None:
        weights = np.array([kinds.get(kind, 0.0) for kind in KINDS])
        kind = KINDS[int(rng.choice(len(KINDS), p=weights / weights.sum()))]
        return draw_prompt(kind, prompt.mask.array, rng)
    if prompt.box is not None:
        return VisualPrompt(prompt.points, _jittered(prompt.box, rng, size))
    return prompt


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


def _jittered(box: Box, rng: np.random.Generator, size: tuple[int, int] | None) -> Box:
    """The box with each edge moved by a normal share of its side, inside the picture."""
    wide, high = box.x2 - box.x1, box.y2 - box.y1
    # At most four standard deviations, so that opposite edges never meet.
    dx1, dy1, dx2, dy2 = (rng.normal(0, BOX_JITTER, 4).clip(-4 * BOX_JITTER, 4 * BOX_JITTER)).tolist()
    if size is None:
        dx1, dy1, dx2, dy2 = abs(dx1), abs(dy1), -abs(dx2), -abs(dy2)
    right, bottom = size or (box.x2, box.y2)
    return Box(
        max(box.x1 + dx1 * wide, min(box.x1, 0)),
        max(box.y1 + dy1 * high, min(box.y1, 0)),
        min(box.x2 + dx2 * wide, max(box.x2, right)),
        min(box.y2 + dy2 * high, max(box.y2, bottom)),
    )


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
