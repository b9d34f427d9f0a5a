"""What happens when too much is asked, or too slowly, or by too many: over real connections, seen through `/metrics`.

The model of these tests computes nothing until it is let go, so that what waits does not depend on how fast it is.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from tests.server import live
from tests.server.hostile import encoded
from tests.server.live import answer, running
from tests.tiny import picture, tiny_embedder
from virtue.embedder import Embedder
from virtue.server import Settings, create_app
from virtue.server.connections import Connection, limited
from virtue.server.guard import Guard
from virtue.server.work import Work

PICTURE = encoded(picture())


class Held:
    """A model's work that waits to be let go."""

    def __init__(self, compute: Callable[[Work, Sequence[Any]], list[Any]]) -> None:
        self.go, self.begun = threading.Event(), threading.Event()
        self._compute = compute

    def __call__(self, work: Work, asks: Sequence[Any]) -> list[Any]:
        self.begun.set()
        assert self.go.wait(60)
        return self._compute(work, asks)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held(Work.compute)
    monkeypatch.setattr(Work, "compute", lambda work, asks: held(work, asks))
    yield held
    held.go.set()


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return tiny_embedder()


@contextlib.contextmanager
def serving(embedder: Embedder, **limits: Any) -> Iterator[httpx2.Client]:
    with running(create_app(embedder, settings=Settings(**limits))) as url:
        with httpx2.Client(base_url=url, timeout=60) as client:
            while client.get("/health").status_code != 200:
                time.sleep(0.005)
            yield client


