"""The queue: what is refused when it is full, dropped when nobody waits, and answered when the server stops."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from virtue.server.errors import ApiError
from virtue.server.jobs import Worker
from virtue.server.metrics import Metrics


class Held:
    """Computes nothing until it is let go; remembers its batches."""

    def __init__(self) -> None:
        self.go, self.batches = threading.Event(), list[list[int]]()

    def __call__(self, asks: Sequence[int]) -> list[int]:
        self.batches.append(list(asks))
        self.go.wait(10)
        if 13 in asks:
            raise ValueError("13 brings bad luck.")
        return [2 * ask for ask in asks]


async def started(held: Held, **limits: int) -> Worker:
    worker = Worker(held, metrics=Metrics(), wait=0.02, **limits)
    worker.start()
    while worker.state != "ready":
        await asyncio.sleep(0.001)
    return worker


def soon(seconds: float = 10) -> float:
    return time.monotonic() + seconds


def test_requests_share_a_batch_and_only_the_one_to_blame_fails() -> None:
    async def main() -> None:
        held = Held()
        worker = await started(held)
        alone = asyncio.create_task(worker.ask([7], deadline=soon()))  # does not wait for company
        while not held.batches:
            await asyncio.sleep(0.001)
        asked = [asyncio.create_task(worker.ask([number], deadline=soon())) for number in (1, 13, 3)]
        await asyncio.sleep(0.01)
        held.go.set()
        results = await asyncio.gather(alone, *asked, return_exceptions=True)
        assert (results[0], results[1], results[3]) == ([14], [2], [6])
        assert isinstance(results[2], ValueError)
        assert held.batches[:2] == [[7], [1, 13, 3]]
        worker.stop()
        worker.join()
        assert worker.rows == 0

    asyncio.run(main())


def test_full_late_cancelled_and_stopping() -> None:
    async def main() -> None:
        held = Held()
        worker = await started(held, queue_rows=4, batch_rows=1)
        first = asyncio.create_task(worker.ask([1], deadline=soon()))
        while not held.batches:
            await asyncio.sleep(0.001)
        with pytest.raises(ApiError) as late:
            await worker.ask([2], deadline=soon(0.01))
        cancelled = asyncio.create_task(worker.ask([3], deadline=soon()))
        last = asyncio.create_task(worker.ask([4, 5], deadline=soon()))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.sleep(0.01)
        with pytest.raises(ApiError) as full:
            await worker.ask([6, 6], deadline=soon())
        assert (late.value.status, full.value.status) == (504, 429)
        assert (full.value.retry_after or 0) >= 1
        worker.stop()
        with pytest.raises(ApiError) as stopping:
            await worker.ask([7], deadline=soon())
        assert stopping.value.status == 503
        held.go.set()
        assert [await first, await asyncio.gather(last, return_exceptions=True)][0] == [2]
        worker.join()
        assert held.batches[0] == [1]
        assert not {2, 3, 6, 7} & {ask for batch in held.batches for ask in batch}
        assert worker.rows == 0

    asyncio.run(main())
