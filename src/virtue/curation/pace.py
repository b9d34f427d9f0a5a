"""How fast requests may follow each other: limits of requests and tokens a minute, and waits that a server asks for.

Requests are spread evenly: at 120 a minute one goes out every half second. A request's tokens are estimated before and
corrected after it.
"""

from __future__ import annotations

import asyncio
import time


class Pace:
    """Shared by all requests of a client.

    Args:
        requests: Most requests per minute; None for no limit.
        tokens: Most tokens per minute, input and output together; None for no limit.

    Raises:
        ValueError: If a limit is not above 0.
    """

    def __init__(self, requests: float | None = None, tokens: float | None = None) -> None:
        if any(limit is not None and not limit > 0 for limit in (requests, tokens)):
            raise ValueError("Requests and tokens per minute are above 0.")
        self._of_request = 60.0 / requests if requests else 0.0  # seconds
        self._of_token = 60.0 / tokens if tokens else 0.0
        self._next_request = self._next_token = self._held = 0.0

    async def wait(self, tokens: int) -> None:
        """Waits until a request of so many tokens may go out."""
        now = time.monotonic()
        start = max(now, self._next_request, self._next_token)
        self._next_request = start + self._of_request
        self._next_token = start + tokens * self._of_token
        while (left := max(start, self._held) - time.monotonic()) > 0:
            await asyncio.sleep(left)

    def correct(self, tokens: int) -> None:
        """Adds tokens that a request took more than estimated; takes away those that it took less."""
        self._next_token += tokens * self._of_token

    def hold(self, seconds: float) -> None:
        """Lets no request out for so long."""
        self._held = max(self._held, time.monotonic() + seconds)
