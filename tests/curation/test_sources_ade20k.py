from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.curation.published_sources import HEIGHT, WIDTH, write_ade20k, write_scene_parsing
from virtue.curation.samples import Other
from virtue.curation.sources import open_source
from virtue.curation.sources.label_maps import parts, read_labels
from virtue.masks import from_rle
from virtue.prompts import Box


def test_connected_parts_of_a_label_map_are_regions(tmp_path: Path) -> None:
    building, left, right = open_source("ade20k", write_scene_parsing(tmp_path))
    assert (building.category, building.box) == ("building", Box(0, 0, 64, 20))
    assert [(car.category, car.box) for car in (left, right)] == [
        ("car", Box(4, 30, 20, 40)),
        ("car", Box(40, 30, 60, 40)),
    ]
    assert building.id == "ADE20K/ADE_val_00000001/0"
    assert (left.image, left.image_id) == ("images/validation/ADE_val_00000001.jpg", "ADE20K/ADE_val_00000001")
    assert left.scene == ("access road",)
    assert [other.category for other in left.others] == ["building", "car"]
    mask = from_rle(left.segmentation or {})
    assert mask.shape == (HEIGHT, WIDTH) and mask[30:40, 4:20].all() and mask.sum() == 160


def test_a_split_is_a_folder(tmp_path: Path) -> None:
    write_scene_parsing(tmp_path)
    assert len(list(open_source("ADE20K", tmp_path, split="validation"))) == 3
    with pytest.raises(FileNotFoundError, match=r"holds no label maps like ADE_val_00000001\.png in a folder training"):
        open_source("ADE20K", tmp_path, split="training")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"Idx\tName\n", "is not the table of classes: no line begins with an index"),
        (b"1\n", "is not the table of classes: a line has an index and no name"),
        ("1\tcafé".encode("latin-1"), "is no text in UTF-8: byte 5 is none"),
    ],
)
def test_another_table_of_classes_is_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    write_scene_parsing(tmp_path)
    (tmp_path / "objectInfo150.txt").write_bytes(data)
    with pytest.raises(ValueError, match=rf"objectInfo150\.txt {problem}"):
        open_source("ADE20K", tmp_path)


def test_broken_maps_are_counted(tmp_path: Path) -> None:
    write_scene_parsing(tmp_path)
    (tmp_path / "annotations" / "validation" / "ADE_val_00000002.png").write_bytes(b"no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "annotations" / "validation" / "ADE_val_00000003.png")
    source = open_source("ADE20K", tmp_path)
    assert len(list(source)) == 3
    assert source.left_out == {"images with a broken label map": 2}


def test_the_full_set_gives_what_can_be_seen(tmp_path: Path) -> None:
    source = open_source("ADE20K", write_ade20k(tmp_path))
    car, tree = source
    assert (car.id, car.image_id) == ("ADE20K/ADE_train_00000009/0", "ADE20K/ADE_train_00000009")
    assert car.image == "images/ADE/training/urban/street/ADE_train_00000009.jpg"
    assert (car.category, car.box) == ("car", Box(4, 10, 20, 30))  # the right part is hidden
    assert from_rle(car.segmentation or {}).sum() == 16 * 20
    assert car.others == (Other("wheel", Box(4, 24, 10, 30)), Other("tree", Box(50, 0, 60, 40)))
    assert car.scene == ("street", "urban", "outdoor")
    assert (tree.box, from_rle(tree.segmentation or {}).sum()) == (Box(50, 0, 60, 40), 10 * 40)  # its polygon
    assert source.left_out == {"that are parts of others": 1}
    assert len(list(open_source("ADE20K", tmp_path, split="training"))) == 2
    with pytest.raises(FileNotFoundError, match=r"holds neither objectInfo150\.txt .* in a folder validation"):
        open_source("ADE20K", tmp_path, split="validation")


def test_broken_json_of_the_full_set_is_counted(tmp_path: Path) -> None:
    write_ade20k(tmp_path)
    for number, text in enumerate((b"{", b"[]", b'{"annotation": 3}', b"[" * 100_000)):
        (tmp_path / f"ADE_train_9{number}.json").write_bytes(text)
    strange = (
        b'{"annotation": {"filename": 3, "imsize": "x", "scene": [1, "b\xe4ch"], '
        b'"object": [5, {"polygon": 3}, {"polygon": {"x": [1e999], "y": [2]}}]}}'
    )
    (tmp_path / "ADE_train_99.json").write_bytes(strange)
    source = open_source("ADE20K", tmp_path)
    assert len(list(source)) == 2
    assert source.left_out["images with broken JSON"] == 4
    assert source.left_out["with a missing image"] == 2


def test_parts_touch_at_an_edge_and_have_one_label() -> None:
    labels = np.array(
        [
            [1, 1, 0, 2],
            [0, 1, 0, 2],
            [1, 0, 2, 2],
            [1, 1, 1, 2],
        ]
    )
    numbers, found = parts(labels, but=(0,))
    assert [(part.label, part.box) for part in found] == [
        (1, (0, 0, 2, 2)),
        (2, (2, 0, 4, 4)),
        (1, (0, 2, 3, 4)),  # touches the first part at a corner only
    ]
    for part in found:
        mask = numbers == part.number
        assert (labels[mask] == part.label).all()
    assert [int((numbers == part.number).sum()) for part in found] == [3, 5, 4]


def test_parts_are_those_of_a_flood_fill() -> None:
    labels = np.random.default_rng(0).integers(0, 3, size=(24, 31))
    numbers, found = parts(labels)
    seen = np.zeros(labels.shape, dtype=bool)
    for part in found:
        mask = numbers == part.number
        start = tuple(np.argwhere(mask)[0])
        reached, border = {start}, [start]
        while border:
            row, column = border.pop()
            for place in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                inside = 0 <= place[0] < labels.shape[0] and 0 <= place[1] < labels.shape[1]
                if inside and place not in reached and labels[place] == part.label:
                    reached.add(place)
                    border.append(place)
        assert reached == {tuple(place) for place in np.argwhere(mask)}
        rows, columns = zip(*reached, strict=True)
        assert part.box == (min(columns), min(rows), max(columns) + 1, max(rows) + 1)
        seen |= mask
    assert seen.all()


def test_colours_are_no_labels(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "map.png")
    with pytest.raises(ValueError, match=r"map\.png is no label map: its pixels are colours"):
        read_labels(tmp_path / "map.png")
