"""`virtue eval` with a stand-in for a model: it sees colours, so it can be measured in no time."""

import dataclasses
import inspect
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner, Result

from tests.data.files import write_parquet
from tests.evaluation.benchmarks.published_mmeb import write_mmeb
from tests.evaluation.benchmarks.published_scar import write_scar
from tests.evaluation.reports.made_results import curve, task
from virtue import cli
from virtue.commands.evaluate import STRATEGY_NAMES, evaluate
from virtue.commands.evaluate_progress import EvaluationProgress
from virtue.commands.evaluate_sources import Distractors, Ranking, Shown, Sources
from virtue.evaluation.benchmarks import distractors, mmeb
from virtue.evaluation.benchmarks.scar import SETS
from virtue.evaluation.benchmarks.scene_pictures import SHOWN
from virtue.evaluation.models import loading
from virtue.evaluation.reports.comparison import compare
from virtue.evaluation.results import Results
from virtue.evaluation.robustness import curves
from virtue.evaluation.strategies import STRATEGIES
from virtue.images import open_image
from virtue.items import Item

_MMEB = ["--tasks", "mmeb", "--mmeb", "x", "--images", "x"]
NAMES = ["scenes/region-to-caption", "scenes/text-to-image", "scenes/region-to-image", "scenes/region-to-image-global"]


class Stub:
    """Embeds pictures by their mean colour and texts by their letters; counts what it embeds."""

    name, fingerprint = "stub", "57ab"

    def __init__(self) -> None:
        self.embedded = 0
        self.interrupted_after = 10**9

    def encode_query(self, items: list[Item], *, batch_size: int = 32) -> NDArray[np.float32]:
        return np.stack([self._vector(item) for item in items])

    encode_document = encode_query

    def _vector(self, item: Item) -> NDArray[np.float32]:
        if self.embedded == self.interrupted_after:
            raise KeyboardInterrupt
        self.embedded += 1
        vector = np.zeros(30, dtype=np.float32)
        if item.image is not None:
            vector[:3] = np.asarray(open_image(item.image)).mean(axis=(0, 1)) + 1
        for letter in (item.text or "").lower():
            vector[3 + ord(letter) % 27] += 1
        return vector


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    encoder = Stub()
    monkeypatch.setattr(loading, "load_encoder", lambda name, *, device=None: encoder)
    return encoder


def run(*args: object) -> Result:
    words = ["eval", *map(str, args)]
    return CliRunner().invoke(cli.app, words, prog_name="virtue", env={"VIRTUE_DEBUG": None, "COLUMNS": "200"})


def test_a_row_for_each_task_and_reports_in_the_folder(stub: Stub, tmp_path: Path) -> None:
    result = run("--count", 3, "--to", tmp_path / "run")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "stub, prompt"
    assert lines[1].split()[:3] == ["task", "queries", "candidates"]
    assert [line.split()[0] for line in lines[2:6]] == NAMES
    assert f"Embeddings are kept in {tmp_path / 'run' / 'embeddings'}" in result.stderr
    assert lines[-1].startswith(f"Written: {tmp_path / 'run' / 'results.json'}, ")
    made = Results.load(tmp_path / "run" / "results.json")
    assert [task.name for task in made.tasks] == NAMES
    assert {key: made.settings[key] for key in ("tasks", "shown", "count", "seed")} == {
        "tasks": "scenes",
        "shown": "box",
        "count": 3,
        "seed": 0,
    }
    assert (tmp_path / "run" / "report.md").read_text(encoding="utf-8").startswith("# stub, prompt")
    assert "<svg" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert not list(tmp_path.rglob("*.unfinished"))


def test_the_same_command_embeds_nothing_again(stub: Stub, tmp_path: Path) -> None:
    run("--count", 3, "--to", tmp_path)
    first = stub.embedded
    assert first > 0
    assert run("--count", 3, "--to", tmp_path).exit_code == 0
    assert stub.embedded == first


def test_a_run_that_is_stopped_says_how_it_goes_on(stub: Stub, tmp_path: Path) -> None:
    stub.interrupted_after = 20
    result = run("--count", 3, "--to", tmp_path)
    assert result.exit_code == 130
    assert f"{tmp_path / 'embeddings'} keeps the embeddings; run the same command again to go on." in result.stderr
    assert not (tmp_path / "results.json").exists()