def metric(client: httpx2.Client, name: str) -> float:
    """A number of the server, 0 if it has not been counted yet."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def until_metric(client: httpx2.Client, name: str, value: float) -> None:
    """Waits until a number is at least so high."""
    until = time.monotonic() + 30
    while metric(client, name) < value:
        assert time.monotonic() < until, client.get("/metrics").text
        time.sleep(0.005)


@contextlib.contextmanager
def asking(client: httpx2.Client, held: Held, count: int) -> Iterator[list[Future[httpx2.Response]]]:
    """So many requests for one text that wait for the model, the first of which it has begun with."""
    with ThreadPoolExecutor(count) as pool:
        first = pool.submit(client.post, "/v1/embeddings", json={"input": "text 0"})
        assert held.begun.wait(30)
        others = [pool.submit(client.post, "/v1/embeddings", json={"input": f"text {n}"}) for n in range(1, count)]
        until_metric(client, "virtue_queue_rows", count)
        try:
            yield [first, *others]
        finally:
            held.go.set()


def test_a_full_queue_says_when_to_come_again(embedder: Embedder, held: Held) -> None:
    with serving(embedder, queue_rows=3) as client:
        with asking(client, held, 3) as asked:
            refused = client.post("/v1/embeddings", json={"input": "one too many"})
            error = refused.json()["error"]
            assert (refused.status_code, error["type"], error["code"]) == (429, "rate_limit_error", "queue_full")
            seconds = int(refused.headers["retry-after"])
            assert seconds >= 1
            assert error["message"] == f"3 embeddings and masks are waiting already; try again in {seconds} s."
            assert client.get("/health").status_code == 200
        assert [one.result().status_code for one in asked] == [200] * 3
        assert client.post("/v1/embeddings", json={"input": "now"}).status_code == 200
        assert metric(client, "virtue_queue_rows") == metric(client, "virtue_queue_bytes") == 0


def test_memory_of_what_waits_is_limited(embedder: Embedder, held: Held) -> None:
    mask = {"size": [60, 80], "counts": [1000, 100, 3700]}
    with serving(embedder, queue_bytes=20_000) as client, ThreadPoolExecutor(1) as pool:
        held.go.set()
        handle = client.post("/v1/images", files={"file": PICTURE}).json()["id"]
        held.go.clear()
        until_metric(client, "virtue_opened_images", 1)
        first = pool.submit(client.post, "/v1/mask", json={"image": handle, "mask": mask})
        until_metric(client, "virtue_queue_bytes", 9_600)  # the mask that is given, and the one that is drawn
        assert metric(client, "virtue_queue_bytes") == 9_600
        sent = client.post("/v1/images", files={"file": encoded(picture(seed=1))})  # 14,400 bytes once it is decoded
        error = sent.json()["error"]
        assert (sent.status_code, error["type"], error["code"]) == (429, "rate_limit_error", "memory_full")
        assert int(sent.headers["retry-after"]) >= 1
        held.go.set()
        assert first.result().status_code == 200
        assert client.post("/v1/images", files={"file": encoded(picture(seed=1))}).status_code == 200
        assert metric(client, "virtue_queue_bytes") == 0


def test_requests_that_wait_share_a_batch(embedder: Embedder, held: Held) -> None:
    with serving(embedder) as client:
        with asking(client, held, 6):
            pass
        until_metric(client, "virtue_batch_rows_sum", 6)
        assert metric(client, "virtue_batch_rows_count") == 2  # the first alone, then the five that waited
        assert metric(client, 'virtue_requests_total{method="POST",route="/v1/embeddings",status="200"}') == 6


def test_a_deadline_that_passes(embedder: Embedder, held: Held) -> None:
    with serving(embedder, deadline=0.2) as client:
        late = client.post("/v1/embeddings", json={"input": "a dog"})
        error = late.json()["error"]
        assert (late.status_code, error["type"], error["code"]) == (504, "server_error", "deadline")
        assert error["message"] == "The request took longer than the server gives one; ask for less at a time."
        assert metric(client, 'virtue_dropped_total{reason="deadline"}') == 1
        second = client.post("/v1/embeddings", json={"input": "a cat"})  # while the model is still at the first
        assert second.status_code == 504
        held.go.set()
        until_metric(client, "virtue_batch_rows_sum", 1)
        assert client.post("/v1/embeddings", json={"input": "rain"}).status_code == 200
        assert metric(client, "virtue_batch_rows_sum") == 2  # the second was never worked on


def test_what_nobody_waits_for_is_not_worked_on(embedder: Embedder, held: Held) -> None:
    with serving(embedder) as client:
        with asking(client, held, 1):
            with connected(client, post({"input": ["gone"] * 7})):
                until_metric(client, "virtue_queue_rows", 8)
            until_metric(client, 'virtue_dropped_total{reason="cancelled"}', 1)
            assert metric(client, "virtue_queue_rows") == 1
        until_metric(client, 'virtue_requests_total{method="POST",route="/v1/embeddings",status="200"}', 1)
        assert metric(client, "virtue_batch_rows_sum") == 1
        assert metric(client, 'virtue_requests_total{method="POST",route="/v1/embeddings",status="499"}') == 1


def test_health_is_said_while_the_model_computes(embedder: Embedder, held: Held) -> None:
    with serving(embedder) as client, asking(client, held, 4):
        took = []
        for _ in range(15):
            start = time.perf_counter()
            assert client.get("/health").json() == {"status": "ok"}
            took.append(time.perf_counter() - start)
    assert statistics.median(took) < 0.05


# Connections


@contextlib.contextmanager
def connected(client: httpx2.Client, data: bytes = b"") -> Iterator[socket.socket]:
    """A connection on which this was sent."""
    with socket.create_connection(("127.0.0.1", client.base_url.port or 80), timeout=10) as sock:
        sock.sendall(data)
        yield sock


def post(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    lines = ["POST /v1/embeddings HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data


HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_connections_without_a_request_make_room(embedder: Embedder) -> None:
    with serving(embedder, connections=4) as client, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(client)) for _ in range(12)]
        for sock in (stack.enter_context(connected(client)), idle[-1]):  # a new one, and one of those that may stay
            sock.sendall(HEALTH)
            assert answer(sock).startswith(b"HTTP/1.1 200 ")
        assert answer(idle[0]) == b""


def test_when_all_connections_are_at_work_the_next_is_told_to_come_again(embedder: Embedder, held: Held) -> None:
    app = create_app(embedder, settings=Settings(connections=2))
    worker = app.state.service.worker
    with running(app) as url, httpx2.Client(base_url=url) as client, contextlib.ExitStack() as stack:
        while worker.state != "ready":
            time.sleep(0.005)
        working = []
        for number in (1, 2):
            working.append(stack.enter_context(connected(client, post({"input": "a dog"}))))
            while worker.rows < number:
                time.sleep(0.005)
        with connected(client, HEALTH) as sock:
            said = answer(sock)
        assert said.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1\r\n" in said
        error = json.loads(said.partition(b"\r\n\r\n")[2])["error"]
        assert (error["type"], error["code"]) == ("server_error", "busy")
        assert error["message"] == "All 2 connections are at work; try again in 1 s."
        held.go.set()
        assert all(answer(sock).startswith(b"HTTP/1.1 200 ") for sock in working)
        with connected(client, HEALTH) as sock:
            assert answer(sock).startswith(b"HTTP/1.1 200 ")


def test_a_head_has_to_end_in_time(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("virtue.server.connections.limited", lambda most: limited(most, head_seconds=0.5))
    with serving(embedder) as client:
        for begun in (b"", b"GET /health HTTP/1.1\r\nHost: ", HEALTH + HEALTH[:9]):
            with connected(client, begun) as sock:
                start = time.monotonic()
                if begun.startswith(HEALTH):
                    assert answer(sock).startswith(b"HTTP/1.1 200 ")
                    sock.sendall(b"T")
                while time.monotonic() < start + 10 and (said := answer(sock)):
                    pass
                assert said == b""


def test_a_request_may_take_longer_than_its_head(
    embedder: Embedder, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtue.server.connections.limited", lambda most: limited(most, head_seconds=0.5))
    with serving(embedder) as client, connected(client, post({"input": "a dog"})) as sock:
        assert held.begun.wait(30)
        time.sleep(0.7)
        held.go.set()
        assert answer(sock).startswith(b"HTTP/1.1 200 ")
        time.sleep(0.7)
        sock.sendall(HEALTH)  # and between requests there is more time than for a head
        assert answer(sock).startswith(b"HTTP/1.1 200 ")


def test_there_are_never_more_connections_than_half_of_the_files() -> None:
    resource = pytest.importorskip("resource")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert issubclass(limited(10**9), Connection)
    assert limited(10**9).most <= max(soft // 2, 1) or soft == resource.RLIM_INFINITY
    assert limited(3).most == 3


# Clients that do not read


@contextlib.contextmanager
def not_reading(address: str) -> Iterator[socket.socket]:
    """A connection that asks, and then takes as little as it can."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(10)
        sock.connect(("127.0.0.1", int(address.rpartition(":")[2])))
        sock.sendall(HEALTH)
        yield sock


class Much:
    """An app that answers more than any buffer holds, and says when it has been sent or given up."""

    def __init__(self) -> None:
        self.begun, self.ended = threading.Event(), threading.Event()
        self.is_sent = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200})
            self.begun.set()
            await send({"type": "http.response.body", "body": bytes(30_000_000)})
            self.is_sent = True
        finally:
            self.ended.set()


def test_an_answer_that_is_not_taken_is_given_up_in_the_end() -> None:
    much = Much()
    guard = Guard(much, Settings(deadline=0.1, body_timeout=0.1))
    config = uvicorn.Config(guard, http=limited(4), lifespan="off", log_level="critical")
    with live.serving(uvicorn.Server(config)) as address, not_reading(address):
        assert much.ended.wait(30)
        assert not much.is_sent


def test_who_takes_nothing_is_hung_up_on() -> None:
    much, got = Much(), 0
    config = uvicorn.Config(Guard(much, Settings()), http=limited(4, stall_seconds=0.1), lifespan="off")
    with live.serving(uvicorn.Server(config)) as address, not_reading(address) as sock:
        assert much.ended.wait(30)
        with contextlib.suppress(ConnectionResetError):
            while data := sock.recv(1_000_000):
                got += len(data)
    assert got < 30_000_000
