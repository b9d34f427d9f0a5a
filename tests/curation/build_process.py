"""Runs `virtue` in a process of its own that has imported already what takes long, so that it may be killed often."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

PRELOADED = (
    "tests.curation.build_process",
    "virtue.cli",
    "virtue.commands.curate",
    "virtue.curation.batch",
    "virtue.curation.llm_writer",
    "virtue.curation.pipeline",
    "virtue.curation.sampling",
    "virtue.curation.sources",
    "virtue.curation.statistics",
    "httpcore",  # what openai imports with its first client, under one name or the other
    "httpcore2",
    "PIL.PngImagePlugin",
    "PIL.JpegImagePlugin",
)


def context() -> ForkServerContext:
    """What such processes are started from."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(list(PRELOADED))
    return found


def start(processes: ForkServerContext, args: list[str], out: Path) -> ForkServerProcess:
    """Starts `virtue` with these words; what it prints is added to a file."""
    process = processes.Process(target=_run, args=(args, out))
    process.start()
    return process


def _run(args: list[str], out: Path) -> None:
    from virtue.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us with Ctrl-C ignored
    with out.open("a") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        sys.stdout = sys.stderr = stream
        main(args)
