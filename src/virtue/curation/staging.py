"""Replaces a folder as a whole: written beside its place, moved there when complete, whatever moment a kill comes at.

1. A lock file beside the folder keeps a second writer out.
2. Everything is written to `.<name>.unfinished`; what an earlier killed writer left there is removed first.
3. An old folder is moved to `.<name>.old`, the new one to its place, and the old one is removed.
4. A kill between the two moves leaves no folder but an old one, which the next writer moves back before anything else.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def replaced(folder: Path, marker: str) -> Iterator[Path]:
    """Gives a new folder to write into, which takes the place of another when the block ends without an exception.

    Args:
        folder: The place. An existing one must be empty or hold the marker.
        marker: A file that every such folder holds.

    Raises:
        ValueError: If the place holds something else, or another process writes there.
        OSError: If nothing can be written beside the place.
    """
    folder = folder.expanduser().resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished, old, lock = (folder.with_name(f".{folder.name}.{word}") for word in ("unfinished", "old", "lock"))
    lock.touch()  # where nothing can be written, a lock would only seem to be taken
    try:
        with FileLock(lock, timeout=0):
            if old.exists() and not folder.exists():
                old.rename(folder)
            _check(folder, marker)
            for left in (unfinished, old):
                shutil.rmtree(left, ignore_errors=True)
            unfinished.mkdir()
            try:
                yield unfinished
                if not (unfinished / marker).is_file():
                    raise RuntimeError(f"{unfinished} is to replace {folder} and lacks {marker}")
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
            _swap(folder, unfinished, old)
    except Timeout:
        raise ValueError(f"{folder} is being written by another process: wait for it, or choose another.") from None


def _check(folder: Path, marker: str) -> None:
    if not folder.exists() or (folder.is_dir() and ((folder / marker).is_file() or not any(folder.iterdir()))):
        return
    raise ValueError(f"{folder} holds something that is no exported set (no {marker}): choose another folder.")


def _swap(folder: Path, unfinished: Path, old: Path) -> None:
    if folder.exists():
        folder.rename(old)
    unfinished.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
