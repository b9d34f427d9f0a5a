"""URLs in requests: off until they are allowed, and then a way to public pictures alone."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import httpx2
import pytest

from tests.server.hostile import encoded
from tests.server.live import running
from tests.tiny import picture, tiny_embedder
from virtue import remote
from virtue.embedder import Embedder
from virtue.server import Settings, create_app
from virtue.server.opened import picture_id

PICTURE = encoded(picture())
LARGEST, SECONDS = 50_000, 0.5


class Site(BaseHTTPRequestHandler):
    """A picture, a redirect at `/to?URL`, and answers that are too large, too slow, or no picture."""

    def do_GET(self) -> None:
        path, _, target = self.path.partition("?")
        body = {"/page": b"<html>", "/large": bytes(LARGEST + 1)}.get(path, PICTURE)
        self.send_response(302 if path == "/to" else 200)
        self.send_header("Content-Type", "image/png")
        if path != "/endless":
            self.send_header("Content-Length", str(len(body)))
        if path == "/to":
            self.send_header("Location", unquote(target))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)
            for _ in range(200 if path == "/endless" else 0):
                self.wfile.write(b"x")
                time.sleep(0.05)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        site.daemon_threads = True
        thread = threading.Thread(target=site.serve_forever, args=(0.02,))
        thread.start()
        yield site.server_port
        site.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return tiny_embedder()


@pytest.fixture(scope="module")
def server(embedder: Embedder) -> Iterator[httpx2.Client]:
    settings = Settings(allow_urls=True, max_body=LARGEST, url_timeout=SECONDS)
    with running(create_app(embedder, settings=settings)) as url, httpx2.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A name server of a few names, which takes 127.0.0.1 for public and nothing else; the names that it was asked.

    `site.example` is public at first, and private from the second time on.
    """
    asked: list[str] = []

    def resolve(host: str, _: int) -> list[str]:
        asked.append(host)
        if host == "site.example":
            return ["127.0.0.1" if asked.count(host) == 1 else "10.0.0.1"]
        return {"own.example": ["127.0.0.2"], "six.example": ["::1"], "both.example": ["127.0.0.1", "10.0.0.1"]}.get(
            host, [host]
        )

    monkeypatch.setattr(remote, "_resolve", resolve)
    monkeypatch.setattr(remote, "_is_public", lambda address: address == "127.0.0.1")
    return asked


def bodies(url: str) -> list[tuple[str, dict[str, Any], str]]:
    """Requests with a picture, and which part of each it is."""
    content = [{"type": "image_url", "image_url": {"url": url}}]
    return [
        ("/v1/images", {"image": url}, "image"),
        ("/v1/mask", {"image": url, "points": [[1, 1]]}, "image"),
        ("/v1/embeddings", {"messages": [{"role": "user", "content": content}]}, "messages"),
        ("/v1/rank", {"query": {"image": url}, "candidates": ["a dog"]}, "query.image"),
    ]


def refusal(server: httpx2.Client, url: str) -> str:
    """The sentence with which a URL is refused."""
    answer = server.post("/v1/images", json={"image": url})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "url_not_fetched", "image"), answer.text
    message: str = error["message"]
    assert message.endswith(".")
    return message


def test_they_are_off_by_default_and_the_refusal_says_how_to_turn_them_on(embedder: Embedder) -> None:
    with running(create_app(embedder)) as url, httpx2.Client(base_url=url, timeout=30) as client:
        for path, body, param in bodies("https://example.org/a.png"):
            answer = client.post(path, json=body)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["param"]) == (400, "urls_not_allowed", param)
            assert "--allow-urls" in error["message"]


def test_a_public_picture_is_read_by_the_address_that_was_checked(
    server: httpx2.Client, names: list[str], port: int
) -> None:
    opened = server.post("/v1/images", json={"image": f"http://site.example:{port}/a.png"}).json()
    assert opened["id"] == picture_id(picture())
    assert names == ["site.example"]  # a second answer would have been another
    for path, body, _ in bodies(f"http://127.0.0.1:{port}/a.png"):
        assert server.post(path, json=body).status_code == 200


PRIVATE = """
    127.0.0.1 127.1 2130706433 0x7f000001 0x7f.1 0177.0.0.1 0 10.1.2.3 172.16.0.1 192.168.0.1 169.254.169.254 100.64.0.1
    localhost [::1] [::] [::ffff:127.0.0.1] [::ffff:a00:1] [64:ff9b::a00:1] [2002:7f00:1::] [fe80::1] [fd00::1]
    """.split()


@pytest.mark.parametrize("host", PRIVATE)
def test_addresses_that_are_not_public_are_not_even_tried(
    server: httpx2.Client, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(remote, "_connect", lambda *_: pytest.fail("It was tried."))
    message = refusal(server, f"http://{host}/latest/meta-data")
    assert "is not a public address" in message or "cannot be fetched" in message
    if "." in host and ":" not in host:
        assert "is not a public address" in message


@pytest.mark.parametrize("name", ["own.example", "six.example", "both.example"])
def test_names_that_lead_to_private_addresses(server: httpx2.Client, names: list[str], port: int, name: str) -> None:
    assert "is not a public address" in refusal(server, f"http://{name}:{port}/a.png")


@pytest.mark.parametrize("target", ["http://10.0.0.1/", "http://[::1]/", "http://own.example/", "//169.254.169.254/"])
def test_redirects_that_lead_to_private_addresses(
    server: httpx2.Client, names: list[str], port: int, target: str
) -> None:
    assert "is not a public address" in refusal(server, f"http://127.0.0.1:{port}/to?{target}")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a.png", "gopher://127.0.0.1/"])
def test_redirects_to_what_is_no_page(server: httpx2.Client, names: list[str], port: int, target: str) -> None:
    assert "only http:// and https:// URLs" in refusal(server, f"http://127.0.0.1:{port}/to?{target}")


def test_a_name_is_looked_up_again_after_a_redirect(server: httpx2.Client, names: list[str], port: int) -> None:
    url = f"http://site.example:{port}/to?http://site.example:{port}/a.png"
    assert "site.example leads to 10.0.0.1" in refusal(server, url)


def test_what_is_too_large_or_too_slow_is_given_up(server: httpx2.Client, names: list[str], port: int) -> None:
    assert f"larger than {LARGEST:,} bytes" in refusal(server, f"http://127.0.0.1:{port}/large")
    start = time.monotonic()
    assert "it took too long" in refusal(server, f"http://127.0.0.1:{port}/endless")
    assert time.monotonic() - start < 10 * SECONDS


def test_a_site_that_says_nothing_is_given_up(server: httpx2.Client, names: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.png"
        assert "it took too long" in refusal(server, url)


def test_what_is_fetched_has_to_be_a_picture(server: httpx2.Client, names: list[str], port: int) -> None:
    answer = server.post("/v1/images", json={"image": f"http://127.0.0.1:{port}/page"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_image")


def test_a_url_that_is_too_long_is_not_repeated(server: httpx2.Client, names: list[str]) -> None:
    message = refusal(server, "http://" + "é." * 5_000)
    assert "a URL has 8,000 characters at most, and this one 10,007." in message
    assert len(message) < 300
    assert names == []


@pytest.mark.parametrize(
    "url", ["http://", "http:///a", "http://user:secret@example.org/", "http://example.org:99999/"]
)
def test_urls_that_are_none(server: httpx2.Client, url: str) -> None:
    assert "secret" not in refusal(server, url)
