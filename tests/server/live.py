"""A server that really listens, on a free port of the loopback address, and what it says on a bare connection."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from virtue.listening import listen
from virtue.server.serving import server_of


@contextlib.contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serves an app of `create_app` in a thread; gives its address, such as "http://127.0.0.1:40123"."""
    with serving(server_of(app)) as address:
        yield address


@contextlib.contextmanager
def serving(server: uvicorn.Server) -> Iterator[str]:
    """Runs a server in a thread; gives its address."""
    with listen("127.0.0.1", 0) as sock:
        thread = threading.Thread(target=server.run, args=([sock],), daemon=True)
        thread.start()
        try:
            until = time.monotonic() + 30
            while not server.started and thread.is_alive() and time.monotonic() < until:
                time.sleep(0.01)
            assert server.started, "The server did not start."
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


def answer(sock: socket.socket) -> bytes:
    """One whole answer, which may come in pieces; nothing if the server hung up."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while not _is_whole(said) and (piece := sock.recv(10_000)):
            said += piece
    return said


def _is_whole(said: bytes) -> bool:
    """Whether bytes hold the head of an answer and as much of a body as that says."""
    head, end, body = said.partition(b"\r\n\r\n")
    length = re.search(rb"^content-length: (\d+)", head, re.MULTILINE | re.IGNORECASE)
    return bool(end) and len(body) >= (int(length[1]) if length else 0)
