"""Several processes of one evaluation: who embeds what, and how they wait for each other without waiting for ever.

`torchrun --nproc-per-node 4 ...` starts the processes, and `from_environment` joins them through torch's gloo group.
Embeddings pass through the store on disk; over the group go only small things: which rows are missing, and where the
store is. Every process ends with the same vectors. What is written for people, rank 0 writes.

A process that ends is noticed by the others at once, one that hangs after `TIMEOUT`.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

TIMEOUT = timedelta(hours=1)
"""How long a process waits for the others; they have equal shares, so they are done at about the same time."""

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun tells each process."""


class World:
    """The processes that share an evaluation.

    Attributes:
        rank: The number of this process, from 0.
        size: How many there are.
    """

    rank = 0
    size = 1

    def barrier(self) -> None:
        """Waits until every process has come here.

        Raises:
            RuntimeError: If one of them ended, or does not come in time.
        """
        raise NotImplementedError

    def broadcast(self, value: T) -> T:
        """Gives rank 0's value to every process.

        Raises:
            RuntimeError: As `barrier`.
        """
        raise NotImplementedError

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A temporary folder for all processes; it is gone when all have left.

        Raises:
            RuntimeError: If a process does not see it, or as `barrier`.
        """
        with tempfile.TemporaryDirectory(prefix="virtue-") as own:
            place = self.broadcast(Path(own))
            if not place.is_dir():
                raise RuntimeError(
                    f"Process {self.rank} does not see the folder {place} of process 0: give a store in a folder that "
                    "all machines share."
                )
            yield place
            self.barrier()


class Alone(World):
    """One process."""

    def barrier(self) -> None:
        """There is nobody to wait for."""

    def broadcast(self, value: T) -> T:
        """The value itself."""
        return value


class Group(World):
    """Several processes, joined by `torch.distributed`.

    Args:
        group: A gloo group; None is the default one.
    """

    def __init__(self, group: Any = None) -> None:
        from torch import distributed

        self.rank, self.size = distributed.get_rank(group), distributed.get_world_size(group)
        self._group = group

    def barrier(self) -> None:
        """Waits until every process has come here."""
        from torch import distributed

        _heard(lambda: distributed.barrier(self._group))

    def broadcast(self, value: T) -> T:
        """Gives rank 0's value to every process."""
        from torch import distributed

        values = [value]
        _heard(lambda: distributed.broadcast_object_list(values, src=0, group=self._group))
        return values[0]


def from_environment(timeout: timedelta = TIMEOUT) -> World:
    """Joins the processes that torchrun started; `Alone` where it started none, or one.

    Args:
        timeout: How long a process waits for the others.

    Raises:
        RuntimeError: If the others do not come.
    """
    if any(name not in os.environ for name in VARIABLES) or os.environ["WORLD_SIZE"] == "1":
        return Alone()
    from torch import distributed

    if distributed.is_initialized():
        backend = distributed.get_backend()
        return Group(None if backend == "gloo" else distributed.new_group(backend="gloo", timeout=timeout))
    _heard(lambda: distributed.init_process_group("gloo", timeout=timeout))
    atexit.register(_leave)
    return Group()


def own_device(world: World) -> str | None:
    """This process's GPU where several processes share a machine that has some; None leaves the choice to the model."""
    if world.size == 1:
        return None
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{int(os.environ.get('LOCAL_RANK', world.rank)) % count}" if count else None


def _leave() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def _heard(talk: Callable[[], object]) -> None:
    """Talks to the other processes.

    Raises:
        RuntimeError: If one of them does not answer.
    """
    try:
        talk()
    except RuntimeError as error:
        raise RuntimeError(
            "Another process of this evaluation ended or does not answer; its own message says why. What was embedded "
            "in a store is kept: start all processes again to go on."
        ) from error