def test_without_a_folder_nothing_is_written(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("--count", 3)
    assert result.exit_code == 0
    assert "Embeddings are not kept; --to or --cache keeps them" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_several_strategies_are_compared(stub: Stub, tmp_path: Path) -> None:
    result = run("--count", 3, "--strategy", "none,crop", "--to", tmp_path, "--cache", tmp_path / "kept")
    assert result.exit_code == 0, result.output
    assert "stub, crop: hit@1 less that of stub, none" in result.stdout
    found = [Results.load(tmp_path / name / "results.json") for name in ("none", "crop")]
    assert [one.strategy for one in found] == ["none", "crop"]
    assert found[0].tasks[0].digest == found[1].tasks[0].digest
    assert (tmp_path / "report.md").read_text(encoding="utf-8").startswith("# Runs side by side")
    assert (tmp_path / "kept").is_dir()
    assert not (tmp_path / "embeddings").exists()


@pytest.mark.parametrize(
    ("benchmark", "write", "count", "words"),
    [
        ("scar", write_scar, 5, ("PARTIAL: scar/ADE20K is not whole", "No overall is given")),  # has faulty rows
        ("mmeb", write_mmeb, 36, ("| Overall | 36 | ", "| paper: VIRTUE-2B | 64.1 |")),
    ],
)
def test_the_published_layouts(
    benchmark: str,
    write: Callable[[Path], tuple[Path, Path]],
    count: int,
    words: tuple[str, ...],
    stub: Stub,
    tmp_path: Path,
) -> None:
    folder, images = write(tmp_path / "published")
    to = tmp_path / "run"
    result = run("--tasks", benchmark, f"--{benchmark}", folder, "--images", images, "--strategy", "none", "--to", to)
    assert result.exit_code == 0, result.output
    assert len(Results.load(to / "results.json").tasks) == count
    report = (to / "report.md").read_text(encoding="utf-8")
    assert all(sentence in report for sentence in words)


@pytest.mark.parametrize(
    ("tasks", "write", "names"),
    [
        ("scar/RefCOCOg,scar/ADE20K", write_scar, ["scar/RefCOCOg", "scar/ADE20K"]),
        ("mmeb/CIRR,mmeb/VisDial", write_mmeb, ["mmeb/VisDial", "mmeb/CIRR"]),
        ("scenes/text-to-image", None, ["scenes/text-to-image"]),
        ("scenes/text-to-image,scenes", None, NAMES),
    ],
)
def test_single_sets(
    tasks: str, write: Callable[[Path], tuple[Path, Path]] | None, names: list[str], stub: Stub, tmp_path: Path
) -> None:
    options: list[object] = ["--count", 3]
    if write is not None:
        folder, images = write(tmp_path / "published")
        benchmark = tasks.partition("/")[0]
        options = [f"--{benchmark}", folder, f"--{benchmark}-images", images]
    result = run("--tasks", tasks, *options, "--to", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert [task.name for task in Results.load(tmp_path / "run" / "results.json").tasks] == names


def test_region_to_image_of_photographs(stub: Stub, tmp_path: Path) -> None:
    contents = [("dog", "sofa"), ("dog", "sofa"), ("dog", "road"), ("cat", "sofa")]
    rows = []
    for number, (thing, scene) in enumerate(contents):
        Image.new("RGB", (20, 20), (50 * number, 0, 0)).save(tmp_path / f"{number}.png")
        wrong = [f"{other} on {scene}" for other in ("ape", "bee", "cow")]
        wrong += [f"{thing} {relation} {scene}" for relation in ("under", "beside", "behind")]
        wrong += [f"{thing} on {other}" for other in ("mars", "venus", "pluto")]
        box = {"qry_text": "", "qry_image_path": f"{number}.png", "bbox": [2.0, 2.0, 9.0, 9.0]}
        rows.append({**box, "tgt_text": [f"{thing} on {scene}", *wrong]})
    write_parquet(tmp_path / "SCaR_eval_Mine.parquet", rows)
    to = tmp_path / "run"
    result = run("--tasks", "region-to-image/Mine", "--scar", tmp_path, "--images", tmp_path, "--to", to)
    assert result.exit_code == 0, result.output
    found = Results.load(to / "results.json").tasks
    assert [task.name for task in found] == ["region-to-image/Mine", "region-to-image/Mine-global"]
    assert [task.queries for task in found] == [2, 2]
    assert [task.is_partial for task in found] == [False, False]
    said = "Not asked in region-to-image/Mine, by its definition: 2 without another image of the same."
    assert f"  {said}" in result.stdout.splitlines()
    assert said in (to / "report.md").read_text(encoding="utf-8")


def test_an_empty_set_does_not_end_a_run(stub: Stub, tmp_path: Path) -> None:
    folder, images = write_scar(tmp_path / "published")
    shutil.rmtree(images / "ade20k_val")
    to = tmp_path / "run"
    result = run("--tasks", "scar,region-to-image/ADE20K", "--scar", folder, "--scar-images", images, "--to", to)
    assert result.exit_code == 0, result.output
    made = Results.load(to / "results.json")
    assert [task.name for task in made.tasks] == [f"scar/{name}" for name in SETS if name != "ADE20K"]
    assert [lost.name for lost in made.not_measured] == ["scar/ADE20K", "region-to-image/ADE20K"]
    for lost in made.not_measured:
        said = f"NOT MEASURED: {lost.name}, because it has no queries: left out were "
        assert any(line.startswith(said) for line in result.stdout.splitlines())
        assert all(said in (to / f"report.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))
    assert "No overall is given" in (to / "report.md").read_text(encoding="utf-8")


def test_a_run_of_which_nothing_is_left_is_refused(stub: Stub, tmp_path: Path) -> None:
    folder, images = write_scar(tmp_path / "published")
    shutil.rmtree(images / "ade20k_val")
    result = run("--tasks", "scar/ADE20K", "--scar", folder, "--images", images)
    assert result.exit_code == 2
    assert "Nothing could be measured: scar/ADE20K, because it has no queries: left out were" in result.stderr


def test_own_data(stub: Stub, tmp_path: Path) -> None:
    rows = [{"query": "aaa", "candidates": ["aab", "zzz"]}, {"query": "zzz", "candidates": ["zzy", "aaa"]}]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    result = run("--tasks", "own", "--own", file)
    assert result.exit_code == 0, result.output
    assert "own/mine" in result.stdout
    assert "100.0 [100.0, 100.0]" in result.stdout


def test_curves_are_asked_for_by_mask(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def stand_in(model, task, **options):
        asked.append((task.name, options["strategy"], all(item.prompt is not None for item in task.queries)))
        return [curve(task=task.name)]

    monkeypatch.setattr(curves, "curves", stand_in)
    result = run("--count", 3, "--robustness", "--to", tmp_path)
    assert result.exit_code == 0, result.output
    assert asked == [("scenes/region-to-caption", "prompt", True)]
    assert [one.disturbance for one in Results.load(tmp_path / "results.json").curves] == ["box jittered"]
    assert "<h2>Robustness</h2>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_results_are_saved_before_curves_are_begun(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model, task, **options):
        raise RuntimeError("the machine went away")

    monkeypatch.setattr(curves, "curves", fail)
    result = run("--count", 3, "--robustness", "--to", tmp_path)
    assert result.exit_code == 1
    assert f"What was found so far is in {tmp_path / 'results.json'}; `virtue report` shows it." in result.stderr
    made = Results.load(tmp_path / "results.json")
    assert [task.name for task in made.tasks] == NAMES
    assert (made.curves, made.settings["robustness"]) == ([], True)


def test_ways_to_show_a_region_are_compared(stub: Stub, tmp_path: Path) -> None:
    for shown in ("box", "none"):
        assert run("--count", 3, "--shown", shown, "--to", tmp_path / shown).exit_code == 0
    one, other = (Results.load(tmp_path / shown / "results.json") for shown in ("box", "none"))
    assert [task.asked for task in one.tasks] == [task.asked for task in other.tasks]
    assert [task.manner for task in one.tasks] == ["box", "no region", "box", "box"]
    assert one.tasks[0].digest != other.tasks[0].digest
    assert one.tasks[1].digest == other.tasks[1].digest
    assert all(found.difference is not None for found in compare([one, other]))
    assert {found.otherwise for found in compare([one, other])} == {"", "no region instead of box"}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            ["--tasks", "scarr"],
            "There is no benchmark 'scarr'; --tasks takes scenes, scar, region-to-image, mmeb, own.",
        ),
        (["--tasks", "scar"], "--tasks scar needs --scar FOLDER with SCaR's Parquet files, and --images or"),
        (["--tasks", "mmeb", "--mmeb", "x"], "--tasks mmeb needs --mmeb FOLDER with MMEB's tasks, and --images"),
        (["--tasks", "mmeb", "--mmeb", "x", "--scar-images", "x"], "and --images or --mmeb-images FOLDER"),
        (["--limit", "3"], "--limit is given, but nothing that is measured goes by it: name scar or region-to-image"),
        (["--ranking", "global"], "--ranking is given, but nothing that is measured goes by it: name mmeb in --tasks"),
        (["--distractors", "image"], "--distractors is given, but nothing that is measured goes by it: name scar in"),
        (["--no-instruction"], "--instruction is given, but nothing that is measured goes by it: name scar in --tasks"),
        (["--images", "x"], "--images is given, but nothing that is measured goes by it: name scar or region-to-"),
        (["--mmeb-images", "x"], "--mmeb-images is given, but nothing that is measured goes by it: name mmeb in"),
        ([*_MMEB, "--count", "3"], "--count is given, but nothing that is measured goes by it: name scenes in --tasks"),
        ([*_MMEB, "--shown", "mask"], "--shown is given, but nothing that is measured goes by it: name scenes in"),
        ([*_MMEB, "--seed", "3"], "--seed is given, but nothing that is measured goes by it: name scenes or region-"),
        (["--tasks", "own"], "--tasks own needs --own FILE"),
        (["--strategy", "prompt,circle"], "There is no strategy 'circle'"),
        (
            ["--tasks", "mmeb", "--mmeb", "x", "--images", "x", "--robustness"],
            "--robustness disturbs regions of scenes, scar or own, and not of mmeb",
        ),
        (["--tasks", "scar", "--scar", "nowhere", "--images", "x"], "nowhere"),
        (["--tasks", "own", "--own", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--tasks", "region-to-image"], "--tasks region-to-image needs --scar FOLDER"),
        (
            ["--scar", "x", "--images", "x"],
            "--scar is given, but nothing that is measured goes by it: name scar or region-to-image in --tasks too",
        ),
        (
            ["--tasks", "scenes/captions", "--count", 2],
            "scenes has no task 'captions'; it has region-to-caption, text-",
        ),
        (["--to", __file__], "is a file; --to names the folder"),
    ],
)
def test_what_cannot_be_measured_is_said_before_a_model_is_loaded(
    args: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load_encoder", lambda *args, **options: pytest.fail("a model was loaded"))
    result = run(*args)
    assert result.exit_code == 2
    assert words in result.stderr


def test_options_that_are_not_given_have_the_defaults_of_sources() -> None:
    given = inspect.signature(evaluate).parameters
    for field in dataclasses.fields(Sources):
        if field.name != "benchmarks":
            assert given[field.name].default == field.default


def test_the_help_names_every_strategy() -> None:
    assert set(STRATEGY_NAMES) == set(STRATEGIES)


def test_the_help_names_what_benchmarks_take() -> None:
    assert get_args(Distractors) == get_args(distractors.Distractors)
    assert get_args(Ranking) == get_args(mmeb.Ranking)
    assert get_args(Shown) == SHOWN


def test_only_the_first_of_several_processes_prints(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (True, False):
        progress = EvaluationProgress(Console(), Console(stderr=True), quiet=quiet)
        progress.heading("nano, prompt")
        progress.embedding("a", 1, 2)
        progress.task(task("a/b", [1.0], missing={"beyond the limit": 2}))
        shown = capsys.readouterr().out
        assert bool(shown) is not quiet
    assert "PARTIAL: a/b is not whole, left out are 2 beyond the limit." in shown


@pytest.mark.skipif("RANK" in os.environ, reason="a process of torchrun")
def test_the_bundled_model_is_measured() -> None:
    result = run("--count", 2)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("nano, prompt\n")
