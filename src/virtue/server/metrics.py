"""What a server counts, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
GONE = 499  # what nginx logs when the client went first


class Metrics:
    """The numbers of one server."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        labels = ["route", "method", "status"]
        self.requests = Counter("virtue_requests", "Requests that were answered.", labels, registry=registry)
        self.seconds = Histogram(
            "virtue_request_seconds", "Time to the end of an answer.", ["route"], buckets=_SECONDS, registry=registry
        )
        self.batch_rows = Histogram(
            "virtue_batch_rows", "Embeddings and masks of a batch.", buckets=_ROWS, registry=registry
        )
        self.batch_seconds = Histogram(
            "virtue_batch_seconds", "Time to compute a batch.", buckets=_SECONDS, registry=registry
        )
        self.dropped = Counter(
            "virtue_dropped", "Requests given up before they were worked off.", ["reason"], registry=registry
        )
        self.evictions = Counter("virtue_evictions", "Open pictures that made room for others.", registry=registry)

    def gauge(self, name: str, what: str, value: Callable[[], float]) -> None:
        """A number that is looked up whenever it is asked for.

        Args:
            name: With its unit at the end.
            what: A sentence about it.
            value: Looks it up.
        """
        Gauge(name, what, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self._registry)


class Counted:
    """Counts what an app answers, by route and status.

    Args:
        app: What answers.
        metrics: Where it is counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, started = GONE, time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            route = (
                getattr(scope.get("route"), "path", None) or "other"
            )  # the template, or there would be no end of them
            self.metrics.requests.labels(route, scope["method"], str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - started)
