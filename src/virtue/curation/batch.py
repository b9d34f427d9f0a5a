"""Asks an LLM through the batch API: half the price, answers within a day.

To those who ask, `BatchClient` is an `LlmClient` that is slow. Questions are collected until none came for a while or a
file is full, and then

1. a note of the batch is written to the store,
2. its requests are uploaded as one JSONL file and the batch is begun, with the note's name in its metadata,
3. the note gets the endpoint's id for it,
4. the batch is looked at now and then until it has ended,
5. each answer is kept under the same key as if it had been asked for by itself, and
6. the note is marked as done.

A run that was killed after 2 finds its batch by the name, after 3 by the id, and takes the answers from it; it begins
no new batch before that. A question that comes back without an answer goes into the next batch.

Ask many questions at once: they share a batch, and each step of a region waits for one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import IO, Any, NamedTuple, Protocol, TypeVar, cast

from virtue.curation.budget import Budget, Reservation, Usage
from virtue.curation.client import Answers, LlmClient
from virtue.curation.endpoint import LlmError, PassingError, RejectedError
from virtue.curation.llm_settings import BatchSettings, Settings
from virtue.curation.questions import Question, Reply

logger = logging.getLogger(__name__)

TYPICAL = 2000
"""Tokens read for a request of which nothing is known."""

_ENDED = ("completed", "failed", "expired", "cancelled")
_NAME = "virtue"  # of our entry in a batch's metadata
_Answer = TypeVar("_Answer")


class Batches(Answers, Protocol):
    """Where answers and notes of batches are kept, such as `store.Curation`."""

    def put_batch(self, batch_id: str, data: Mapping[str, Any], *, done: bool = False) -> None:
        """Keeps what is known of a batch, in place of what was."""
        ...

    def batches(self, *, done: bool = False) -> dict[str, dict[str, Any]]:
        """Batches under way, or those that are done."""
        ...


class _Waiting(NamedTuple):
    """A question that waits for its answer."""

    key: str
    question: Question
    estimate: Usage
    answered: asyncio.Future[Reply]


class BatchClient(LlmClient):
    """An LLM behind an endpoint's batch API.

    Args:
        model: The LLM's name, as the endpoint knows it.
        answers: Where answers and notes of batches are kept.
        base_url: As for `LlmClient`.
        api_key: As for `LlmClient`.
        budget: Limits, if any; a request counts half its price.
        settings: How requests are made; `concurrency` and limits per minute do not matter here.
        batches: How batches are made.

    Raises:
        ValueError: If the model has no name or a number is out of range.
    """

    def __init__(
        self,
        model: str,
        answers: Batches,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        budget: Budget | None = None,
        settings: Settings | None = None,
        batches: BatchSettings | None = None,
    ) -> None:
        super().__init__(model, answers, base_url=base_url, api_key=api_key, budget=budget, settings=settings)
        self._notes = answers
        self._how = batches or BatchSettings()
        self._queue: list[_Waiting] = []
        self._came = asyncio.Event()
        self._gatherer: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def close(self, patience: float = 0.0) -> None:
        """Stops waiting. Batches that were begun go on at the endpoint, and the next run takes their answers.

        Args:
            patience: Seconds that answers are waited for.
        """
        tasks = [*self._running, *([self._gatherer] if self._gatherer is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await super().close(patience)

    async def _buy(self, key: str, question: Question) -> Reply:
        if self._gatherer is None:
            self._gatherer = asyncio.create_task(self._gather())
        failure: Exception = PassingError("It was never sent.")
        for _ in range(self.settings.retries + 1):
            answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            manners = self._manners
            self._queue.append(_Waiting(key, question, question.estimate(self.settings.max_tokens), answered))
            self._came.set()
            try:
                return await answered
            except RejectedError as error:
                failure = error
                if not self._adapted(manners, error):
                    return await self._after_rejection(key, error)
            except PassingError as error:
                failure = error
        raise LlmError(f"{failure} It was tried in {self.settings.retries + 1} batches.")

    # Collecting

    async def _gather(self) -> None:
        """Takes up what earlier runs began, then begins a batch whenever no more questions come."""
        try:
            await self._take_up()
            while True:
                await self._came.wait()
                size = -1
                while size != len(self._queue) < self._how.max_requests:
                    size = len(self._queue)
                    await asyncio.sleep(self._how.gather)
                self._came.clear()
                await self._begin_batch()
        except Exception as error:  # those who wait are told, whatever it is
            self._fail(self._queue, error)
            self._queue = []
            self._gatherer = None

    async def _begin_batch(self) -> None:
        """Uploads as many of the waiting questions as fit into a file and the budget, and begins their batch."""
        waiting, self._queue = [entry for entry in self._queue if not self._known(entry)], []
        reservations: list[Reservation] = []
        with tempfile.TemporaryFile() as file:
            try:
                taken = await self._write(file, waiting, reservations)
                self._queue = waiting[taken:] + self._queue
                if self._queue:
                    self._came.set()
                if not reservations:  # all of their pictures are broken
                    return
                name = uuid.uuid4().hex
                note = self._note(reservations)
                await asyncio.to_thread(self._notes.put_batch, name, note)
                note["id"] = await self._send_file(name, file)
                await asyncio.to_thread(self._notes.put_batch, name, note)
            except BaseException as error:
                await _release(reservations)
                if isinstance(error, Exception):
                    self._fail(waiting, error)
                raise
        task = asyncio.create_task(self._finish(name, note, waiting[:taken], reservations))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _note(self, reservations: Sequence[Reservation]) -> dict[str, Any]:
        """What is kept of a batch before it is begun; the estimate is that of a request in the mean."""
        count = len(reservations)
        read, written = (
            sum(getattr(one.estimate, name) for one in reservations) for name in ("tokens_in", "tokens_out")
        )
        estimate = [round(read / count), round(written / count)]
        address = self._endpoint.address
        return {"requests": count, "model": self.model, "address": address, "estimate": estimate}

    def _known(self, entry: _Waiting) -> bool:
        """Whether a question has its answer, which is given to who asked."""
        known = self._answers.answer(entry.key)
        if known is not None and not entry.answered.done():
            entry.answered.set_result(Reply.from_text(known))
        return known is not None or entry.answered.done()

    async def _write(self, file: IO[bytes], waiting: list[_Waiting], reservations: list[Reservation]) -> int:
        """Writes requests to a file, one a line, each with its share of the budget; how many.

        Raises:
            BudgetError: If there is no room for the first.
        """
        taken = 0
        for entry in waiting[: self._how.max_requests]:
            body = await asyncio.to_thread(self._body_or_error, entry)
            if body is not None:
                request = {"custom_id": entry.key, "method": "POST", "url": "/v1/chat/completions", "body": body}
                line = json.dumps(request).encode() + b"\n"
                if reservations and file.tell() + len(line) > self._how.max_bytes:
                    break
                reservation = self._budget.try_reserve(entry.estimate, batch=True)
                if reservation is None and reservations:
                    break
                reservations.append(reservation or await self._budget.reserve(entry.estimate, batch=True))
                file.write(line)
            taken += 1
        file.flush()
        return taken

    def _body_or_error(self, entry: _Waiting) -> dict[str, Any] | None:
        try:
            return self.body(entry.question)
        except (FileNotFoundError, ValueError) as error:  # a picture that is broken
            entry.answered.get_loop().call_soon_threadsafe(_reject, entry.answered, error)
            return None

    async def _send_file(self, name: str, file: IO[bytes]) -> str:
        """Uploads the requests and begins their batch; the endpoint's id for it."""
        files = self._endpoint.api.files
        sent = ("requests.jsonl", file)
        uploaded = await self._patiently(lambda: files.create(file=_from_start(sent), purpose="batch"))
        for attempt in range(self.settings.retries + 1):
            try:
                return await self._begin(name, uploaded.id)
            except PassingError as error:
                await self._back_off(attempt, error)
                if (begun := await self._found(name)) is not None:  # the answer got lost, not the request
                    return begun
            except RejectedError as error:
                raise LlmError(f"No batch can be begun: {error}") from error
        raise LlmError(f"{self._endpoint.address} did not begin a batch in {self.settings.retries + 1} attempts.")

    async def _begin(self, name: str, file_id: str) -> str:
        """Begins a batch of an uploaded file; the endpoint's id for it."""
        create = self._endpoint.api.batches.create
        path, window, mark = "/v1/chat/completions", "24h", {_NAME: name}
        call = cast("Any", create)(input_file_id=file_id, endpoint=path, completion_window=window, metadata=mark)
        begun = await self._endpoint.guarded(call)
        return str(begun.id)

    # Waiting

    async def _finish(
        self, name: str, note: dict[str, Any], waiting: list[_Waiting], reservations: list[Reservation]
    ) -> None:
        """Waits for a batch and gives its answers to those who asked."""
        try:
            failures = await self._fetch(name, note, {entry.key: entry.estimate for entry in waiting})
            for entry in waiting:
                if not self._known(entry):
                    missing = PassingError(f"The batch {note['id']} brought no answer.")
                    _reject(entry.answered, failures.get(entry.key, missing))
        except Exception as error:
            self._fail(waiting, error)
        finally:
            await _release(reservations)

    async def _take_up(self) -> None:
        """Takes the answers of batches that earlier runs began."""
        for name, note in self._notes.batches().items():
            if note.get("address", self._endpoint.address) != self._endpoint.address:
                logger.warning("A batch of this run at %s is left alone; its address was not given.", note["address"])
                continue
            batch_id = note.get("id") or await self._found(name)
            if batch_id is None:  # the run was killed before it was begun
                await asyncio.to_thread(self._notes.put_batch, name, note | {"status": "never begun"}, done=True)
                continue
            try:
                await self._fetch(name, note | {"id": batch_id}, {})
            except LlmError as error:
                if not error.is_missing:
                    raise
                logger.warning("The endpoint no longer has the batch %s or its answers: %s", batch_id, error)
                await asyncio.to_thread(self._notes.put_batch, name, note | {"status": "gone"}, done=True)

    async def _found(self, name: str) -> str | None:
        """The endpoint's id of the batch with our name in its metadata."""
        last: str | None = None
        while True:
            more: dict[str, Any] = {} if last is None else {"after": last}
            page = await self._patiently(lambda more=more: self._endpoint.api.batches.list(limit=100, **more))  # type: ignore[misc]
            for batch in page.data:  # the newest come first
                if (batch.metadata or {}).get(_NAME) == name:
                    return str(batch.id)
            if not page.data or not page.has_more or page.data[-1].id == last:
                return None
            last = page.data[-1].id

    async def _fetch(self, name: str, note: dict[str, Any], estimates: Mapping[str, Usage]) -> dict[str, Exception]:
        """Waits for a batch to end and keeps its answers.

        Args:
            name: Of the note.
            note: What is known of the batch, its id included.
            estimates: Tokens that were expected of each request, by key; none of a batch that an earlier run began,
                whose note has the mean.

        Returns:
            Why there is no answer, by key, where the endpoint says so.
        """
        api = self._endpoint.api
        while (batch := await self._patiently(lambda: api.batches.retrieve(note["id"]))).status not in _ENDED:
            await asyncio.sleep(self._how.poll)
        otherwise = Usage(*note.get("estimate", (TYPICAL, self.settings.max_tokens)))
        failures: dict[str, Exception] = {}
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id is not None:
                content = await self._patiently(lambda wanted=file_id: api.files.content(wanted))  # type: ignore[misc]
                lines = content.text.splitlines()
                failures |= await asyncio.to_thread(self._keep_lines, lines, estimates, otherwise)
        await asyncio.to_thread(self._notes.put_batch, name, note | {"status": batch.status}, done=True)
        if batch.status == "failed" and estimates:
            raise self._why_failed(batch)
        return failures

    def _keep_lines(
        self, lines: Iterable[str], estimates: Mapping[str, Usage], otherwise: Usage
    ) -> dict[str, Exception]:
        """Keeps the answers of a batch's file; why there is none, by key."""
        failures: dict[str, Exception] = {}
        for line in filter(str.strip, lines):
            entry = json.loads(line)
            key, response = entry["custom_id"], entry.get("response") or {}
            status, body = response.get("status_code"), response.get("body") or {}
            estimate = estimates.get(key, otherwise)
            if status != 200:
                error = body.get("error") or entry.get("error") or {}
                message, code = str(error.get("message", "no reason given")), str(error.get("code"))
                failures[key] = self._endpoint.failure(status or 500, message, code)
                continue
            try:
                reply = Reply.of(body, estimate)
            except ValueError as error:
                failures[key] = PassingError(f"{self._endpoint.address} answered, but {error}.")
                continue
            self._works, self._rejections = True, 0
            if key in estimates:
                self._budget.learn(estimate, reply.usage)
            self._answers.put_answer(key, reply.to_text(), self._budget.cost(reply.usage, batch=True))
        return failures

    def _why_failed(self, batch: Any) -> Exception:
        """A batch that the endpoint did not accept."""
        errors = batch.errors.data if batch.errors is not None else None
        said, code = (errors[0].message, errors[0].code) if errors else ("no reason given", None)
        sentence = f"The batch {batch.id} failed: {said}"
        return PassingError(sentence, 60.0) if code == "token_limit_exceeded" else LlmError(sentence)

    async def _patiently(self, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """The result of a call, made again while there is hope."""
        for attempt in range(self.settings.retries + 1):
            try:
                return await self._endpoint.guarded(call())
            except PassingError as error:
                if attempt >= self._patience(error):
                    raise LlmError(f"{error} It was tried {attempt + 1} times.") from error
                await self._back_off(attempt, error)
            except RejectedError as error:
                raise LlmError(f"The batch API is not to be used: {error}") from error
        raise AssertionError("The last attempt returns or raises.")

    def _fail(self, waiting: Iterable[_Waiting], error: Exception) -> None:
        for entry in waiting:
            _reject(entry.answered, error)


def _reject(answered: asyncio.Future[Reply], error: Exception) -> None:
    if not answered.done():
        answered.set_exception(error)


async def _release(reservations: Iterable[Reservation]) -> None:
    for reservation in reservations:
        await reservation.release()


def _from_start(sent: tuple[str, IO[bytes]]) -> tuple[str, IO[bytes]]:
    """A file to be uploaded, also when it was already read once."""
    sent[1].seek(0)
    return sent
