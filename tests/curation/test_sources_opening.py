from pathlib import Path

import pytest

from tests.curation.published_sources import (
    annotation,
    image,
    write_coco,
    write_coco_stuff,
    write_json,
    write_refcoco,
    write_visual_genome,
)
from virtue.curation.sources import KINDS, kind_of, open_source


def test_kinds_are_called_as_people_call_them() -> None:
    names = {
        "refcoco+": "RefCOCO_plus",
        "refcocog": "RefCOCOg",
        "coco-stuff": "COCO_Stuff",
        "Visual Genome": "VisualGenome",
    }
    assert {name: kind_of(name).name for name in names} == names
    assert list(KINDS) == ["RefCOCOg", "RefCOCO_plus", "COCO_Stuff", "VisualGenome", "ADE20K", "COCO", "scenes"]
    with pytest.raises(ValueError, match="There is no kind of source 'cocoa'; there are RefCOCOg, RefCOCO_plus, "):
        open_source("cocoa", ".")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no .*nowhere to read COCO from"):
        open_source("coco", tmp_path / "nowhere")
    for kind, words in {
        "RefCOCOg": r"RefCOCOg is read from refs\(umd\)\.p \(the pickle of refs\) and instances\.json ",
        "COCO_Stuff": r"COCO_Stuff is read from stuff_\*\.json \(.*\), or labels\.txt ",
        "VisualGenome": r"VisualGenome is read from objects\.json \(.*\) and image_data\.json ",
        "ADE20K": r"holds neither objectInfo150\.txt and annotations/ \(SceneParsing\) nor files like",
        "scenes": r"scenes is read from instances\.json \(.*\); not all of it is there",
    }.items():
        with pytest.raises(FileNotFoundError, match=words):
            open_source(kind, tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no folder of images"):
        open_source("RefCOCOg", write_refcoco(tmp_path), tmp_path / "nowhere")
    with pytest.raises(ValueError, match="Say where COCO is"):
        open_source("COCO", [])


def test_files_may_be_named_one_by_one(tmp_path: Path) -> None:
    write_refcoco(tmp_path / "refs")
    write_coco_stuff(tmp_path / "coco")
    paths = [tmp_path / "refs" / "refs(umd).p", tmp_path / "refs" / "instances.json"]
    captions = tmp_path / "coco" / "annotations" / "captions_val2017.json"
    first, _ = open_source("RefCOCOg", [*paths, captions], tmp_path / "refs" / "train2014")
    assert first.image == "COCO_train2014_000000000285.jpg"


def test_of_two_parts_one_is_chosen(tmp_path: Path) -> None:
    for part in ("train", "val"):
        boxes = [annotation(5, 1, 1, [8, 8, 8, 8])]
        write_coco(tmp_path / f"instances_{part}.json", [image(1, f"{part}.png")], boxes, tmp_path)
        write_json(tmp_path / f"captions_{part}.json", {"annotations": [{"image_id": 1, "caption": f"The {part}."}]})
    with pytest.raises(
        ValueError, match=r"instances_train\.json and .*instances_val\.json could be meant; name the file"
    ):
        open_source("coco", tmp_path)
    for source in (
        open_source("coco", tmp_path, split="val"),
        open_source("coco", tmp_path / "instances_val.json"),
    ):
        (region,) = source
        assert (region.image, region.scene) == ("val.png", ("The val.",))


def test_a_file_of_any_name_is_an_own_set(tmp_path: Path) -> None:
    file = write_coco(tmp_path / "pets.json", [image(1, "a.png")], [annotation(5, 1, 1, [8, 8, 8, 8])], tmp_path)
    (region,) = open_source("coco", file, name="pets")
    assert region.id == "pets/5"


def test_a_source_is_opened_without_looking_at_an_image(tmp_path: Path) -> None:
    source = open_source("VisualGenome", write_visual_genome(tmp_path))
    for file in tmp_path.rglob("*.jpg"):
        file.unlink()
    assert [picture.image_id for picture in source.pictures()] == ["COCO/547168", "VisualGenome/2"]
    assert list(source) == []
    assert source.left_out == {"with a missing image": 4}
