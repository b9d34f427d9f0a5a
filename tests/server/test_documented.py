"""What docs/serving.md shows does what it says, as written, against a server with the bundled model."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.server.live import running
from tests.tiny import picture
from virtue.embedder import Embedder
from virtue.images import image_size
from virtue.index import Index, build
from virtue.remote import MAX_URL
from virtue.server import create_app
from virtue.server.files import THUMBNAIL_BYTES
from virtue.server.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def blocks(language: str, address: str) -> str:
    """All blocks of a language, one after the other, for a server at this address."""
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found
    return "\n".join(found).replace("http://127.0.0.1:8000", address)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the picture that the page speaks of."""
    folder = tmp_path_factory.mktemp("documented")
    picture(320, 240).save(folder / "street.jpg")
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Where the server is, which has that picture in its index."""
    embedder = Embedder.from_pretrained("nano", device="cpu")
    index = Index.create(folder, embedder)
    build(index, embedder)
    with running(create_app(embedder, index)) as url:
        yield url


def run(command: list[str], text: str, folder: Path) -> list[str]:
    """The lines that a program prints that is given on standard input."""
    done = subprocess.run(command, input=text, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_python_client(address: str, folder: Path) -> None:
    pytest.importorskip("openai")
    width = str(Embedder.from_pretrained("nano", device="cpu").dimension)
    assert run([sys.executable, "-"], blocks("python", address), folder) == [
        f"2 {width}",
        width,
        "['box', 'mask', 'outline', 'quality'] street.jpg 2 1 nano",
    ]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(address: str, folder: Path) -> None:
    text = re.sub(r"^curl ", "echo; curl ", blocks("bash", address), flags=re.MULTILINE)  # a line for each answer
    answers = [json.loads(line) for line in run(["bash", "-eu"], text, folder) if line]
    text_embedded, embedded, mask, found, ranked, closed, gallery, models, model, health = answers
    assert len(text_embedded["data"][0]["embedding"]) == 8
    assert len(embedded["data"][0]["embedding"]) == model["dimensions"]
    assert mask["mask"]["size"] == [240, 320]
    assert found["data"][0]["path"] == "street.jpg"
    assert [row["text"] for row in ranked["data"]] == ["a dog", "a cat"]
    assert closed["deleted"]
    assert [(row["path"], row["width"], row["height"]) for row in gallery["data"]] == [("street.jpg", 320, 240)]
    assert (models["data"], health) == ([model], {"status": "ok"})
    assert all(max(image_size(folder / name)) == 200 for name in ("open.jpg", "indexed.jpg"))
    assert "virtue_requests_total" in (folder / "metrics.txt").read_text()


def test_every_route_is_asked_and_listed(address: str) -> None:
    openapi = httpx2.get(f"{address}/openapi.json").json()
    table = PAGE[PAGE.index("## Routes") : PAGE.index("### Masks")]
    for path, methods in openapi["paths"].items():
        pattern = re.escape(path).replace(r"\{id\}", r"\$id").replace(r"\{model\}", "nano")
        assert f"{path}`" in table or f"{path}?" in table, path
        for method in methods:
            option = "-X DELETE " if method == "delete" else ""
            quoted = rf"^(?:id=\$\()?curl -s {option}['\"]?http://127\.0\.0\.1:8000{pattern}(?=['\"? \n])"
            assert re.search(quoted, PAGE, re.MULTILINE), (method, path)


def test_every_status_is_listed(address: str) -> None:
    openapi = httpx2.get(f"{address}/openapi.json").json()
    routes = [route for methods in openapi["paths"].values() for route in methods.values()]
    said = {status for route in routes for status in route["responses"]}
    listed = set(re.findall(r"^\| (\d{3}) \|", PAGE, re.MULTILINE))
    assert listed == {status for status in said if int(status) >= 400} | {"405"}  # which is of no route


def test_nothing_of_a_request_is_logged(
    address: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level("DEBUG", "virtue"), httpx2.Client(base_url=address) as client:
        for body in ({"input": "a dog"}, {"input": [1]}, {"messages": "a dog"}, {"input": "a dog", "model": "a dog"}):
            client.post("/v1/embeddings", json=body)
        client.get("/v1/gallery/image", params={"path": "a dog"})
    assert [record for record in caplog.records if record.name.startswith(("virtue", "uvicorn"))] == []
    assert capfd.readouterr() == ("", "")


def test_the_limits_are_those_of_the_settings() -> None:
    limits = Settings()
    assert f"{limits.max_body // 10**6} MB, {limits.max_intake // 10**6} MB" in PAGE
    assert f"| {limits.max_pixels // 10**6} million |" in PAGE
    assert f"| {limits.max_inputs:,} |" in PAGE
    assert f"| {limits.max_text:,} |" in PAGE
    assert f"| characters of a URL | {MAX_URL:,} |" in PAGE
    assert f"| {limits.queue_rows:,} |" in PAGE
    assert f"| {limits.queue_bytes // 10**6} MB |" in PAGE
    assert f"| {limits.connections}, or half" in PAGE
    assert f"| {THUMBNAIL_BYTES // 10**6} MB |" in PAGE
    assert f"| {limits.batch_rows}, after {1000 * limits.wait:.0f} ms of waiting" in PAGE
    assert f"| {limits.deadline:.0f} s, {limits.body_timeout:.0f} s |" in PAGE
    assert f"| {limits.opened_bytes // 10**9} GB;" in PAGE
