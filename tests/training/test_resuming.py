"""A run that is killed, wherever, goes on to the very weights of one that was not."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.tiny_runs import (
    learner,
    long_run,
    start,
    tiny_trainer,
    watched,
)
from virtue.training.saving import TEMPERATURE, TRAINED, last_checkpoint


def journal(folder: Path) -> dict[tuple[int, str], dict[str, float]]:
    """What was logged of each step; what was logged twice has to be the same."""
    found: dict[tuple[int, str], dict[str, float]] = {}
    for line in (folder / "journal").read_text().splitlines():
        logs = json.loads(line)
        kind = next((name for name in ("grad_norm", "eval_loss") if name in logs), "end")
        key = (logs["step"], kind)
        if kind != "end":
            assert found.setdefault(key, logs) == logs
    return found


STEPS = 8


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    process = start(long_run, folder, STEPS, 0)
    process.join(120)
    assert process.exitcode == 0
    return folder


def test_a_killed_run_goes_on_to_the_same_bits(uninterrupted: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    kills: list[dict[str, Any]] = [{"last": 1}]  # before there is a checkpoint
    kills += [{"stage": stage} for stage in ("weights", "optimizer", "state")]  # of the checkpoint of step 2
    kills += [{"last": 3}, {"last": rng.randint(4, 5)}, {"stage": rng.choice(["weights", "optimizer", "state"])}]
    for kill in kills:
        process = start(long_run, tmp_path, STEPS, 0, kill.get("last"), kill.get("stage"))
        process.join(120)
        assert process.exitcode == -9, kill
    process = start(long_run, tmp_path, STEPS, 0)
    process.join(120)
    assert process.exitcode == 0
    compare(tmp_path, uninterrupted)


def test_workers_change_nothing_in_a_killed_run(uninterrupted: Path, tmp_path: Path) -> None:
    for last in (5, None):
        process = start(long_run, tmp_path, STEPS, 2, last)
        process.join(120)
        assert process.exitcode == (0 if last is None else -9)
    compare(tmp_path, uninterrupted)


def compare(folder: Path, expected: Path) -> None:
    assert len(journal(expected)) == STEPS + STEPS // 4
    assert journal(folder) == journal(expected)
    for name in (TRAINED, "scheduler.pt"):
        file = f"checkpoint-{STEPS}/{name}"
        assert (folder / file).read_bytes() == (expected / file).read_bytes(), name
    one, other = (torch.load(run / f"checkpoint-{STEPS}/optimizer.pt") for run in (folder, expected))
    for number, state in one["state"].items():
        assert all(torch.equal(value, other["state"][number][name]) for name, value in state.items())


def test_half_written_checkpoints_do_not_count(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    files = (TRAINED, "optimizer.pt", "scheduler.pt", "rng_state.pth")
    for step, state, written in ((9, "{}", files), (10, "{}", files), (11, '{"glob', files), (12, "{}", files[1:])):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(state)
        for name in written:
            (folder / name).touch()
    (tmp_path / "checkpoint-13").mkdir()
    (tmp_path / "checkpoint-99.partial").mkdir()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    (tmp_path / "checkpoint-10" / "rng_state.pth").unlink()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-9"


def test_a_checkpoint_of_other_parts_is_refused(tmp_path: Path) -> None:
    watched(tmp_path, 1, save_strategy="steps", save_steps=1)
    with pytest.raises(ValueError, match=r"is of a training of other parts than this one \(vlm\..*lora"):
        tiny_trainer(tmp_path, 2, model=learner("connector")).train(resume_from_checkpoint=True)
    (tmp_path / "checkpoint-1" / TRAINED).unlink()
    with pytest.raises(FileNotFoundError, match=r"checkpoint-1 is no checkpoint of a contrastive training: no trained"):
        tiny_trainer(tmp_path, 2).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_a_checkpoint_holds_what_learns_alone(tmp_path: Path) -> None:
    trainer, _ = watched(tmp_path, 1, save_strategy="steps", save_steps=1)
    names = {name for name, p in trainer.model.named_parameters() if p.requires_grad} | {TEMPERATURE}
    assert load_file(tmp_path / "checkpoint-1" / TRAINED).keys() == names
    assert all(".lora_" in name or name.startswith("connector.") for name in names - {TEMPERATURE})
