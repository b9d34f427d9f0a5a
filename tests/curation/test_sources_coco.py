import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.curation.published_sources import (
    HEIGHT,
    WIDTH,
    annotation,
    image,
    picture,
    write_coco,
    write_coco_stuff,
    write_json,
    write_stuff_maps,
)
from virtue.curation.samples import Fact, Other
from virtue.curation.sources import open_source
from virtue.curation.sources.coco_stuff import stuff_words
from virtue.curation.sources.image_files import check_images
from virtue.masks import from_rle
from virtue.prompts import Box
from virtue.scenes.renderer import render
from virtue.scenes.write import write_scenes

SQUARE = [[8, 8, 16, 8, 16, 16, 8, 16]]


def one_image(folder: Path, *annotations: dict[str, object], **more: object) -> Path:
    return write_coco(folder / "instances.json", [image(1, "a.png", **more)], annotations, folder)


def test_an_annotation_becomes_a_region(tmp_path: Path) -> None:
    file = one_image(
        tmp_path,
        annotation(5, 1, 1, [8, 8, 8, 8], segmentation=SQUARE, caption=" a small dog "),
        annotation(6, 1, 2, [20, 20.5, 40, 20]),
    )
    dog, boat = open_source("coco", file, name="pets")
    assert (dog.id, dog.source, dog.image, dog.image_id) == ("pets/5", "pets", "a.png", "pets/a.png")
    assert (dog.width, dog.height, dog.box, dog.category) == (WIDTH, HEIGHT, Box(8, 8, 16, 16), "dog")
    assert dog.caption == "a small dog"
    assert dog.others == (Other("boat", Box(20, 20.5, 60, 40.5)),)
    assert dog.segmentation is not None and from_rle(dog.segmentation)[8:16, 8:16].all()
    assert from_rle(dog.segmentation).sum() == 64
    assert (boat.segmentation, boat.caption, boat.facts) == (None, None, ())


def test_annotations_without_ids_or_with_one_id_keep_their_categories(tmp_path: Path) -> None:
    dog, boat = annotation(5, 1, 1, [8, 8, 8, 8]), annotation(5, 1, 2, [20, 20, 30, 20])
    for given in ([dog, boat], [dog | {"id": None}, boat | {"id": None}]):
        source = open_source("coco", one_image(tmp_path, *given))
        assert [region.category for region in source] == ["dog", "boat"]


def test_what_is_no_region_is_counted_by_reason(tmp_path: Path) -> None:
    file = one_image(
        tmp_path,
        annotation(1, 1, 1, [8, 8, 8, 8]),
        annotation(2, 1, 1, [8, 8, 0, 8]),
        annotation(3, 1, 1, [8, 8, "wide", 8]),
        annotation(4, 1, 1, [8, 8, 8]),
        annotation(5, 1, 1, [60, 8, 20, 8]),  # four of twenty columns are inside
        annotation(6, 1, 3, [0, 0, 60, 40], iscrowd=1),
        annotation(7, 1, 1, [8, 8, 2, 2]),
        annotation(8, 1, 99, [8, 8, 8, 8]),
    )
    source = open_source("coco", file)
    (region,) = source
    assert source.left_out == {"with a broken box": 4, "of crowds": 1, "that are tiny": 1, "with no category": 1}
    assert [other.category for other in region.others] == ["person", "dog"]  # the crowd and the tiny one are there
    assert list(source) == [region]
    assert source.left_out["with a broken box"] == 4  # counts started anew


def test_the_least_share_of_the_image_is_chosen(tmp_path: Path) -> None:
    file = one_image(tmp_path, annotation(1, 1, 1, [8, 8, 12, 8]))  # 96 of 3,072 pixels
    assert len(list(open_source("coco", file, min_share=1 / 32))) == 1
    assert len(list(open_source("coco", file, min_share=1 / 31))) == 0
    with pytest.raises(ValueError, match="is from 0 to 1, got 2"):
        open_source("coco", file, min_share=2)


