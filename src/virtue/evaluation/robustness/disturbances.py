"""Everything that is made to go wrong on purpose, by name, with how severely.

A disturbance has a list of severities whose first is 0: undisturbed. It either gives queries other visual prompts
(`prompt_disturbances`) or changes their pictures (`picture_disturbances`). What is drawn for a query goes by its number
and a seed, and one draw serves all severities of a disturbance.

What visual prompts are compared with depends on the family. A box disturbance is compared with the tight box, a point
disturbance with the deepest point, a mask disturbance with the mask, whatever the task's queries show themselves; a
wrong object and a changed picture are compared with the queries as the task has them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from virtue.evaluation.changes import Change
from virtue.evaluation.robustness import picture_disturbances as pictures
from virtue.evaluation.robustness import prompt_disturbances as prompts
from virtue.evaluation.robustness.prompt_disturbances import Draw, Region
from virtue.images import image_key
from virtue.items import Item
from virtue.prompts import AnyPrompt, VisualPrompt

Family = Literal["box", "point", "mask", "object", "picture", "natural", "sampling"]
Needs = Literal["picture", "region", "mask"]
"""What has to be known of a query: its picture, its object's box or mask, or its mask."""

FAMILIES: tuple[Family, ...] = ("box", "point", "mask", "object", "picture", "natural", "sampling")
"""Kinds of curves, in the order of a report; "natural" and "sampling" are those that no disturbance makes."""

WRONG_OBJECT = "wrong object"
ANSWERED = "wrong object answered"

NATURAL = ("object size", "object contrast", "object covered")
BOX_SIZE = "box size"
"""The natural curves, where masks are known, and the one where only boxes are."""

SAMPLING = ("points on a grid", "points of SAM masks", "points of attention")

BASES: dict[Family, Callable[[Region], AnyPrompt]] = {
    "box": prompts.true_box,
    "point": prompts.deepest_point,
    "mask": prompts.true_mask,
}
"""How the object is shown undisturbed; other families take the query as it is."""


@dataclass(frozen=True)
class Disturbance:
    """One way to go wrong.

    Attributes:
        name: Such as "box jittered".
        family: What goes wrong.
        unit: What a severity counts.
        severities: Increasing from 0, which is undisturbed.
        label: What a report calls a severity.
        draw: Of a family of `BASES`: draws the visual prompt at a severity above 0.
        change: Of a changed picture: the change at a severity above 0, with a seed.
        needs: What has to be known of a query.
    """

    name: str
    family: Family
    unit: str
    severities: tuple[float, ...]
    label: Callable[[float], str]
    draw: Draw | None = None
    change: Callable[[float, int], Change] | None = None
    needs: Needs = "region"


def disturbed(disturbance: Disturbance, item: Item, severity: float, number: int, seed: int = 0) -> Item:
    """A query with its visual prompt disturbed.

    Args:
        disturbance: Of a family of `BASES`.
        item: The query as the task has it.
        severity: 0 shows its object undisturbed.
        number: Of the query in its task.
        seed: Of what is drawn.

    Raises:
        ValueError: If the query does not show what has to be known of it.
    """
    region = prompts.region_of(item)
    if region is None or (disturbance.needs == "mask" and region.mask is None):
        lacking = "a mask" if disturbance.needs == "mask" else "a box or a mask"
        raise ValueError(f"Query {number} shows no object by {lacking}, which {disturbance.name!r} starts from.")
    if not severity or disturbance.draw is None:
        return replace(item, prompt=BASES[disturbance.family](region))
    stream = zlib.crc32(disturbance.name.encode())
    drawn = disturbance.draw(region, severity, np.random.default_rng([seed, stream, number]))
    return replace(item, prompt=drawn)


def allowed(needs: Needs, items: Sequence[Item]) -> bool:
    """Whether all queries show what has to be known of them."""
    if needs == "picture":
        return all(item.image is not None for item in items)
    shown = [None if item.prompt is None else item.prompt + VisualPrompt() for item in items]
    if needs == "mask":
        return all(prompt is not None and prompt.mask is not None for prompt in shown)
    return all(prompt is not None and (prompt.mask or prompt.box) is not None for prompt in shown)


def other_objects(items: Sequence[Item], right: Sequence[Sequence[int]], seed: int = 0) -> dict[int, int]:
    """For each query the query of another object of the same picture, drawn among all there are.

    A query whose right candidates are right for the other too is about the same thing, and no other object.

    Args:
        items: The queries.
        right: Of each query the right candidates.
        seed: Of what is drawn.

    Returns:
        By the query's number the other one's; a query without another object in its picture is not there.
    """
    together: dict[object, list[int]] = {}
    for number, item in enumerate(items):
        if item.image is not None and item.prompt is not None:
            together.setdefault(image_key(item.image), []).append(number)
    chosen = {}
    for numbers in together.values():
        for number in numbers:
            others = [other for other in numbers if not set(right[other]) & set(right[number])]
            if others:
                rng = np.random.default_rng([seed, zlib.crc32(WRONG_OBJECT.encode()), number])
                chosen[number] = others[int(rng.integers(len(others)))]
    return chosen


