"""Connections, of which there are only so many: who says nothing makes room, and who speaks too slowly is hung up on.

1. A connection has a few seconds to begin a request, and each request's head has as long from its first byte on.
2. A client that takes nothing of its answer for a while is hung up on as well.
3. A connection that comes on top of as many as may be takes the place of the one that has been without a request for
   longest. If all others are at work, it is told to come again.

uvicorn leaves open for ever what never sends a whole head or never reads, and its own limit turns away whoever comes
last, be that the health check.
"""

from __future__ import annotations

import asyncio
import math

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from virtue.server.errors import ApiError

HEAD_SECONDS = 10.0
STALL_SECONDS = 30.0
KEEP_ALIVE = 75
"""Seconds that a connection stays open after an answer: longer than clients keep it, so that they end it."""


class Connection(H11Protocol):
    """One connection; `limited` makes the class that a server needs."""

    most = 512
    head_seconds = HEAD_SECONDS
    stall_seconds = STALL_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes the connection, or another's place."""
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._hurry: asyncio.TimerHandle | None = None
        self._unsent = 0
        self._is_excess = False
        self._look = self.loop.call_later(self.stall_seconds, self._look_at_unsent)
        self._watch()
        if len(self.connections) > self.most:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._relax()
        self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads on; a head that has begun is to end soon."""
        if self._is_excess:
            self._turn_away()
            return
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Waits for the next request."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    @property
    def is_at_work(self) -> bool:
        """Whether a request is being read or answered."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete and not self.transport.is_closing()

    def _watch(self) -> None:
        if self.is_at_work:
            self._relax()
        elif self._hurry is None:
            self._hurry = self.loop.call_later(self.head_seconds, self._hang_up)

    def _relax(self) -> None:
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None

    def _hang_up(self) -> None:
        self._hurry = None
        if not self.is_at_work:
            self.transport.abort()

    def _look_at_unsent(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent and self._unsent and (unsent >= self._unsent or self.transport.is_closing()):
            self.transport.abort()
            return
        self._unsent = unsent
        self._look = self.loop.call_later(self.stall_seconds, self._look_at_unsent)

    def _make_room(self) -> None:
        others = [one for one in self.connections if isinstance(one, Connection) and one is not self]
        idle = [one for one in others if not one.is_at_work]
        if idle:
            longest = min(idle, key=lambda one: one._idle_since)
            self.connections.discard(longest)  # it is gone in the loop's next turn, and more may come before
            longest.transport.abort()
        else:
            self._is_excess = True  # to be told so once it has spoken: what hangs up on unread bytes is not heard

    def _turn_away(self) -> None:
        if self.transport.is_closing():
            return
        sentence = f"All {self.most:,} connections are at work; try again in 1 s."
        error = ApiError(503, sentence, code="busy", retry_after=1).response()
        lines = [b"HTTP/1.1 503 Service Unavailable", *(b": ".join(pair) for pair in error.raw_headers)]
        self.transport.write(b"\r\n".join([*lines, b"connection: close", b"", bytes(error.body)]))
        self.transport.close()


def limited(most: int, *, head_seconds: float = HEAD_SECONDS, stall_seconds: float = STALL_SECONDS) -> type[Connection]:
    """The protocol of a server.

    Args:
        most: Connections at a time; fewer where the process may not open twice as many files.
        head_seconds: Seconds that the head of a request may take.
        stall_seconds: Seconds after which it is looked whether a client has taken anything.
    """
    limits = {"most": min(most, _files() // 2), "head_seconds": head_seconds, "stall_seconds": stall_seconds}
    return type("Connection", (Connection,), limits)


def _files() -> float:
    """How many files the process may have open."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return math.inf
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if soft == resource.RLIM_INFINITY else soft
