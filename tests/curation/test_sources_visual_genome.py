import json
from pathlib import Path

import pytest

from tests.curation.published_sources import write_json, write_visual_genome
from virtue.curation.samples import Fact, Other
from virtue.curation.sources import open_source
from virtue.prompts import Box


def test_objects_have_facts_and_captions(tmp_path: Path) -> None:
    man, horse, _ = open_source("visual-genome", write_visual_genome(tmp_path))
    assert (man.id, man.source, man.image, man.image_id) == (
        "VisualGenome/11",
        "VisualGenome",
        "VG_100K_2/1.jpg",
        "COCO/547168",
    )
    assert (man.category, man.box, man.others) == ("man", Box(10, 4, 30, 34), (Other("horse", Box(8, 20, 48, 46)),))
    assert man.facts == (Fact("man", "riding", "horse"),)
    assert man.caption == "a man on a horse"  # the boxes share 600 of 660 pixels; the other phrase is far away
    assert (horse.facts, horse.caption) == ((Fact("horse", "under", "man"),), None)  # said of the merged object 15


def test_older_versions_call_things_otherwise(tmp_path: Path) -> None:
    write_visual_genome(tmp_path)
    man = {"id": 11, "names": ["man"], "x": 10, "y": 4, "w": 20, "h": 30}  # 1.0: no synsets, `id` everywhere
    horse = {"id": 12, "name": "Horse", "x": 8, "y": 20, "w": 40, "h": 26}
    write_json(tmp_path / "objects.json", [{"id": 1, "objects": [man, horse]}])
    riding = {
        "id": 1,
        "predicate": "riding",
        "subject": {"id": 11, "name": "man"},
        "object": {"id": 12, "name": "horse"},
    }
    write_json(tmp_path / "relationships.json", [{"id": 1, "relationships": [riding]}])
    phrase = {"id": 1, "image": 1, "phrase": "a man on a horse", "x": 10, "y": 4, "width": 22, "height": 30}
    write_json(tmp_path / "region_descriptions.json", [{"id": 1, "regions": [phrase]}])
    data = json.loads((tmp_path / "image_data.json").read_text())
    write_json(tmp_path / "image_data.json", [{"id": entry.pop("image_id"), **entry} for entry in data])
    first, second = open_source("VisualGenome", tmp_path)
    assert (first.id, first.image, first.image_id) == ("VisualGenome/11", "VG_100K_2/1.jpg", "COCO/547168")
    assert (first.facts, first.caption) == ((Fact("man", "riding", "horse"),), "a man on a horse")
    assert (second.id, second.category) == ("VisualGenome/12", "horse")


def test_relationships_of_a_merged_object_are_those_of_each(tmp_path: Path) -> None:
    write_visual_genome(tmp_path)
    subject = {"object_id": 1058534, "merged_object_ids": [11, 11], "names": ["man"]}  # 1.4 beside older objects
    value = {"relationship_id": 1, "predicate": "ON", "subject": subject, "object": {"object_id": 12, "name": "horse"}}
    write_json(tmp_path / "relationships.json", [{"image_id": 1, "relationships": [value]}])
    man, *_ = open_source("VisualGenome", tmp_path)
    assert man.facts == (Fact("man", "on", "horse"),)


def test_boxes_that_leave_the_image_are_clipped_or_counted(tmp_path: Path) -> None:
    source = open_source("VisualGenome", write_visual_genome(tmp_path))
    *_, cup = source
    assert (cup.image_id, cup.category, cup.box) == ("VisualGenome/2", "cup", Box(0, 10, 16, 30))
    assert source.mended == {"boxes clipped at the edge of the image": 1}
    assert source.left_out == {"with a broken box": 1}  # a fifth of the fork is inside


def test_relationships_and_phrases_may_be_missing(tmp_path: Path) -> None:
    write_visual_genome(tmp_path)
    (tmp_path / "relationships.json").unlink()
    (tmp_path / "region_descriptions.json").unlink()
    assert all(region.facts == () and region.caption is None for region in open_source("VisualGenome", tmp_path))


def test_captions_of_cocos_photographs_are_scene_words(tmp_path: Path) -> None:
    write_visual_genome(tmp_path)
    captions = [{"image_id": 547168, "caption": "A man rides."}]
    write_json(tmp_path / "captions_train2014.json", {"annotations": captions})
    man, _, cup = open_source("VisualGenome", tmp_path)
    assert (man.scene, cup.scene) == (("A man rides.",), ())


def test_the_phrase_that_fits_best_is_the_caption(tmp_path: Path) -> None:
    write_visual_genome(tmp_path)
    boxes = {"man in a hat": [10, 4, 20, 16], "A Man on a horse": [10, 4, 20, 29], "manly": [10, 4, 20, 30]}
    phrases = [
        {"region_id": number, "phrase": phrase, "x": x, "y": y, "width": width, "height": height}
        for number, (phrase, (x, y, width, height)) in enumerate(boxes.items())
    ]
    write_json(tmp_path / "region_descriptions.json", [{"id": 1, "regions": phrases}])
    man, *_ = open_source("VisualGenome", tmp_path)
    assert man.caption == "A Man on a horse"


def test_strange_values_do_no_harm(tmp_path: Path) -> None:
    write_visual_genome(tmp_path)
    things = [
        {"object_id": [1], "names": [7], "x": 1, "y": 1, "w": 30, "h": 30},
        {"object_id": 2, "names": "cup", "name": "cup", "x": 1, "y": 1, "w": 30, "h": 30, "merged_object_ids": [[]]},
        "text",
    ]
    write_json(tmp_path / "objects.json", [{"image_id": 2, "objects": things}, {"image_id": {}}, 5])
    write_json(tmp_path / "relationships.json", [{"image_id": 2, "relationships": [{"subject": {}}, 3]}])
    write_json(tmp_path / "region_descriptions.json", [{"id": 2, "regions": {"phrase": 1}}])
    source = open_source("VisualGenome", tmp_path)
    (cup,) = source
    assert (cup.id, source.left_out) == ("VisualGenome/2", {"with no category": 1})


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    write_visual_genome(tmp_path)
    (tmp_path / "objects.json").write_text(json.dumps({"objects": []}))
    with pytest.raises(ValueError, match="has no images: each of its entries has an image_id and objects"):
        open_source("VisualGenome", tmp_path)
