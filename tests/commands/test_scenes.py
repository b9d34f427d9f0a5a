import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from virtue import cli
from virtue.commands.scenes import parse_size
from virtue.scenes import write


def run(*args: object) -> Result:
    return CliRunner().invoke(cli.app, ["scenes", *map(str, args)], prog_name="virtue")


def test_scenes_are_drawn_into_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "scenes"
    result = run(folder, "--count", 2, "--seed", 7, "--size", "64x48", "--format", "jpeg", "--split", "train")
    assert result.exit_code == 0, result.output
    assert "holds 2 scenes" in result.stdout
    assert sorted(file.name for file in (folder / "images").iterdir()) == ["train_00000007.jpg", "train_00000008.jpg"]
    with Image.open(folder / "images" / "train_00000007.jpg") as image:
        assert image.size == (64, 48)
    assert len(json.loads((folder / "captions.json").read_text())["annotations"]) == 2


def test_a_larger_count_adds_to_them(tmp_path: Path) -> None:
    for count in (1, 2):
        assert run(tmp_path, "--count", count, "--size", "64x64").exit_code == 0
    assert len(list((tmp_path / "images").iterdir())) == 2


def test_who_stops_it_is_told_to_run_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "write_scenes", interrupted)
    result = run(tmp_path)
    assert result.exit_code == 130
    assert "run the same command again to go on" in " ".join(result.stderr.split())


def test_a_size_is_two_numbers() -> None:
    assert parse_size("320x240") == (320, 240)


@pytest.mark.parametrize("size", ["256", "256x", "axb", "1x2x3", "-5x5", "25.5x10"])
def test_anything_else_is_refused(size: str) -> None:
    with pytest.raises(ValueError, match="as in 256x256"):
        parse_size(size)


def test_a_mistake_ends_in_one_sentence(tmp_path: Path) -> None:
    result = run(tmp_path, "--size", "8x8")
    assert result.exit_code == 2
    assert "too small" in result.stderr
