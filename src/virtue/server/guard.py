"""Who may speak to the server, and how much: what stands between the network and the app.

- A server without an API key that is meant for this machine answers to the machine's own names alone, and none answers
  what a browser sends for another site (`virtue.browsers` says why).
- With an API key everything under /v1 and the metrics need it; the page, its files, the documentation and /health do
  not.
- Bodies are limited in bytes, each and all together, and in the time that they take to arrive.
- When the client goes away, or does not take its answer, what it asked for is cancelled.
- Files are sent whole, whatever range of one is asked for.
- A server that stops takes no more requests.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from virtue.browsers import NO_STORE, SAFE_HEADERS, is_foreign, wrong_host
from virtue.server.errors import ApiError, error_response
from virtue.server.settings import Settings

logger = logging.getLogger(__name__)

LINGER = 5.0
"""Seconds for which the rest of a refused request is read."""

_PRIVATE = ("/v1/", "/metrics")
_READING = ("/v1/embeddings", "/v1/images", "/v1/mask", "/v1/search", "/v1/rank")


class Guard:
    """Refuses what should not reach the app, reads bodies, and makes answers safe.

    Args:
        app: What is guarded.
        settings: What is allowed.
        is_stopping: Whether no more requests are taken.
    """

    def __init__(self, app: ASGIApp, settings: Settings, is_stopping: Callable[[], bool] = lambda: False) -> None:
        self.app, self.settings, self._is_stopping = app, settings, is_stopping
        self.intake = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        call = _Call(scope, receive, send)
        try:
            await self._answer(call)
        except ApiError as error:
            await call.refuse(error)
        except _GoneError:
            pass
        except asyncio.CancelledError:  # the server has stopped waiting for what it took
            await call.fail(503, "The server had to stop before this was done; ask another one.", "stopping")
        except Exception as error:
            logger.error("%s %s failed.", call.method, scope["path"], exc_info=error)
            await call.fail(500, "The server failed at this request; its log says where.", "internal")

    async def _answer(self, call: _Call) -> None:
        deadline = call.scope.setdefault("state", {})["deadline"] = time.monotonic() + self.settings.deadline
        self._check(call.headers, call.scope)
        body = await self._body(call)
        try:
            await call.run(self.app, body, deadline + self.settings.body_timeout)
        finally:
            self.intake -= len(body)

    def _check(self, headers: Mapping[str, str], scope: Scope) -> None:
        settings, path = self.settings, scope["path"]
        if settings.api_key is None and not settings.network and (wrong := wrong_host(headers)):
            raise ApiError(403, wrong, code="wrong_host")
        is_other_site = path.startswith(_PRIVATE) and headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if is_other_site or is_foreign(headers):
            raise ApiError(403, "This request comes from another site; only this server's own page may send any.",
                           code="foreign_origin")  # fmt: skip
        if settings.api_key is not None and path.startswith(_PRIVATE):
            self._check_key(headers.get("authorization", ""), settings.api_key)
        if self._is_stopping() and path.startswith("/v1/"):
            raise ApiError(503, "The server is stopping; ask another one.", code="stopping", retry_after=5)
        _check_type(headers, scope)

    def _check_key(self, given: str, key: str) -> None:
        scheme, _, token = given.partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(token.strip().encode(), key.encode()):
            raise ApiError(
                401, "The API key is missing or another; send it as Authorization: Bearer KEY.", code="invalid_api_key"
            )

    async def _body(self, call: _Call) -> bytes:
        """The body of a request; its bytes count as taken in until the request is answered."""
        if call.method in ("GET", "HEAD", "OPTIONS"):
            return b""
        length = call.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.settings.max_body:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self.settings.body_timeout):
                async for chunk in call.chunks():
                    body += chunk
                    self.intake += len(chunk)
                    self._check_intake(len(body))
            return bytes(body)
        except BaseException as error:
            self.intake -= len(body)
            if isinstance(error, TimeoutError):
                raise ApiError(408, "The body of the request took too long to arrive.", code="slow_body") from None
            raise

    def _check_intake(self, size: int) -> None:
        if size > self.settings.max_body:
            raise self._too_large()
        if self.intake > self.settings.max_intake and self.intake > size:
            raise ApiError(
                429, "The server is reading as much as it can; try again in 1 s.", code="intake_full", retry_after=1
            )

    def _too_large(self) -> ApiError:
        return ApiError(413, f"A request has {self.settings.max_body:,} bytes at most.", code="body_too_large")


class _GoneError(Exception):
    """The client went away while it was sending."""


class _Call:
    """One request on its way through."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.method: str = scope["method"]
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.is_read = self.is_begun = self.is_answered = False

    async def send_safely(self, message: Message) -> None:
        """Sends with the headers that make an answer safe."""
        if message["type"] == "http.response.start":
            self.is_begun = True
            given = [header for header in message.get("headers", []) if header[0] != b"accept-ranges"]
            stored = [] if any(name == b"cache-control" for name, _ in given) else [NO_STORE]
            message["headers"] = [*given, *stored, *SAFE_HEADERS]
        elif not message.get("more_body", False):
            await self.send({**message, "more_body": True})
            await self.send({"type": "http.response.body"})  # waits until the client has taken most of what was sent
            self.is_answered = True
            return
        await self.send(message)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives."""
        while not self.is_read:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise _GoneError
            self.is_read = not message.get("more_body", False)
            yield message.get("body", b"")

    async def refuse(self, error: ApiError) -> None:
        """Sends an error, and reads for a while what the client is still sending: else it would not read the answer."""
        answer = error.response()
        start = {"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers}
        await self.send_safely(start)
        await self.send_safely({"type": "http.response.body", "body": answer.body, "more_body": True})
        with suppress(TimeoutError, _GoneError):
            async with asyncio.timeout(LINGER):
                async for _ in self.chunks():
                    pass
        await self.send_safely({"type": "http.response.body"})

    async def fail(self, status: int, message: str, code: str) -> None:
        """Sends an error instead of an answer, if that has not begun."""
        if not self.is_begun:
            await error_response(status, message, code=code)(self.scope, self.receive, self.send_safely)

    async def run(self, app: ASGIApp, body: bytes, end: float) -> None:
        """Lets the app answer, unless the client goes away before it has, or has not taken the answer in the end."""
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        gone = asyncio.create_task(self._gone())

        async def replay() -> Message:
            if pending:
                return pending.pop()
            await asyncio.shield(gone)
            return {"type": "http.disconnect"}

        # FastAPI's routes know no HEAD: it is answered like GET, and the server sends none of the body.
        method = "GET" if self.method == "HEAD" else self.method
        # The files are small, and Starlette answers a range that it cannot read with bare text.
        headers = [header for header in self.scope["headers"] if header[0] != b"range"]
        scope = {**self.scope, "method": method, "headers": headers}
        answering = asyncio.create_task(cast("Coroutine[Any, Any, None]", app(scope, replay, self.send_safely)))
        try:
            left = end - time.monotonic()
            await asyncio.wait({answering, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if self.is_answered or answering.done():
                await answering
        finally:
            answering.cancel()
            gone.cancel()
            await asyncio.gather(answering, gone, return_exceptions=True)
            self.scope["route"] = scope.get("route")  # for what counts

    async def _gone(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass


def _check_type(headers: Mapping[str, str], scope: Scope) -> None:
    if scope["method"] != "POST" or scope["path"] not in _READING:
        return
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if scope["path"] == "/v1/images":
        if kind == "application/json" or kind == "multipart/form-data" or kind.startswith("image/"):
            return
        wanted = "a picture is sent as multipart/form-data, as JSON, or by itself with its image/... type"
    elif kind == "application/json":
        return
    else:
        wanted = "a request is JSON: send Content-Type: application/json"
    raise ApiError(415, f"The content type {kind or '(none)'} is not read here; {wanted}.", code="wrong_content_type")
