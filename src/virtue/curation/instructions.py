"""The instructions that the LLM writes by: Markdown files with a version in their names, ours or the user's own.

A set has three of them, one for each thing that is asked: `elements`, `distractors` and `pick`. A file is called
`NAME.vN.md`; the highest N of a folder counts. What a sample is marked with is name, version and a digest of the text,
so that a changed file is never taken for the one before.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

NAMES = ("elements", "distractors", "pick")
"""What is asked of an LLM, in the order of the pipeline."""


@dataclass(frozen=True)
class Instruction:
    """One file.

    Attributes:
        name: One of `NAMES`.
        version: As in "v1".
        text: What it says, without white space around it.
    """

    name: str
    version: str
    text: str

    @property
    def label(self) -> str:
        """As in "pick.v1-3f2a9c10": name, version and the start of a digest of the text."""
        return f"{self.name}.{self.version}-{hashlib.blake2b(self.text.encode(), digest_size=4).hexdigest()}"


@dataclass(frozen=True)
class Instructions:
    """A set of three.

    Attributes:
        elements: How to write the true caption.
        distractors: How to write the wrong ones.
        pick: How to find the true one.
    """

    elements: Instruction
    distractors: Instruction
    pick: Instruction

    @property
    def version(self) -> str:
        """The labels of all three, with spaces between them."""
        return " ".join(getattr(self, name).label for name in NAMES)


def load_instructions(folder: str | Path | None = None) -> Instructions:
    """Reads a set of instructions.

    Args:
        folder: The user's own; what it does not hold is taken from ours. Ours by default.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds no instruction, or one that is empty or not UTF-8.
    """
    found = {name: _newest(_ours(), name) for name in NAMES}
    if folder is not None:
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"There is no folder {folder} to read instructions from.")
        own = {name: _newest(Path(folder), name) for name in NAMES}
        if not any(own.values()):
            wanted = ", ".join(f"{name}.v1.md" for name in NAMES)
            raise ValueError(f"{folder} holds no instructions: they are files called {wanted}.")
        found |= {name: file for name, file in own.items() if file is not None}
    return Instructions(**{name: _read(file, name) for name, file in found.items() if file is not None})


def _ours() -> Traversable:
    return resources.files("virtue.curation") / "data" / "instructions"


def _newest(folder: Traversable, name: str) -> Traversable | None:
    """The file of a name with the highest version; None if there is none."""
    matches = {file: re.fullmatch(rf"{name}\.v(\d+)\.md", file.name) for file in folder.iterdir()}
    versions = {int(match.group(1)): file for file, match in matches.items() if match}
    return versions[max(versions)] if versions else None


def _read(file: Traversable, name: str) -> Instruction:
    try:
        text = file.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError(f"The instruction {file} is not UTF-8 text.") from None
    if not text:
        raise ValueError(f"The instruction {file} is empty.")
    return Instruction(name, file.name.split(".")[1], text)
