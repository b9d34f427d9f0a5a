"""What a user downloads and waits for: the weights in the package are small, and importing it takes no time."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

import virtue

WEIGHTS = Path(virtue.__file__).parent / "weights"


@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="the weights are not there before `virtue train nano`")
def test_the_bundled_weights_are_below_25_megabytes() -> None:
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()) < 25e6


def test_importing_takes_no_time_worth_mentioning() -> None:
    """An interpreter that imports and ends: some 0.05 s; a busy machine gets thirty times that, and three goes."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import virtue"], check=True)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1.5
