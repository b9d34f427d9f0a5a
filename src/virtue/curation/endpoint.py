"""One request to an endpoint that speaks OpenAI's protocol, and what its failures mean.

A failure is one of three: it may pass and the same request may be sent again (`PassingError`), the endpoint does not
take this request (`RejectedError`), or it is no use to go on (`LlmError`). Repetitions are left to the caller.
"""

from __future__ import annotations

import contextlib
import email.utils
import time
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import openai
from openai import AsyncOpenAI

_Answer = TypeVar("_Answer")

_FILTERS = ("content_filter", "content filter", "content_policy", "content management policy", "moderation")
"""What endpoints say where they did not let a picture or a text through, in small letters."""

_SCHEMAS = ("response_format", "json_schema")


class LlmError(RuntimeError):
    """An endpoint that cannot be reached, does not let us in, or answers what makes no sense. It ends the run.

    Attributes:
        is_missing: Whether the endpoint says that there is nothing at the address.
    """

    def __init__(self, sentence: str, *, is_missing: bool = False) -> None:
        super().__init__(sentence)
        self.is_missing = is_missing


class PassingError(Exception):
    """A failure after which the same request may succeed.

    Attributes:
        asked_wait: Seconds that the endpoint asks to wait; 0 where it does not say.
        unanswered: Whether the request was sent and nothing came back, so that it may have been paid for.
    """

    def __init__(self, sentence: str, asked_wait: float = 0.0, *, unanswered: bool = False) -> None:
        super().__init__(sentence)
        self.asked_wait = asked_wait
        self.unanswered = unanswered


class RejectedError(Exception):
    """A request that the endpoint does not take.

    Attributes:
        said: What the endpoint says.
        is_filter: Whether it is for what the request shows or says.
    """

    def __init__(self, sentence: str, said: str, code: str = "") -> None:
        super().__init__(sentence)
        self.said = said
        self.is_filter = any(word in f"{code} {said}".lower() for word in _FILTERS)


class Endpoint:
    """An endpoint. Made and used in one event loop.

    Args:
        base_url: What stands before `/chat/completions`; by default what `OPENAI_BASE_URL` holds, else OpenAI.
        api_key: By default what `OPENAI_API_KEY` holds; where an address is given, none is needed.
        timeout: Seconds that an answer may take.

    Raises:
        ValueError: If there is neither an address nor a key, or the address is no http or https URL.
    """

    def __init__(self, base_url: str | None, api_key: str | None, timeout: float) -> None:
        base_url = _checked_url(base_url) if base_url is not None else None
        try:
            self.api = AsyncOpenAI(base_url=base_url, api_key=api_key, timeout=timeout, max_retries=0)
        except openai.OpenAIError as error:
            if base_url is None:
                raise ValueError(
                    "OpenAI wants an API key in OPENAI_API_KEY; for another endpoint give its address (--base-url)."
                ) from error
            self.api = AsyncOpenAI(base_url=base_url, api_key="none", timeout=timeout, max_retries=0)
        self.address = str(self.api.base_url).rstrip("/")

    async def close(self) -> None:
        """Closes all connections."""
        await self.api.close()

    async def chat(self, key: str, body: Mapping[str, Any]) -> Any:
        """The body of the answer to a chat request, as JSON.

        Args:
            key: Sent as `Idempotency-Key`.
            body: The request.

        Raises:
            PassingError: If it failed in a way that may pass.
            RejectedError: If the endpoint does not take the request.
            LlmError: If it failed in another way.
        """
        create = cast("Any", self.api.chat.completions.with_raw_response).create
        answer = await self.guarded(create(**body, extra_headers={"Idempotency-Key": key}))
        try:
            return answer.http_response.json()
        except ValueError as error:
            raise PassingError(f"{self.address} answered what is not JSON: {one_line(answer.text())[:200]}") from error

    async def guarded(self, call: Awaitable[_Answer]) -> _Answer:
        """The result of a call of OpenAI's client, its errors put in our words.

        Raises:
            PassingError: If it failed in a way that may pass.
            RejectedError: If the endpoint does not take the request.
            LlmError: If it failed in another way.
        """
        try:
            return await call
        except openai.APITimeoutError as error:
            raise PassingError(f"{self.address} took too long to answer.", unanswered=True) from error
        except openai.APIConnectionError as error:
            reason = one_line(str(error.__cause__ or error) or type(error.__cause__).__name__).rstrip(".")
            raise PassingError(f"{self.address} cannot be reached: {reason}.", unanswered=True) from error
        except openai.APIStatusError as error:
            wait = retry_after(error.response.headers)
            raise self.failure(error.status_code, error.message, f"{error.code} {error.type}", wait) from error

    def failure(self, status: int, message: str, code: str = "", asked_wait: float = 0.0) -> Exception:
        """What a status that is no success means.

        Args:
            status: HTTP's.
            message: What the endpoint says.
            code: Its codes for it.
            asked_wait: Seconds that it asks to wait.
        """
        said = one_line(message)
        sentence = f"{self.address} answered {status}: {said}"
        if status in (400, 413, 422) or (status == 404 and any(word in said for word in _SCHEMAS)):
            return RejectedError(sentence, said, code)
        if (status in (408, 409, 429) or status >= 500) and "insufficient_quota" not in code:
            return PassingError(sentence, asked_wait)
        return LlmError(sentence, is_missing=status == 404)


def _checked_url(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"An endpoint's address is of the form http://host:8000/v1, not {base_url}.")
    if "@" in parts.netloc:
        raise ValueError(
            f"The address of {parts.hostname} holds a user name or password; put a key in OPENAI_API_KEY instead."
        )
    return base_url.rstrip("/").removesuffix("/chat/completions")


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait, given as such, in milliseconds or as a date; 0 where it does not say."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        with contextlib.suppress(ValueError):
            if (seconds := float(headers.get(name) or 0) * unit) > 0:
                return seconds
    with contextlib.suppress(ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(headers.get("retry-after") or "").timestamp() - time.time())
    return 0.0


def one_line(text: str) -> str:
    """A text in one line, not too long."""
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:300]}..."
