"""Who is let in, and how much they may send: names, sites, keys, and bodies that are large, slow or never end."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import socket
import time
from collections.abc import Iterator

import httpx2
import pytest
from PIL import Image

from tests.server.hostile import encoded
from tests.server.live import answer, running
from tests.tiny import tiny_embedder
from virtue.embedder import Embedder
from virtue.server import Settings, create_app

KEY = "a-key-of-some-length"
MAX_BODY, MAX_PIXELS = 20_000, 10_000

PRIVATE = ["/v1/models", "/v1/gallery", "/v1/images/img_0", "/v1/none", "/metrics"]
PUBLIC = ["/", "/docs", "/openapi.json", "/health"]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return tiny_embedder()


@pytest.fixture(scope="module")
def address(embedder: Embedder) -> Iterator[str]:
    """A server without a key that takes little."""
    settings = Settings(max_body=MAX_BODY, max_pixels=MAX_PIXELS)
    with running(create_app(embedder, settings=settings)) as url:
        yield url


@pytest.fixture(scope="module")
def server(address: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=address, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def keyed(embedder: Embedder) -> Iterator[httpx2.Client]:
    with running(create_app(embedder, settings=Settings(api_key=KEY))) as url:
        with httpx2.Client(base_url=url, timeout=30) as client:
            yield client


def assert_error(answer: httpx2.Response, status: int, code: str, kind: str = "invalid_request_error") -> str:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (status, code, kind)
    message: str = error["message"]
    assert message.endswith(".")
    return message


# Names and sites


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "EVIL.example:8000",
        "10.0.0.1",
        "localhost.evil.example",
        "",
        ":",
        "[::2]",
        "localhost:80:",
        "localhost:x",
    ],
)
def test_a_name_that_was_pointed_here_is_refused(server: httpx2.Client, host: str) -> None:
    for path in (*PRIVATE, *PUBLIC):
        assert "localhost" in assert_error(server.get(path, headers={"Host": host}), 403, "wrong_host")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:1234",
        "LOCALHOST:8611",
        "Localhost:",
        "127.0.0.1",
        "127.1.2.3:80",
        "[::1]",
        "[::1]:8000",
        "[::1]:",
    ],
)
def test_this_machines_own_names_are_known(server: httpx2.Client, host: str) -> None:
    assert server.get("/health", headers={"Host": host}).status_code == 200


def test_with_a_key_or_a_network_any_name_will_do(keyed: httpx2.Client, embedder: Embedder) -> None:
    headers = {"Host": "search.example.org", "Authorization": f"Bearer {KEY}"}
    assert keyed.get("/v1/models", headers=headers).status_code == 200
    with running(create_app(embedder, settings=Settings(network=True))) as url:
        assert httpx2.get(f"{url}/v1/models", headers={"Host": "search.example.org"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_other_sites_are_refused(server: httpx2.Client, headers: dict[str, str]) -> None:
    for method, path in (("POST", "/v1/embeddings"), ("GET", "/v1/models"), ("DELETE", "/v1/images/img_0")):
        assert_error(server.request(method, path, headers=headers), 403, "foreign_origin")


def test_the_own_page_and_programs_are_let_in(server: httpx2.Client, address: str) -> None:
    for headers in ({"Origin": address, "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}):
        assert server.post("/v1/embeddings", json={"input": "a dog"}, headers=headers).status_code == 200
    assert server.get("/docs", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200  # a link to it


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("LOCALHOST:8611", "http://localhost:8611"),
        ("localhost:8611", "http://LocalHost:8611"),
        ("localhost:", "http://localhost"),
        ("localhost", "http://localhost:"),
    ],
)
def test_the_own_page_is_known_however_its_name_is_written(server: httpx2.Client, host: str, origin: str) -> None:
    assert server.get("/v1/models", headers={"Host": host, "Origin": origin}).status_code == 200
    for other in (f"{origin}1", "http://another", "null", "http://", ""):
        refused = server.get("/v1/models", headers={"Host": host, "Origin": other})
        assert_error(refused, 403, "foreign_origin")


def test_answers_forbid_what_a_page_could_be_made_to_do(server: httpx2.Client) -> None:
    for path in (*PUBLIC, "/v1/models", "/v1/none"):
        headers = server.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


# The key


@pytest.mark.parametrize(
    "given",
    [None, "", "Bearer", f"Basic {KEY}", KEY, f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", "Bearer caf\u00e9"],
    ids=str,
)
def test_without_the_key_nothing_private_is_answered(keyed: httpx2.Client, given: str | None) -> None:
    headers = {} if given is None else {b"Authorization": given.encode("latin-1")}
    for path in PRIVATE:
        answer = keyed.get(path, headers=headers)
        message = assert_error(answer, 401, "invalid_api_key", "authentication_error")
        assert "Authorization: Bearer KEY" in message and KEY not in message
        assert answer.headers["www-authenticate"] == "Bearer"
    assert keyed.post("/v1/embeddings", json={"input": "a dog"}, headers=headers).status_code == 401


def test_with_the_key_and_on_public_places_there_is_an_answer(keyed: httpx2.Client) -> None:
    for path in PUBLIC:
        assert keyed.get(path).status_code == 200
    for scheme in ("Bearer", "bearer"):
        assert keyed.get("/v1/models", headers={"Authorization": f"{scheme} {KEY}"}).status_code == 200


def test_keys_are_compared_in_constant_time(keyed: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    original = secrets.compare_digest
    monkeypatch.setattr(secrets, "compare_digest", lambda a, b: compared.append((a, b)) or original(a, b))
    assert keyed.get("/v1/models", headers={"Authorization": "Bearer another"}).status_code == 401
    assert compared == [(b"another", KEY.encode())]


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("limit", ["deadline", "wait", "max_body"])
def test_limits_that_are_none(limit: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{limit} is a finite number above 0, not {value:g}\.$"):
        Settings(**{limit: value})


@pytest.mark.parametrize("name", ["", "  ", "-"])
def test_names_that_are_none(embedder: Embedder, name: str) -> None:
    with pytest.raises(ValueError, match=f"^A name has at least one letter or digit, not '{name}'; "):
        create_app(embedder, name=name)


@pytest.mark.parametrize("key", ["", "short", "with a space in it all", "caf\u00e9" * 5, "line\nbreak" * 3])
def test_keys_that_are_none(key: str) -> None:
    with pytest.raises(ValueError, match="An API key has at least 16 characters"):
        Settings(api_key=key)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "my-machine"])
def test_a_network_is_not_served_by_accident(host: str) -> None:
    with pytest.raises(ValueError, match=r"can reach .*: give an --api-key .* or say --open-to-network"):
        Settings().check_address(host)
    for settings in (Settings(api_key=KEY), Settings(network=True)):
        settings.check_address(host)
    for own in ("127.0.0.1", "localhost", "::1", "[::1]"):
        Settings().check_address(own)


@pytest.mark.parametrize("host", ["", " "])
@pytest.mark.parametrize("settings", [Settings(), Settings(network=True), Settings(api_key=KEY)], ids=repr)
def test_an_empty_host_is_no_address(settings: Settings, host: str) -> None:
    with pytest.raises(ValueError, match=r"^The host is empty; .* 127\.0\.0\.1 .* 0\.0\.0\.0 "):
        settings.check_address(host)


@pytest.mark.parametrize("path", ["/", "/health", "/docs", "/v1/models", "/v1/gallery", "/none"])
def test_head_is_answered_like_get_without_the_body(server: httpx2.Client, path: str) -> None:
    head, get = server.head(path), server.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    for name in ("content-length", "content-type"):
        assert head.headers[name] == get.headers[name]


def test_head_is_counted_by_its_route(server: httpx2.Client) -> None:
    server.head("/v1/models/tiny")
    assert 'method="HEAD",route="/v1/models/{model:path}",status="200"} 1.0' in server.get("/metrics").text


@pytest.mark.parametrize("given", ["bytes=9-3", "bytes=a", "a", "bytes=0-3", "bytes=999999999-", "bytes=0-1,5-6"])
@pytest.mark.parametrize("path", ["/", "/docs.css", "/static/main.js"])
def test_files_come_whole_whatever_range_is_asked_for(server: httpx2.Client, path: str, given: str) -> None:
    whole, asked = server.get(path), server.get(path, headers={"Range": given})
    assert (whole.status_code, asked.status_code) == (200, 200)
    assert asked.content == whole.content != b""
    assert "accept-ranges" not in asked.headers
    assert server.head(path, headers={"Range": given}).headers["content-length"] == whole.headers["content-length"]


# Bodies


def test_a_body_that_is_too_large_is_refused(server: httpx2.Client) -> None:
    headers = {"Content-Type": "application/json"}
    whole, parts = b" " * (MAX_BODY + 1), iter([b" " * 5000] * 5)
    for body in (whole, parts):  # with its length said, and in chunks without it
        message = assert_error(server.post("/v1/embeddings", content=body, headers=headers), 413, "body_too_large")
        assert f"{MAX_BODY:,} bytes" in message
    fits = json.dumps({"input": "a dog"}).encode().ljust(MAX_BODY)
    assert server.post("/v1/embeddings", content=fits, headers=headers).status_code == 200


def test_who_still_sends_hears_why_it_was_refused(keyed: httpx2.Client) -> None:
    """A client that reads the answer only after all was sent gets it, though the server wants none of the body."""
    port = keyed.base_url.port
    assert port is not None
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(head("Content-Length: 5000000"))
        for _ in range(50):
            sock.sendall(bytes(100_000))
        assert answer(sock).startswith(b"HTTP/1.1 401 ")


def head(*lines: str, path: str = "/v1/embeddings") -> bytes:
    """The head of a POST of JSON."""
    given = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *lines]
    return "\r\n".join([*given, "", ""]).encode()


@contextlib.contextmanager
def connected(address: str, data: bytes) -> Iterator[socket.socket]:
    """A connection on which this was sent."""
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=30) as sock:
        sock.sendall(data)
        yield sock


def test_a_body_has_to_arrive_in_time(embedder: Embedder) -> None:
    with (
        running(create_app(embedder, settings=Settings(body_timeout=0.2))) as url,
        connected(url, head("Content-Length: 100") + b"{") as sock,
    ):
        said = answer(sock)
    assert said.startswith(b"HTTP/1.1 408 ") and b'"slow_body"' in said


def test_all_bodies_together_are_limited_and_forgotten_with_their_client(embedder: Embedder) -> None:
    body = json.dumps({"input": "a dog"}).encode().ljust(15_000)
    headers = {"Content-Type": "application/json"}
    settings = Settings(max_body=MAX_BODY, max_intake=30_000)
    with running(create_app(embedder, settings=settings)) as address, httpx2.Client(base_url=address) as client:
        until, status = time.monotonic() + 30, 200
        while status == 200:  # the one whose bytes come last is refused, which may be the other
            assert time.monotonic() < until
            with connected(address, head("Content-Length: 19000") + bytes(18_000)):
                time.sleep(0.05)
                taken = client.post("/v1/embeddings", content=body, headers=headers)
            status = taken.status_code
        assert_error(taken, 429, "intake_full", "rate_limit_error")
        assert taken.headers["retry-after"] == "1"
        while client.post("/v1/embeddings", content=body, headers=headers).status_code == 429:
            assert time.monotonic() < until


def test_too_many_pixels_are_refused_before_they_are_decoded(server: httpx2.Client) -> None:
    for size, status in (((100, 100), 200), ((101, 100), 400)):
        data = encoded(Image.new("RGB", size))
        answer = server.post("/v1/images", files={"file": data})
        assert answer.status_code == status
        if status == 400:
            assert "more than the 10,000 pixels" in assert_error(answer, 400, "invalid_image")
            url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
            assert server.post("/v1/mask", json={"image": url, "points": [[1, 1]]}).status_code == 400


@pytest.mark.parametrize("deep", [b"[" * 15_000, b'{"input":' * 2000, b'{"input":' + b"[" * 9000 + b"]" * 9000 + b"}"])
def test_json_that_nests_deeply_is_refused(server: httpx2.Client, deep: bytes) -> None:
    answer = server.post("/v1/embeddings", content=deep, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].endswith(".")


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/images", "/v1/mask"])
@pytest.mark.parametrize("body", [b"[" * 15_000, b'{"input": "\xff"}', b"[" + b"9" * 5000 + b"]", b"{"], ids="abcd")
def test_what_cannot_be_parsed_has_a_code(server: httpx2.Client, path: str, body: bytes) -> None:
    answer = server.post(path, content=body, headers={"Content-Type": "application/json"})
    assert assert_error(answer, 400, "invalid_json").startswith("The body is not valid JSON")


@pytest.mark.parametrize(
    ("kind", "body", "fault"),
    [
        ("multipart/form-data", b"x", "Missing boundary in multipart"),
        ("multipart/form-data; boundary=x", b"garbage", "Invalid multipart data"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Type: text/plain\r\n\r\n", "Content-Disposition"),
    ],
)
def test_a_form_that_cannot_be_read_has_a_code(server: httpx2.Client, kind: str, body: bytes, fault: str) -> None:
    message = assert_error(server.post("/v1/images", content=body, headers={"Content-Type": kind}), 400, "invalid_form")
    assert message.startswith("The form cannot be read (") and fault in message


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_other_types_of_body_are_refused(server: httpx2.Client, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = server.post("/v1/embeddings", content=b'{"input": "a"}', headers=headers)
    assert "application/json" in assert_error(answer, 415, "wrong_content_type")
