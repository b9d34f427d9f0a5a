"""Runs the recipe's stages, the first three side by side unless told to use one process.

On a CPU two processes of one thread use two cores better than one process of two, because the models are small. A GPU
is not kept busy by one stage either, and every stage on it has processes of its own that draw scenes. A child reports
to the parent and ends when the parent is gone, so that a killed run leaves nothing behind that would write into its
folder.
"""

import os
import tempfile
from collections.abc import Callable
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from typing import Any

import torch
from torch import multiprocessing

from virtue.training.nano import (
    Plan,
    StageProgress,
    join_processes,
    keep_to,
    prepare,
    read_processor,
    train_contrastive,
    train_reader,
    train_segmenter,
    train_tower,
)

Job = tuple[str, int, int]
"""A stage's name, the process's rank and how many there are."""


def run_recipe(
    folder: Path, plan: Plan, device: torch.device, processes: int = 1, progress: StageProgress | None = None
) -> None:
    """Run, or go on with, all stages of the bundled model's recipe.

    Args:
        folder: Of the run; holds every stage's checkpoint.
        plan: How much of everything.
        device: Where to train.
        processes: On a CPU processes that train, on a GPU those that draw scenes; 1 does everything here.
        progress: Called after every step.

    Raises:
        ValueError: If the folder holds a run with another plan.
        RuntimeError: If a worker process fails; says what it said.
    """
    keep_to(plan, folder)
    read_processor(folder)
    if processes == 1:
        prepare(device)
        train_segmenter(folder, plan, device, progress)
        train_reader(folder, plan, device, progress)
        train_tower(folder, plan, device, progress)
        train_contrastive(folder, plan, device, progress)
        return
    trainers = processes if device.type == "cpu" else 1
    _together(folder, plan, [(stage, 0, 1) for stage in ("segmenter", "reader", "tower")], device, processes, progress)
    _together(folder, plan, [("contrastive", rank, trainers) for rank in range(trainers)], device, processes, progress)


def _together(
    folder: Path, plan: Plan, jobs: list[Job], device: torch.device, processes: int, progress: StageProgress | None
) -> None:
    """Run jobs at the same time and pass on what they report."""
    context = multiprocessing.get_context("spawn")
    reports: Queue[Any] = context.Queue()
    draws = device.type != "cpu"
    workers_each = max(1, processes // len(jobs)) if draws else 0
    with tempfile.TemporaryDirectory() as meeting:
        threads = max(1, (os.cpu_count() or 1) // len(jobs))
        place = Path(meeting) / "store"
        workers = [
            context.Process(
                target=_work,
                args=(reports, folder, plan, job, place, threads, device, workers_each),
                daemon=not draws,  # a daemon may have no processes of its own
            )
            for job in jobs
        ]
        begun: list[Any] = []
        try:
            for worker in workers:
                worker.start()
                begun.append(worker)
            _listen(reports, workers, progress)
        finally:
            for worker in begun:
                worker.terminate()
                worker.join()


def _listen(reports: "Queue[Any]", workers: list[Any], progress: StageProgress | None) -> None:
    """Pass on reports until every worker has ended well."""
    while True:
        try:
            report = reports.get(timeout=1)
        except Empty:
            failed = [worker.exitcode for worker in workers if worker.exitcode not in (None, 0)]
            if failed:
                raise RuntimeError(
                    f"A training process ended with code {failed[0]}; run the command again to go on."
                ) from None
            if all(worker.exitcode == 0 for worker in workers):
                return
            continue
        if isinstance(report, str):
            raise RuntimeError(f"A training process failed: {report}")
        if progress is not None:
            progress(*report)


def _work(
    reports: "Queue[Any]",
    folder: Path,
    plan: Plan,
    job: Job,
    meeting: Path,
    threads: int,
    device: torch.device,
    workers: int,
) -> None:
    stage, rank, world = job
    parent = os.getppid()
    torch.set_num_threads(threads)
    prepare(device)

    def progress(*report: Any) -> None:
        if os.getppid() != parent:
            os._exit(1)
        reports.put(report)

    try:
        if world > 1:
            join_processes(rank, world, meeting)
        run: dict[str, Callable[[], None]] = {
            "segmenter": lambda: train_segmenter(folder, plan, device, progress, workers),
            "reader": lambda: train_reader(folder, plan, device, progress, workers),
            "tower": lambda: train_tower(folder, plan, device, progress, workers),
            "contrastive": lambda: train_contrastive(folder, plan, device, progress, workers, rank, world),
        }
        run[stage]()
    except Exception as error:
        reports.put(f"{type(error).__name__}: {error}")
        raise SystemExit(1) from error
