"""Embeddings on disk, so that nothing is embedded twice: not in the next run, and not after a run was killed.

    store.json                          says which format the folder has
    <model>/<role>/<digest>.safetensors  a shard: keys (N, 16) uint8, vectors (N, D) float32, and a digest of both

Shards are only ever added. Each is written under another name and renamed when it is whole, so a reader never sees half
of one, a process killed at any moment loses what it was about to write and no more, and several may write at once: a
shard is named by its keys, so two that embed the same rows write the same file. A shard that was damaged later is
found by its digest, left out, and written anew with what is embedded again.

Letters: N keys or rows, D dimensions.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from virtue.evaluation.keys import SIZE
from virtue.evaluation.sharing import World

logger = logging.getLogger(__name__)

FORMAT = 1
NOTE = "store.json"
UNFINISHED = ".part"
LEFT_BEHIND = 24 * 3600.0
"""Seconds after which an unfinished file is what a killed process left."""

Vectors = NDArray[np.float32]
_Stamp = tuple[int, int, int]


class Store:
    """A folder with embeddings of any number of models.

    Args:
        folder: Made when it is not there.

    Raises:
        ValueError: If the folder was written in another format, or holds something else.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._shelves: dict[tuple[str, str], Shelf] = {}  # what is known of their shards need not be read again
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file; embeddings are kept in a folder.")
        self.folder.mkdir(parents=True, exist_ok=True)
        note = self.folder / NOTE
        if not note.exists():
            self._begin(note)
        _check_format(note)

    def shelf(self, identity: str, role: str) -> Shelf:
        """The embeddings of one model in one role.

        Args:
            identity: What tells the model from every other, such as its fingerprint.
            role: A word, such as "query".

        Raises:
            ValueError: If the role is no word.
        """
        if not re.fullmatch("[a-z]+", role):
            raise ValueError(f"A role is a word in small letters, such as query, not {role!r}.")
        if (identity, role) not in self._shelves:
            model = hashlib.blake2b(identity.encode(), digest_size=SIZE).hexdigest()
            self._shelves[identity, role] = Shelf(self.folder / model / role)
        return self._shelves[identity, role]

    def _begin(self, note: Path) -> None:
        other = sorted(path.name for path in self.folder.iterdir() if not path.name.endswith(UNFINISHED))
        if other and not note.exists():  # another process may have begun it in the meantime
            raise ValueError(f"{self.folder} is no store of embeddings, it holds {other[0]}: give an empty folder.")
        part = _unfinished(note)
        part.write_text(json.dumps({"format": FORMAT}) + "\n", encoding="utf-8")
        part.replace(note)


@contextmanager
def kept_in(place: Store | str | Path | None, world: World) -> Iterator[Store]:
    """A store, the one in a folder, or for None one in a temporary folder that all processes of the world share."""
    if place is None:
        with world.folder() as folder:
            yield Store(folder)
    else:
        yield place if isinstance(place, Store) else Store(place)


