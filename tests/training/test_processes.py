from pathlib import Path
from queue import Empty, Queue
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from virtue.training import nano, processes
from virtue.training.nano import PLANS
from virtue.training.runs import Run

CPU, META = torch.device("cpu"), torch.device("meta")  # the latter stands for a GPU
REPORT = ("tower", 1, 2, {"tower": 0.5})


class Reports:
    """A queue that hands out what it holds and then is empty at once."""

    def __init__(self, *reports: Any) -> None:
        self.reports = list(reports)

    def get(self, timeout: float) -> Any:
        if not self.reports:
            raise Empty
        return self.reports.pop(0)


def ended(*codes: int | None) -> list[SimpleNamespace]:
    return [SimpleNamespace(exitcode=code) for code in codes]


def test_reports_are_passed_on_until_every_worker_has_ended() -> None:
    passed: list[tuple[Any, ...]] = []
    processes._listen(Reports(REPORT, REPORT), ended(0, 0), lambda *report: passed.append(report))
    assert passed == [REPORT, REPORT]


def test_what_a_worker_says_of_its_failure_is_raised() -> None:
    with pytest.raises(RuntimeError, match="A training process failed: ValueError: too hot"):
        processes._listen(Reports("ValueError: too hot"), ended(1, None), None)


def test_a_worker_that_dies_in_silence_is_noticed() -> None:
    with pytest.raises(RuntimeError, match=r"A training process ended with code -9; run the command again to go on"):
        processes._listen(Reports(), ended(None, -9), None)


def test_a_worker_runs_its_stage_and_reports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stage(folder: Path, plan: nano.Plan, device: torch.device, progress: Any, workers: int) -> None:
        assert (folder, plan, device, workers) == (tmp_path, PLANS["smoke"], META, 3)
        progress(*REPORT)

    monkeypatch.setattr(processes, "train_tower", stage)
    reports: Queue[Any] = Queue()
    processes._work(reports, tmp_path, PLANS["smoke"], ("tower", 0, 1), tmp_path / "store", 1, META, 3)
    assert reports.get_nowait() == REPORT


def test_a_worker_that_fails_says_why(tmp_path: Path) -> None:
    reports: Queue[Any] = Queue()
    job = ("contrastive", 0, 1)
    (tmp_path / "tokenizer").mkdir()
    with pytest.raises(SystemExit):
        processes._work(reports, tmp_path, PLANS["smoke"], job, tmp_path / "store", 1, CPU, 0)
    assert "FileNotFoundError" in reports.get_nowait()


def test_on_one_process_the_stages_run_one_after_the_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[str] = []
    monkeypatch.setattr(processes, "read_processor", lambda folder: ran.append("tokenizer"))
    for stage in ("segmenter", "reader", "tower", "contrastive"):
        monkeypatch.setattr(processes, f"train_{stage}", lambda *args, name=stage: ran.append(name))
    processes.run_recipe(tmp_path, PLANS["smoke"], CPU)
    assert ran == ["tokenizer", "segmenter", "reader", "tower", "contrastive"]


@pytest.mark.parametrize(("device", "trainers"), [(CPU, 2), (META, 1)])
def test_three_stages_run_side_by_side_and_then_the_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: torch.device, trainers: int
) -> None:
    """On a CPU the last one on as many processes as there are, on a GPU on one."""
    ran: list[list[processes.Job]] = []

    def together(folder: Path, plan: nano.Plan, jobs: list[processes.Job], *rest: Any) -> None:
        assert rest == (device, 2, None)
        ran.append(jobs)

    monkeypatch.setattr(processes, "read_processor", lambda folder: None)
    monkeypatch.setattr(processes, "_together", together)
    processes.run_recipe(tmp_path, PLANS["smoke"], device, 2)
    first = [("segmenter", 0, 1), ("reader", 0, 1), ("tower", 0, 1)]
    assert ran == [first, [("contrastive", rank, trainers) for rank in range(trainers)]]


class Context:
    """Starts no process, but remembers what it was asked for."""

    Queue = Queue

    def __init__(self) -> None:
        self.asked: list[tuple[bool, torch.device, int]] = []  # whether a daemon, the device, and who draw for it

    def Process(self, target: Any, args: tuple[Any, ...], daemon: bool) -> Any:  # noqa: N802
        *_, device, workers = args
        self.asked.append((daemon, device, workers))
        return SimpleNamespace(start=lambda: None, terminate=lambda: None, join=lambda: None, exitcode=0)


@pytest.mark.parametrize(
    ("device", "count", "asked"),
    [(CPU, 6, (True, CPU, 0)), (META, 6, (False, META, 2)), (META, 2, (False, META, 1))],
)
def test_each_stage_on_a_gpu_has_its_share_of_processes_that_draw(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: torch.device, count: int, asked: tuple[Any, ...]
) -> None:
    context = Context()
    monkeypatch.setattr(processes, "multiprocessing", SimpleNamespace(get_context=lambda kind: context))
    monkeypatch.setattr(processes, "_listen", lambda *_: None)
    jobs: list[processes.Job] = [("segmenter", 0, 1), ("reader", 0, 1), ("tower", 0, 1)]
    processes._together(tmp_path, PLANS["smoke"], jobs, device, count, None)
    assert context.asked == [asked] * 3


@pytest.mark.slow
def test_processes_train_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nano, "TOKENIZER_SCENES", 4)
    passed: list[str] = []
    processes.run_recipe(tmp_path, PLANS["smoke"], CPU, 2, lambda stage, *_: passed.append(stage))
    assert passed.count("contrastive") == PLANS["smoke"].contrastive_steps  # the first process alone reports
    for stage, steps in {"segmenter": 2, "reader": 2, "tower": 1, "contrastive": 2}.items():
        state = Run(tmp_path / stage).load()
        assert state is not None
        assert state["step"] == steps
