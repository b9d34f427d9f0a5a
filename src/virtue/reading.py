"""Reads ahead of whoever computes: pictures are decoded in threads, a batch ahead of the model, in bounded memory.

A batch ends at so many images or at `BATCH_PIXELS` pixels, whichever comes first, so memory does not grow with the
number of images or with their size.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from PIL import Image

from virtue.images import open_image

T = TypeVar("T")
R = TypeVar("R")

READERS = 2
BATCH_PIXELS = 64_000_000
"""As RGB, 192 MB; one batch is in the model's hands and one waits."""


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """An image file, decoded; without an image if that failed, and why."""

    file: T
    image: Image.Image | None = None
    reason: str = ""


def ahead(function: Callable[[T], R], items: Iterable[T], depth: int) -> Iterator[R]:
    """The function's results in order, computed by a few threads up to `depth` items ahead of the reader."""
    remaining = iter(items)
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(min(8, depth, os.cpu_count() or 1), thread_name_prefix="virtue-read")
    try:
        waiting.extend(pool.submit(function, item) for item in islice(remaining, depth))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(remaining, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


def one_ahead(batches: Iterable[list[T]]) -> Iterator[list[T]]:
    """Yields the same batches; the next one is made in a thread while the caller works on this one."""
    source = iter(batches)
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(next, source, None)
        while (batch := upcoming.result()) is not None:
            upcoming = pool.submit(next, source, None)
            yield batch


def load_batches(files: Iterable[T], path: Callable[[T], Path], batch_size: int) -> Iterator[list[Loaded[T]]]:
    """Decodes image files in `READERS` threads and hands them out in batches, in order, one batch ahead of the caller.

    Args:
        files: Whatever stands for the files.
        path: Where such a file lies.
        batch_size: Images of a batch at most.
    """
    return one_ahead(_batches(ahead(lambda file: _load(file, path(file)), files, READERS), batch_size))


def _batches(images: Iterable[Loaded[T]], batch_size: int) -> Iterator[list[Loaded[T]]]:
    batch: list[Loaded[T]] = []
    pixels = 0
    for loaded in images:
        batch.append(loaded)
        pixels += loaded.image.width * loaded.image.height if loaded.image else 0
        if len(batch) == batch_size or pixels >= BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _load(file: T, path: Path) -> Loaded[T]:
    try:
        return Loaded(file, open_image(path))
    except (OSError, ValueError) as error:
        return Loaded(file, reason=str(error).removeprefix(f"{path} "))  # the list of failures names the file
