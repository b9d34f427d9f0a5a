"""Keeps the memory of a server flat, of which requests of all sizes in many threads would make it hold ever more.

glibc gives threads heaps of their own, up to eight for each core, and none gives back what the largest batch needed;
oneDNN keeps what it compiled for the last thousand shapes. Under mixed load that came to 2.6 GB where 1.2 do.
"""

from __future__ import annotations

import ctypes
import os

HEAPS = 2
MAPPED_FROM = 2**20
"""Bytes from which on memory is taken from the system and given back at once."""

KEPT = 2**27
"""Bytes that are kept at the end of a heap."""

SHAPES = 64
"""For so many oneDNN keeps what it compiled."""

_HEAPS, _MAPPED, _TRIM = -8, -3, -1  # glibc's names: M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD


def bound_memory() -> None:
    """Sets limits, unless the environment does; before torch is loaded, as it reads them then."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(SHAPES))
    set_limit = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if set_limit is None:  # not glibc
        return
    for name, option, value in (
        ("MALLOC_ARENA_MAX", _HEAPS, HEAPS),
        ("MALLOC_MMAP_THRESHOLD_", _MAPPED, MAPPED_FROM),
        ("MALLOC_TRIM_THRESHOLD_", _TRIM, KEPT),
    ):
        if name not in os.environ:
            set_limit(option, value)
