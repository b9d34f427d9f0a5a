"""What is embedded: text, an image, or both, with an optional visual prompt on the image and an optional instruction.

An `Item` is checked for sense when it is made, but its image is not opened: that happens when it is embedded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from virtue.images import ImageSource, is_image_source
from virtue.prompts import AnyPrompt


@dataclass(frozen=True, eq=False)
class Item:
    """One thing to embed.

    Args:
        text: Words, alone or about the image.
        image: Anything `virtue.images.open_image` opens.
        prompt: The visual prompt: what in the image is meant, in its source pixels; None for the whole image.
        instruction: What the embedding is for; None leaves the choice to the embedder.

    Raises:
        ValueError: If there is neither text nor image, a visual prompt without an image, or a value of the wrong type.
    """

    text: str | None = None
    image: ImageSource | None = None
    prompt: AnyPrompt | None = None
    instruction: str | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be embedded."""
        for name in ("text", "instruction"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"An item's {name} must be a str, got {type(value).__name__}.")
            if value is not None and not _is_unicode(value):
                raise ValueError(f"An item's {name} holds half of a surrogate pair, which is no character: {value!a}.")
        if self.image is not None and not is_image_source(self.image):
            raise ValueError(f"An item's image cannot be a {type(self.image).__name__}.")
        if self.prompt is not None and not isinstance(self.prompt, AnyPrompt):
            raise ValueError(
                f"An item's visual prompt is a Point, Points, Box, Mask or their sum, got {type(self.prompt).__name__}."
            )
        if self.image is None and self.prompt is not None:
            raise ValueError("An item with a visual prompt needs an image for it to point at.")
        if self.image is None and not (self.text and self.text.strip()):
            raise ValueError("An item needs text or an image, got neither.")


def as_item(value: object) -> Item:
    """Turns what a user hands in into an `Item`.

    Args:
        value: An `Item`, a str (always text, never a path), a dict with the fields of an `Item`, or an image as a
            `Path`, PIL image, array, tensor, bytes or open file.

    Raises:
        ValueError: If it is none of these, or makes no sense as an item.
    """
    if isinstance(value, Item):
        return value
    if isinstance(value, str):
        return Item(text=value)
    if isinstance(value, Mapping):
        return Item(**_known_fields(value))
    if is_image_source(value):
        return Item(image=value)
    raise ValueError(
        f"Cannot embed a {type(value).__name__}: give a str, an image, an Item or a dict with the fields of an Item."
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _known_fields(value: Mapping[Any, Any]) -> dict[str, Any]:
    known = [field.name for field in fields(Item)]
    unknown = [key for key in value if key not in known]
    if unknown:
        raise ValueError(f"An item has no {unknown[0]!r}: its keys are {', '.join(known)}.")
    return dict(value)
