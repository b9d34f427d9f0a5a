"""A server of OpenAI's embeddings protocol in a thread, with answers that can be read and failures on demand."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""


@dataclass
class Server:
    """What a test sees of the server.

    Attributes:
        url: Its address.
        requests: Path, headers (lower case) and body of every request.
        answers: What it answers to the next requests instead of embeddings, first the first.
        vector: The embedding of an input: a text, or a list of content parts.
        form: "base64", or "float" as of a server that does not know the other.
        most: How many requests were in flight at once.
    """

    url: str = ""
    requests: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    vector: Callable[[Any], list[float]] = lambda asked: [float(len(asked)), 0.5]
    form: str = "base64"
    in_flight: int = 0
    most: int = 0
    gathering: threading.Barrier | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [body for _, _, body in self.requests]

    def answer(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Answer:
        with self.lock:
            self.requests.append((path, headers, body))
            prepared = self.answers.pop(0) if self.answers else None
        if self.gathering is not None:
            self.gathering.wait(5)
        return prepared or (200, {}, self._embeddings(body))

    def _embeddings(self, body: dict[str, Any]) -> bytes:
        asked = body["input"] if "input" in body else [message["content"] for message in body["messages"]]
        data = [{"index": place, "embedding": self._formed(self.vector(one))} for place, one in enumerate(asked)]
        return json.dumps({"object": "list", "data": data[::-1]}).encode()  # their order is in the indices

    def _formed(self, vector: list[float]) -> str | list[float]:
        packed = np.array(vector, dtype="<f4").tobytes()
        return base64.b64encode(packed).decode() if self.form == "base64" else vector


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A running server, stopped at the end."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with server.lock:
                server.in_flight += 1
                server.most = max(server.most, server.in_flight)
            status, extra, answer = server.answer(self.path, headers, body)
            with server.lock:
                server.in_flight -= 1
            self.send_response(status)
            for name, value in {"Content-Length": str(len(answer)), **extra}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):  # whoever asked may have gone
                self.wfile.write(answer)

        def log_message(self, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_port}/v1"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def failure(status: int, message: str = "", **headers: str) -> Answer:
    """An error as OpenAI writes it."""
    return status, headers, json.dumps({"error": {"message": message, "type": "error"}}).encode()


def picture_of(part: dict[str, Any]) -> Image.Image:
    """The picture in an image_url part."""
    head, _, data = part["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))
