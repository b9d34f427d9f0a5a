"""`virtue serve`: what it passes on, what it says, and how it refuses what cannot be right."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner, Result

from tests.tiny import picture, tiny_embedder
from virtue import cli, server
from virtue.embedder import Embedder
from virtue.index import Index, build
from virtue.listening import listen
from virtue.server import Settings

KEY = "a-key-of-some-length"


def run(*args: object, **environment: str) -> Result:
    env = {"COLUMNS": "200", "VIRTUE_API_KEY": "", **environment}
    return CliRunner().invoke(cli.app, ["serve", *map(str, args)], prog_name="virtue", env=env)


@pytest.fixture
def embedder(monkeypatch: pytest.MonkeyPatch) -> Embedder:
    """A tiny random model, which is there under the name `nano`."""
    embedder, load = tiny_embedder(), Embedder.from_pretrained

    def from_pretrained(cls: type[Embedder], name: str, *, device: str | None) -> Embedder:
        return embedder if name in ("nano", "tiny") else load(name, device=device)

    monkeypatch.setattr(Embedder, "from_pretrained", classmethod(from_pretrained))
    return embedder


class Served:
    """Stands in for `virtue.server.serve`, and keeps what it was given."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self,
        load: Callable[[], Embedder],
        index: Index | None,
        settings: Settings,
        *,
        ready: Callable[[str], object],
        **more: Any,
    ) -> None:
        self.calls.append({"load": load, "index": index, "settings": settings, **more})
        ready("http://127.0.0.1:8000/")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    served = Served()
    monkeypatch.setattr(server, "serve", served)
    return served


@pytest.fixture
def indexed(tmp_path: Path, embedder: Embedder) -> Path:
    """A folder with an index of the tiny model."""
    folder = tmp_path / "images"
    folder.mkdir()
    picture().save(folder / "a.png")
    build(Index.create(folder, embedder), embedder)
    return folder


def test_by_default_nano_is_served_to_this_machine(served: Served, embedder: Embedder) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "Serving nano at http://127.0.0.1:8000/ (the API is documented at http://127.0.0.1:8000/docs).\n"
    )
    (call,) = served.calls
    assert call.pop("load")() is embedder
    assert call == {"index": None, "settings": Settings(), "name": None, "host": "127.0.0.1", "port": 8000}


def test_every_option_arrives(served: Served, indexed: Path) -> None:
    options = (
        "--host 0.0.0.0 --port 8001 --open-to-network --allow-urls --name mine --deadline 5 --queue 7 --batch-size 3 "
        "--memory 0.5"
    )
    result = run("--model", "nano", "--index", indexed, "--api-key", KEY, *options.split())
    assert result.exit_code == 0, result.output
    (call,) = served.calls
    assert call["settings"] == Settings(
        api_key=KEY, network=True, allow_urls=True, deadline=5, queue_rows=7, batch_rows=3, opened_bytes=500_000_000
    )
    assert (call["host"], call["port"], call["name"]) == ("0.0.0.0", 8001, "mine")
    assert call["index"].folder == indexed / ".virtue"


def test_an_index_brings_its_model(served: Served, indexed: Path) -> None:
    assert run("--index", indexed / ".virtue").stdout.startswith("Serving tiny at ")


def test_the_key_comes_from_the_environment_too(served: Served) -> None:
    run(VIRTUE_API_KEY=KEY)
    run("--api-key", f"{KEY}-2", VIRTUE_API_KEY=KEY)
    assert [call["settings"].api_key for call in served.calls] == [
        KEY,
        f"{KEY}-2",
    ]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--model", "nowhere"], "nowhere is neither a folder nor a Hub id of the form owner/name."),
        (["--index", "/nowhere"], "There is no index in /nowhere; make one with `virtue index`."),
        (["--host", "0.0.0.0"], "Other machines can reach 0.0.0.0: give an --api-key that requests need, or say"),
        (["--host", ""], "The host is empty; give the address to listen at"),
        (["--name", ""], "A name has at least one letter or digit, not ''"),
        (["--api-key", "short"], "An API key has at least 16 characters"),
        (["--host", "192.0.2.1", "--open-to-network"], "of 192.0.2.1"),
    ],
)
def test_what_cannot_be_right_is_one_sentence(embedder: Embedder, args: list[str], sentence: str) -> None:
    result = run("--port", 0, *args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("virtue: ") and sentence in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--host", "0.0.0.0"], "Other machines can reach 0.0.0.0: give an --api-key"),
        (["--name", ""], "A name has at least one letter or digit"),
    ],
)
def test_what_is_refused_does_not_wait_for_torch(args: list[str], sentence: str) -> None:
    refused = "import sys; sys.modules['torch'] = None; from virtue.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", refused, "serve", *args]
    env = os.environ | {"VIRTUE_API_KEY": ""}
    result = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"virtue: {sentence}")


def test_a_port_that_is_taken(embedder: Embedder) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        result = run("--port", port)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Cannot listen at port {port} of 127.0.0.1" in result.stderr
    assert "give another port, or 0 for one that is free" in result.stderr


def test_an_index_of_another_model(embedder: Embedder, indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedder, "fingerprint", "another")
    result = run("--index", indexed, "--port", 0)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "was indexed with the model 'tiny'" in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["--port", "70000"],
        ["--deadline", "0"],
        ["--queue", "0"],
        ["--batch-size", "x"],
        ["--memory", "0"],
        ["--deadline", "nan"],
    ],
)
def test_options_out_of_range(served: Served, args: list[str]) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert args[0] in result.stderr
    assert served.calls == []


@pytest.mark.parametrize("option", ["--deadline", "--memory"])
@pytest.mark.parametrize("value", ["inf", "1e300"])
def test_limits_that_limit_nothing(served: Served, option: str, value: str) -> None:
    result = run(option, value)
    assert result.exit_code == 2
    assert option in result.stderr
    assert "it is a finite number below 1e+09" in result.stderr
    assert served.calls == []


def test_help_lists_the_options_and_hides_the_key() -> None:
    text = run("--help", VIRTUE_API_KEY=KEY).stdout
    for option in ("--index", "--api-key", "--open-to-network", "--allow-urls", "--deadline", "--queue", "--memory"):
        assert option in text
    assert "VIRTUE_API_KEY" in text and KEY not in text
    assert "--no-" not in text
    assert "virtue serve --index ~/Pictures" in text


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="only the main thread gets signals"
)
def test_it_serves_until_ctrl_c(embedder: Embedder, indexed: Path) -> None:
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    answers: list[httpx2.Response] = []

    def visit() -> None:
        until = time.monotonic() + 60
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            while time.monotonic() < until:
                time.sleep(0.02)
                with contextlib.suppress(httpx2.TransportError):
                    if client.get("/health").status_code == 200:
                        answers.append(client.post("/v1/search", json={"query": {"text": "a dog"}}))
                        os.kill(os.getpid(), signal.SIGINT)
                        return

    visitor = threading.Thread(target=visit)
    visitor.start()
    result = run("--index", indexed, "--port", port)
    visitor.join()
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"Serving tiny at http://127.0.0.1:{port}/ ")
    assert result.stderr == ""
    assert [hit["path"] for hit in answers[0].json()["data"]] == ["a.png"]
