from pathlib import Path
from typing import Any

import pytest
import torch

from virtue.training.runs import Run


def test_a_new_run_has_a_folder_and_no_state(tmp_path: Path) -> None:
    run = Run(tmp_path / "deep" / "run")
    assert run.folder.is_dir()
    assert run.load() is None


def test_the_newest_state_comes_back(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for step in (1, 2):
        run.save({"step": step, "module": {"weight": torch.full((2,), float(step))}})
    state = Run(tmp_path).load()
    assert state is not None
    assert state["step"] == 2
    assert state["module"]["weight"].tolist() == [2.0, 2.0]


def test_a_write_that_is_cut_short_leaves_the_state_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path)
    run.save({"step": 1})

    def cut_short(state: Any, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(torch, "save", cut_short)
        run.save({"step": 2})
    assert run.load() == {"step": 1}
    run.save({"step": 2})
    assert run.load() == {"step": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_the_log_has_a_line_for_each_step(tmp_path: Path) -> None:
    Run(tmp_path).log({"step": 1, "loss": 2 / 3})
    Run(tmp_path).log({"step": 2, "loss": 0.5})
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert lines == ['{"step": 1, "loss": 0.66667}', '{"step": 2, "loss": 0.5}']
