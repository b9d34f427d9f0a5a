"""A server that is told to stop answers what it took and takes nothing more; told again, it is gone at once."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.server.live import answer
from virtue.listening import listen
from virtue.server import serve

ROOT = Path(__file__).parents[2]
STOPS = [signal.SIGTERM, signal.SIGINT]


@contextlib.contextmanager
def program(folder: Path, waits: str, grace: int = 30) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program of `waiting.py`, and where it listens."""
    command = [sys.executable, "-m", "tests.server.waiting", str(folder), waits, str(grace)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as running:
        try:
            assert running.stdout is not None
            address = f"http://127.0.0.1:{running.stdout.readline().strip()}"
            until_true(lambda: status(address) is not None)
            yield running, address
        finally:
            running.kill()


def until_true(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def status(address: str, path: str = "/health") -> int | None:
    """How a new connection is answered; None if it is refused."""
    try:
        return httpx2.get(f"{address}{path}", timeout=30).status_code
    except httpx2.TransportError:
        return None


def embed(address: str, text: str = "a dog") -> httpx2.Response:
    return httpx2.post(f"{address}/v1/embeddings", json={"input": text}, timeout=60)


def ended(running: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code, and what was said on standard error."""
    _, said = running.communicate(timeout=30)
    return running.returncode, said


@pytest.mark.parametrize("stop", STOPS, ids=["SIGTERM", "Ctrl-C"])
def test_what_was_taken_is_answered(tmp_path: Path, stop: signal.Signals) -> None:
    with (
        program(tmp_path, "computing") as (running, address),
        ThreadPoolExecutor(3) as pool,
        httpx2.Client(base_url=address) as kept,
    ):
        taken = [pool.submit(embed, address, text) for text in ("worked on", "waits", "waits too")]
        until_true(lambda: "virtue_queue_rows 3.0" in httpx2.get(f"{address}/metrics").text)
        assert kept.get("/health").json() == {"status": "ok"}
        running.send_signal(stop)
        until_true(lambda: status(address) in (503, None))
        assert status(address, "/v1/models") in (503, None)
        assert not any(request.done() for request in taken)
        (tmp_path / "go").touch()
        assert [request.result().status_code for request in taken] == [200] * 3
        assert ended(running) == (0, "")
        with pytest.raises(httpx2.TransportError):
            kept.get("/health")


def test_a_request_whose_body_is_still_arriving_is_taken(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    head, body = b"Content-Type: application/json\r\nExpect: 100-continue\r\n", b'{"input": "a dog"}'
    with program(tmp_path, "computing") as (running, address):
        host, _, port = address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as sending:
            length = b"Content-Length: %d\r\n" % len(body)
            sending.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\n" + head + length + b"\r\n")
            assert b"100 Continue" in sending.recv(1000)  # it is read
            running.send_signal(signal.SIGTERM)
            until_true(lambda: status(address) in (503, None))
            sending.sendall(body)
            assert answer(sending).startswith(b"HTTP/1.1 200")
        assert ended(running) == (0, "")


@pytest.mark.parametrize("stop", STOPS, ids=["SIGTERM", "Ctrl-C"])
def test_the_second_time_it_is_gone_at_once(tmp_path: Path, stop: signal.Signals) -> None:
    with program(tmp_path, "computing") as (running, address), ThreadPoolExecutor(1) as pool:
        given_up = pool.submit(embed, address)
        until_true((tmp_path / "begun").exists)
        running.send_signal(stop)
        until_true(lambda: status(address) in (503, None))
        running.send_signal(stop)
        assert ended(running) == (-stop, "")
        with pytest.raises(httpx2.TransportError):
            given_up.result()


def test_a_model_that_is_being_loaded_is_not_waited_for(tmp_path: Path) -> None:
    with program(tmp_path, "loading") as (running, address):
        assert httpx2.get(f"{address}/health").json() == {"status": "loading"}
        early = embed(address)
        assert (early.status_code, early.json()["error"]["code"]) == (503, "loading")
        assert int(early.headers["retry-after"]) >= 1
        running.send_signal(signal.SIGTERM)
        assert ended(running) == (0, "")


def test_who_has_waited_for_long_enough_is_told(tmp_path: Path) -> None:
    with program(tmp_path, "computing", grace=1) as (running, address), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(embed, address)
        until_true((tmp_path / "begun").exists)
        running.send_signal(signal.SIGTERM)
        error = asked.result().json()["error"]
        assert (asked.result().status_code, error["code"]) == (503, "stopping")
        (tmp_path / "go").touch()
        assert ended(running)[0] == 0


def test_a_port_that_is_taken_is_named() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=rf"Cannot listen at port {port} of 127\.0\.0\.1 .*; give another port"):
            serve(lambda: pytest.fail("It is not needed."), port=port)