def family_of(name: str) -> Family:
    """The family of a curve by the name of what it is drawn against; any name that is not known is "natural"."""
    if name in DISTURBANCES:
        return DISTURBANCES[name].family
    if name == ANSWERED:
        return "object"
    return "sampling" if name in SAMPLING else "natural"


def _share(severity: float) -> str:
    return f"{100 * severity:.3g} %"


def _count(severity: float) -> str:
    return f"{severity:g}"


def _one_and(severity: float) -> str:
    return f"{severity + 1:g}"


def _drawn_or_deepest(severity: float) -> str:
    return f"{severity:g}" if severity else "deepest"


def _quality(severity: float) -> str:
    return f"quality {100 - severity:g}" if severity else "as it is"


def _shown(severity: float) -> str:
    return "the other object" if severity else "its own object"


def _left(severity: float) -> str:
    return f"{100 * (1 - severity):.3g} % left"


def _prompts(
    family: Family,
    name: str,
    unit: str,
    severities: Sequence[float],
    draw: Draw,
    label: Callable[[float], str] = _share,
) -> Disturbance:
    needs: Needs = "region" if family == "box" else "mask"
    return Disturbance(name, family, unit, (0.0, *severities), label, draw=draw, needs=needs)


def _pictures(
    name: str,
    unit: str,
    severities: Sequence[float],
    redraw: pictures.Redraw,
    label: Callable[[float], str] = _share,
) -> Disturbance:
    def change(severity: float, seed: int) -> Change:
        return pictures.redrawn(name, redraw, severity, seed)

    return Disturbance(name, "picture", unit, (0.0, *severities), label, change=change, needs="picture")


def _small(severity: float, seed: int) -> Change:
    del seed  # nothing is drawn
    return pictures.small(severity)


_SIZE = "share of the object's size"
_SIDE = "share of the box's sides"
_WAY = "share of the way"

_ALL = (
    _prompts("box", "box jittered", f"{_SIDE}, standard deviation", (0.02, 0.05, 0.1, 0.2, 0.4), prompts.jittered),
    _prompts("box", "box shrunk", f"{_SIDE} taken away", (0.1, 0.25, 0.5, 0.75), prompts.shrunk),
    _prompts("box", "box grown", f"{_SIDE} added", (0.25, 0.5, 1, 2, 3), prompts.grown),
    _prompts("box", "box shifted", _SIDE, (0.1, 0.25, 0.5, 1), prompts.shifted),
    _prompts("point", "point off centre", f"{_WAY} to the border", (0.25, 0.5, 0.75, 1), prompts.off_centre),
    _prompts("point", "point outside", f"{_SIZE} away from it", (0.02, 0.1, 0.25, 0.5), prompts.outside),
    _prompts("point", "random points", "points", (1, 2, 3, 5, 9), prompts.random_points, _drawn_or_deepest),
    _prompts("point", "more points", "points added", (1, 2, 4, 8), prompts.more_points, _one_and),
    _prompts("mask", "mask eroded", f"{_WAY} inwards", (0.1, 0.25, 0.5, 0.75), prompts.eroded),
    _prompts("mask", "mask dilated", _SIZE, (0.05, 0.1, 0.25, 0.5), prompts.dilated),
    _prompts("mask", "mask noisy", "share of pixels flipped", (0.05, 0.1, 0.2, 0.4), prompts.noisy),
    _prompts("mask", "mask holed", "share of pixels lost", (0.1, 0.25, 0.5, 0.75), prompts.holed),
    _prompts("mask", "mask ragged", _SIZE, (0.05, 0.1, 0.2, 0.4), prompts.ragged),
    Disturbance(WRONG_OBJECT, "object", "whose prompt is shown", (0.0, 1.0), _shown),
    _pictures("picture low contrast", f"{_WAY} to grey", (0.25, 0.5, 0.75, 0.9), pictures.low_contrast),
    _pictures("picture dark", f"{_WAY} to black", (0.25, 0.5, 0.75, 0.9), pictures.dark),
    _pictures("picture bright", f"{_WAY} to white", (0.25, 0.5, 0.75, 0.9), pictures.bright),
    _pictures("picture noisy", "share of white, standard deviation", (0.05, 0.1, 0.2, 0.4), pictures.noise),
    _pictures("picture blurred", "share of the shorter side", (0.005, 0.01, 0.02, 0.04), pictures.blur),
    _pictures("picture as JPEG", "100 - quality", (50, 70, 90, 95, 99), pictures.jpeg, _quality),
    _pictures("picture coarse", "share of its sides lost", (0.5, 0.75, 0.875), pictures.coarse, _left),
    Disturbance(
        "picture small",
        "picture",
        "share of its sides lost",
        (0.0, 0.25, 0.5, 0.75),
        _left,
        change=_small,
        needs="picture",
    ),
    Disturbance(
        "object hidden",
        "picture",
        "share of the object hidden",
        (0.0, 0.25, 0.5, 0.75, 0.9),
        _share,
        change=pictures.hidden,
    ),
)

DISTURBANCES: dict[str, Disturbance] = {disturbance.name: disturbance for disturbance in _ALL}
"""By name, in the order of a report."""
