import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.curation.published import TEN, eval_row, picture, train_row, write
from virtue.curation.validation import KEPT, REMARK, SHARED, validate


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("ade20k_val/1.png", "ade20k_val/2.png", "ade20k_train/3.png"):
        picture(tmp_path / "images" / name)
    return tmp_path / "images"


def about(tmp_path: Path, images: Path, **changes: object) -> dict[str, str]:
    """Kind and message of what is found in an evaluation row."""
    found = validate([write(tmp_path / "SCaR_eval_ADE20K.parquet", eval_row("ade20k_val/1.png", **changes))], [images])
    return {finding.kind: finding.message for finding in found.findings}


def test_good_files_have_no_problems(tmp_path: Path, images: Path) -> None:
    write(tmp_path / "SCaR_eval_ADE20K.parquet", eval_row("ade20k_val/1.png"), eval_row("ade20k_val/2.png"))
    mask = json.dumps({"size": [48, 64], "counts": [100, 50, 48 * 64 - 150]})
    write(tmp_path / "SCAR_ADE20K.parquet", train_row("ade20k_train/3.png", segmentation=mask))
    found = validate([tmp_path], [images])
    assert found.findings == []
    assert found.rows == {"SCaR_eval_ADE20K.parquet": 2, "SCAR_ADE20K.parquet": 1}


@pytest.mark.parametrize("root", ["images", "images/ade20k_val", "."])
def test_images_are_found_from_several_folders(tmp_path: Path, images: Path, root: str) -> None:
    file = write(tmp_path / "SCaR_eval_ADE20K.parquet", eval_row("ade20k_val/1.png"))
    assert validate([file], [tmp_path / root]).problems == 0


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"qry_text": " "}, "no instruction", "the instruction is empty."),
        ({"tgt_text": TEN[:9]}, "not ten captions", "there are 9 captions, not 10."),
        ({"tgt_text": [*TEN[:9], ""]}, "empty caption", "caption 10 is empty."),
        (
            {"tgt_text": [*TEN[:9], "A dog left of the fence, on a beach."]},
            "same caption twice",
            'captions 1, 10 say the same: "dog left of a fence on a beach".',
        ),
        ({"bbox": [4.0, 4.0, 70.0, 26.0]}, "box outside the image", "Box(4, 4, 74, 30) leaves the image of 64 x 48"),
        ({"bbox": [-9.0, 4.0, 20.0, 26.0]}, "box outside the image", "Box(-9, 4, 11, 30) leaves the image"),
        (
            {"bbox": [4.0, 4.0, 0.0, 26.0]},
            "wrong box",
            "the width and height of [x, y, width, height] must be positive",
        ),
        ({"bbox": [4.0, 4.0]}, "wrong box", "must be [x, y, width, height]"),
        ({"qry_image_path": "ade20k_val/9.png"}, "missing image", "the image ade20k_val/9.png is missing."),
        ({"qry_image_path": ""}, "no image", "it names no image."),
        ({"tgt_text": [TEN[1], TEN[0], *TEN[2:]]}, REMARK, 'caption 2, "dog left of a fence on a beach", has more in'),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, images: Path, changes: dict[str, object], kind: str, message: str
) -> None:
    found = about(tmp_path, images, **changes)
    assert list(found) == [kind]
    assert found[kind].startswith(message)


def test_a_rounded_box_is_inside(tmp_path: Path, images: Path) -> None:
    assert about(tmp_path, images, bbox=[-0.5, 0.0, 65.0, 48.9]) == {}


def test_a_broken_image_is_named(tmp_path: Path, images: Path) -> None:
    (images / "ade20k_val" / "1.png").write_text("no image")
    assert about(tmp_path, images) == {"broken image": "the image ade20k_val/1.png is broken."}


def test_without_folders_images_are_not_looked_for(tmp_path: Path) -> None:
    file = write(tmp_path / "SCaR_eval_ADE20K.parquet", eval_row("nowhere.png", bbox=[4.0, 4.0, 9000.0, 26.0]))
    assert validate([file]).problems == 0


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .* of images"):
        validate([], [tmp_path / "gone"])
    with pytest.raises(FileNotFoundError, match="holds no file of SCaR"):
        validate([tmp_path])


