"""One bounded queue and the one thread that works it off.

1. A request's asks (rows: an embedding, a mask) are admitted together as a `Job`, or refused with 429 if the queue is
   full.
2. Where jobs come together, the thread waits a few milliseconds from the first one on for more; a job that comes alone
   after another that came alone does not wait. Then it takes as many rows as a batch holds, job by job. Of a job that
   is larger it takes a part, and the job goes to the back: many small ones do not wait for a large one.
3. A job whose deadline has passed, or whose client has gone, is dropped before its next row is worked on.
4. The batch is computed; if that fails, each job's part is computed alone, so that only the one to blame fails.
5. Results go back to the event loop.

What a row is and how it is computed is none of this module's business: `compute` maps asks to as many results.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from virtue.server.errors import ApiError
from virtue.server.metrics import Metrics

logger = logging.getLogger(__name__)

Compute = Callable[[Sequence[Any]], Sequence[Any]]

FIRST_PACE = 20.0
"""Rows per second that are assumed until some were computed."""

LONGEST_RETRY = 60


@dataclass(eq=False)
class Job:
    """What one request asks of the model.

    Attributes:
        asks: Its rows.
        deadline: On the monotonic clock.
        loop: Where the results are awaited.
        answer: Gets the results in the order of the asks, or an error.
        results: Those that are there.
        taken: How many rows were taken by the thread.
        dropped: Whether nobody waits any longer.
    """

    asks: Sequence[Any]
    deadline: float
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[list[Any]]
    results: list[Any] = field(default_factory=list)
    taken: int = 0
    dropped: bool = False


Part = tuple[Job, Sequence[Any]]


class Worker:
    """The queue and its thread.

    Args:
        compute: Maps asks to results; runs in the thread.
        prepare: Runs first in the thread, such as to load the model; what it raises ends the thread.
        metrics: Told of batches and of what is dropped.
        queue_rows: Rows that may wait or be worked on.
        batch_rows: Rows of a batch.
        wait: Seconds that a first job waits for others.
    """

    def __init__(
        self,
        compute: Compute,
        *,
        metrics: Metrics,
        prepare: Callable[[], None] = lambda: None,
        queue_rows: int = 4096,
        batch_rows: int = 64,
        wait: float = 0.004,
    ) -> None:
        self._compute, self._prepare, self._metrics = compute, prepare, metrics
        self._queue_rows, self._batch_rows, self._wait = queue_rows, batch_rows, wait
        self._changed = threading.Condition()
        self._queue: deque[Job] = deque()
        self._rows = 0
        self._pace = FIRST_PACE
        self._in_company = False  # whether the last batch was of several jobs
        self._is_prepared = False
        self._thread = threading.Thread(target=self._run, name="virtue-model", daemon=True)
        self.state = "loading"
        self.failure: Exception | None = None

    @property
    def rows(self) -> int:
        """Rows that wait or are worked on."""
        return self._rows

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Takes nothing more; what was taken is still answered."""
        with self._changed:
            if self.state != "failed":
                self.state = "stopping"
            self._changed.notify()

    def join(self, timeout: float | None = None) -> None:
        """Waits until everything is answered; before the model is there nothing was taken, so not for that.

        Args:
            timeout: Seconds after which it is given up.
        """
        if self._is_prepared:
            self._thread.join(timeout)

    async def ask(self, asks: Sequence[Any], *, deadline: float) -> list[Any]:
        """The results of some asks.

        Cancelling the caller drops what was not begun.

        Args:
            asks: Rows.
            deadline: When to give up, on the monotonic clock.

        Raises:
            ApiError: 429 if too much waits, 503 if the server loads or stops, 504 if the deadline passes.
        """
        job = self._admit(asks, deadline)
        try:
            async with asyncio.timeout_at(deadline):
                return await job.answer
        except TimeoutError:
            self._metrics.dropped.labels("deadline").inc()
            raise late() from None
        except asyncio.CancelledError:
            self._metrics.dropped.labels("cancelled").inc()
            raise
        finally:
            self._drop(job)

    def _admit(self, asks: Sequence[Any], deadline: float) -> Job:
        loop = asyncio.get_running_loop()
        with self._changed:
            self._check_open()
            if self._rows and self._rows + len(asks) > self._queue_rows:
                seconds = self.retry_after()
                raise ApiError(
                    429,
                    f"{self._rows:,} embeddings and masks are waiting already; try again in {seconds} s.",
                    code="queue_full",
                    retry_after=seconds,
                )
            job = Job(asks, deadline, loop, loop.create_future())
            self._queue.append(job)
            self._rows += len(asks)
            self._changed.notify()
        return job

    def _check_open(self) -> None:
        if self.state == "loading":
            raise ApiError(503, "The model is being loaded; try again soon.", code="loading", retry_after=2)
        if self.state != "ready":
            raise ApiError(503, "The server is stopping; ask another one.", code="stopping", retry_after=5)

    def retry_after(self) -> int:
        """Seconds in which what waits is worked off, by the pace of the last batches."""
        return min(max(1, math.ceil(self._rows / self._pace)), LONGEST_RETRY)

    def _drop(self, job: Job) -> None:
        """Forgets the rows of a job that were not begun."""
        with self._changed:
            job.dropped = True
            self._forget(job)

    def _forget(self, job: Job) -> None:
        if job in self._queue:
            self._queue.remove(job)
            self._rows -= len(job.asks) - job.taken

    # In the thread

    def _run(self) -> None:
        try:
            self._prepare()
        except Exception as error:
            self.failure, self.state = error, "failed"
            return
        with self._changed:
            self._is_prepared = True
            if self.state == "loading":
                self.state = "ready"
        while (parts := self._next_batch()) is not None:
            if parts:
                self._work(parts)

    def _next_batch(self) -> list[Part] | None:
        """What is worked on next; None when there is nothing left and no more will come."""
        with self._changed:
            while not self._queue:
                if self.state == "stopping":
                    return None
                self._changed.wait()
            until = time.monotonic() + (self._wait if self._in_company else 0)
            while sum(len(job.asks) - job.taken for job in self._queue) < self._batch_rows:
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            parts = self._take()
            self._in_company = len(parts) > 1 or bool(self._queue)
            return parts

    def _take(self) -> list[Part]:
        parts: list[Part] = []
        room, now = self._batch_rows, time.monotonic()
        for _ in range(len(self._queue)):
            if room == 0:
                break
            job = self._queue.popleft()
            if job.dropped or now >= job.deadline:
                self._rows -= len(job.asks) - job.taken
                continue
            rows = job.asks[job.taken : job.taken + room]
            job.taken += len(rows)
            room -= len(rows)
            parts.append((job, rows))
            if job.taken < len(job.asks):
                self._queue.append(job)
        return parts

    def _work(self, parts: list[Part]) -> None:
        started = time.monotonic()
        for job, rows, outcome in self._outcomes(parts):
            with self._changed:
                if isinstance(outcome, Exception):
                    self._fail(job, rows, outcome)
                else:
                    self._keep(job, rows, outcome)
        count, seconds = sum(len(rows) for _, rows in parts), max(time.monotonic() - started, 1e-6)
        self._pace += 0.2 * (count / seconds - self._pace)
        self._metrics.batch_rows.observe(count)
        self._metrics.batch_seconds.observe(seconds)

    def _outcomes(self, parts: list[Part]) -> list[tuple[Job, Sequence[Any], Sequence[Any] | Exception]]:
        """The results of each part, or what went wrong with it."""
        try:
            results = list(self._compute([ask for _, rows in parts for ask in rows]))
        except Exception as error:
            if len(parts) == 1:
                return [(*parts[0], error)]
            return [outcome for part in parts for outcome in self._outcomes([part])]
        outcomes: list[tuple[Job, Sequence[Any], Sequence[Any] | Exception]] = []
        for job, rows in parts:
            outcomes.append((job, rows, results[: len(rows)]))
            del results[: len(rows)]
        return outcomes

    def _keep(self, job: Job, rows: Sequence[Any], results: Sequence[Any]) -> None:
        job.results += results
        self._rows -= len(rows)
        if len(job.results) == len(job.asks):
            _send(job, job.results)

    def _fail(self, job: Job, rows: Sequence[Any], error: Exception) -> None:
        self._forget(job)
        self._rows -= len(rows)
        _send(job, error)


def late() -> ApiError:
    """The error of a request whose deadline has passed."""
    return ApiError(504, "The request took longer than the server gives one; ask for less at a time.", code="deadline")


def _send(job: Job, outcome: list[Any] | Exception) -> None:
    def arrive() -> None:
        if not job.answer.done():
            if isinstance(outcome, Exception):
                job.answer.set_exception(outcome)
            else:
                job.answer.set_result(outcome)

    with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
        job.loop.call_soon_threadsafe(arrive)
