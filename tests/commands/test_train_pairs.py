"""`virtue train` of pairs, from the command line to a model that can be loaded."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner, Result

from tests.tiny import tiny_config, tiny_model, tiny_processor
from virtue import Embedder, cli
from virtue.commands.trainer_progress import TrainingProgress

SCENES = '{"kind": "scenes", "count": 12, "size": [64, 64]}'


def run(*args: object) -> Result:
    return CliRunner().invoke(cli.app, ["train", *map(str, args)], prog_name="virtue", env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    config = tiny_config()
    tiny_model(config).save_pretrained(folder)
    tiny_processor(config).save_pretrained(folder)
    return folder


@pytest.fixture
def settings(checkpoint: Path) -> list[str]:
    changes = [
        f"model.start={checkpoint}",
        f"data.sources=[{SCENES}]",
        "data.hard_negatives=1",
        "run.steps=2",
        "run.batch=4",
        "run.save_every=1",
        "run.tensorboard=false",
    ]
    return [word for change in changes for word in ("--set", change)]


def test_the_list_names_every_recipe() -> None:
    result = run("list")
    assert result.exit_code == 0
    names = [line.partition(":")[0] for line in result.stdout.splitlines()]
    assert names[0] == "nano"
    assert {"virtue-2b-mmeb", "virtue-2b-scar", "virtue-7b-mmeb", "virtue-7b-scar", "vlm2vec-2b", "own-pairs"} <= {
        *names
    }


def test_a_dry_run_shows_what_would_be_done_and_does_nothing(settings: list[str], tmp_path: Path) -> None:
    result = run("own-pairs", "--to", tmp_path / "run", "--dry-run", *settings)
    assert result.exit_code == 0, result.output
    assert "scenes train" in result.stdout
    assert "language model" in result.stdout
    assert "2 steps of 4 pairs. Nothing was trained" in result.stdout
    with Image.open(tmp_path / "run" / "first_batch.png") as picture:
        assert picture.width > 4 * 224  # two queries and their positives in a row
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["first_batch.png"]


def test_a_run_ends_in_a_model_and_goes_on_when_it_is_started_again(settings: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = run("own-pairs", "--to", folder, "--device", "cpu", *settings, "--set", "run.steps=1")
    assert first.exit_code == 0, first.output
    assert f"the weights are in {folder / 'model'}" in first.stdout
    assert "step 1/1" in first.stderr
    changed = run("own-pairs", "--to", folder, "--device", "cpu", *settings)
    assert changed.exit_code == 2
    assert "holds a run with run.steps = 1, not 2" in changed.stderr
    again = run("own-pairs", "--to", folder, "--device", "cpu", *settings, "--set", "run.steps=1")
    assert again.exit_code == 0, again.output
    assert "going on at step 1 of 1" in again.stderr
    assert Embedder.from_pretrained(folder / "model").encode("a dog").shape == (32,)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["own-paris", "--to", "x"], "There is no recipe 'own-paris'; there are nano, virtue-2b-mmeb"),
        (["own-pairs", "--to", "x", "--plan", "smoke"], "--plan and --processes are for nano; own-pairs takes --set"),
        (["own-pairs"], "Say where the run is to be kept: --to FOLDER."),
        (["own-pairs", "--to", "x", "--set", "steps=3"], "write section.name=value, with a section of model, adapter"),
        (["own-pairs", "--to", "x", "--set", "run.step=3"], "run has no 'step'; it has steps, batch"),
        (
            ["own-pairs", "--to", "x", "--set", "run.steps=many"],
            "it takes a value of type int, not 'many'",
        ),
        (["own-pairs", "--to", "x"], "There is no file pairs.jsonl."),
        (
            ["virtue-2b-scar", "--to", "x"],
            "There is no file data/SCaR-Train/SCAR_ADE20K.parquet. SCaR-Train is on the Hub",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_shows_a_bar_and_a_log_shows_lines_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 40.0, 40.0, 45.0, 45.0])
    monkeypatch.setattr("virtue.commands.trainer_progress.time.monotonic", lambda: next(clock))
    console = Console(file=io.StringIO(), width=100)
    progress = TrainingProgress(console)
    state = SimpleNamespace(global_step=10, max_steps=30, is_world_process_zero=True)
    progress.on_train_begin(None, state, None)
    state.global_step = 20  # ten steps in forty seconds
    progress.on_log(None, state, None, logs={"loss": 0.5})
    progress.on_step_end(None, state, None)
    state.global_step = 21  # five seconds later: no line yet
    progress.on_step_end(None, state, None)
    progress.on_log(None, state, None, logs={"eval_hit_at_1": 0.25, "eval_loss": 2.0})
    progress.on_train_end(None, state, None)
    assert console.file.getvalue().splitlines() == [
        "going on at step 10 of 30",
        "step 20/30 loss 0.5000 4.00 s a step, 0:00:40 left",
        "step 21: held-out hit@1 25.0 %, loss 2.0000",
    ]


def test_a_run_that_is_stopped_gives_the_terminal_back(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[bool] = []
    monkeypatch.setattr("rich.progress.Progress.stop", lambda progress: stopped.append(True))

    def interrupted(*args: object, **kwargs: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("virtue.training.running.run", interrupted)
    result = run("own-pairs", "--to", tmp_path / "run", "--device", "cpu", *settings)
    assert result.exit_code == 130
    assert "keeps the checkpoints; run the same command again to go on" in result.stderr
    assert stopped
