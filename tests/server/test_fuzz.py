"""Requests drawn from the server's own OpenAPI, right ones and wrong: no answer is a 500, and each is as described.

A few of each kind by default; `pytest -m slow tests/server/test_fuzz.py` draws many.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.server.live import running
from tests.tiny import picture, tiny_embedder
from virtue.index import Index, build
from virtue.server import create_app

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
ANSWERS = (200, 400, 404, 413, 415)
"""Of a server that is neither full nor stopping, to a client on the same machine."""

POSTED = ("/v1/embeddings", "/v1/images", "/v1/mask", "/v1/search", "/v1/rank")
ROUTES = [
    *((path, "POST") for path in POSTED),
    ("/v1/images/{id}", "GET"),
    ("/v1/images/{id}", "DELETE"),
    ("/v1/gallery", "GET"),
    ("/v1/gallery/image", "GET"),
    ("/v1/models", "GET"),
    ("/v1/models/{model}", "GET"),
    ("/health", "GET"),
    ("/metrics", "GET"),
]
NEVER_WRONG = ("/v1/models", "/v1/models/{model}", "/health", "/metrics")  # any name may be a model's

DRAWN = [
    (path, method, mode)
    for path, method in ROUTES
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or (path not in NEVER_WRONG and method != "DELETE")
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with a tiny model and two images."""
    folder = tmp_path_factory.mktemp("fuzzed")
    embedder = tiny_embedder()
    for seed in (1, 2):
        picture(seed=seed).save(folder / f"{seed}.png")
    index = Index.create(folder, embedder)
    build(index, embedder)
    with running(create_app(embedder, index)) as url:
        yield url


@pytest.fixture(scope="module")
def schema(server: str) -> Any:
    """The server's OpenAPI, with what schemathesis makes of it."""
    return schemathesis.openapi.from_url(f"{server}/openapi.json")


def fuzz(schema: Any, path: str, method: str, mode: GenerationMode, examples: int) -> None:
    """Sends requests to a route and checks the answers."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        answer = case.call(timeout=60)
        assert answer.status_code in ANSWERS, answer.text
        if answer.status_code != 200:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        case.validate_response(answer, checks=CHECKS)

    send()


@pytest.mark.parametrize(("path", "method", "mode"), DRAWN, ids=str)
def test_a_few_requests(schema: Any, path: str, method: str, mode: GenerationMode) -> None:
    fuzz(schema, path, method, mode, examples=12)


@pytest.mark.slow
@pytest.mark.parametrize(("path", "method", "mode"), DRAWN, ids=str)
def test_many_requests(schema: Any, path: str, method: str, mode: GenerationMode) -> None:
    fuzz(schema, path, method, mode, examples=500)


def test_every_route_of_the_api_is_fuzzed(schema: Any) -> None:
    assert {(path, method.upper()) for path in schema for method in schema[path]} == set(ROUTES)


BODIES = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"{",
    b'"text"',
    b"\xff\xfe",
    b'{"input": "\\ud800"}',
    b'{"input": "a\\u0000b"}',
    b'{"input": NaN}',
    b'{"input": 1e999}',
    b'{"input": "a", "dimensions": 99999999999999999999999999}',
    b'{"input": "a", "input": ["b"]}',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"input": [' + b'"a",' * 5000 + b'"a"]}',
    b'{"input": "' + b"a" * 3_000_000 + b'"}',
    b'{"input": ""}',
    b'{"input": []}',
    b'{"input": [""]}',
    b'{"input": [[1, 2, 3]]}',
    b'{"messages": []}',
    b'{"messages": [{"role": "user", "content": []}]}',
    b'{"messages": [{"role": "system", "content": "a"}]}',
    b'{"messages": [[{"role": "user", "content": "a"}]]}',
    b'{"messages": [{"role": "user", "content": [{"type": "visual_prompt", "points": [[1, 1, 1]]}]}]}',
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("path", POSTED)
def test_bodies_that_no_schema_draws(server: str, path: str, body: bytes) -> None:
    answer = httpx2.post(f"{server}{path}", content=body, headers={"Content-Type": "application/json"}, timeout=60)
    assert answer.status_code < 500, answer.text
    if answer.status_code != 200:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", ["/v1/gallery", "/v1/gallery/image", "/v1/images/img_0"])
@pytest.mark.parametrize(
    "query",
    ["offset=-1", "offset=99999999999999999999", "limit=0", "limit=1e9", "size=0", "size=-5", "size=1000000000"],
)
def test_numbers_out_of_range(server: str, path: str, query: str) -> None:
    answer = httpx2.get(f"{server}{path}?path=1.png&{query}", timeout=60)
    assert answer.status_code < 500, answer.text


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/v1/embeddings"), ("GET", "/v1/embeddings"), ("DELETE", "/v1/models"), ("GET", "/none"), ("TRACE", "/")],
)
def test_other_methods_and_places(server: str, method: str, path: str) -> None:
    answer = httpx2.request(method, f"{server}{path}", timeout=60)
    assert answer.status_code in (404, 405)
    assert answer.json()["error"]["message"].endswith(".")


RAW = [
    b"GET / HTTP/1.1\r\n\r\n",  # no host
    b"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /v1/images/%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data\r\nContent-Length: 2\r\n\r\nab",
    b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    b"Content-Length: 40\r\n\r\n--x\r\nContent-Disposition: form-data; name\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),  # TLS
    b"A" * 100_000,
]


@pytest.mark.parametrize("raw", RAW, ids=range(len(RAW)))
def test_bytes_that_are_hardly_http(server: str, raw: bytes) -> None:
    port = int(server.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        try:
            sock.sendall(raw)
            sock.shutdown(socket.SHUT_WR)
            answer = sock.recv(65536)
        except ConnectionError:
            answer = b""
    assert b" 50" not in answer[:14]
    assert httpx2.get(f"{server}/health", timeout=10).status_code == 200
