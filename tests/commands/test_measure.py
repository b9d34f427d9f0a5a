from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from virtue import cli
from virtue.commands import measure as command
from virtue.evaluation.metrics import Figure
from virtue.evaluation.scenes import PROMPTS, REGIONS, Report

FIGURE = Figure(0.8237, 0.0104)


def run(*args: object) -> Result:
    return CliRunner().invoke(cli.app, ["measure", *map(str, args)], prog_name="virtue", env={"COLUMNS": "200"})


@pytest.fixture
def report() -> Report:
    return Report(
        model="nano",
        scenes=1000,
        seed=3,
        regions=3210,
        accuracy={region: dict.fromkeys(("all", "object", "relation", "place"), FIGURE) for region in REGIONS},
        relations={region: {"sideways": FIGURE, "depth": Figure(0.6, 0.02)} for region in REGIONS},
        recall={"1": FIGURE, "10": Figure(0.99, 0.002)},
        precision={"object": Figure(0.7, 0.01), "object and place": Figure(0.6, 0.01)},
        mask_overlap=dict.fromkeys(PROMPTS, Figure(0.6, 0.01)),
        guesser=0.125,
    )


@pytest.fixture
def measured(report: Report, monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What the command asked to measure; it gets the report of the other fixture."""
    asked: list[tuple[object, ...]] = []

    def stand_in(*args: object) -> Report:
        asked.append(args)
        return report

    monkeypatch.setattr(command, "_measure", stand_in)
    return asked


def test_the_tables_as_markdown(measured: list[tuple[object, ...]]) -> None:
    lines = run("--markdown").stdout.splitlines()
    assert lines[:3] == [
        "| visual prompt | 10-way accuracy | objects | relations | places |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| box | 82.4 ± 1.0 | 82.4 ± 1.0 | 82.4 ± 1.0 | 82.4 ± 1.0 |",
    ]
    assert "| captions alone (a guesser) | 12.5 | – | – | – |" in lines  # noqa: RUF001
    assert "| relations | left of, right of | above, below | in front of, behind |" in lines
    assert "| point | 82.4 ± 1.0 | – | 60.0 ± 2.0 |" in lines  # noqa: RUF001
    assert "| whole captions | 82.4 ± 1.0 | 99.0 ± 0.2 | – |" in lines  # noqa: RUF001
    assert lines[-1] == "| mask | 60.0 ± 1.0 |"
    assert measured == [("nano", 1000, 0, None)]


def test_the_tables_in_a_terminal(measured: list[tuple[object, ...]]) -> None:
    result = run("--scenes", 50, "--seed", 3, "--device", "cpu", "--model", "runs/nano")
    assert "nano on 1,000 scenes from seed 3" in result.stdout
    assert "the region, cropped" in result.stdout
    assert measured == [("runs/nano", 50, 3, "cpu")]


def test_every_figure_as_json(measured: list[tuple[object, ...]], report: Report, tmp_path: Path) -> None:
    import json

    assert run("--json", tmp_path / "nano.json").exit_code == 0
    assert json.loads((tmp_path / "nano.json").read_text()) == asdict(report)


def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    measured: list[tuple[object, ...]], tmp_path: Path
) -> None:
    result = run("--json", tmp_path / "nowhere" / "nano.json")
    assert result.exit_code == 2
    assert "is not a folder" in result.stderr
    assert measured == []
