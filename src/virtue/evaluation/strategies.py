"""How a model without visual prompts is shown a region: said in words, cut out, circled, or set off from the rest.

Every strategy works with every model, and several may be joined by "+". They are applied from left to right, and each
sees what the one before it made. So "crop+box-in-text" says where the region is in the crop, while "box-in-text+crop"
says where it was in the whole picture, which the model then no longer sees. The paper's "+cropping" rows have the box
as text too and do not say in which frame; a data set's own text beside a crop would be the latter.

A strategy shows the region instead of the visual prompt, so the visual prompt is dropped at the end, unless "prompt" is
among those joined: "prompt+box-in-text" says the box and keeps the visual prompt. (A checkpoint in the authors' format
says the box of a visual prompt by itself, and needs "prompt" alone.) Items without one pass unchanged.
What counts as the region, and how large circles and margins are, stands in `drawing`; a click's region depends on the
size of the picture, and so is smaller in a crop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from PIL import Image

from virtue.evaluation import drawing
from virtue.evaluation.changes import Change
from virtue.images import open_image
from virtue.items import Item
from virtue.prompts import VisualPrompt, as_visual_prompt
from virtue.templates import box_in_words, point_in_words


@dataclass(frozen=True)
class Strategy:
    """One way to show a region.

    Attributes:
        description: One line for a list of strategies.
        change: What it does to an item, the visual prompt left in place; None where nothing is to be done.
        is_picture: Whether it changes the picture.
    """

    description: str
    change: Change | None = None
    is_picture: bool = False


def strategy_changes(name: str) -> tuple[Change, ...]:
    """The changes of a strategy, in the order in which they are applied.

    Args:
        name: A key of `STRATEGIES`, or several joined by "+", such as "crop+box-in-text".

    Returns:
        None at all for "prompt", which leaves items as they are.

    Raises:
        ValueError: If there is no such strategy, or those joined contradict each other.
    """
    parts = [part.strip() for part in name.split("+")]
    _check(name, parts)
    changes = [change for part in parts if (change := STRATEGIES[part].change) is not None]
    return tuple(changes) if "prompt" in parts else (*changes, _DROP)


def _check(name: str, parts: list[str]) -> None:
    for part in parts:
        if part not in STRATEGIES:
            raise ValueError(f"There is no strategy {part!r}; there are {', '.join(STRATEGIES)}, and several by +.")
        if parts.count(part) > 1:
            raise ValueError(f"The strategy {name} names {part} twice; once is enough.")
    if "none" in parts and len(parts) > 1:
        raise ValueError(f"The strategy none shows no region, so it cannot be joined with others as in {name}.")
    if {"crop", "crop-margin"} <= set(parts):
        raise ValueError(f"The strategy {name} crops twice; take either crop or crop-margin.")
    pictures = [part for part in parts if STRATEGIES[part].is_picture]
    if "alpha" in pictures[:-1]:
        raise ValueError(f"The strategy {name} changes the picture after alpha, which would undo it; put alpha last.")


def _without_prompt(item: Item) -> Item:
    """The item without its visual prompt."""
    return item if item.prompt is None else replace(item, prompt=None)


def _in_words(item: Item) -> Item:
    """The item with its region said after its text; of clicks alone the first, as the authors' format has no more."""
    if item.prompt is None:
        return item
    words = _words(VisualPrompt() + item.prompt)
    return replace(item, text=f"{item.text}\n{words}" if item.text else words)


def _words(prompt: VisualPrompt) -> str:
    box = drawing.known_box(prompt)
    if box is not None:
        return box_in_words(box)
    for point in prompt.points:
        if point.include:
            return point_in_words(point)
    raise ValueError("A visual prompt without a point on the object, a box or a mask cannot be said in words.")


def _drawn(draw: Callable[[Image.Image, VisualPrompt], Image.Image]) -> Callable[[Item], Item]:
    """What gives an item the picture that is drawn of its own."""

    def apply(item: Item) -> Item:
        if item.image is None or item.prompt is None:
            return item
        picture = open_image(item.image)
        prompt = as_visual_prompt(item.prompt, *picture.size)
        return replace(item, image=draw(picture, prompt), prompt=prompt)

    return apply


def _cropped(margin: float) -> Callable[[Item], Item]:
    """What gives an item the part of its picture that holds the region, and the visual prompt's place in that part."""

    def apply(item: Item) -> Item:
        if item.image is None or item.prompt is None:
            return item
        picture = open_image(item.image)
        prompt = as_visual_prompt(item.prompt, *picture.size)
        window = drawing.window(prompt, picture.size, margin)
        return replace(item, image=picture.crop(window), prompt=drawing.moved(prompt, window))

    return apply


_DROP = Change("none", _without_prompt)

STRATEGIES: dict[str, Strategy] = {
    "prompt": Strategy("the visual prompt itself, for models that take one"),
    "none": Strategy("no region at all: the whole picture"),
    "box-in-text": Strategy(
        "the box (of a mask its own, of clicks the first) said after the text, the paper's default",
        Change("box-in-text", _in_words),
    ),
    "crop": Strategy("only the region's box", Change("crop", _cropped(0.0)), is_picture=True),
    "crop-margin": Strategy(
        "only the region's box, grown on each side by a quarter of its width and height",
        Change(f"crop-margin {drawing.MARGIN:g}", _cropped(drawing.MARGIN)),
        is_picture=True,
    ),
    "red-circle": Strategy(
        "a red ellipse around the region (arXiv 2304.06712)",
        Change(f"red-circle {drawing.CIRCLE_WIDTH:.4g}", _drawn(drawing.circled)),
        is_picture=True,
    ),
    "blur": Strategy(
        "everything outside the region blurred (arXiv 2306.04356)",
        Change(f"blur {drawing.BLUR:g}", _drawn(drawing.blurred)),
        is_picture=True,
    ),
    "darken": Strategy(
        "everything outside the region darkened",
        Change(f"darken {drawing.DARKNESS:g}", _drawn(drawing.darkened)),
        is_picture=True,
    ),
    "alpha": Strategy(
        "the region in the alpha channel, for models that take one; others see white outside (arXiv 2312.03818)",
        Change("alpha", _drawn(drawing.with_alpha)),
        is_picture=True,
    ),
}
"""Every strategy by its name."""