def test_boxes_are_clipped_and_masks_left_out_where_they_must_be(tmp_path: Path) -> None:
    file = one_image(
        tmp_path,
        annotation(1, 1, 1, [-4, 8, 20, 8]),
        annotation(2, 1, 1, [8, 8, 8, 8], segmentation=[[0, 0, 900, 0, 900, 900]]),
        annotation(3, 1, 1, [8, 8, 8, 8], segmentation={"size": [10, 10], "counts": [50, 50]}),
        annotation(4, 1, 1, [8, 8, 8, 8], segmentation={"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}),
        annotation(5, 1, 1, [8, 8, 8, 8], segmentation="broken"),
        annotation(6, 1, 1, [8, 8, 8, 8], segmentation=[[10**400, 0, 9, 0, 9, 9], [1, 2, 3, 4]]),
    )
    source = open_source("coco", file)
    regions = list(source)
    assert regions[0].box == Box(0, 8, 16, 16)
    assert all(region.segmentation is None for region in regions)
    assert source.mended == {"boxes clipped at the edge of the image": 1, "masks that cannot be read, left out": 5}
    assert not source.left_out


@pytest.mark.parametrize("missing", [{"width": None}, {"height": None}, {"width": None, "height": None}])
def test_polygons_fit_the_image_file_where_the_entry_has_no_size(tmp_path: Path, missing: dict[str, object]) -> None:
    file = one_image(tmp_path, annotation(5, 1, 1, [8, 8, 8, 8], segmentation=SQUARE))
    entry = {name: value for name, value in image(1, "a.png").items() if missing.get(name, "there")}
    write_coco(file, [entry], [annotation(5, 1, 1, [8, 8, 8, 8], segmentation=SQUARE)], None)
    source = open_source("coco", file)
    (region,) = source
    assert (region.width, region.height) == (WIDTH, HEIGHT)
    mask = from_rle(region.segmentation or {})
    assert mask.shape == (HEIGHT, WIDTH) and mask[8:16, 8:16].all() and mask.sum() == 64
    assert not source.mended and not source.left_out
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    assert list(source) == [] and source.left_out == {"with a missing image": 1}


def test_sizes_may_be_written_with_a_point(tmp_path: Path) -> None:
    file = one_image(tmp_path, annotation(5, 1, 1, [8, 8, 8, 8]))
    file.write_text(file.read_text().replace(f'"width": {WIDTH}', f'"width": {WIDTH}.0'))
    assert len(list(open_source("coco", file))) == 1
    file.write_text(file.read_text().replace(f'"width": {WIDTH}.0', '"width": 63.0'))
    source = open_source("coco", file)
    assert list(source) == [] and source.left_out == {"with an image of another size than annotated": 1}


def test_a_folder_without_any_of_the_first_images_ends_the_reading(tmp_path: Path) -> None:
    images = [image(number, f"{number}.png") for number in range(150)]
    boxes = [annotation(number, number, 1, [8, 8, 8, 8]) for number in range(150)]
    file, folder = write_coco(tmp_path / "instances.json", images, boxes, None), tmp_path / "photos"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"folder of images .*photos is empty\. Is its disk mounted"):
        list(open_source("coco", file, folder))
    picture(folder / "other.png")
    with pytest.raises(FileNotFoundError, match=r"None of the first 100 images, such as 99\.png, is in .*photos: name"):
        list(open_source("coco", file, folder))
    picture(folder / "99.png")
    source = open_source("coco", file, folder)
    assert [region.image for region in source] == ["99.png"]
    assert source.left_out == {"with a missing image": 149}
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match=r"There is no folder of images .*photos\. Is its disk mounted\?"):
        list(source)


def test_few_images_that_are_all_missing_are_refused_when_asked(tmp_path: Path) -> None:
    source = open_source("coco", one_image(tmp_path, annotation(1, 1, 1, [8, 8, 8, 8])))
    assert len(list(source)) == 1
    source.check_images()
    (tmp_path / "a.png").unlink()
    source = open_source("coco", tmp_path / "instances.json")
    assert list(source) == []
    with pytest.raises(FileNotFoundError, match=r"The image a\.png is not in .*: name the folder that they are in\."):
        source.check_images()


def test_images_that_were_there_before_are_looked_for(tmp_path: Path) -> None:
    picture(tmp_path / "photos" / "7.png")
    names = [f"{number}.png" for number in (1, 1, 2, 3)]
    check_images(tmp_path / "photos", [*names, "7.png"])
    check_images(tmp_path / "photos", [])
    with pytest.raises(FileNotFoundError, match=r"None of the first 3 images, such as 1\.png, is in .*photos"):
        check_images(tmp_path / "photos", names)
    with pytest.raises(FileNotFoundError, match=r"There is no folder of images .*gone\. Is its disk mounted"):
        check_images(tmp_path / "gone", names)


