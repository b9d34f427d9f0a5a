"""What an item is, in sixteen bytes: two items have one key only if they say and show the same.

A key goes by content. A picture file counts by its bytes, so a changed file has another key, and a copy elsewhere the
same one; what a process learnt of a file it remembers by path, time of change and size. Pictures in memory count by
their pixels. Changes count by their names, since they are applied only when an item is embedded.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from virtue.evaluation.changes import Change
from virtue.evaluation.tasks import Task
from virtue.images import ImageError, ImageSource, is_url, load_image
from virtue.items import Item
from virtue.prompts import AnyPrompt
from virtue.reading import ahead

Changes: TypeAlias = Sequence[Change] | Callable[[Item], Sequence[Change]]
"""The same changes for all items, or a function that says which for each."""

SIZE = 16
"""Bytes of a key."""

_AHEAD = 32  # items whose files are read while others wait
_FILES: dict[tuple[str, int, int], bytes] = {}  # digests of files by path, time of change and size


def item_key(item: Item, changes: Sequence[Change] = ()) -> bytes:
    """The key of an item that these changes will be applied to.

    Args:
        item: Its image file is read, but not decoded.
        changes: In their order; only their names count.

    Returns:
        `SIZE` bytes.

    Raises:
        ImageError: If an image cannot be read; names it.
    """
    return with_changes(_key(item, None if item.image is None else _image(item.image)), changes)


def item_keys(items: Sequence[Item]) -> list[bytes]:
    """The keys of many items as they are; each image is read once, by a few threads.

    Args:
        items: N of them.

    Raises:
        ImageError: As `item_key`.
    """
    return [_key(item, image) for item, image in zip(items, _images(items), strict=True)]


def query_keys(task: Task) -> tuple[list[bytes], list[bytes]]:
    """Keys of a task's queries, and of what each asks, however it shows its region and whatever instructs the model.

    Of the second kind are left out visual prompts and instructions, and of an instructed task the texts beside
    pictures; a query's id is part of it instead, since it tells two regions of one picture apart.

    Returns:
        Q of each.

    Raises:
        ImageError: As `item_key`.
    """
    images = _images(task.queries)
    asked = [
        _digest(id.encode(), None if task.instructed and item.image is not None else _encoded(item.text), image)
        for id, item, image in zip(task.ids, task.queries, images, strict=True)
    ]
    return [_key(item, image) for item, image in zip(task.queries, images, strict=True)], asked


def with_changes(key: bytes, changes: Sequence[Change]) -> bytes:
    """The key of an item that will be changed, from its key as it is."""
    return _digest(key, *(change.name.encode() for change in changes)) if changes else key


def task_digest(task: Task, queries: Sequence[bytes], candidates: Sequence[bytes]) -> str:
    """A digest of what a task asks, hex: two runs of one digest answered the same questions.

    Args:
        task: Says what is ranked against what, and what is right.
        queries: Keys of its queries, or of what they ask, Q.
        candidates: Keys of its candidates as they are, N.
    """
    digest = hashlib.blake2b(digest_size=SIZE)
    _add(digest, b"".join(queries), b"".join(candidates))
    for places in (*task.relevant, *(task.lists or ())):
        _add(digest, np.asarray(places, dtype="<i8").tobytes())
    return digest.hexdigest()


def changes_of(item: Item, changes: Changes) -> Sequence[Change]:
    """What will be done to an item."""
    return changes(item) if callable(changes) else changes


def _key(item: Item, image: bytes | None) -> bytes:
    return _digest(_encoded(item.text), _encoded(item.instruction), image, *_prompt(item.prompt))


def _images(items: Sequence[Item]) -> list[bytes | None]:
    """Digests of the items' images, each read once, by a few threads."""
    sources = {_place(item.image): item.image for item in items if item.image is not None}
    digests = dict(zip(sources, ahead(_image, sources.values(), _AHEAD), strict=True))
    return [None if item.image is None else digests[_place(item.image)] for item in items]


def _place(source: ImageSource) -> Hashable:
    """What tells sources apart that are at hand at the same time."""
    return source if isinstance(source, str | Path) else id(source)


def _add(digest: Any, *parts: bytes | None) -> None:
    """Adds parts so that no two lists of parts give the same bytes."""
    for part in parts:
        digest.update(b"-" if part is None else b"%d:" % len(part))
        digest.update(part or b"")


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _prompt(prompt: AnyPrompt | None) -> list[bytes | None]:
    """Points, box and mask, each None where there is none."""
    if prompt is None:
        return [None] * 3
    parts = prompt._combined()
    points = [(point.x, point.y, float(point.include)) for point in parts.points]
    box = None if parts.box is None else np.array([parts.box.x1, parts.box.y1, parts.box.x2, parts.box.y2]).tobytes()
    mask = None if parts.mask is None else repr(parts.mask.array.shape).encode() + np.packbits(parts.mask.array).data
    return [np.array(points).tobytes() if points else None, box, mask]


def _image(source: ImageSource) -> bytes:
    """A digest of what an image shows."""
    if isinstance(source, str) and is_url(source):
        return _digest(b"url", source.encode())
    if isinstance(source, str | Path):
        return _file(Path(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return _digest(b"file", bytes(source))
    if isinstance(source, Image.Image):
        return _pixels(source)
    if hasattr(source, "read"):
        stream: Any = source
        if hasattr(stream, "seekable") and stream.seekable():
            stream.seek(0)
        return _digest(b"file", stream.read())
    return _array(source)


def _file(path: Path) -> bytes:
    """The digest of a file's bytes."""
    try:
        status = path.stat()
        known = (os.path.abspath(path), status.st_mtime_ns, status.st_size)  # noqa: PTH100 (links are not followed)
        if known not in _FILES:
            _FILES[known] = _digest(b"file", path.read_bytes())
        return _FILES[known]
    except FileNotFoundError:
        raise ImageError(f"There is no image file {path}.") from None
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}.") from error


def _pixels(image: Image.Image) -> bytes:
    """The digest of a picture in memory, turned upright as the model will see it."""
    upright = load_image(image)
    palette = bytes(upright.getpalette() or ()) if upright.mode in ("P", "PA") else b""
    transparent = repr(upright.info.get("transparency")).encode()
    return _digest(
        b"pixels", upright.mode.encode(), repr(upright.size).encode(), palette, transparent, upright.tobytes()
    )


def _array(source: Any) -> bytes:
    """The digest of an array or a tensor."""
    if hasattr(source, "detach"):
        source = source.detach().cpu()
        source = (source.float() if source.is_floating_point() else source).numpy()  # numpy has no bfloat16
        kind = b"tensor"
    else:
        kind = b"array"
    values = np.ascontiguousarray(source)
    return _digest(kind, values.dtype.str.encode(), repr(values.shape).encode(), values.tobytes())


def _digest(*parts: bytes | None) -> bytes:
    digest = hashlib.blake2b(digest_size=SIZE)
    _add(digest, *parts)
    return digest.digest()
