"""Several processes embed what one does, to the bit, and none waits for ever for another."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.fakes import TEXTS, FakeEncoder, together
from virtue.evaluation import embedding
from virtue.evaluation.embedding import embed
from virtue.evaluation.run import evaluate
from virtue.evaluation.sharing import VARIABLES, Alone, Group, World, from_environment
from virtue.evaluation.store import Store
from virtue.evaluation.tasks import Task


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert isinstance(from_environment(), Alone)
    for name in VARIABLES:
        monkeypatch.setenv(name, "1")
    world = from_environment()
    assert (world.rank, world.size, world.broadcast(7)) == (0, 1, 7)
    world.barrier()


def test_a_folder_lives_as_long_as_it_is_needed() -> None:
    with Alone().folder() as folder:
        (folder / "x").touch()
    assert not folder.exists()


def test_a_folder_that_another_machine_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Alone()
    monkeypatch.setattr(world, "broadcast", lambda value: Path("/only/there"))
    with (
        pytest.raises(RuntimeError, match="does not see the folder /only/there of process 0: give a store"),
        world.folder(),
    ):
        pass


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    work_alone(tmp_path / "one")
    assert together(work, tmp_path) == [0, 0], failures(tmp_path)
    for name in ("stored", "temporary", "hits"):
        expected = np.load(tmp_path / "one" / f"{name}.npy")
        for rank in (0, 1):
            assert (np.load(tmp_path / f"rank-{rank}" / f"{name}.npy") == expected).all(), (name, rank)
    logs = [(tmp_path / f"rank-{rank}" / "log.txt").read_text().splitlines() for rank in (0, 1)]
    assert all(logs)
    assert sorted(logs[0] + logs[1]) == sorted((tmp_path / "one" / "log.txt").read_text().splitlines())
    assert (tmp_path / "rank-0" / "told").exists() and not (tmp_path / "rank-1" / "told").exists()


def work(rank: int, folder: Path) -> None:
    world = from_environment()
    assert (world.rank, world.size) == (rank, 2)
    assert world.broadcast(rank) == 0
    _embed_both_ways(folder / f"rank-{rank}", Store(folder / "store"), world)
    assert from_environment().size == 2  # joining twice is joining once


def work_alone(folder: Path) -> None:
    _embed_both_ways(folder, Store(folder / "store"), Alone())


def _embed_both_ways(own: Path, store: Store, world: World) -> None:
    own.mkdir(exist_ok=True)
    embedding.CHUNK = 4
    encoder = FakeEncoder(own / "log.txt")
    np.save(own / "stored.npy", embed(encoder, TEXTS, "query", store=store, world=world))
    np.save(own / "temporary.npy", embed(encoder, TEXTS, "query", world=world))
    task = Task("letters", TEXTS, TEXTS, [np.array([number]) for number in range(len(TEXTS))])
    results = evaluate(encoder, [task], store=store.folder, world=world, on_task=lambda _: (own / "told").touch())
    np.save(own / "hits.npy", results.tasks[0].hits)
    embedding.CHUNK = 256


def test_a_process_that_ends_is_noticed(tmp_path: Path) -> None:
    assert together(work_until_one_ends, tmp_path) == [1, 3]
    assert "Another process of this evaluation ended or does not answer; its own message says why." in failures(
        tmp_path
    )


def work_until_one_ends(rank: int, folder: Path) -> None:
    world = from_environment()
    world.barrier()
    if rank == 1:
        os._exit(3)
    embed(FakeEncoder(), TEXTS, "query", store=Store(folder / "store"), world=world)


def test_a_process_that_hangs_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    assert together(work_while_one_hangs, tmp_path) == [1, 0]
    assert "start all processes again to go on." in failures(tmp_path)


def work_while_one_hangs(rank: int, folder: Path) -> None:
    world = from_environment()
    from torch import distributed

    short = Group(distributed.new_group(backend="gloo", timeout=timedelta(seconds=1)))
    world.barrier()
    if rank == 0:
        short.barrier()
    while not (folder / "failed-0").exists():
        time.sleep(0.1)
    os._exit(0)


def failures(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("failed-*")))
