"""What every test starts from: one torch thread and fixed seeds, so that a run shares a machine and repeats."""

import random
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# The same examples each time, and no deadline: a shared machine may stall in the middle of one.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def seeds() -> None:
    """The generators a test might draw from start at 0, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def heavy_modules_after() -> Callable[[str], set[str]]:
    """Which heavy libraries a fresh interpreter has loaded after a statement."""
    heavy = {"torch", "transformers", "peft", "accelerate", "lancedb", "pyarrow", "numpy", "PIL", "pycocotools"}

    def run(statement: str) -> set[str]:
        code = f"{statement}\nimport sys; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return heavy & set(done.stdout.split())

    return run