def test_images_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    names = ("there.png", "missing.png", "broken.png", "other.png", "../outside.png", "x" * 999)
    images = [image(number, name) for number, name in enumerate(names)]
    boxes = [annotation(number, number // 2, 1, [8, 8, 8, 8]) for number in range(12)]
    folder = tmp_path / "images"
    file = write_coco(tmp_path / "instances.json", images, boxes, None)
    picture(folder / "there.png")
    picture(folder / "other.png", 32, 32)
    (folder / "broken.png").write_bytes(b"no picture")
    picture(tmp_path / "outside.png")
    source = open_source("coco", file, folder)
    assert [region.image for region in source] == ["there.png", "there.png"]
    assert source.left_out == {
        "with a missing image": 6,
        "with a broken image": 2,
        "with an image of another size than annotated": 2,
    }


def test_images_are_found_wherever_they_were_unpacked(tmp_path: Path) -> None:
    images = [image(1, "COCO_train2014_000000000285.jpg"), image(2, "deep/b.png"), image(3, "c.png")]
    boxes = [annotation(number, number, 1, [8, 8, 8, 8]) for number in (1, 2, 3)]
    file = write_coco(tmp_path / "instances.json", images, boxes, None)
    for name in ("images/train2017/000000000285.jpg", "deep/b.png", "val/c.png"):
        picture(tmp_path / name)
    regions = list(open_source("coco", file))
    assert [region.image for region in regions] == ["images/train2017/000000000285.jpg", "deep/b.png", "val/c.png"]
    assert [region.image_id for region in regions] == ["COCO/285", "COCO/deep/b.png", "COCO/c.png"]


def test_strange_values_do_no_harm(tmp_path: Path) -> None:
    value = {
        "images": [image(1, "a.png"), {"id": [1], "file_name": "b"}, 7],
        "annotations": [
            annotation(1, 1, 1, [8, 8, 8, 8], relations=[{"relation": "on", "annotation_id": [2]}, 3], caption=5),
            {"id": [3], "image_id": 1, "category_id": {}, "bbox": {"x": 1}},
            annotation(4, 1, 1, [8, 8, 10**400, 8]),
            "text",
        ],
        "categories": [{"id": 1, "name": "dog"}, {"id": None}, None],
    }
    picture(tmp_path / "a.png")
    (region,) = open_source("coco", write_json(tmp_path / "instances.json", value))
    assert (region.id, region.facts, region.caption) == ("COCO/1", (), None)


def test_numbers_with_a_point_name_things_too(tmp_path: Path) -> None:
    value = {
        "images": [image(1, "a.png") | {"id": 1.0}],
        "annotations": [annotation(7, 1, 1, [8, 8, 8, 8]) | {"id": 7.0, "image_id": 1, "category_id": 1.0}],
        "categories": [{"id": 1, "name": "dog"}],
    }
    picture(tmp_path / "a.png")
    (region,) = open_source("coco", write_json(tmp_path / "instances.json", value))
    assert (region.id, region.category) == ("COCO/7", "dog")


def test_annotations_of_no_image_are_counted(tmp_path: Path) -> None:
    lost = [annotation(2, 9, 1, [8, 8, 8, 8]), annotation(3, 9, 1, [8, 8, 8, 8]), {"id": 4, "bbox": [8, 8, 8, 8]}]
    source = open_source("coco", one_image(tmp_path, annotation(1, 1, 1, [8, 8, 8, 8]), *lost))
    for _ in range(2):
        assert len(list(source)) == 1 and source.left_out == {"of no image of their file": 3}


def test_a_file_that_is_not_coco_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='has no "images": a COCO file has images, annotations and categories'):
        open_source("coco", write_json(tmp_path / "set.json", {"annotations": []}))


def test_captions_of_the_image_are_scene_words(tmp_path: Path) -> None:
    one_image(tmp_path, annotation(1, 1, 1, [8, 8, 8, 8]), place="on a beach")
    captions = [{"image_id": 1, "caption": "A dog\nruns."}, {"image_id": 1, "caption": "One dog."}, {"image_id": 2}]
    write_json(tmp_path / "captions.json", {"annotations": captions})
    (region,) = open_source("coco", tmp_path)
    assert region.scene == ("on a beach", "A dog runs.", "One dog.")


def test_stuff_and_things_of_one_photograph(tmp_path: Path) -> None:
    source = open_source("coco-stuff", write_coco_stuff(tmp_path), split="val2017")
    grass, wall, dog = source
    assert (grass.id, grass.category, grass.image_id) == ("COCO_Stuff/10000", "grass", "COCO/139")
    assert grass.image == "val2017/000000000139.jpg"
    assert grass.segmentation is not None and from_rle(grass.segmentation)[:, 32:].all()
    assert (wall.category, dog.category) == ("brick wall", "dog")
    assert [other.category for other in dog.others] == ["grass", "brick wall"]
    assert dog.scene == ("A dog on the grass.",)
    assert source.left_out == {"with no category": 1}  # "other" names nothing


def test_stuff_out_of_label_maps(tmp_path: Path) -> None:
    (grass,) = open_source("COCO_Stuff", write_stuff_maps(tmp_path))
    assert (grass.id, grass.category, grass.image_id) == ("COCO_Stuff/139.124", "grass", "COCO/139")
    assert grass.box == Box(32, 0, 64, 48)
    assert grass.others == (Other("person", Box(0, 0, 16, 24)),)
    assert grass.segmentation is not None and np.count_nonzero(from_rle(grass.segmentation)) == 32 * HEIGHT
    with pytest.raises(FileNotFoundError, match=r"holds no label maps like 000000000139\.png in a folder train2017"):
        open_source("COCO_Stuff", tmp_path, split="train2017")


@pytest.mark.parametrize("labels", ["0: unlabeled\n1: person\n124: grass\n", "0: person\n123: grass\n255: unlabeled\n"])
def test_the_list_of_labels_may_count_from_0_or_1(tmp_path: Path, labels: str) -> None:
    write_stuff_maps(tmp_path)
    (tmp_path / "labels.txt").write_text(labels)
    (grass,) = open_source("COCO_Stuff", tmp_path)
    assert (grass.category, [other.category for other in grass.others]) == ("grass", ["person"])


def write_pixelmap(folder: Path, maps: str, things: int) -> None:
    """A map whose numbers are the labels: grass on the right, and what is no stuff on the left."""
    pixels = np.full((HEIGHT, WIDTH), things, dtype=np.uint8)
    pixels[:, 32:] = 124
    indexed = Image.fromarray(pixels).convert("P")
    (folder / maps).mkdir(parents=True)
    indexed.save(folder / maps / "000000000139.png")
    (folder / "labels.txt").write_text("0: unlabeled\n1: person\n124: grass\n125: gravel\n182: wood\n")
    picture(folder / "val2017" / "000000000139.jpg")


@pytest.mark.parametrize(("maps", "things"), [("stuff_val2017_pixelmaps", 0), ("val2017", 183)])
def test_pixel_maps_are_the_labels_themselves(tmp_path: Path, maps: str, things: int) -> None:
    write_pixelmap(tmp_path, maps, things)
    (grass,) = open_source("COCO_Stuff", tmp_path)
    assert (grass.id, grass.category, grass.box) == ("COCO_Stuff/139.124", "grass", Box(32, 0, 64, 48))


def test_pixel_maps_of_one_split_are_chosen_by_their_folders_name(tmp_path: Path) -> None:
    for part in ("train2017", "val2017"):
        write_pixelmap(tmp_path, f"stuff_{part}_pixelmaps", 183)
    with pytest.raises(ValueError, match="could be meant; name the file, or say which by a split"):
        open_source("COCO_Stuff", tmp_path)
    assert len(list(open_source("COCO_Stuff", tmp_path, split="val2017"))) == 1


def test_names_of_stuff_are_words() -> None:
    names = ("wall-brick", "sky-other", "door-stuff", "window-blind", "structural-other", "grass")
    assert [stuff_words(name) for name in names] == ["brick wall", "sky", "door", "window blind", "", "grass"]


def test_scenes_say_their_place_and_relations(tmp_path: Path) -> None:
    write_scenes(tmp_path, 3, width=64, height=64)
    regions = list(open_source("scenes", tmp_path))
    shown = [render(seed, "test", 64, 64) for seed in range(3)]
    assert [region.category for region in regions] == [thing.name for scene in shown for thing in scene.objects]
    assert [region.scene for region in regions] == [(scene.place,) for scene in shown for _ in scene.objects]
    expected = [
        tuple(
            Fact(thing.name, relation, scene.objects[other].name)
            for index, relation, other in scene.relations
            if index == thing.index
        )
        for scene in shown
        for thing in scene.objects
    ]
    assert [region.facts for region in regions] == expected
    assert any(expected)
    assert regions[0].image_id == "scenes/test_00000000"
    assert regions[0].image == "images/test_00000000.png"
    assert len({region.id for region in regions}) == len(regions)
    mask = regions[0].segmentation
    assert mask is not None and np.array_equal(from_rle(mask), shown[0].objects[0].mask)


def test_scenes_without_places_are_refused(tmp_path: Path) -> None:
    one_image(tmp_path, annotation(1, 1, 1, [8, 8, 8, 8]))
    with pytest.raises(ValueError, match=r"says no places: .* write the scenes into a new folder"):
        open_source("scenes", tmp_path)
