r"""The words of the released evaluation, space for space.

The released code puts a string together from an image token, an instruction and a text, one space between them, makes
every space before a newline go, and mostly ends it with a newline. It writes other spaces than the training data do,
and the published figures were measured with them. What stands behind the image token is given here as `Item.text`: it
begins with a space or a newline, so `templates.released` and `templates.vlm2vec` take it as it is written, and
`templates.virtue`, which was trained on no such thing, without the white space in front.

    "<|image_1|>\nWhat is it?"  ->  " \nWhat is it?"    of SCaR: one of its two spaces stays

A task's kind says how its words go together: "image_to_text" and "question" ask of an image and have texts as
candidates, "text_to_image" asks in words and "image_to_image" of an image, and images are their candidates.
"""

from __future__ import annotations

import re
from typing import Literal

from virtue.data.marked import MARK

Kind = Literal["image_to_text", "question", "text_to_image", "image_to_image"]
ASKS_OF_IMAGES = frozenset({"image_to_text", "question", "image_to_image"})
FINDS_IMAGES = frozenset({"text_to_image", "image_to_image"})
_NEWLINE_FIRST = frozenset({"question", "image_to_image"})
_MARK_AND_NEWLINE = re.compile(r"<\|image_1\|>\n?")


def scar_text(text: str) -> str:
    """The words of a SCaR query, without the box, which the template adds.

    Args:
        text: The row's `qry_text`, with its mark or without.
    """
    return _behind_image("", text.replace(MARK, ""))


def query_text(kind: Kind, instruction: str, text: str, *, newlines: int = 1) -> str:
    """The words of an MMEB query in the newer layout.

    A mark in the instruction of a query in words, which has no image, is left out; the released code leaves an image
    token without an image there.

    Args:
        kind: Of the task.
        instruction: The row's `qry_inst`.
        text: The row's `qry_text`.
        newlines: How many end a query in words: 2 in VisDial.
    """
    if kind == "text_to_image":
        return f"{_MARK_AND_NEWLINE.sub('', instruction)} {text}" + newlines * "\n"
    words = instruction.replace(MARK, "")
    return _behind_image(f"\n{words.strip()}" if kind in _NEWLINE_FIRST else words, text) + "\n"


def candidate_text(kind: Kind, instruction: str, text: str, *, captioned: bool) -> str:
    """The words of an MMEB candidate in the newer layout; those of a text are its own, without the instruction.

    Args:
        kind: Of the task.
        instruction: The row's `tgt_inst`.
        text: One of the row's `tgt_text`.
        captioned: Whether the first of the row's `tgt_text` says anything: it decides for all candidates of the row.
    """
    if kind not in FINDS_IMAGES:
        return text
    words = instruction.replace(MARK, "")
    if captioned:
        return _behind_image(f"{words} {text}") + "\n"
    return _behind_image(words) + ("" if kind == "image_to_image" else "\n")


def older_text(text: str, *, has_image: bool) -> str:
    """The words of a query or an image in the older layout, where the mark became the image token and no more.

    Args:
        text: As it stands in the row.
        has_image: Whether there is an image; a mark without one is left out with its newline.
    """
    return text.replace(MARK, "") if has_image else _MARK_AND_NEWLINE.sub("", text)


def _behind_image(words: str, text: str = "") -> str:
    joined = f" {words} {text}" if text else f" {words}"
    return joined.replace(" \n", "\n")
