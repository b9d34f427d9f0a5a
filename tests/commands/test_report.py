import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.evaluation.reports.made_results import example, results, task
from virtue import cli
from virtue.evaluation.intervals import paired_difference
from virtue.evaluation.reports import comparison

NAME = "scenes/region-to-caption"


def run(*args: object) -> Result:
    return CliRunner().invoke(cli.app, ["report", *map(str, args)], prog_name="virtue", env={"VIRTUE_DEBUG": None})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two strategies of one run, the better one measured first."""
    made = {"prompt": (1.0, "2026-01-01"), "none": (0.0, "2026-01-02")}
    for strategy, (hit, day) in made.items():
        (tmp_path / strategy).mkdir()
        one = task(NAME, [hit] * 20, examples=[example()])
        results(one, strategy=strategy, made=day).save(tmp_path / strategy / "results.json")
    return tmp_path


def test_one_run_prints_its_tables(folder: Path) -> None:
    for path in (folder / "prompt" / "results.json", folder / "prompt"):
        result = run(path)
        assert (result.exit_code, result.stderr) == (0, "")
        assert "region-to-caption" in result.stdout
        assert "100.0 [90.0, 110.0]" in result.stdout
        assert "beyond noise" not in result.stdout


def test_a_folder_of_strategies_is_compared_in_the_order_of_measuring(folder: Path) -> None:
    result = run(folder)
    assert "nano, none: hit@1 less that of nano, prompt" in result.stdout
    assert "0.0 [-10.0, 10.0] ▼" in result.stdout


def test_a_run_is_not_hidden_by_an_older_one_in_the_folder(folder: Path) -> None:
    results(task(NAME, [1.0] * 20), strategy="crop", made="2025-12-31").save(folder / "results.json")
    shown = run(folder).stdout
    assert all(f"nano, {name}: hit@1 less that of nano, crop" in shown for name in ("prompt", "none"))


def test_the_first_run_is_what_others_are_compared_with(folder: Path) -> None:
    assert "100.0 [90.0, 110.0] ▲" in run(folder / "none", folder / "prompt").stdout


def test_page_and_markdown(folder: Path, tmp_path: Path) -> None:
    result = run(folder, "--html", tmp_path / "report.html", "--markdown", tmp_path / "report.md")
    assert result.exit_code == 0
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# Runs side by side\n\n### hit@1 by task\n")
    assert "\n# nano, none\n" in text


def test_one_run_as_markdown_has_no_comparison(folder: Path, tmp_path: Path) -> None:
    run(folder / "none", "--markdown", tmp_path / "report.md")
    assert (tmp_path / "report.md").read_text(encoding="utf-8").startswith("# nano, none\n")


def test_the_comparison_as_json(folder: Path) -> None:
    found = json.loads(run(folder, "--json").stdout)
    assert [one["name"] for one in found["runs"]] == ["nano, prompt", "nano, none"]
    assert found["runs"][0]["tasks"][NAME]["metrics"]["hit@1"]["value"] == 1.0
    (difference,) = found["differences"]
    assert (difference["task"], difference["run"]) == (NAME, "nano, none")
    assert (difference["comparable"], difference["beyond_noise"]) == (True, True)
    assert difference["difference"]["mean"] == -1.0
    assert (difference["asked_otherwise"], found["runs"][0]["not_measured"]) == (None, {})


def test_pairs_are_tested_once_for_all_outputs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(*args: object, **options: object) -> object:
        asked.append(1)
        return paired_difference(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(comparison, "paired_difference", counted)
    result = run(folder, "--html", tmp_path / "report.html", "--markdown", tmp_path / "report.md")
    assert (result.exit_code, len(asked)) == (0, 1)


def test_json_has_null_where_an_interval_is_not_known(tmp_path: Path) -> None:
    from virtue.evaluation.results import Interval

    one = task(NAME, [1.0], metrics={"hit@1": Interval(1.0, float("nan"), float("nan"))})
    results(one).save(tmp_path / "results.json")
    found = json.loads(run(tmp_path, "--json").stdout, parse_constant=pytest.fail)
    assert found["runs"][0]["tasks"][NAME]["metrics"]["hit@1"] == {"value": 1.0, "low": None, "high": None}


def test_what_is_no_result_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("[]", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for args, words in (
        ([other], "holds no results of an evaluation"),
        ([tmp_path / "nowhere.json"], "There is no file"),
        ([tmp_path / "empty"], "holds no results.json"),
        ([folder, "--html", tmp_path / "nowhere" / "a.html"], "is not a folder"),
    ):
        result = run(*args)
        assert result.exit_code == 2
        assert words in result.stderr