def test_another_layout_is_refused_and_a_missing_column_found(tmp_path: Path) -> None:
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"text": ["a"]}), other)
    with pytest.raises(ValueError, match=r"laid out neither as SCaR's evaluation .* its columns are text"):
        validate([other])
    row = {name: value for name, value in eval_row("1.png").items() if name != "bbox"}
    found = validate([write(tmp_path / "a" / "SCaR_eval_ADE20K.parquet", row)])
    assert [str(finding) for finding in found.findings] == ["SCaR_eval_ADE20K.parquet: there is no column bbox."]


def test_a_mask_has_to_fit_its_image(tmp_path: Path, images: Path) -> None:
    small = json.dumps({"size": [10, 10], "counts": [10, 50, 40]})
    rows = [train_row("ade20k_train/3.png", segmentation=value) for value in (small, "no JSON", '{"size": 3}')]
    found = validate([write(tmp_path / "SCAR_ADE20K.parquet", *rows)], [images])
    assert found.counts == {"mask of another size": 1, "wrong mask": 2}
    assert found.findings[0].message == "the mask is 10 x 10 pixels, the image 64 x 48."
    assert [finding.row for finding in found.findings] == [1, 2, 3]


@pytest.mark.parametrize(
    ("learned", "measured"),
    [
        ("ade20k_train/1.png", "ade20k_val/1.png"),
        ("x/COCO_train2014_000000000285.jpg", "coco_stuff_val/000000000285.jpg"),
        ("photos/1.png", "photos/1.png"),
    ],
)
def test_no_image_is_in_train_and_eval(tmp_path: Path, learned: str, measured: str) -> None:
    write(tmp_path / "SCAR_ADE20K.parquet", train_row(learned), train_row("ade20k_train/7.png"))
    write(tmp_path / "SCaR_eval_ADE20K.parquet", eval_row("ade20k_val/8.png"), *[eval_row(measured)] * 2)
    found = validate([tmp_path])
    assert found.counts == {SHARED: 1}
    assert found.findings[0].row == 2
    assert found.findings[0].message.endswith("is also that of SCAR_ADE20K.parquet row 1.")


def test_alike_names_of_other_images_are_no_problem(tmp_path: Path) -> None:
    write(tmp_path / "SCAR_ADE20K.parquet", train_row("ade20k_train/1.png"), train_row("photos/train/2.png"))
    write(tmp_path / "SCaR_eval_VG.parquet", eval_row("vg_val/1.png"), eval_row("photos/val/2.png"))
    assert validate([tmp_path]).problems == 0


def test_the_notes_of_an_export_tell_photographs_across_sources(tmp_path: Path) -> None:
    write(tmp_path / "SCAR_a.parquet", train_row("a_train/1.png"))
    write(tmp_path / "SCaR_eval_b.parquet", eval_row("b_val/2.png"), eval_row("b_val/3.png"))
    noted = {"object": "", "relation": "", "scene": "", "swaps": [""]}
    notes = [("SCAR_a.parquet", 1, "COCO/7"), ("SCaR_eval_b.parquet", 2, "COCO/7"), ("SCaR_eval_b.parquet", 1, "b/2")]
    rows = [{"file": file, "row": row, "image_id": photograph} | noted for file, row, photograph in notes]
    write(tmp_path / "provenance.parquet", *rows)
    found = validate([tmp_path])
    assert [str(finding) for finding in found.findings] == [
        "SCaR_eval_b.parquet row 2: its image, COCO/7, is also that of SCAR_a.parquet row 1."
    ]


def test_all_are_counted_and_the_first_listed(tmp_path: Path) -> None:
    rows = [eval_row(f"{number}.png", qry_text="") for number in range(KEPT + 5)]
    found = validate([write(tmp_path / "SCaR_eval_ADE20K.parquet", *rows)])
    assert found.problems == KEPT + 5
    assert len(found.findings) == KEPT


def test_a_row_of_the_wrong_type_is_named(tmp_path: Path) -> None:
    found = validate([write(tmp_path / "SCaR_eval_ADE20K.parquet", eval_row("1.png") | {"tgt_text": [1, 2]})])
    assert found.counts == {"wrong type": 1}


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    files = [write(tmp_path / name / "SCaR_eval_ADE20K.parquet", eval_row("1.png", qry_text="")) for name in "ab"]
    found = validate(files)
    assert found.rows == {str(file): 1 for file in files}
    assert [finding.file for finding in found.findings] == [str(file) for file in files]
