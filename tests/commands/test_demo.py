from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tests.tiny import tiny_embedder
from virtue import cli, server
from virtue.commands import samples
from virtue.commands.contact_sheet import GAP, RIGHT, WRONG, contact_sheet
from virtue.embedder import Embedder
from virtue.index import Hit, Index
from virtue.items import Item
from virtue.prompts import Mask
from virtue.scenes.renderer import render


def run(*args: object) -> Result:
    return CliRunner().invoke(cli.app, ["demo", *map(str, args)], prog_name="virtue", env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return tiny_embedder()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, embedder: Embedder) -> None:
    """Three samples, and a tiny random model whatever the name."""
    monkeypatch.setattr(samples, "SEEDS", (1329, 1513, 2447))
    monkeypatch.setattr(Embedder, "from_pretrained", classmethod(lambda cls, name, *, device: embedder))


def hit_of(file: Path, mask: np.ndarray | None = None) -> Hit:
    rle = None if mask is None else Mask(mask).to_rle()
    kind, box = ("image", None) if mask is None else ("region", (0.0, 0.0, 9.0, 9.0))
    return Hit(file.name, file, 0.5, kind, 256, 256, box=box, rle=rle)


@pytest.mark.parametrize(("theme", "seeds"), samples.THEMES.items())
def test_each_theme_shows_its_thing_in_its_place(theme: tuple[str, str], seeds: tuple[int, ...]) -> None:
    for seed in seeds[:2]:
        scene = render(seed, "test")
        assert scene.place == theme[1]
        assert theme[0] in {thing.name for thing in scene.objects}


def test_the_samples_are_all_different_and_none_is_searched_by() -> None:
    assert len(set(samples.SEEDS)) == len(samples.SEEDS)
    assert not {samples.LIKE_SEED, samples.POINTED_SEED} & set(samples.SEEDS)


def test_the_searches_know_what_is_right(tmp_path: Path) -> None:
    dog, cat, rocket = (render(seed, "test") for seed in (1329, 1513, 2447))
    words, image, region = samples.searches(tmp_path / "queries")
    anything = hit_of(tmp_path / "a.png")
    assert [words.is_right(scene, anything) for scene in (dog, cat, rocket)] == [True, False, False]
    assert [image.is_right(scene, anything) for scene in (dog, cat, rocket)] == [False, False, True]
    for thing in cat.objects:
        assert region.is_right(cat, hit_of(tmp_path / "a.png", thing.mask)) == (thing.name == "cat")
    assert region.item.prompt is not None


def test_a_region_of_background_shows_nothing(tmp_path: Path) -> None:
    scene = render(1329, "test")
    nothing = ~np.logical_or.reduce([thing.mask for thing in scene.objects])
    assert samples.shown_at(scene, hit_of(tmp_path / "a.png", nothing)) is None


def test_the_demo_draws_indexes_and_searches(few: None, tmp_path: Path) -> None:
    result = run("--no-serve", "--folder", tmp_path)
    assert result.exit_code == 0, result.output
    assert "Indexed 3 sample images" in result.stdout
    assert 'Asked with the words "a dog on a beach"' in result.stdout
    assert "Point and search" not in result.stdout
    for name in ("words", "image", "object"):
        with Image.open(tmp_path / f"{name}.png") as sheet:
            assert sheet.height > 224
    assert sorted(file.name for file in (tmp_path / "images").glob("*.png")) == [
        "scene-1329.png",
        "scene-1513.png",
        "scene-2447.png",
    ]


def test_the_second_run_finds_the_index_and_serves_it(
    few: None, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def serve(served: Embedder, index: Index, *, port: int, ready: Callable[[str], object]) -> None:
        assert served is embedder
        assert len(index) >= 3
        ready(f"http://127.0.0.1:{port}/")

    run("--no-serve", "--folder", tmp_path)
    monkeypatch.setattr(server, "serve", serve)
    result = run("--folder", tmp_path, "--port", 8017)
    assert "3 sample images are indexed" in result.stdout
    assert "Point and search at http://127.0.0.1:8017/ (Ctrl-C ends it)" in result.stdout
    assert result.exit_code == 0


def test_an_index_of_another_model_is_made_anew(
    few: None, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--no-serve", "--folder", tmp_path)
    monkeypatch.setattr(embedder, "fingerprint", "another")
    result = run("--no-serve", "--folder", tmp_path)
    assert "Indexed 3 sample images" in result.stdout


def test_a_folder_of_other_images_is_left_alone(few: None, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.jpg").write_bytes(b"")
    result = run("--folder", tmp_path)
    assert result.exit_code == 2
    assert "mine.jpg" in result.stderr
    assert [file.name for file in (tmp_path / "images").iterdir()] == ["mine.jpg"]


def test_a_sample_that_was_half_written_does_no_harm(
    few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(file: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed)
        samples.write_samples(tmp_path)
    assert [file.name[0] for file in tmp_path.iterdir()] == ["."]
    assert len(samples.write_samples(tmp_path)) == 3


def test_a_contact_sheet_frames_right_and_wrong(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.new("RGB", (256, 128), "black").save(file)
    mask = np.zeros((128, 256), dtype=bool)
    mask[:9, :9] = True
    sheet = contact_sheet(Item(text="a dog"), [hit_of(file), hit_of(file, mask)], [True, False])
    wide = (sheet.width - GAP) // 3
    corners = [sheet.getpixel((GAP + number * wide + 1, GAP + 1)) for number in (1, 2)]
    assert corners == [RIGHT, WRONG]
