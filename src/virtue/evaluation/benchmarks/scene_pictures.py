"""Pictures and masks of the drawn world that are drawn when they are looked at.

A task of ten thousand pictures holds ten thousand seeds. A `ScenePicture` is read like an open file, so it may stand
wherever an image may; what it gives is uncompressed, because drawing takes a few milliseconds and a PNG's packing as
long again. The scenes looked at last are kept, as the regions of one picture are asked for one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from virtue.evaluation.scenes import visual_prompt
from virtue.items import Item
from virtue.prompts import AnyPrompt, Mask
from virtue.scenes.composing import Wish, compose
from virtue.scenes.renderer import Scene, render
from virtue.scenes.vocabulary import RELATION_AXES, RELATIONS

SHOWN = ("box", "point", "mask", "none")
"""How a region is pointed at; "none" does not point at it."""

KEPT = 32
"""Scenes that are kept, each half a megabyte."""


@dataclass(frozen=True)
class ScenePicture:
    """A test scene's picture.

    Attributes:
        seed: Of the scene.
        wish: What is composed with this seed; without one the scene is `render`'s.
    """

    seed: int
    wish: Wish | None = None

    def scene(self) -> Scene:
        """The scene, drawn or still known. It is shared: leave it as it is."""
        return _scene(self.seed, self.wish)

    def read(self) -> bytes:
        """The picture as a PPM file."""
        image = self.scene().image
        return f"P6 {image.shape[1]} {image.shape[0]} 255\n".encode() + image.tobytes()

    def item(self, prompt: AnyPrompt | None = None) -> Item:
        """The picture, with a visual prompt or whole, as something to embed."""
        return Item(image=cast("BinaryIO", self), prompt=prompt)


class SceneMask(Mask):
    """The visible pixels of one object of a scene, drawn when they are asked for.

    Args:
        picture: The scene's picture.
        index: Which of its objects.
    """

    def __init__(self, picture: ScenePicture, index: int) -> None:
        object.__setattr__(self, "_picture", picture)
        object.__setattr__(self, "_index", index)

    @property
    def array(self) -> NDArray[np.bool_]:
        """The pixels, bool (H, W), read-only."""
        picture: ScenePicture = self.__dict__["_picture"]
        mask: NDArray[np.bool_] = picture.scene().objects[self.__dict__["_index"]].mask
        mask.setflags(write=False)
        return mask


def pointed(picture: ScenePicture, index: int, shown: str) -> Item:
    """A picture with one of its objects pointed at.

    Args:
        picture: The picture.
        index: Which of the scene's objects, in drawing order.
        shown: One of `SHOWN`.
    """
    if shown == "none":
        return picture.item()
    if shown == "mask":
        return picture.item(SceneMask(picture, index))
    return picture.item(visual_prompt(shown, picture.scene().objects[index]))


def relation_axis(relation: int) -> str:
    """The axis of a relation, given as its place in `RELATIONS`: "sideways", "upright" or "depth"."""
    return next(axis for axis, phrases in RELATION_AXES.items() if RELATIONS[relation] in phrases)


def check_shown(shown: str) -> None:
    """Refuses a way of pointing that there is not.

    Raises:
        ValueError: If `shown` is none of `SHOWN`.
    """
    if shown not in SHOWN:
        raise ValueError(f"A region is shown as {', '.join(SHOWN)}, not as {shown!r}.")


@lru_cache(maxsize=KEPT)
def _scene(seed: int, wish: Wish | None) -> Scene:
    return render(seed, "test") if wish is None else compose(wish, seed)
