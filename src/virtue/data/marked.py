"""Items out of the texts and image paths of MMEB and SCaR, where `<|image_1|>` in a text says that an image goes there.

An `Item` keeps text and image apart and a template puts the image first, so the mark is taken out, with the newline or
the spaces after it.
"""

from __future__ import annotations

import re
from pathlib import Path

from virtue.data.rows import Row
from virtue.items import Item
from virtue.prompts import AnyPrompt

MARK = "<|image_1|>"
_MARK_AND_GAP = re.compile(r"<\|image_1\|>(?: *\n| +)?")


def marked_item(
    row: Row, text: tuple[str, str], path: tuple[str, str], images: Path, prompt: AnyPrompt | None = None
) -> Item:
    """The item of a text and an image path, one of which may be empty.

    Args:
        row: For messages.
        text: Name of the field and the text in it, with or without the mark.
        path: Name of the field and the path in it, relative to `images`.
        images: Folder of the images. Nothing in it is opened.
        prompt: The visual prompt on the image.

    Raises:
        RowError: If there is neither text nor image, a mark without an image, or a path without a file name.
    """
    words = _MARK_AND_GAP.sub("", text[1])
    if not path[1].strip():
        if MARK in text[1]:
            raise row.error(path[0], f"is empty, but {text[0]} says with {MARK} that there is an image.")
        if not words.strip():
            raise row.error(text[0], "is empty, and there is no image either.")
        with row.checked(text[0]):
            return Item(text=words)
    with row.checked(text[0]):
        return Item(text=words or None, image=image_path(row, *path, images), prompt=prompt)


def image_path(row: Row, field: str, path: str, images: Path) -> Path:
    """Where an image of a row lies.

    Raises:
        RowError: If the path names no file.
    """
    if re.split(r"[/\\]", path)[-1].strip() in ("", ".", ".."):
        raise row.error(field, f"must end in a file name, got {path!r}.")
    return images / path


def marked_items(
    row: Row, text_field: str, path_field: str, images: Path, instruction: str | None = None
) -> list[Item | None]:
    """The items of two fields that each hold one value, a list, or nothing; None where both are empty.

    Args:
        row: Where they stand.
        text_field: Name of the field with the texts.
        path_field: Name of the field with the image paths.
        images: Folder of the images.
        instruction: Stands before every text.

    Raises:
        RowError: If both hold several, but not equally many, or an item makes no sense.
    """
    texts, paths = row.texts(text_field), row.texts(path_field)
    if texts and paths and len(texts) != len(paths):
        raise row.error(path_field, f"holds {len(paths)}, but {text_field} holds {len(texts)}.")
    count = max(len(texts), len(paths))
    texts, paths = texts or [""] * count, paths or [""] * count
    return [
        marked_item(row, (text_field, joined(instruction, text)), (path_field, path), images)
        if text.strip() or path.strip()
        else None
        for text, path in zip(texts, paths, strict=True)
    ]


def negatives(row: Row, images: Path) -> tuple[Item, ...]:
    """The hard negatives of `neg_text` and `neg_image_path`.

    Raises:
        RowError: As `marked_items`.
    """
    return tuple(item for item in marked_items(row, "neg_text", "neg_image_path", images) if item is not None)


def joined(instruction: str | None, text: str) -> str:
    """An instruction and a text as one, ending in one newline; without an instruction the text as it stands."""
    if not (instruction and instruction.strip()):
        return text
    return f"{instruction.strip()} {text.strip()}".strip() + "\n"
