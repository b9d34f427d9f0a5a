import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner, Result

from virtue import cli
from virtue.commands.train import changed_plan
from virtue.commands.train_progress import reporter
from virtue.training.nano import PLANS, Plan


def run(*args: object) -> Result:
    return CliRunner().invoke(cli.app, ["train", "nano", *map(str, args)], prog_name="virtue", env={"COLUMNS": "200"})


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the command asked to train and to export; a run reports one step of a stage."""
    asked: list[tuple[Any, ...]] = []

    def run_recipe(folder: Path, plan: Plan, device: torch.device, processes: int, progress: Any) -> None:
        asked.append((folder, plan, device.type, processes))
        progress("reader", 7, 7, {"region": 1.25, "image": 0.5, "seconds": 0.125})

    monkeypatch.setattr("virtue.training.processes.run_recipe", run_recipe)
    monkeypatch.setattr("virtue.training.nano.export", lambda folder, target: asked.append((folder, target)))
    return asked


def test_a_plan_is_trained_and_exported(trained: list[tuple[Any, ...]]) -> None:
    result = run("--to", "runs/nano", "--plan", "smoke", "--device", "cpu", "--processes", 3)
    assert result.exit_code == 0
    folder = Path("runs/nano")
    assert trained == [(folder, PLANS["smoke"], "cpu", 3), (folder, folder / "model")]
    assert "the weights are in runs/nano/model" in result.stdout
    assert result.stderr == "reader 7/7 loss 1.750 0.12 s\n"


def test_the_plan_follows_from_the_device(trained: list[tuple[Any, ...]]) -> None:
    assert run("--to", "run", "--device", "cpu").exit_code == 0
    assert run("--to", "run", "--device", "cuda").exit_code == 0
    assert [asked[1] for asked in trained if len(asked) == 4] == [PLANS["cpu"], PLANS["gpu"]]


def test_amounts_of_the_plan_can_be_changed(trained: list[tuple[Any, ...]]) -> None:
    assert run("--to", "run", "--device", "cpu", "--set", "images=24", "--set", "seed=3").exit_code == 0
    assert trained[0][1] == Plan(images=24, seed=3)


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("virtue.training.processes.run_recipe", interrupted)
    result = run("--to", "run", "--device", "cpu")
    assert result.exit_code == 130
    assert "run keeps the checkpoints; run the same command again to go on" in result.stderr


def test_a_terminal_shows_a_bar_for_each_stage() -> None:
    console = Console(force_terminal=True, width=100, file=io.StringIO())
    with reporter(console) as report:
        for step in (1, 2):
            report("tower", step, 2, {"tower": 0.5, "seconds": 0.1})
        report("reader", 1, 4, {"region": 1.0, "image": 0.25, "seconds": 0.1})
    shown = console.file.getvalue()
    assert "tower loss 0.500" in shown
    assert "reader loss 1.250" in shown
    assert "1/4" in shown


def test_an_unknown_plan_lists_the_known_ones(trained: list[tuple[Any, ...]]) -> None:
    result = run("--to", "run", "--plan", "large")
    assert result.exit_code == 2
    assert "There is no plan 'large'; choose one of cpu, gpu, smoke." in result.stderr
    assert trained == []


def test_nothing_changed_is_the_plan_itself() -> None:
    assert changed_plan(PLANS["gpu"], []) == PLANS["gpu"]


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("image=24", "--set image=24: there is no 'image'; a plan has images, "),
        ("24", "--set 24: there is no '24'"),
        ("=24", "--set =24: there is no ''"),
        ("images", "--set images: images takes a whole number, not ''."),
        ("images=", "--set images=: images takes a whole number, not ''."),
        ("images=2.5", "--set images=2.5: images takes a whole number, not '2.5'."),
        ("images=-2", "--set images=-2: images takes a whole number, not '-2'."),
        ("images=2=3", "--set images=2=3: images takes a whole number, not '2=3'."),
    ],
)
def test_a_setting_that_cannot_be_is_refused(setting: str, fault: str) -> None:
    with pytest.raises(ValueError) as error:
        changed_plan(Plan(), ["seed=1", setting])
    assert str(error.value).startswith(fault)
