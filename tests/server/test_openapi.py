"""The OpenAPI says what the server does: which errors, in which words, and examples that run as they stand."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.server.live import running
from tests.tiny import picture, tiny_embedder
from virtue.embedder import Embedder
from virtue.index import Index, build
from virtue.server import Settings, create_app
from virtue.server.curl import Served
from virtue.server.documentation import documentation
from virtue.server.schemas import ErrorAnswer

KEY = "a-key-of-some-length"
TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
POSTED = ("/v1/embeddings", "/v1/images", "/v1/mask", "/v1/search", "/v1/rank")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return tiny_embedder()


@pytest.fixture(scope="module")
def client(embedder: Embedder) -> Iterator[TestClient]:
    """A client of a server without an index, whose model goes by the name of the examples."""
    with TestClient(create_app(embedder, name="nano"), base_url="http://127.0.0.1") as client:
        while client.get("/health").status_code != 200:
            pass
        yield client


@pytest.fixture(scope="module")
def index(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """One picture, under a name that a shell and a URL would take for something else."""
    folder = tmp_path_factory.mktemp("indexed")
    picture().save(folder / "a b & 'c' %20.png")
    index = Index.create(folder, embedder)
    build(index, embedder)
    return index


def routes(openapi: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in openapi["paths"].items():
        for method, route in methods.items():
            yield path, method, route


def examples(openapi: dict[str, Any], method: str, path: str, status: int) -> list[Any]:
    """The answers of a status that the OpenAPI shows for a route."""
    said = openapi["paths"][path][method.lower()]["responses"][str(status)]["content"]["application/json"]
    return [example["value"] for example in said["examples"].values()]


def test_errors_are_described_in_their_form(client: TestClient) -> None:
    openapi = client.get("/openapi.json").json()
    for path, _, route in routes(openapi):
        assert "422" not in route["responses"], path
        for status, answer in route["responses"].items():
            if int(status) < 400 or (path, status) == ("/health", "503"):
                continue
            said = answer["content"]["application/json"]
            assert said["schema"] == {"$ref": "#/components/schemas/ErrorAnswer"}
            for example in said["examples"].values():
                error = ErrorAnswer.model_validate(example["value"]).error
                assert error.type == TYPES.get(
                    int(status), "server_error" if int(status) >= 500 else "invalid_request_error"
                )
                assert set(example["value"]["error"]) == {"message", "type", "param", "code"}
    assert "HTTPValidationError" not in openapi["components"]["schemas"]


JSON = {"Content-Type": "application/json"}
FOREIGN = {"Origin": "https://elsewhere.example"}
QUERY = {"text": "a"}
PROVOKED: list[tuple[int, str, str, dict[str, Any]]] = [
    (400, "POST", "/v1/embeddings", {"json": {"input": [""]}}),
    (400, "POST", "/v1/images", {"json": {}}),
    (400, "POST", "/v1/rank", {"json": {"query": QUERY, "candidates": [""]}}),
    (400, "GET", "/v1/images/{id}", {"params": {"size": 0}}),
    (404, "POST", "/v1/embeddings", {"json": {"input": "a", "model": "other"}}),
    (404, "GET", "/v1/models/{model}", {}),
    (404, "POST", "/v1/mask", {"json": {"image": "img_0123", "box": [0, 0, 1, 1]}}),
    (404, "POST", "/v1/search", {"json": {"query": QUERY}}),
    (404, "GET", "/v1/gallery", {}),
    (404, "GET", "/v1/gallery/image", {"params": {"path": "a.jpg"}}),
    (413, "POST", "/v1/embeddings", {"content": b"{}", "headers": JSON | {"Content-Length": "32000001"}}),
    *((403, "POST", path, {"json": {}, "headers": FOREIGN}) for path in POSTED),
    *((415, "POST", path, {"content": b"{}", "headers": {"Content-Type": "text/plain"}}) for path in POSTED),
]


@pytest.mark.parametrize(("status", "method", "path", "request_"), PROVOKED, ids=str)
def test_examples_of_errors_are_what_the_server_says(
    client: TestClient, status: int, method: str, path: str, request_: dict[str, Any]
) -> None:
    place = path.replace("{id}", "img_0123").replace("{model}", "other")
    answer = client.request(method, place, **request_)
    assert answer.status_code == status
    assert answer.json() in examples(client.get("/openapi.json").json(), method, path, status)


def test_so_are_those_of_a_server_with_a_key(embedder: Embedder) -> None:
    with TestClient(create_app(embedder, settings=Settings(api_key=KEY)), base_url="http://127.0.0.1") as client:
        openapi = client.get("/openapi.json").json()
        answer = client.get("/metrics")
    assert answer.json() in examples(openapi, "GET", "/metrics", 401)
    assert openapi["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    keyed = {path for path, _, route in routes(openapi) if route.get("security") == [{"key": []}]}
    assert keyed == {path for path, _, _ in routes(openapi) if path.startswith("/v1/")} | {"/metrics"}


def test_so_are_those_of_a_server_that_cannot_answer(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def load() -> Embedder:
        go.wait(30)
        return embedder

    app = create_app(load, settings=Settings(deadline=1e-6))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        openapi = client.get("/openapi.json").json()
        assert client.get("/v1/models").json() in examples(openapi, "GET", "/v1/models", 503)
        go.set()
        while client.get("/health").status_code != 200:
            pass
        late = client.post("/v1/embeddings", json={"input": "a"})
        assert (late.status_code, late.json() in examples(openapi, "POST", "/v1/embeddings", 504)) == (504, True)
        monkeypatch.setattr(app.state.service, "check_text", lambda *_: 1 / 0)
        failed = client.post("/v1/embeddings", json={"input": "a"})
        assert (failed.status_code, failed.json() in examples(openapi, "POST", "/v1/embeddings", 500)) == (500, True)


# The page


def shown(page: str) -> list[str]:
    """The commands on the page."""
    return [html.unescape(found) for found in re.findall(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL)]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("key", [None, KEY], ids=["open", "with a key"])
def test_each_example_runs_as_it_stands(embedder: Embedder, index: Index, tmp_path: Path, key: str | None) -> None:
    with running(create_app(embedder, index, Settings(api_key=key))) as url:
        curl = ["curl", "-s", "--retry", "50", "--retry-delay", "1", "--retry-all-errors", "-f", f"{url}/health"]
        subprocess.run(curl, capture_output=True, check=True, timeout=60)
        page = subprocess.run(["curl", "-s", f"{url}/docs"], capture_output=True, text=True, check=True).stdout
        commands = shown(page)
        script = "\n".join(f"echo; echo '# {number}'\n{command}" for number, command in enumerate(commands))
        env = {**os.environ, "VIRTUE_API_KEY": key or ""}
        done = subprocess.run(
            ["bash", "-eu"], input=script, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr
    answers = re.split(r"^# \d+\n", done.stdout, flags=re.MULTILINE)[1:]
    assert len(answers) == len(commands) >= 18
    for command, answer in zip(commands, answers, strict=True):
        assert '"error"' not in answer, f"{command}\n{answer}"
        if "-o " not in command and "/metrics" not in command:
            json.loads(answer)
    for name in ("square.jpg", "picture.jpg"):
        assert (tmp_path / name).read_bytes().startswith(b"\xff\xd8")


def test_the_page_describes_every_route_and_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs").text
    for path, method, route in routes(client.get("/openapi.json").json()):
        assert f"<b>{method.upper()}</b> {html.escape(path)}</code></a></h2>" in page
        assert html.escape(route["summary"]) in page
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", client.get("/docs.css").text)
    assert loaded
    assert all(place.startswith(("/", "#")) and not place.startswith("//") for place in loaded)
    assert "<script" not in page


def test_what_needs_an_index_is_not_shown_without_one(client: TestClient) -> None:
    assert not any("/v1/search" in command or "/v1/gallery" in command for command in shown(client.get("/docs").text))
    assert "no index" in client.get("/docs").text


def test_an_address_cannot_write_into_the_page_or_the_commands(client: TestClient) -> None:
    page = documentation(client.get("/openapi.json").json(), Served("http://<b>'$(touch x)", has_index=True))
    assert "<b>'" not in page
    assert all("'http://<b>'\"'\"'$(touch x)" in command for command in shown(page))
