"""`kill -9` at random moments of a build: what was bought is not bought again, and the set is that of a quiet run."""

import hashlib
import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.curation.build_process import context, start
from tests.curation.llm_server import Faults, LlmServer
from virtue.curation.database import FILE
from virtue.curation.export import export
from virtue.curation.store import Curation
from virtue.scenes.write import write_scenes

FAULTS = Faults(limited=0.05, broken=0.05, cut=0.05, refused=0.05, malformed=0.05, slow=0.05, slow_seconds=0.1)
CONCURRENCY = 4


@pytest.fixture(scope="module")
def processes():
    return context()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 20, "test", 0, width=96, height=96)
    return folder


def arguments(scenes: Path, run: Path, url: str, *more: str) -> list[str]:
    source = ["--source", f"scenes={scenes}", "--limit", "48", "--to", str(run)]
    llm = ["--model", "m", "--base-url", url, "--concurrency", str(CONCURRENCY), "--no-wordnet", "--no-baseline"]
    return ["curate", "build", *source, *llm, *more]


def finish(processes, args: list[str], log: Path) -> None:
    process = start(processes, args, log)
    process.join(60)
    assert process.exitcode == 0, log.read_text()


def bought(log: Path) -> list[str]:
    """Keys of the answers that were sent, in order."""
    return [json.loads(line)["key"] for line in log.read_text().splitlines()] if log.exists() else []


def kept(run: Path) -> set[str]:
    """Keys of the answers that are on disk."""
    if not (run / FILE).exists():
        return set()
    connection = sqlite3.connect(run / FILE)
    try:
        return {key for (key,) in connection.execute("SELECT key FROM answers")}
    except sqlite3.OperationalError:  # killed before there were tables
        return set()
    finally:
        connection.close()


def contents(run: Path, to: Path) -> tuple[object, ...]:
    """All that a run came to, and the bytes of its export."""
    with Curation(run) as curation:
        samples, drops, states = list(curation.samples()), curation.drops(), curation.states()
        problems = curation.problems()
        totals = curation.totals()
    assert totals["answers"] == len(kept(run))  # counted once for each answer on disk
    folder = export(run, to, eval_share=0.5, images="none").folder
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("*.parquet"))}
    return samples, drops, states, problems, files


@pytest.fixture(scope="module")
def quiet(processes, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """What a build comes to that nobody disturbs."""
    folder = tmp_path_factory.mktemp("quiet")
    with LlmServer(faults=FAULTS) as server:
        finish(processes, arguments(scenes, folder / "run", server.url), folder / "out.txt")
        assert max(server.state.bought.values()) == 1
    return contents(folder / "run", folder / "set")


def disturb(
    processes, args: list[str], run: Path, log: Path, kills: int, asked: Callable[[], int], most: int
) -> list[tuple[int, set[str]]]:
    """Kills a build again and again, mostly at work, now and then before; what was the case at each kill.

    Args:
        processes: What starts them.
        args: Of the command.
        run: Its folder.
        log: What the server sent.
        kills: How often.
        asked: How many requests the server got so far.
        most: A kill comes after fewer new requests than this.

    Returns:
        For each kill how many answers were sent before it, and which are on disk.
    """
    rng, moments, out = random.Random(0), [], run.parent / "out.txt"
    for _ in range(kills):
        due = asked() + rng.randrange(most)
        process = start(processes, args, out)
        wait_for(lambda due=due: asked() >= due, process)
        time.sleep(rng.uniform(0.0, 0.08))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"It was done before it was killed: {out.read_text()}"
        moments.append((len(bought(log)), kept(run)))
    return moments


def wait_for(is_so: Callable[[], bool], process) -> None:
    """Waits until something is so or the process has ended."""
    ends = time.monotonic() + 20
    while not is_so() and process.is_alive() and time.monotonic() < ends:
        time.sleep(0.002)


def check_purchases(log: Path, moments: list[tuple[int, set[str]]]) -> None:
    """No answer that was on disk is bought after the kill; what is bought twice was in flight."""
    keys = bought(log)
    for sent, on_disk in moments:
        assert not on_disk & set(keys[sent:])
    twice = sum(count - 1 for count in Counter(keys).values())
    assert twice <= len(moments) * CONCURRENCY


def test_twenty_kills_change_nothing_and_cost_nothing(processes, scenes: Path, quiet, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "bought.jsonl"
    with LlmServer(faults=FAULTS, log=log, delay=0.05) as server:
        args = arguments(scenes, run, server.url)
        moments = disturb(processes, args, run, log, 20, lambda: len(server.state.times), 8)
        finish(processes, args, tmp_path / "out.txt")
    check_purchases(log, moments)
    assert len({len(on_disk) for _, on_disk in moments}) > 5  # the kills hit it at work, not only at the start
    assert contents(run, tmp_path / "set") == quiet


def test_kills_while_samples_are_written_again_lose_none(processes, scenes: Path, tmp_path: Path) -> None:
    """Samples whose wording tells are written again; whenever that is killed, each is the old one or the new one."""
    run, log = tmp_path / "run", tmp_path / "bought.jsonl"
    with LlmServer(log=log, telltale="x") as server:
        args = arguments(scenes, run, server.url, "--limit", "30")
        finish(processes, args, tmp_path / "out.txt")
        with Curation(run) as curation:
            old = {sample.region.id: sample for sample in curation.samples()}
        server.state.delay = 0.05
        again = [*args, "--try-again", "wording"]
        moments = disturb(processes, again, run, log, 1, lambda: len(server.state.times), 8)
        moments += disturb(processes, args, run, log, 2, lambda: len(server.state.times), 8)
        with Curation(run) as curation:
            halfway = {sample.region.id: sample for sample in curation.samples()}
            assert curation.rewrites()
        finish(processes, args, tmp_path / "out.txt")
    check_purchases(log, moments)
    with Curation(run) as curation:
        new = {sample.region.id: sample for sample in curation.samples()}
        assert curation.rewrites() == [] and curation.totals()["answers"] == len(kept(run))
    assert old.keys() == halfway.keys() == new.keys()
    assert all(halfway[name] in (old[name], new[name]) for name in old)
    assert sum(old[name] != new[name] for name in old) > len(old) / 2


def test_a_killed_batch_is_found_again(processes, scenes: Path, quiet, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "bought.jsonl"
    with LlmServer(faults=FAULTS, log=log, batch_polls=2) as server:
        args = arguments(scenes, run, server.url, "--batch", "--poll", "0.15")
        disturb(processes, args, run, log, 4, lambda: len(server.state.files) + len(server.state.batches), 4)
        finish(processes, args, tmp_path / "out.txt")
        batches = list(server.state.batches.values())
    with Curation(run) as curation:
        assert len(curation.batches(done=True)) >= len(batches)
        assert curation.batches() == {}
    assert max(Counter(bought(log)).values()) == 1
    assert contents(run, tmp_path / "set") == quiet


def test_ctrl_c_keeps_even_what_is_under_way(processes, scenes: Path, tmp_path: Path) -> None:
    run, log, out = tmp_path / "run", tmp_path / "bought.jsonl", tmp_path / "out.txt"
    with LlmServer(log=log, delay=0.2) as server:
        process = start(processes, arguments(scenes, run, server.url), out)
        wait_for(lambda: len(server.state.times) > CONCURRENCY, process)
        os.kill(process.pid, signal.SIGINT)
        process.join(20)
        assert process.exitcode == 130, out.read_text()
        assert "the same command goes on" in " ".join(out.read_text().split())
        assert kept(run) == set(bought(log))
