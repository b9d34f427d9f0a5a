"""The limits of memory that a server sets for its own process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAPS = """
import ctypes, os, threading
from virtue.server.allocation import bound_memory
bound_memory()
size, count = 100_000, 24
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
ready, places = threading.Barrier(count), set()
def hold():
    ready.wait()
    places.add(libc.malloc(ctypes.c_size_t(size)) >> 26)  # a thread's heap lies in 64 MB of its own
    ready.wait()
threads = [threading.Thread(target=hold) for _ in range(count)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(places), os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"])
"""


def run(**environment: str) -> list[int]:
    """How many heaps two dozen threads have, and how many shapes oneDNN keeps."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "ONEDNN_"))}
    found = subprocess.run(
        [sys.executable, "-c", HEAPS], capture_output=True, text=True, check=True, env=own | environment
    )
    return [int(number) for number in found.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heaps")
def test_threads_share_few_heaps_and_few_shapes_are_kept() -> None:
    heaps, shapes = run()
    assert heaps <= 3  # one may lie across a border
    assert shapes == 64


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heaps")
def test_what_the_environment_says_counts() -> None:
    heaps, shapes = run(MALLOC_ARENA_MAX="20", ONEDNN_PRIMITIVE_CACHE_CAPACITY="300")
    assert heaps > 3
    assert shapes == 300
