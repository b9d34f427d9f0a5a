"""Small files of text, line by line: lists of classes, of places, of images."""

from __future__ import annotations

from pathlib import Path


def lines_of(file: str | Path) -> list[str]:
    """The lines of a text, without space around them; empty ones too.

    Args:
        file: UTF-8, with a byte order mark or without.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no text in UTF-8.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: byte {error.start} is none.") from None
