import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask as rle

from virtue.scenes import write
from virtue.scenes.captions import canonical_caption, caption_rng, region_samples
from virtue.scenes.renderer import render
from virtue.scenes.write import write_scenes


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "PART", 2)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".parts" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_parquet_is_in_scars_layout(tmp_path: Path) -> None:
    rows = pq.read_table(write_scenes(tmp_path, 3, width=64, height=64) / "SCaR_eval_scenes.parquet").to_pylist()
    expected = []
    for seed in range(3):
        scene = render(seed, "test", 64, 64)
        for sample in region_samples(scene, caption_rng(scene)):
            x1, y1, x2, y2 = scene.objects[sample.object_index].box
            expected.append(([sample.caption, *sample.distractors], [x1, y1, x2 - x1, y2 - y1]))
    assert [(row["tgt_text"], row["bbox"]) for row in rows] == expected
    assert list(rows[0]) == ["qry_text", "qry_image_path", "tgt_text", "bbox"]
    assert rows[0]["qry_text"].startswith("<|image_1|>\n")
    assert all((tmp_path / row["qry_image_path"]).exists() for row in rows)


def test_pictures_are_the_scenes(tmp_path: Path) -> None:
    write_scenes(tmp_path, 1, "train", seed=9, width=64, height=48)
    with Image.open(tmp_path / "images" / "train_00000009.png") as picture:
        assert np.array_equal(np.asarray(picture), render(9, "train", 64, 48).image)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside pycocotools
def test_coco_masks_are_the_scenes(tmp_path: Path) -> None:
    write_scenes(tmp_path, 3, width=64, height=48)
    coco = json.loads((tmp_path / "instances.json").read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    shown = [thing for seed in range(3) for thing in render(seed, "test", 64, 48).objects]
    assert len(names) == 160
    assert [names[entry["category_id"]] for entry in coco["annotations"]] == [thing.name for thing in shown]
    assert len({entry["id"] for entry in coco["annotations"]}) == len(shown)
    for entry, thing in zip(coco["annotations"], shown, strict=True):
        assert np.array_equal(rle.decode(entry["segmentation"]).astype(bool), thing.mask)
        assert entry["area"] == thing.mask.sum()
    captions = json.loads((tmp_path / "captions.json").read_text())
    assert [entry["caption"] for entry in captions["annotations"]] == [
        canonical_caption(render(seed, "test", 64, 48)) for seed in range(3)
    ]
    assert [image["file_name"] for image in captions["images"]] == [f"images/test_{seed:08d}.png" for seed in range(3)]


def test_coco_files_say_place_and_relations(tmp_path: Path) -> None:
    coco = json.loads((write_scenes(tmp_path, 3, width=64, height=48) / "instances.json").read_text())
    shown = [render(seed, "test", 64, 48) for seed in range(3)]
    assert [image["place"] for image in coco["images"]] == [scene.place for scene in shown]
    names = {category["id"]: category["name"] for category in coco["categories"]}
    things = {entry["id"]: (entry["image_id"], names[entry["category_id"]]) for entry in coco["annotations"]}
    said = {
        (things[entry["id"]], said["relation"], things[said["annotation_id"]])
        for entry in coco["annotations"]
        for said in entry["relations"]
    }
    assert said == {
        ((seed, scene.objects[one].name), relation, (seed, scene.objects[two].name))
        for seed, scene in enumerate(shown)
        for one, relation, two in scene.relations
    }


def test_a_killed_run_goes_on_and_ends_alike(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write_scenes(whole, 5, width=48, height=48)

    def stop(done: int, _: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenes(broken, 5, width=48, height=48, progress=stop)
    assert not (broken / "instances.json").exists()
    (broken / "images" / "test_00000000.png").touch()
    drawn_first = (broken / "images" / "test_00000003.png").stat().st_mtime_ns
    seen: list[tuple[int, int]] = []
    write_scenes(broken, 5, width=48, height=48, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert (broken / "images" / "test_00000003.png").stat().st_mtime_ns == drawn_first
    assert contents(broken) == contents(whole)


def test_jpegs_are_written_on_request(tmp_path: Path) -> None:
    write_scenes(tmp_path, 1, width=48, height=48, image_format="jpeg")
    with Image.open(tmp_path / "images" / "test_00000000.jpg") as picture:
        assert picture.format == "JPEG"


def test_other_settings_and_impossible_ones_are_refused(tmp_path: Path) -> None:
    write_scenes(tmp_path, 1, width=48, height=48)
    with pytest.raises(ValueError, match="holds scenes with width 48 instead of 64; choose another folder"):
        write_scenes(tmp_path, 1, width=64, height=48)
    with pytest.raises(ValueError, match="count is 0; it must be 1 or more"):
        write_scenes(tmp_path, 0)
    with pytest.raises(ValueError, match="image_format is 'gif'"):
        write_scenes(tmp_path, 1, image_format="gif")  # type: ignore[arg-type]


def test_a_refused_size_leaves_no_trace(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 x 10 pixels is too small"):
        write_scenes(tmp_path / "scenes", 1, width=0, height=10)
    with pytest.raises(ValueError, match="split is 'dev'"):
        write_scenes(tmp_path / "scenes", 1, "dev")  # type: ignore[arg-type]
    assert not (tmp_path / "scenes").exists()


def test_a_set_does_not_shrink(tmp_path: Path) -> None:
    write_scenes(tmp_path, 3, width=48, height=48)
    with pytest.raises(ValueError, match="holds 3 scenes already; ask for as many or more"):
        write_scenes(tmp_path, 2, width=48, height=48)


def test_a_killed_set_does_not_shrink_either(tmp_path: Path) -> None:
    def stop(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path, 9, seed=4, width=48, height=48, progress=stop)
    with pytest.raises(ValueError, match="holds 3 scenes already"):
        write_scenes(tmp_path, 2, seed=4, width=48, height=48)
