"""Every string a model was trained on, once.

A template turns an item's instruction, text and visual prompt into the text that the tokenizer reads. A checkpoint's
configuration names its template; a new wording is a new entry here, never an edit of an old one.
"""

from __future__ import annotations

from collections.abc import Callable

from virtue.prompts import Box, Point, VisualPrompt

IMAGE_TOKEN = "<|image_pad|>"
END_TOKEN = "<|endoftext|>"

DESCRIBE = "Represent the given image."
DESCRIBE_POINT = (
    "Find the caption that best describes the segmented object, considering both local details and global context in "
    "the given image."
)
DESCRIBE_BOX = (
    "Find the caption that best describes the object in the bounding box, considering both local details and global "
    "context in the given image."
)


def released(text: str, *, has_image: bool, prompt: VisualPrompt | None) -> str:
    """The authors' format: image token, newline, instruction, newline, where the region is in source pixels.

    A candidate or query without a picture is its bare text. The box is written as their training data writes it, a list
    of floats `[x1, y1, x2, y2]`. Text that begins with white space stands behind the image token as it is written:
    their evaluation has other spaces than their training.
    """
    if not has_image:
        return text
    if prompt is None:
        return _behind_image(text or f"{DESCRIBE}\n")
    if prompt.box is not None:
        return f"{_behind_image(text or DESCRIBE_BOX)}\n{box_in_words(prompt.box)}"
    point = next((point for point in prompt.points if point.include), None)
    if point is not None:
        return f"{_behind_image(text or DESCRIBE_POINT)}\n{point_in_words(point)}"
    return _behind_image(text or DESCRIBE_POINT)


def vlm2vec(text: str, *, has_image: bool, prompt: VisualPrompt | None) -> str:
    """VLM2Vec's format: image token, space, instruction, newline; a region is said in words, so it has to be a box.

    Text that begins with white space is written as `released` writes it: their evaluation is the same.

    Raises:
        ValueError: If the visual prompt is anything but a box.
    """
    if prompt is not None and (prompt.box is None or prompt.points or prompt.mask is not None):
        raise ValueError("This model reads regions as words, and only a box can be put in words: give a Box alone.")
    if not has_image or text[:1].isspace():
        return released(text, has_image=has_image, prompt=prompt)
    words = f"{IMAGE_TOKEN} {text or DESCRIBE}\n"
    if prompt is None or prompt.box is None:
        return words
    return f"{words}{box_in_words(prompt.box)}\n"


def virtue(text: str, *, has_image: bool, prompt: VisualPrompt | None) -> str:
    """This project's own format: the picture, the words, an end token that gathers them; no region is put in words.

    White space that `released` would take as it is written does not stand between picture and words.
    """
    del prompt  # the segmentation tokens say where
    return f"{IMAGE_TOKEN}{text.lstrip()}{END_TOKEN}" if has_image else f"{text}{END_TOKEN}"


def box_in_words(box: Box) -> str:
    """A box as the authors' training data writes it, source pixels."""
    return f"Referring object bbox: {[float(box.x1), float(box.y1), float(box.x2), float(box.y2)]}"


def point_in_words(point: Point) -> str:
    """A point as the authors' example writes it, whole source pixels."""
    return f"Referring object point: ({int(point.x)}, {int(point.y)})"


def _behind_image(words: str) -> str:
    return f"{IMAGE_TOKEN}{words}" if words[:1].isspace() else f"{IMAGE_TOKEN}\n{words}"


Template = Callable[..., str]
TEMPLATES: dict[str, Template] = {"released": released, "vlm2vec": vlm2vec, "virtue": virtue}
