"""Asks an LLM behind any endpoint that speaks OpenAI's chat completions, and buys no answer twice.

1. An answer that is kept under the question's key is used. Otherwise
2. the request waits for its turn: so many in flight, so many requests and tokens a minute, room in the budget;
3. it is sent. What may pass (408, 409, 429, 5xx, a connection that breaks or takes too long) is sent again, later each
   time and not before the server's `Retry-After`, which holds all other requests back too;
4. the answer is on disk, with its cost, before anybody sees it. A refusal is an answer and is kept;
5. an answer that is not in the form that was asked for is asked for again with what was wrong, a few times.

So a process killed at any moment pays again at most for what was in flight: the endpoint had not answered yet. Calls
of the same question at once share one request. Every request bears its key as `Idempotency-Key`.

Endpoints differ, and the client finds out how: one that does not take a JSON schema gets it in words, one that wants
`max_completion_tokens` gets that. Answers are read leniently and checked strictly (`questions.Reply.read`).
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

from pydantic import BaseModel

from virtue.curation.budget import Budget, Reservation, Totals, Usage
from virtue.curation.endpoint import Endpoint, LlmError, PassingError, RejectedError, one_line
from virtue.curation.llm_settings import Settings
from virtue.curation.pace import Pace
from virtue.curation.questions import Form, Question, Reply, schema
from virtue.curation.writers import WriterRefusal

__all__ = ["Answers", "LlmClient", "LlmError"]

logger = logging.getLogger(__name__)

LONGEST_WAIT = 60.0
"""Seconds at most between two tries, unless the server asks for more."""

FIRST_RETRIES = 3
"""How often a request is sent again at most while the endpoint has answered nothing at all."""

LONGEST_ASKED_WAIT = 900.0
"""A server that asks for a longer wait, in seconds, ends the run."""

REJECTIONS = 10
"""So many questions rejected in a row, without an answer between them, may be about the account and not about them."""


class Answers(Totals, Protocol):
    """Where answers and what they cost are kept, such as `store.Curation`. Called from several threads."""

    def answer(self, key: str) -> str | None:
        """The answer that was kept under a key."""
        ...

    def put_answer(self, key: str, value: str, totals: Mapping[str, float] | None = None) -> None:
        """Keeps an answer and adds to the totals, both or neither; it is on disk when this returns."""
        ...

    def add_totals(self, amounts: Mapping[str, float]) -> None:
        """Adds to the totals."""
        ...


@dataclass(frozen=True)
class _Manners:
    """What an endpoint is held to take: found out, and changed for all requests at once."""

    structured: bool
    token_word: str = "max_tokens"


class LlmClient:
    """An LLM behind an endpoint. Made and used in one event loop; close it, or use `async with`.

    Args:
        model: The LLM's name, as the endpoint knows it.
        answers: Where answers are kept.
        base_url: What stands before `/chat/completions`, as in "http://127.0.0.1:8000/v1"; by default what
            `OPENAI_BASE_URL` holds, else OpenAI.
        api_key: By default what `OPENAI_API_KEY` holds; an endpoint on one's own machine often needs none.
        budget: Limits, if any.
        settings: How requests are made.

    Raises:
        ValueError: If the model has no name or a number is out of range.
    """

    def __init__(
        self,
        model: str,
        answers: Answers,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        budget: Budget | None = None,
        settings: Settings | None = None,
    ) -> None:
        if not model:
            raise ValueError("An LLM needs a name: give --model as the endpoint knows it.")
        self.model = model
        self.settings = settings or Settings()
        self._answers = answers
        self._budget = budget or Budget(answers)
        self._endpoint = Endpoint(base_url, api_key, self.settings.timeout)
        self._pace = Pace(self.settings.requests_per_minute, self.settings.tokens_per_minute)
        self._slots = asyncio.Semaphore(self.settings.concurrency)
        self._manners = _Manners(structured=self.settings.structured is not False)
        self._rejections = 0  # since the last answer
        self._works = False  # whether the endpoint has answered, so that a rejection is about what was asked
        self._closing = False
        self._purchases: dict[str, asyncio.Task[Reply]] = {}

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes it."""
        await self.close()

    async def close(self, patience: float = 30.0) -> None:
        """Waits for answers that are under way, since they are paid for, then closes all connections.

        Args:
            patience: Seconds that are waited.
        """
        self._closing = True
        tasks = list(self._purchases.values())
        if tasks:
            await asyncio.wait(tasks, timeout=patience)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._endpoint.close()

    @property
    def address(self) -> str:
        """Of the endpoint."""
        return self._endpoint.address

    async def ask(
        self,
        question: Question,
        form: type[Form],
        check: Callable[[Form], object] | None = None,
        *,
        tries: int = 0,
    ) -> Form:
        """The answer to a question, kept or bought.

        Args:
            question: What is asked; its form is `form`.
            form: What the answer has to be.
            check: Raises ValueError where the answer will not do, in words for the LLM, or WriterRefusal.
            tries: How often the same is asked anew where nothing usable was answered: kept refusals stay kept, and
                each try has keys of its own.

        Raises:
            WriterRefusal: If the LLM would not answer ("refused"), not in the form asked for ("unreadable"), or the
                endpoint does not take this one question ("rejected").
            LlmError: If the endpoint fails for good.
            BudgetError: If the budget is used up.
        """
        for turn in range(tries):
            try:
                return await self._asked(question, form, check, turn)
            except WriterRefusal as refusal:
                if refusal.reason == "rejected":  # not kept, so it was asked just now
                    raise
        return await self._asked(question, form, check, tries)

    async def _asked(
        self, question: Question, form: type[Form], check: Callable[[Form], object] | None, turn: int
    ) -> Form:
        """What `ask` comes to in one of its tries, counted from 0."""
        for _ in range(self.settings.corrections + 1):
            reply = await self.reply(question, turn)
            if reply.refusal is not None:
                raise WriterRefusal("refused", f"{self.model} refused: {one_line(reply.refusal)}")
            try:
                answer = reply.read(form)
                if check is not None:
                    check(answer)
                return answer
            except ValueError as error:
                fault = str(error)
                question = question.again(reply.text, f"That answer cannot be used: {fault}. Answer with JSON only.")
        times = self.settings.corrections + 1
        raise WriterRefusal("unreadable", f"{self.model} gave no usable answer in {times} attempts: {one_line(fault)}.")

    async def reply(self, question: Question, turn: int = 0) -> Reply:
        """What the LLM says to a question, whatever it is; kept before it is returned.

        Args:
            question: What is asked.
            turn: Another one asks the same anew.

        Raises:
            WriterRefusal: If the endpoint does not take this one question.
            LlmError: If the endpoint fails for good.
            BudgetError: If the budget is used up.
        """
        sampling = self.settings.sampling | ({"turn": turn} if turn else {})
        key = await asyncio.to_thread(question.key, self.model, sampling)
        if (known := self._answers.answer(key)) is not None:
            return Reply.from_text(known)
        if self._closing:
            raise asyncio.CancelledError
        if key not in self._purchases:
            task = self._purchases[key] = asyncio.create_task(self._buy(key, question))
            task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(self._purchases[key])  # who stops waiting does not stop what is paid for

    def _forget(self, key: str, task: asyncio.Task[Reply]) -> None:
        del self._purchases[key]
        if not task.cancelled():
            task.exception()  # nobody may be left to look at it

    async def _buy(self, key: str, question: Question) -> Reply:
        """Buys an answer, with as many tries as it takes."""
        estimate = question.estimate(self.settings.max_tokens)
        attempt = 0
        while True:
            try:
                async with self._slots:
                    return await self._buy_once(key, question, estimate)
            except PassingError as error:
                if error.unanswered:
                    self._answers.add_totals({"unanswered": 1.0})
                if attempt >= self._patience(error):
                    raise LlmError(f"{error} It was tried {attempt + 1} times.") from error
                await self._back_off(attempt, error)
                attempt += 1

    def _patience(self, failure: PassingError) -> int:
        """How often a request that failed so is sent again: an address where nobody ever answered may be wrong."""
        retries = self.settings.retries
        return min(FIRST_RETRIES, retries) if failure.unanswered and not self._works else retries

    async def _back_off(self, attempt: int, failure: PassingError) -> None:
        if failure.asked_wait > LONGEST_ASKED_WAIT:
            raise LlmError(f"{failure} It asks to wait for {failure.asked_wait / 60:.0f} minutes.")
        wait = min(LONGEST_WAIT, self.settings.first_wait * 2**attempt) * random.uniform(0.5, 1.0)
        if failure.asked_wait:
            self._pace.hold(failure.asked_wait)
        await asyncio.sleep(max(wait, failure.asked_wait))

    async def _buy_once(self, key: str, question: Question, estimate: Usage) -> Reply:
        if self._closing:
            raise asyncio.CancelledError
        await self._pace.wait(estimate.tokens_in + estimate.tokens_out)
        reservation = await self._budget.reserve(estimate)
        try:
            reply = await self._sent(key, question, estimate)
            await self._keep(key, reply, reservation)
            return reply
        except RejectedError as error:
            rejection = error
        finally:
            await reservation.release()
        return await self._after_rejection(key, rejection)

    async def _sent(self, key: str, question: Question, estimate: Usage) -> Reply:
        """The answer to one request, in a way that the endpoint takes.

        Raises:
            RejectedError: If it takes the question in no way.
            PassingError: If it failed in a way that may pass.
            LlmError: If it failed in another way.
        """
        while True:
            manners = self._manners
            body = await asyncio.to_thread(self.body, question)
            try:
                return self._understood(await self._endpoint.chat(key, body), estimate)
            except RejectedError as error:
                if not self._adapted(manners, error):
                    raise

    def _understood(self, body: Any, estimate: Usage) -> Reply:
        try:
            return Reply.of(body, estimate)
        except ValueError as error:
            raise PassingError(f"{self._endpoint.address} answered, but {error}.") from error

    async def _keep(self, key: str, reply: Reply, reservation: Reservation) -> None:
        usage, estimate = reply.usage, reservation.estimate
        self._works, self._rejections = True, 0
        self._pace.correct(usage.tokens_in + usage.tokens_out - estimate.tokens_in - estimate.tokens_out)
        await asyncio.to_thread(self._answers.put_answer, key, reply.to_text(), reservation.used(usage))

    def body(self, question: Question) -> dict[str, Any]:
        """The request as JSON, in the way that the endpoint takes it."""
        manners = self._manners
        body: dict[str, Any] = {
            "model": self.model,
            "messages": question.messages(spell_schema=not manners.structured),
            manners.token_word: self.settings.max_tokens,
        }
        if self.settings.temperature is not None:
            body["temperature"] = self.settings.temperature
        if manners.structured:
            described = {"name": question.task, "strict": True, "schema": schema(question.form)}
            body["response_format"] = {"type": "json_schema", "json_schema": described}
        return body

    def _adapted(self, manners: _Manners, error: RejectedError) -> bool:
        """Whether the same question may now be taken in another way."""
        if manners != self._manners:
            return True  # another request has found out meanwhile
        if "max_completion_tokens" in error.said and manners.token_word == "max_tokens":
            self._manners = replace(manners, token_word="max_completion_tokens")
        elif manners.structured and self.settings.structured is None and not self._works and not error.is_filter:
            logger.info("%s; the schema is put in words from now on.", error)
            self._manners = replace(manners, structured=False)
        else:
            return False
        return True

    async def _after_rejection(self, key: str, error: RejectedError) -> Reply:
        """What becomes of a question that the endpoint does not take; a filter's refusal is kept as an answer.

        Raises:
            WriterRefusal: If it is for this question, such as its picture.
            LlmError: If the endpoint takes no other either.
            BudgetError: If there is no room to find that out.
        """
        if error.is_filter:
            self._works, self._rejections = True, 0
            refused = Reply("", refusal=error.said)
            await asyncio.to_thread(self._answers.put_answer, key, refused.to_text(), self._budget.cost(refused.usage))
            return refused
        self._rejections += 1
        if not self._works or self._rejections % REJECTIONS == 0:
            await self._probe(error)
            self._works = True
        raise WriterRefusal("rejected", str(error))

    async def _probe(self, error: RejectedError) -> None:
        """Asks something that every endpoint takes; what it costs is counted, the answer is not kept.

        Raises:
            LlmError: If it is not taken either.
        """
        probe = Question("probe", "You answer with JSON.", 'Answer {"fine": true}.', _Probe)
        reservation = await self._budget.reserve(probe.estimate(self.settings.max_tokens))
        try:
            reply = await self._sent(f"probe-{uuid.uuid4().hex}", probe, reservation.estimate)
            used = {name: n for name, n in reservation.used(reply.usage).items() if name != "answers"}
            await asyncio.to_thread(self._answers.add_totals, used | {"probes": 1.0})
        except RejectedError:
            raise LlmError(str(error)) from None
        except PassingError as passing:
            raise LlmError(str(passing)) from passing
        finally:
            await reservation.release()


class _Probe(BaseModel):
    """What is asked to see whether an endpoint answers at all."""

    fine: bool
