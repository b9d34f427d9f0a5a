"""Embeds each distinct item once, in an order that is kind to models, and keeps every embedding on disk.

1. Each item has a key (`keys`); items of one key are one row.
2. Rows are cut into chunks: texts by length, the longest first, so that batches hold little padding; items with an
   image by that image, so that its visual prompts come together.
3. Rows that the store has are read. Of the others each process embeds the chunks it is dealt, and every chunk is kept
   as soon as it is done, whole or not at all.
4. Every process reads the others' rows from the store.

What a chunk holds depends on the items alone. So the same call with the same batch size, on the same kind of device and
with the same libraries, gives vectors that are the same to the bit however many processes work, and however often it
was killed and started again. It does so on a store that held none of the items before. Of a chunk that other tasks,
strategies or runs have embedded a part of, only the rest is embedded, in other batches: then vectors may differ in
their last bits, as they do between batch sizes, devices and versions.

Changes are applied to few items at a time, because many make pictures in memory. An embedding that is not finite stops
the run before anything of its chunk is kept.

Letters: N items, D dimensions.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

import virtue
from virtue.evaluation.changes import changed
from virtue.evaluation.keys import Changes, changes_of, item_keys, with_changes
from virtue.evaluation.models.encoder import Encoder
from virtue.evaluation.sharing import Alone, World
from virtue.evaluation.store import Shelf, Store, kept_in
from virtue.images import image_key
from virtue.items import Item

CHUNK = 256
"""Rows that are embedded, and lost by a kill, together."""

Role: TypeAlias = Literal["query", "document"]
Progress: TypeAlias = Callable[[int, int], None]
Vectors: TypeAlias = NDArray[np.float32]

_ALONE = Alone()


def embed(
    encoder: Encoder,
    items: Sequence[Item],
    role: Role,
    *,
    changes: Changes = (),
    store: Store | None = None,
    batch_size: int = 32,
    progress: Progress | None = None,
    world: World = _ALONE,
    keys: Sequence[bytes] | None = None,
) -> Vectors:
    """Embeds items.

    Args:
        encoder: The model.
        items: N of them; equal ones are embedded once.
        role: Whether they are what is looked for ("query") or what is found ("document").
        changes: What is done to the items first: the same to all, or a function that says what to each.
        store: Where embeddings are kept; by default a temporary folder that is removed at the end.
        batch_size: Items of a batch at most.
        progress: Called with how many distinct items are done and how many there are, in this process's share.
        world: The processes that share the work; all of them call this with the same arguments.
        keys: The items' keys as they are (`item_keys`), where they are known already.

    Returns:
        Embeddings in the items' order, (N, D).

    Raises:
        ValueError: If there are no items, or an item cannot be embedded or gets an embedding that is not finite; the
            message names it.
        RuntimeError: If the model fails for another reason, or another process does.
    """
    if not items:
        raise ValueError("There are no items to embed.")
    if batch_size < 1:
        raise ValueError(f"batch_size is at least 1, not {batch_size}.")
    own = item_keys(items) if keys is None else keys
    keys = [with_changes(key, changes_of(item, changes)) for key, item in zip(own, items, strict=True)]
    first: dict[bytes, int] = {}
    for number, key in enumerate(keys):
        first.setdefault(key, number)
    rows = {key: row for row, key in enumerate(first)}
    job = _Job(encoder, [items[number] for number in first.values()], list(first.values()), role, changes, batch_size)
    with kept_in(store, world) as place:
        vectors = _distinct(job, list(first), place.shelf(_identity(encoder), role), progress, world)
    return vectors if len(first) == len(keys) else vectors[[rows[key] for key in keys]]


class _Job:
    """What is to be embedded and how: distinct items, the same in every process.

    Attributes:
        chunks: Numbers of items that are embedded together.
    """

    def __init__(
        self,
        encoder: Encoder,
        items: Sequence[Item],
        numbers: Sequence[int],
        role: Role,
        changes: Changes,
        batch_size: int,
    ) -> None:
        self.encoder, self.items, self.role, self.changes, self.batch_size = encoder, items, role, changes, batch_size
        self._numbers = numbers  # of the items among those that were handed in
        self._encode = encoder.encode_query if role == "query" else encoder.encode_document
        self.chunks = list(_chunks(items))

    def embed(self, rows: Sequence[int]) -> Vectors:
        """Embeddings of some items, checked, (n, D)."""
        pieces = [self._embed(piece) for piece in self._pieces(rows)]
        return np.concatenate(pieces)

    def _pieces(self, rows: Sequence[int]) -> Iterator[Sequence[int]]:
        """All rows at once, or a batch at a time where changes may make pictures of them."""
        is_changed = any(changes_of(self.items[row], self.changes) for row in rows)
        step = self.batch_size if is_changed else len(rows)
        for start in range(0, len(rows), step):
            yield rows[start : start + step]

    def _embed(self, rows: Sequence[int]) -> Vectors:
        items = [self._changed(row) for row in rows]
        try:
            vectors = np.asarray(self._encode(items, batch_size=self.batch_size), dtype=np.float32)
        except ValueError as error:
            raise self._found(rows, items, error) from error
        except Exception as error:
            raise RuntimeError(f"{self.encoder.name} failed at {self._range(rows)}: {error}") from error
        if vectors.ndim != 2 or len(vectors) != len(rows):
            raise ValueError(f"{self.encoder.name} gave an array of shape {vectors.shape} for {len(rows)} items.")
        strange = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(strange):
            raise ValueError(
                f"{self.encoder.name} gives an embedding that is not finite for {self._named(rows[strange[0]])}; "
                f"{len(strange)} of {len(rows)} that were embedded with it are so."
            )
        return vectors

    def _changed(self, row: int) -> Item:
        item = self.items[row]
        try:
            return changed(item, changes_of(item, self.changes))
        except ValueError as error:
            raise ValueError(f"{self._named(row)} cannot be changed as asked: {error}") from error

    def _found(self, rows: Sequence[int], items: Sequence[Item], error: ValueError) -> ValueError:
        """The error again, with the item named that causes it: each is tried alone until one fails."""
        for row, item in zip(rows, items, strict=True):
            try:
                self._encode([item], batch_size=1)
            except ValueError as own:
                return ValueError(f"{self.encoder.name} cannot embed {self._named(row)}: {own}")
        return ValueError(f"{self.encoder.name} failed at {self._range(rows)}: {error}")

    def _named(self, row: int) -> str:
        return f"{self.role} {self._numbers[row]} ({described(self.items[row])})"

    def _range(self, rows: Sequence[int]) -> str:
        return f"{self._named(rows[0])}" + (f" or one of {len(rows) - 1} after it" if len(rows) > 1 else "")


def described(item: Item) -> str:
    """An item in a few words, for messages."""
    words = [repr(textwrap.shorten(item.text, 60, placeholder="..."))] if item.text else []
    if isinstance(item.image, str | Path):
        words.append(f"image {textwrap.shorten(str(item.image), 200, placeholder='...')}")
    elif item.image is not None:
        words.append("an image in memory")
    if item.prompt is not None:
        words.append(str(item.prompt))
    return ", ".join(words)


def _distinct(job: _Job, keys: list[bytes], shelf: Shelf, progress: Progress | None, world: World) -> Vectors:
    """Embeddings of distinct items, (N, D)."""
    found, vectors = shelf.read(keys)
    missing = world.broadcast(~found)  # processes may have looked at different moments
    todo = [rows for chunk in job.chunks if (rows := [row for row in chunk if missing[row]])]
    mine = todo[world.rank :: world.size]
    done, total = len(keys) - int(missing.sum()), len(keys) - int(missing.sum()) + sum(map(len, mine))
    for rows in mine:
        if progress is not None:
            progress(done, total)
        shelf.write([keys[row] for row in rows], job.embed(rows))
        done += len(rows)
    if progress is not None:
        progress(done, total)
    world.barrier()
    return _joined(keys, found, vectors, shelf)


def _joined(keys: list[bytes], found: NDArray[np.bool_], vectors: Vectors, shelf: Shelf) -> Vectors:
    """The vectors that were found and those that are there by now."""
    late = np.flatnonzero(~found)
    if not len(late):
        return vectors
    there, fresh = shelf.read([keys[row] for row in late])
    if not there.all():
        raise RuntimeError(
            f"{int((~there).sum())} embeddings that were just written to {shelf.folder} cannot be read: the folder has "
            "to be on a disk that works, and that all processes see."
        )
    if not found.any():
        return fresh
    if vectors.shape[1] != fresh.shape[1]:
        raise ValueError(f"{shelf.folder} holds embeddings of {vectors.shape[1]} and of {fresh.shape[1]} dimensions.")
    vectors[late] = fresh
    return vectors


def _chunks(items: Sequence[Item]) -> Iterator[list[int]]:
    """Numbers of items that are embedded together: texts by length, then items with an image by that image."""
    texts = [number for number, item in enumerate(items) if item.image is None]
    texts.sort(key=lambda number: -len(items[number].text or ""))
    by_image: dict[Hashable, list[int]] = {}
    for number, item in enumerate(items):
        if item.image is not None:
            by_image.setdefault(image_key(item.image), []).append(number)
    for order in (texts, [number for numbers in by_image.values() for number in numbers]):
        for start in range(0, len(order), CHUNK):
            yield order[start : start + CHUNK]


def _identity(encoder: Encoder) -> str:
    """What embeddings on disk are kept by: the model, how much of its embeddings is kept, and who words its inputs."""
    return f"{encoder.fingerprint} {getattr(encoder, 'dimension', None)} {virtue.__version__}"