class Shelf:
    """The embeddings of one model in one role.

    Args:
        folder: Of its shards; made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stamps: dict[Path, _Stamp] = {}  # shards that were looked into
        self._places: dict[bytes, tuple[Path, int]] = {}  # of each key its shard and row there
        _sweep(folder)

    def read(self, keys: Sequence[bytes]) -> tuple[NDArray[np.bool_], Vectors]:
        """Looks up keys. One shard at a time is in memory.

        Args:
            keys: N of them.

        Returns:
            Which of them are there, (N,), and the vectors, (N, D), 0 for those that are not; D is 0 if none is.

        Raises:
            ValueError: If the vectors that were kept differ in length.
        """
        self._look()
        wanted: dict[Path, list[tuple[int, int]]] = {}
        for number, key in enumerate(keys):
            if key in self._places:
                path, row = self._places[key]
                wanted.setdefault(path, []).append((number, row))
        found, out = np.zeros(len(keys), dtype=np.bool_), np.zeros((len(keys), 0), dtype=np.float32)
        for path, pairs in wanted.items():
            vectors = self._load(path)
            if vectors is None:
                continue
            if not found.any():
                out = np.zeros((len(keys), vectors.shape[1]), dtype=np.float32)
            if vectors.shape[1] != out.shape[1]:
                raise ValueError(
                    f"{self.folder} holds embeddings of {out.shape[1]} and of {vectors.shape[1]} dimensions for what "
                    "calls itself one model; remove that folder, and give the models fingerprints that differ."
                )
            numbers, rows = np.array(pairs).T
            out[numbers], found[numbers] = vectors[rows], True
        return found, out

    def write(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        """Keeps vectors (N, D), one for each key: all of them, or none where the process is killed meanwhile.

        Raises:
            ValueError: If there are not as many vectors as keys.
        """
        if vectors.ndim != 2 or len(keys) != len(vectors):
            raise ValueError(f"{len(keys)} keys need as many vectors, got an array of shape {vectors.shape}.")
        self.folder.mkdir(parents=True, exist_ok=True)
        table = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), SIZE)
        values = np.ascontiguousarray(vectors, dtype=np.float32)
        name = hashlib.blake2b(table.tobytes(), digest_size=SIZE).hexdigest()
        part = _unfinished(self.folder / name)
        save_file({"keys": table, "vectors": values}, part, {"digest": _digest(table, values)})
        part.replace(self.folder / f"{name}.safetensors")

    def _look(self) -> None:
        """Notices shards that were added, or written anew, since the last look."""
        for path in sorted(self.folder.glob("*.safetensors")):  # in one order, so that all processes choose alike
            status = path.stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._stamps.get(path) == stamp:
                continue
            self._stamps[path] = stamp
            for row, key in enumerate(_keys(path)):
                self._places.setdefault(key, (path, row))

    def _load(self, path: Path) -> Vectors | None:
        """A shard's vectors; None if it is damaged, and then it counts as not there."""
        try:
            with safe_open(path, framework="numpy") as shard:
                table, vectors = shard.get_tensor("keys"), shard.get_tensor("vectors")
                if (shard.metadata() or {}).get("digest") == _digest(table, vectors):
                    kept: Vectors = vectors
                    return kept
        except (SafetensorError, OSError):
            pass
        _tell_damaged(path)
        self._places = {key: place for key, place in self._places.items() if place[0] != path}
        return None


def _keys(path: Path) -> Iterable[bytes]:
    """The keys of a shard; none if it is damaged."""
    try:
        with safe_open(path, framework="numpy") as shard:
            return [row.tobytes() for row in shard.get_tensor("keys")]
    except (SafetensorError, OSError):
        _tell_damaged(path)
        return []


def _tell_damaged(path: Path) -> None:
    logger.warning("%s is damaged; what it held is embedded again.", path)


def _digest(*arrays: NDArray[np.generic]) -> str:
    digest = hashlib.blake2b(digest_size=SIZE)
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _unfinished(path: Path) -> Path:
    """A name beside a file that no other process uses and no reader looks at."""
    return path.with_name(f".{path.name}.{os.getpid()}.{uuid4().hex[:8]}{UNFINISHED}")


def _sweep(folder: Path) -> None:
    """Removes what killed processes left; what is young may belong to one that lives."""
    for path in folder.glob(f".*{UNFINISHED}"):
        try:
            if time.time() - path.stat().st_mtime > LEFT_BEHIND:
                path.unlink()
        except OSError:  # another process was faster, or it may not be removed: it harms nobody
            continue


def _check_format(note: Path) -> None:
    try:
        written = json.loads(note.read_text(encoding="utf-8"))["format"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{note} does not say a store's format: remove that folder, or give another.") from None
    if written != FORMAT:
        raise ValueError(
            f"The embeddings in {note.parent} are kept in format {written}, this version reads format {FORMAT}: "
            "remove that folder, or give another."
        )
