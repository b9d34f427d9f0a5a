"""The whole way: scenes drawn, annotations read, captions bought in spite of faults, reviewed, exported, measured.

Everything goes through what users have: the `virtue` command, and HTTP.
"""

import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.curation.llm_server import Faults, LlmServer
from virtue import cli
from virtue.curation.store import Curation
from virtue.evaluation.results import Results

FAULTS = Faults(slow=0.1, limited=0.15, broken=0.05, cut=0.03, refused=0.04, malformed=0.08, misshapen=0.05, seed=5,
                slow_seconds=0.2)  # fmt: skip

EDITED = "toothbrush"


def virtue(*words: object) -> str:
    """Runs the command; what it printed."""
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return str(done.output)


class Reviewer:
    """Somebody at the review page, without the page."""

    def __init__(self, address: str, name: str) -> None:
        self.address, self.name, self.decided = address, name, 0
        session = self._ask("session")
        self._headers = {"X-Virtue-Token": session["token"], "X-Virtue-Run": session["run"]}

    _headers: dict[str, str] = {}  # noqa: RUF012 -- replaced by the session's

    def deal(self) -> list[dict[str, Any]]:
        return list(self._ask("deal", reviewer=self.name, count=5)["items"])

    def decide(self, region: str, verdict: str, **more: Any) -> dict[str, Any]:
        self.decided += 1
        key = f"{self.name}-{self.decided:016d}"
        return self._ask("decide", reviewer=self.name, key=key, region=region, verdict=verdict, **more)

    def _ask(self, what: str, **body: Any) -> dict[str, Any]:
        data = json.dumps(body).encode() if body else None
        headers = {"Content-Type": "application/json", **self._headers}
        request = urllib.request.Request(f"{self.address}api/{what}", data, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.load(answer))


@contextmanager
def review_page(run: Path) -> Iterator[str]:
    """The address of the review server while it runs."""
    command = [sys.executable, "-m", "virtue", "curate", "review", str(run), "--port", "0", "--share", "0.3"]
    command += ["--no-wordnet"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            line = process.stderr.readline()
            assert line.startswith("Review at http://127.0.0.1:"), line + process.stderr.read()
            yield line.split()[2]
        finally:
            process.terminate()


def review(run: Path) -> Counter[str]:
    """Two people decide about all samples: every sixth is rejected, one is edited."""
    verdicts: Counter[str] = Counter()
    with review_page(run) as address:
        people = [Reviewer(address, name) for name in ("ann", "bob")]
        while dealt := [(person, item) for person in people for item in person.deal()]:
            for person, item in dealt:
                region, swap = item["id"], item["captions"][1]
                if sum(region.encode()) % 6 == 0:
                    person.decide(region, "reject", reason="wording")
                elif not verdicts["edit"]:
                    swap["text"] = swap["text"].replace(swap["changed"], EDITED)
                    person.decide(region, "edit", captions=[caption["text"] for caption in item["captions"]])
                    verdicts["edit"] += 1
                else:
                    person.decide(region, "accept")
                verdicts["all"] += 1
    return verdicts


def test_from_scenes_to_a_measured_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    pytest.importorskip("fastapi")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    scenes, run, out, log = (tmp_path / name for name in ("scenes", "run", "set", "bought.jsonl"))
    virtue("scenes", scenes, "--count", 20, "--seed", 7000)
    build = ["curate", "build", "--source", f"scenes={scenes}", "--to", run, "--writer", "llm", "--model", "test"]
    build += ["--per-image", 2, "--concurrency", 8, "--no-wordnet", "--price-in", 1, "--price-out", 4]
    with LlmServer(faults=FAULTS, log=log) as server:
        virtue(*build, "--base-url", server.url)
        bought = Counter(server.state.bought)
        assert {200, 429, 500} <= set(server.state.statuses)
        virtue(*build, "--base-url", server.url, "--no-baseline")  # nothing is left to do
        assert server.state.bought == bought

    with Curation(run) as curation:
        states = sum(curation.states().values(), Counter())
        assert states["new"] == 0 and states["written"] > 20
        assert curation.totals()["money"] > 0
        assert "refused" in {check for _, check, _ in curation.drops()}
    review(run)
    assert "bob" in virtue("curate", "stats", run, "--no-baseline", "--json")
    printed = virtue("curate", "export", run, "--to", out, "--eval-share", 1)
    assert "rejected by people" in printed
    assert "0 problems" in virtue("curate", "validate", out, "--images", out)
    rows = pq.read_table(out / "SCaR_eval_scenes.parquet").to_pylist()
    assert sum(EDITED in row["tgt_text"][1] for row in rows) == 1
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "Decisions of 2 people" in card and "money" in card

    virtue("eval", "--model", "nano", "--tasks", "scar", "--scar", out, "--images", out, "--to", tmp_path / "eval")
    (task,) = Results.load(tmp_path / "eval" / "results.json").tasks
    assert (task.name, task.queries, task.missing) == ("scar/scenes", len(rows), {})
    assert task.metrics["hit@1"].value > 2 * task.chance
