"""Fetching by URL: what reaches into the own network is refused at every turn, and nothing lasts or grows for ever."""

import contextlib
import io
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from virtue import remote
from virtue.images import ImageError, open_image

STREAM = io.BytesIO()
Image.new("RGB", (5, 4), (10, 20, 30)).save(STREAM, "PNG")
PICTURE = STREAM.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Answers `/picture` with one, `/to?URL` with a redirect there, and misbehaves on other paths."""

    def do_GET(self) -> None:
        path, _, target = self.path.partition("?")
        if path == "/to":
            self.answer(302, location=target)
        elif path == "/drip":
            with contextlib.suppress(OSError):
                self.answer(200, length=10_000)
                for _ in range(100):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.05)
        elif path == "/short":
            self.answer(200, PICTURE, length=len(PICTURE) + 1)
        elif path == "/far":
            self.answer(302, location="http://127.0.0.1/" + "a" * int(target))
        elif path == "/wordy":
            self.send_response_only(404, "no" * 5000)
            self.end_headers()
        elif path in ("/picture", "/a%20b", "/caf%C3%A9"):
            self.answer(200, PICTURE)
        else:
            self.answer(404)

    def answer(self, status: int, body: bytes = b"", length: int | None = None, location: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes this machine for a public one, and nothing else."""
    monkeypatch.setattr(remote, "_is_public", lambda address: address == "127.0.0.1")


def test_urls_must_be_allowed(server: str) -> None:
    with pytest.raises(ImageError, match=r"/picture is a URL, and URLs are not fetched unless"):
        open_image(f"{server}/picture")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_this_machine_is_refused_under_any_name(server: str, host: str) -> None:
    port = server.rpartition(":")[2]
    with pytest.raises(ImageError, match="is not a public address"):
        open_image(f"http://{host}:{port}/picture", allow_urls=True)


PRIVATE_IPV4 = """
    0.0.0.0 10.0.0.1 100.64.0.1 127.1.2.3 169.254.169.254 172.16.0.1 192.0.2.1 192.168.1.1 198.18.0.1 224.0.0.1
    255.255.255.255""".split()
PRIVATE_IPV6 = """
    :: ::1 fe80::1 fe80::1%eth0 fc00::1 fec0::1 ff02::1 2001:db8::1 ::ffff:10.0.0.1
    64:ff9b::a00:1 2002:a00:1::""".split()


@pytest.mark.parametrize("address", [*PRIVATE_IPV4, *PRIVATE_IPV6])
def test_addresses_that_are_not_public(address: str) -> None:
    assert not remote._is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_addresses_that_are_public(address: str) -> None:
    assert remote._is_public(address)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("path", ["/picture", "/to?/picture", "/to?/to?/picture", "/a b", "/café", "/picture#part"])
def test_fetching(server: str, path: str) -> None:
    image = open_image(server + path, allow_urls=True)
    assert (image.size, image.getpixel((0, 0))) == ((5, 4), (10, 20, 30))


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/none", r"/none cannot be fetched: the server answered 404 Not Found"),
        ("/to?http://10.0.0.1/picture", r"10\.0\.0\.1 leads to 10\.0\.0\.1, which is not a public address"),
        ("/to?file:///etc/passwd", r"file:///etc/passwd cannot be fetched: only http:// and https://"),
        ("/to?" * 7 + "/picture", r"cannot be fetched: more than 5 redirects"),
        ("/short", r"/short cannot be fetched: the connection ended 1 bytes early"),
    ],
)
def test_answers_that_are_refused(server: str, path: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        open_image(server + path, allow_urls=True)


@pytest.mark.usefixtures("trusted")
def test_bytes_and_seconds_are_limited(server: str) -> None:
    assert remote.fetch(f"{server}/picture", max_bytes=len(PICTURE)) == PICTURE
    with pytest.raises(ImageError, match=f"larger than {len(PICTURE) - 1} bytes"):
        remote.fetch(f"{server}/picture", max_bytes=len(PICTURE) - 1)
    start = time.monotonic()
    with pytest.raises(ImageError, match=r"/drip cannot be fetched: it took too long"):
        remote.fetch(f"{server}/drip", timeout=0.3)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://", "only http:// and https:// URLs with a host"),
        ("http://user:secret@example.org/", "The URL for example.org holds a user name or password"),
        ("http://example.org:99999/", "is not a URL"),
        ("http://[::1/", "is not a URL"),
        ("http://" + "a" * 70 + "/", "cannot be fetched"),
        ("http://" + "é." * 200, "a host's name has 253 characters at most"),
        ("http://user:secret@example.org:99999/", "http://example.org:99999/ is not a URL"),
        ("http://user:secret@example.org/" + "a" * 8000, r"http://example.org/a+\.\.\. cannot be fetched"),
    ],
)
def test_malformed_urls_are_refused(url: str, message: str) -> None:
    with pytest.raises(ImageError, match=message) as refusal:
        open_image(url, allow_urls=True)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("url", ["http://" + "é." * 1_000_000, "http://example.org/" + "a" * 7982])
def test_a_url_that_is_too_long_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(remote, "_resolve", lambda *_: pytest.fail("It was looked up."))
    start = time.monotonic()
    with pytest.raises(ImageError) as refusal:
        remote.fetch(url, timeout=2)
    assert time.monotonic() - start < 1
    sentence = f"cannot be fetched: a URL has 8,000 characters at most, and this one {len(url):,}."
    assert str(refusal.value) == f"{url[:100]}... {sentence}"


@pytest.mark.usefixtures("trusted")
def test_a_url_that_is_just_short_enough_is_fetched(server: str) -> None:
    assert remote.fetch(f"{server}/picture#".ljust(8000, "a")) == PICTURE


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/none?" + "a" * 1000, "the server answered 404 Not Found"),
        ("/wordy", "the server answered 404 nono"),
        ("/far?9000", "a URL has 8,000 characters at most, and this one 9,017"),
        (":" + "9" * 1000, "is not a URL"),
    ],
    ids=lambda value: value[:9],
)
def test_a_refusal_is_short_however_long_the_url_or_the_answer_is(server: str, path: str, message: str) -> None:
    with pytest.raises(ImageError, match=message) as refusal:
        remote.fetch(server.rpartition(":")[0] + path if path[0] == ":" else server + path)
    assert len(str(refusal.value)) < 400


def resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Lets the name server give these answers one after the other; returns the names it was asked."""
    asked: list[str] = []

    def resolve(host: str, _: int) -> list[str]:
        asked.append(host)
        return answers[len(asked) - 1]

    monkeypatch.setattr(remote, "_resolve", resolve)
    return asked


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, ["1.1.1.1", "10.0.0.1"])
    with pytest.raises(ImageError, match=r"example\.org leads to 10\.0\.0\.1"):
        open_image("http://example.org/", allow_urls=True)


@pytest.mark.usefixtures("trusted")
def test_a_name_is_resolved_once_and_its_checked_address_used(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    asked = resolve_to(monkeypatch, ["127.0.0.1"], ["10.0.0.1"])
    port = server.rpartition(":")[2]
    assert open_image(f"http://rebinding.example:{port}/picture", allow_urls=True).size == (5, 4)
    assert asked == ["rebinding.example"]
