import json
import webbrowser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from virtue import cli

pytestmark = pytest.mark.usefixtures("colours")


def run(*args: object) -> Result:
    return CliRunner().invoke(cli.app, [str(arg) for arg in args])


@pytest.fixture
def indexed(folder: Path) -> Path:
    assert run("index", folder, "--regions").exit_code == 0
    return folder


def search(*args: object) -> list[dict[str, object]]:
    result = run("search", *args, "--json")
    assert result.exit_code == 0, result.output
    hits: list[dict[str, object]] = json.loads(result.stdout)
    return hits


def test_words_find_images_as_a_table(indexed: Path) -> None:
    result = run("search", "blue", "--in", indexed, "--top-k", 1)
    assert result.exit_code == 0, result.output
    assert "blue.png" in result.stdout
    assert "1.000" in result.stdout
    assert "red.png" not in result.stdout


def test_json_is_all_there_is_on_stdout(indexed: Path) -> None:
    first = search("blue", "--in", indexed / ".virtue")[0]
    assert first == {
        "path": "blue.png",
        "file": str(indexed / "blue.png"),
        "similarity": pytest.approx(1, abs=1e-6),
        "kind": "image",
        "width": 8,
        "height": 6,
        "box": None,
        "rle": None,
        "score": None,
    }


def test_pointing_at_a_thing_finds_the_thing(indexed: Path, tmp_path: Path) -> None:
    picture = indexed / "square.png"
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[8:24, 8:24] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for options in (
        ["--point", "10,12"],
        ["--mask", tmp_path / "mask.png"],
        ["--point", "10,12", "--exclude", "40,40"],
    ):
        hits = search("--image", picture, *options, "--in", indexed)
        assert {hit["path"] for hit in hits[:2]} == {"red.png", "square.png"}
        region = next(hit for hit in hits if hit["kind"] == "region")
        assert region["box"] == [8, 8, 24, 24]
    assert search("--image", picture, "--in", indexed)[0]["kind"] == "image"  # the whole picture, mostly black


def test_filter(indexed: Path) -> None:
    assert [hit["path"] for hit in search("red", "--in", indexed, "--filter", "width > 8 AND kind = 'image'")] == [
        "square.png"
    ]


def test_the_page_embeds_its_pictures(indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    page = tmp_path / "page.html"
    assert run("search", "red", "--in", indexed, "--html", page).exit_code == 0
    assert opened == []
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == 4  # three images and a region
    assert "<h1>red</h1>" in text
    result = run("search", "--image", indexed / "red.png", "--in", indexed, "--open")
    assert opened[0].startswith("file://")
    assert Path(opened[0].removeprefix("file://")).name in result.stderr.replace("\n", "")
    Path(opened[0].removeprefix("file://")).unlink()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "Give words"),
        (["--point", "3,4"], "need the image they point into"),
        (["--image", "red.png", "--point", "3"], "A point is written x,y"),
        (["--image", "red.png", "--box", "5,5,1,1"], "inverted"),
        (["--image", "red.png", "--point", "500,1"], "500"),
        (["--image", "nowhere.png"], "does not exist"),
        (["red", "--filter", "colour = 1"], "The filter 'colour = 1' is not understood"),
        (["red", "--model", "other"], "was indexed with the model 'nano'"),
    ],
)
def test_mistakes_end_in_one_sentence(
    indexed: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], message: str
) -> None:
    monkeypatch.chdir(indexed)
    result = run("search", *args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in " ".join(result.stderr.split())


def test_no_index(tmp_path: Path) -> None:
    result = run("search", "red", "--in", tmp_path)
    assert result.exit_code == 2
    assert "There is no index in" in result.stderr
