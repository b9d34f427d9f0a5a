"""What docs/serving.md shows does what it says, as written, against a server with the bundled model."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.live import running
from tests.tiny import picture
from virtue.embedder import Embedder
from virtue.index import Index, build
from virtue.server import create_app
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
    assert run([sys.executable, "-"], blocks("python", address), folder) == [f"2 {width}", width]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(address: str, folder: Path) -> None:
    text = re.sub(r"^(curl .*)$", r"echo; \1", blocks("bash", address), flags=re.MULTILINE)  # a line for each answer
    answers = [json.loads(line) for line in run(["bash", "-eu"], text, folder) if line]
    assert [sorted(answer) for answer in answers] == [
        ["data", "model", "object", "usage"],
        ["box", "mask", "outline", "quality"],
        ["data", "object"],
        ["data", "object"],
    ]
    assert len(answers[0]["data"][0]["embedding"]) == 8
    assert answers[2]["data"][0]["path"] == "street.jpg"
    assert [row["text"] for row in answers[3]["data"]] == ["a dog", "a cat"]


def test_the_limits_are_those_of_the_settings() -> None:
    limits = Settings()
    assert f"{limits.max_body // 10**6} MB, {limits.max_intake // 10**6} MB" in PAGE
    assert f"| {limits.max_pixels // 10**6} million |" in PAGE
    assert f"| {limits.max_inputs:,} |" in PAGE
    assert f"| {limits.max_text:,} |" in PAGE
    assert f"| {limits.queue_rows:,}, or {limits.queue_bytes // 10**6} MB |" in PAGE
    assert f"| {limits.batch_rows}, after {1000 * limits.wait:.0f} ms of waiting" in PAGE
    assert f"| {limits.deadline:.0f} s, {limits.body_timeout:.0f} s |" in PAGE
    assert f"| {limits.opened_bytes // 10**9} GB;" in PAGE
