import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from tests.curation.made import region, sample
from tests.data.files import write_image
from virtue import cli
from virtue.curation.rules_writer import RulesWriter
from virtue.curation.samples import Elements, Region
from virtue.curation.sampling import split_of
from virtue.curation.store import Curation
from virtue.scenes.write import write_scenes


def run(*args: object) -> Result:
    return CliRunner().invoke(cli.app, ["curate", *map(str, args)], prog_name="virtue")


def said(result: Result) -> str:
    return " ".join(result.stderr.split())


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A run with a sample of each of eight images."""
    regions = [region(number, "own") for number in range(8)]
    with Curation(tmp_path / "run", make=True) as kept:
        kept.settle({"seed": 0, "design": "single", "writer": "test"})
        kept.set_images({"own": tmp_path / "photos"})
        kept.add_regions(regions)
        for one in regions:
            write_image(tmp_path / "photos" / one.image, one.width, one.height)
            kept.put_sample(sample(one))
    return tmp_path / "run"


def test_images_to_measure_on_are_listed_in_a_file(built: Path, tmp_path: Path) -> None:
    (tmp_path / "eval.txt").write_text("2.png\nown/image-5\n9.png\n")
    result = run("export", built, "--to", tmp_path / "set", "--eval-images", tmp_path / "eval.txt", "--no-baseline")
    assert result.exit_code == 0, result.output
    assert "1 of the images in" in said(result) and "such as 9.png." in said(result)
    measured = pq.read_table(tmp_path / "set" / "SCaR_eval_own.parquet").column("qry_image_path").to_pylist()
    assert sorted(measured) == ["own_val/2.png", "own_val/5.png"]
    assert pq.read_table(tmp_path / "set" / "SCAR_own.parquet").num_rows == 6
    both = run("export", built, "--to", tmp_path / "set", "--eval-images", tmp_path / "eval.txt", "--eval-share", 1)
    assert both.exit_code == 2 and "Give --eval-share or --eval-images" in said(both)


def test_an_export_measures_the_wording_unless_it_is_not_wanted(built: Path, tmp_path: Path) -> None:
    cards = {}
    for option in ("--baseline", "--no-baseline"):
        assert run("export", built, "--to", tmp_path / option, option).exit_code == 0
        cards[option] = (tmp_path / option / "README.md").read_text()
    assert cards["--baseline"] != cards["--no-baseline"]


def test_statistics_of_files_say_which_design_is_measured(built: Path, tmp_path: Path) -> None:
    assert run("export", built, "--to", tmp_path / "set", "--no-baseline").exit_code == 0
    taken = "they are taken as single swaps."
    assert taken not in run("stats", tmp_path / "set").stdout
    (tmp_path / "set" / "export.json").unlink()
    assert taken in run("stats", tmp_path / "set").stdout


def annotated(folder: Path, count: int) -> Path:
    """Drawn scenes with their annotations."""
    write_scenes(folder, count, "test", 0, width=96, height=96)
    return folder


def build(scenes: Path, to: Path, *more: object) -> Result:
    options = ["--to", to, "--writer", "rules", "--no-wordnet", "--no-baseline"]
    return run("build", "--source", f"scenes={scenes}", *options, *more)


def test_a_disk_that_is_not_mounted_drops_nothing(tmp_path: Path) -> None:
    scenes, images = annotated(tmp_path / "scenes", 3), tmp_path / "scenes" / "images"
    assert build(scenes, tmp_path / "run", "--limit", 6).exit_code == 0
    with Curation(tmp_path / "run") as kept:
        before = kept.states()
    images.rename(tmp_path / "elsewhere")
    for folder, limit, words in (
        (scenes, 6, "None of the first"),  # nothing is read, and what is there would be dropped
        (scenes, 9, "None of the first"),
        (images, 9, "There is no folder of images"),
    ):
        result = build(scenes, tmp_path / "run", "--limit", limit, "--images", folder)
        assert result.exit_code == 2 and words in said(result), result.output
    result = build(scenes, tmp_path / "new", "--limit", 9)
    assert "None of the first 3 images" in said(result) and "Is its disk mounted? Nothing was dropped for it." in said(
        result
    )
    with Curation(tmp_path / "run") as kept:
        assert kept.states() == before and kept.noted("images") == {"scenes": str(scenes)}
    (tmp_path / "elsewhere").rename(images)
    assert build(scenes, tmp_path / "new", "--limit", 9).exit_code == 0  # it was not noted as read


def test_a_disk_that_goes_away_in_the_middle_ends_the_build_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes, images, elements = annotated(tmp_path / "scenes", 3), tmp_path / "scenes" / "images", RulesWriter.elements
    asked: list[str] = []

    async def unmount(self: RulesWriter, region: Region, image: Path) -> Elements | None:
        asked.append(region.id)
        if len(asked) == 3:
            images.rename(tmp_path / "elsewhere")
            images.mkdir()
        return await elements(self, region, image)

    monkeypatch.setattr(RulesWriter, "elements", unmount)
    result = build(scenes, tmp_path / "run", "--limit", 6, "--images", images)
    assert result.exit_code == 1
    assert f"Stopped: The folder of images {images} is empty. Is its disk mounted? Nothing was dropped" in said(result)
    assert said(result).endswith(f"{tmp_path / 'run'} keeps what was bought and written; the same command goes on.")
    with Curation(tmp_path / "run") as kept:
        assert kept.states()["scenes"]["new"] >= 3
        assert {"image", "missing image"}.isdisjoint(check for _, check, _ in kept.drops())
    images.rmdir()
    (tmp_path / "elsewhere").rename(images)
    whole = build(scenes, tmp_path / "run", "--limit", 6, "--images", images)
    assert "6 of 6 regions" in whole.stdout and "missing image" not in whole.stdout


def test_images_of_a_source_that_is_not_read_now_are_looked_for_too(tmp_path: Path) -> None:
    first, second = annotated(tmp_path / "a", 2), annotated(tmp_path / "b", 2)
    assert run("build", "--source", f"scenes:one={first}", "--to", tmp_path / "run", "--writer", "rules",
               "--no-wordnet", "--no-baseline", "--limit", 6).exit_code == 0  # fmt: skip
    (first / "images").rename(tmp_path / "elsewhere")
    result = build(second, tmp_path / "run", "--limit", 2)
    assert result.exit_code == 2 and "None of the first" in said(result) and str(first) in said(result)


def test_what_label_studio_has_wrong_is_listed_by_task(built: Path, tmp_path: Path) -> None:
    assert run("label-studio", "export", built, tmp_path / "tasks.json").exit_code == 0
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    for number, task in enumerate(tasks, start=1):
        task["id"], task["annotations"] = number, []
    for task in tasks[:2]:
        changed = task["data"]["words"].replace("cat left", "dog left")
        result = [{"from_name": "words", "value": {"text": [changed]}}]
        task["annotations"] = [{"id": task["id"], "completed_by": 1, "result": result}]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    result = run("label-studio", "import", built, tmp_path / "export.json", "--no-wordnet")
    lines = result.stderr.splitlines()
    assert result.exit_code == 2
    assert [line.partition(":")[0] for line in lines[:2]] == [
        f"An edit in task {number} does not pass the checks" for number in (1, 2)
    ]
    assert "Nothing was read from" in said(result) and "2 annotations cannot be taken." in said(result)


def test_statistics_count_what_an_export_holds_and_say_what_it_leaves_out(built: Path) -> None:
    with Curation(built) as kept:
        kept.decide("own/0", "ann", "accept")
        kept.decide("own/1", "ann", "reject", reason="wording")
    shown = run("stats", built, "--no-baseline")
    assert "Not counted above, since an export leaves them out: 6 not reviewed, 1 rejected by people." in shown.stdout
    assert "Not counted" not in run("stats", built, "--no-baseline", "--json").stdout
    found = json.loads(run("stats", built, "--no-baseline", "--json").stdout)
    assert found["left_out"] == {"rejected by people": 1, "not reviewed": 6}
    assert sum(split["annotations"] for split in found["counts"]["own"].values()) == 1


def test_statistics_go_by_the_seed_of_the_split(built: Path) -> None:
    for seed in (1, 2):
        options = ["--no-baseline", "--json", "--eval-share", 0.5, "--seed", seed]
        found = json.loads(run("stats", built, *options).stdout)
        measured = sum(split_of(f"own/image-{number}", 0.5, seed) == "eval" for number in range(8))
        assert found["counts"]["own"].get("eval", {"images": 0})["images"] == measured
