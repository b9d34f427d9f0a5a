"""How an LLM is asked: what users may set, checked before anything is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FIRST_WAIT = 1.0
"""Seconds before a request is sent again; doubled each time."""

MAX_REQUESTS = 50_000
"""Requests of one batch at most: OpenAI's limit."""

MAX_BYTES = 150_000_000
"""Bytes of one file of requests at most: OpenAI's limit is 200 MB."""


@dataclass(frozen=True)
class Settings:
    """How requests are made. What changes answers is part of their keys.

    Attributes:
        max_tokens: Most tokens of an answer, an LLM's unseen reasoning included.
        temperature: Of sampling; the endpoint's own by default.
        concurrency: Requests in flight.
        requests_per_minute: Limit, or None.
        tokens_per_minute: Limit, or None.
        timeout: Seconds that an answer may take.
        retries: How often a request that failed in passing is sent again.
        corrections: How often an answer that cannot be read is asked for again.
        structured: Whether the endpoint takes a JSON schema; None to find out.
        first_wait: Seconds before the first repetition.
    """

    max_tokens: int = 2000
    temperature: float | None = None
    concurrency: int = 8
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout: float = 120.0
    retries: int = 8
    corrections: int = 2
    structured: bool | None = None
    first_wait: float = FIRST_WAIT

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if min(self.max_tokens, self.concurrency) < 1 or min(self.retries, self.corrections) < 0:
            raise ValueError("max_tokens and concurrency are at least 1; retries and corrections are not negative.")
        if not self.timeout > 0 or (self.temperature is not None and not self.temperature >= 0):
            raise ValueError("timeout is above 0, and temperature is not negative.")

    @property
    def sampling(self) -> dict[str, Any]:
        """What answers depend on. The most tokens is not part of it: raising it buys nothing anew."""
        return {"temperature": self.temperature}


@dataclass(frozen=True)
class BatchSettings:
    """How batches are made.

    Attributes:
        gather: Seconds without a new question after which a batch is begun.
        poll: Seconds between two looks at a batch.
        max_requests: Of one batch.
        max_bytes: Of its file.
    """

    gather: float = 10.0
    poll: float = 30.0
    max_requests: int = MAX_REQUESTS
    max_bytes: int = MAX_BYTES
