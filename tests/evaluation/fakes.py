"""Encoders that compute next to nothing, and processes that share an evaluation."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from virtue.items import Item

DIMENSION = 8
TEXTS = [Item(text=f"{'long ' * (number % 5)}text {number}") for number in range(20)]


class FakeEncoder:
    """Embeds an item by its text and by what `open_image` would get: other words, another direction.

    The rows of one call depend on how many there are, in the last bits, as those of real models do.

    Args:
        log: File that gets a line for each item that was embedded.
        spoil: Texts whose embedding is NaN.
        refuse: Texts that it cannot embed.
        die_at: Ends the process by SIGKILL when this text comes.
    """

    def __init__(
        self,
        log: Path | None = None,
        *,
        fingerprint: str = "fake-1",
        spoil: Sequence[str] = (),
        refuse: Sequence[str] = (),
        die_at: str | None = None,
        constant: bool = False,
    ) -> None:
        self.name, self.fingerprint = "fake", fingerprint
        self.log, self.spoil, self.refuse, self.die_at, self.constant = log, spoil, refuse, die_at, constant
        self.calls: list[list[Item]] = []

    def encode_query(self, items: Sequence[Item], *, batch_size: int = 32) -> NDArray[np.float32]:
        return self._encode("query", items)

    def encode_document(self, items: Sequence[Item], *, batch_size: int = 32) -> NDArray[np.float32]:
        return self._encode("document", items)

    def _encode(self, role: str, items: Sequence[Item]) -> NDArray[np.float32]:
        self.calls.append(list(items))
        rows = [self._row(role, item) for item in items]
        if self.log is not None:
            with self.log.open("a") as file:
                file.writelines(f"{role} {item.text}\n" for item in items)
        return (np.array(rows) * (1 + 1e-6 * len(items))).astype(np.float32)

    def _row(self, role: str, item: Item) -> NDArray[np.float64]:
        text = item.text or ""
        if text == self.die_at:
            os.kill(os.getpid(), 9)
        if text in self.refuse:
            raise ValueError("it is too rude.")
        if text in self.spoil:
            return np.full(DIMENSION, np.nan)
        if self.constant:
            return np.ones(DIMENSION)
        shown = f"{text} {item.image} {item.prompt}"
        return np.random.default_rng(zlib.crc32(shown.encode())).normal(size=DIMENSION) + (role == "query")


class WordEncoder:
    """Embeds a text as how often each letter stands in it, so that a reader can tell what is near to what."""

    name, fingerprint = "letters", "letters-1"

    def encode_query(self, items: Sequence[Item], *, batch_size: int = 32) -> NDArray[np.float32]:
        letters = "abcdefghijklmnopqrstuvwxyz"
        return np.array([[(item.text or "").count(letter) for letter in letters] for item in items], dtype=np.float32)

    encode_document = encode_query


def together(work: Callable[..., None], folder: Path, *arguments: object, count: int = 2) -> list[int | None]:
    """Lets several processes work, each told its number, and gives the codes that they ended with."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes: list[Any] = [
        context.Process(target=_join, args=(work, rank, count, port, folder, *arguments)) for rank in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return codes


def _join(work: Callable[..., None], rank: int, count: int, port: int, folder: Path, *arguments: object) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    try:
        work(rank, folder, *arguments)
    except BaseException:
        (folder / f"failed-{rank}").write_text(traceback.format_exc())
        raise
