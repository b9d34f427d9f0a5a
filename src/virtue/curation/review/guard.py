"""Who may speak to the review server: pages that it served itself, to people who were let in.

- A server that listens on the machine itself only and has no token of its own answers to the machine's names alone, and
  none answers a request that says that it comes from another site (`virtue.browsers` says why).
- Everything but the page's own files needs a token in a header, which other sites neither know nor can send. A page
  gets it from the session where the server has none of its own, else from its address, behind the "#", which browsers
  send to nobody.
- A page of another run is told so, before it decides about samples that only share their ids.

No answer is kept.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from virtue.browsers import NO_STORE, SAFE_HEADERS, is_foreign, wrong_host

TOKEN_HEADER, RUN_HEADER = "x-virtue-token", "x-virtue-run"
SESSION = "/api/session"
MAX_BODY = 100_000
"""Bytes of a request, at most; an edit of ten captions has a few thousand."""


class Guard:
    """Refuses what should not reach the app, and makes answers safe.

    Args:
        app: What is guarded.
        token: That requests need.
        run: Name of the run that pages have to be of.
        is_open: Whether the session gives the token to whoever asks on this machine.
    """

    def __init__(self, app: ASGIApp, token: str, run: str, is_open: bool) -> None:
        self.app, self.token, self.run, self.is_open = app, token, run, is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], NO_STORE, *SAFE_HEADERS]
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refused(headers, scope["path"]) or _malformed(headers, scope["method"])
        if refused:
            status, sentence = refused
            await JSONResponse({"detail": sentence}, status)(scope, receive, send_safely)
        else:
            await self.app(scope, receive, send_safely)

    def _refused(self, headers: Mapping[str, str], path: str) -> tuple[int, str] | None:
        """Status and sentence, None for what may pass."""
        if self.is_open and (wrong := wrong_host(headers)):
            return 403, wrong
        foreign = is_foreign(headers)
        if foreign or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            # A link on another site may lead to the page, and to nothing else.
            if foreign or path.startswith("/api/"):
                return 403, "This request comes from another site; only the review page itself may send any."
        if not path.startswith("/api/") or (self.is_open and path == SESSION):
            return None
        run = headers.get(RUN_HEADER)
        if run is not None and run != self.run:
            return 409, "This page is of another run than the one that is served here now; load it again."
        if not secrets.compare_digest(headers.get(TOKEN_HEADER, "").encode(), self.token.encode()):
            return 401, "The token is missing or another; open the page with the address that was shown at the start."
        if path != SESSION and run is None:
            return 409, "A request has to name the run that it is about."
        return None


def _malformed(headers: Mapping[str, str], method: str) -> tuple[int, str] | None:
    """Status and sentence for a request that is no small piece of JSON, None for one that is or has no body."""
    if method in ("GET", "HEAD"):
        return None
    length = headers.get("content-length", "")
    if not length.isdecimal():
        return 411, "A request has to say how long it is."
    if int(length) > MAX_BODY:
        return 413, f"A request has {MAX_BODY:,} bytes at most."
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return 415, "A request is JSON."
    return None
