"""What requests hold while they are answered: pictures, masks, texts and answers, of which memory has only so much.

Only the event loop calls this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from virtue.server.errors import ApiError


class Memory:
    """Bytes, by the request that holds them.

    Args:
        budget: Bytes for all requests together.
        retry_after: Seconds after which one that finds no room may come again.
    """

    def __init__(self, budget: int, retry_after: Callable[[], int]) -> None:
        self.budget, self.nbytes = budget, 0
        self._retry_after = retry_after
        self._held: dict[asyncio.Task[Any], int] = {}

    def hold(self, nbytes: int) -> None:
        """Counts bytes until the task that calls this has ended, and with it the sending of its answer.

        A request that is alone always finds room.

        Raises:
            ApiError: 429 if others leave no room.
        """
        task = asyncio.current_task()
        assert task is not None
        own = self._held.get(task, 0)
        if self.nbytes > own and self.nbytes + nbytes > self.budget:
            seconds = self._retry_after()
            raise ApiError(
                429, f"Other requests hold as much memory as there is; try again in {seconds} s.", code="memory_full",
                retry_after=seconds,
            )  # fmt: skip
        if task not in self._held:
            task.add_done_callback(self._release)
        self._held[task] = own + nbytes
        self.nbytes += nbytes

    def _release(self, task: asyncio.Task[Any]) -> None:
        self.nbytes -= self._held.pop(task)
