import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.files import write_image, write_parquet
from virtue.data.pairs import Pair, RowError
from virtue.data.scar import ScarEval, ScarTrain
from virtue.images import ImageError
from virtue.prompts import Box, Mask, VisualPrompt

ROW: dict[str, Any] = {
    "qry": "<|image_1|>\nFind the caption.\n",
    "qry_image_path": "ade20k_train/a.png",
    "pos_text": "a dog left of a cat in a park",
    "pos_image_path": "",
    "bbox": [1.0, 2.0, 3.0, 2.5],
    "category": "dog",
    "image_id": 7,
}


def source(tmp_path: Path, **changes: object) -> ScarTrain:
    row = {**ROW, **changes}
    return ScarTrain(write_parquet(tmp_path / "SCAR_ADE20K.parquet", [row, row]), tmp_path / "images")


def read(tmp_path: Path, **changes: object) -> Pair:
    return source(tmp_path, **changes)[0]


def pixels(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    array = np.zeros((6, 8), dtype=bool)
    array[y1:y2, x1:x2] = True
    return array


def test_a_row_is_a_region_and_its_caption(tmp_path: Path) -> None:
    scar = source(tmp_path)
    pair = scar[1]
    assert scar.name == "SCAR_ADE20K"
    assert len(scar) == 2
    assert (pair.query.text, pair.query.image) == ("Find the caption.\n", tmp_path / "images/ade20k_train/a.png")
    assert pair.query.prompt == Box(1, 2, 4, 4.5)  # XYWH to XYXY
    assert [(item.text, item.image) for item in pair.positives] == [("a dog left of a cat in a park", None)]
    assert (pair.negatives, pair.query_negatives, pair.draw) == ((), (), 0)
    assert pair.where == f"{tmp_path / 'SCAR_ADE20K.parquet'} row 2"
    again = pickle.loads(pickle.dumps(scar))
    assert again[1].query.text == pair.query.text


@pytest.mark.parametrize("text", ["Find it.", "<|image_1|>\nFind it.", "<|image_1|> Find it.", "<|image_1|>Find it."])
def test_the_image_mark_is_taken_out_with_what_follows_it(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, qry=text).query.text == "Find it."


def test_a_query_may_have_no_words(tmp_path: Path) -> None:
    assert read(tmp_path, qry="<|image_1|>\n").query.text is None


def test_the_end_of_the_rows_is_an_index_error(tmp_path: Path) -> None:
    assert len(list(source(tmp_path))) == 2


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [6, 8], "counts": [8, 2, 4, 2, 32]},  # columns 1 and 2, rows 2 and 3
        json.dumps({"size": [6, 8], "counts": [8, 2, 4, 2, 32]}),
        Mask(pixels(1, 2, 3, 4)).to_rle(),
        [[1.0, 2.0, 3.0, 2.0, 3.0, 4.0, 1.0, 4.0]],
        json.dumps([[1, 2, 3, 2, 3, 4, 1, 4]]),
    ],
)
def test_every_kind_of_segmentation_is_the_same_mask(tmp_path: Path, segmentation: object) -> None:
    write_image(tmp_path / "images/ade20k_train/a.png", 8, 6)
    prompt = read(tmp_path, segmentation=segmentation).query.prompt
    assert prompt == VisualPrompt(box=Box(1, 2, 4, 4.5), mask=Mask(pixels(1, 2, 3, 4)))


def test_polygons_lie_in_the_image_as_it_is_shown(tmp_path: Path) -> None:
    write_image(tmp_path / "images/ade20k_train/a.jpg", 8, 6, orientation=6)
    pair = read(tmp_path, qry_image_path="ade20k_train/a.jpg", segmentation=[[0.0, 6, 6, 6, 6, 8, 0, 8]])
    assert isinstance(pair.query.prompt, VisualPrompt)
    assert pair.query.prompt.mask is not None
    assert pair.query.prompt.mask.array.shape == (8, 6)
    assert pair.query.prompt.mask.array[6:].all()


@pytest.mark.parametrize("segmentation", [None, "", [], "[]", {"size": [6, 8], "counts": [48]}])
def test_no_segmentation_or_an_empty_one_leaves_the_box(tmp_path: Path, segmentation: object) -> None:
    assert read(tmp_path, segmentation=segmentation).query.prompt == Box(1, 2, 4, 4.5)


def test_a_null_among_run_lengths_leaves_the_box(tmp_path: Path) -> None:
    rows = [
        ROW | {"segmentation": rle} for rle in (None, {"size": [6, 8], "counts": "x"}, {"size": None, "counts": None})
    ]
    scar = ScarTrain(write_parquet(tmp_path / "x.parquet", rows), tmp_path)
    assert scar[0].query.prompt == scar[2].query.prompt == Box(1, 2, 4, 4.5)


def test_only_polygons_look_at_the_image(tmp_path: Path) -> None:
    assert read(tmp_path, segmentation={"size": [6, 8], "counts": [8, 2, 38]}).query.image is not None
    with pytest.raises(ImageError, match=r"a\.png does not exist\."):
        read(tmp_path, segmentation=[[1.0, 2, 3, 2, 3, 4]])


@pytest.mark.parametrize(
    ("texts", "paths", "expected"),
    [
        ("a cat", None, [("a cat", None)]),
        (["a cat", "", "a cow"], None, [("a cat", None), ("a cow", None)]),
        (["a cat", "a cow"], ["", "b.png"], [("a cat", None), ("a cow", "b.png")]),
        ("", ["b.png", "c.png"], [(None, "b.png"), (None, "c.png")]),
        ("<|image_1|>\na cow", "b.png", [("a cow", "b.png")]),
        (None, None, []),
        ("", "", []),
    ],
)
def test_hard_negatives_are_one_or_several(tmp_path: Path, texts: object, paths: object, expected: object) -> None:
    images = tmp_path / "images"
    negatives = read(tmp_path, neg_text=texts, neg_image_path=paths).negatives
    shown = [(item.text, item.image and str(Path(str(item.image)).relative_to(images))) for item in negatives]
    assert shown == expected


def test_a_positive_may_have_an_image(tmp_path: Path) -> None:
    positive = read(tmp_path, pos_image_path="b.png").positives[0]
    assert positive.image == tmp_path / "images/b.png"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bbox": [1.0, 2, 0, 3]}, "bbox: the width and height of .* must be positive"),
        ({"bbox": [1.0, 2, 3, -3]}, "bbox: the width and height of .* must be positive"),
        ({"bbox": [1.0, float("nan"), 3, 3]}, "bbox: Box y1 must be a finite number, got nan"),
        ({"bbox": [1.0, 2, float("inf"), 3]}, "bbox: Box x2 must be a finite number, got inf"),
        ({"bbox": [1.0, 2, 3]}, r"bbox: must be \[x, y, width, height\], got \[1.0, 2.0, 3.0\]"),
        ({"bbox": None}, r"bbox: must be \[x, y, width, height\], got None"),
        ({"bbox": "[1, 2, 3, true]"}, r"bbox: must be \[x, y, width, height\] in numbers"),
        ({"bbox": "1 2 3 4"}, "bbox: is not JSON"),
        ({"segmentation": {"size": [6, 8], "counts": [3]}}, "segmentation: The runs of the COCO RLE cover 3 pixels"),
        ({"segmentation": "3"}, "segmentation: must be run lengths .* or polygons, got int"),
        ({"segmentation": [[1.0, 2.0]]}, "segmentation: A polygon needs at least three"),
        ({"segmentation": [[0.0, 0, 99, 0, 9, 9]]}, r"segmentation: The polygon's corner \(99, 0\) is outside"),
        ({"qry_image_path": ""}, "qry_image_path: is empty: a region needs an image"),
        ({"qry_image_path": "ade20k_train/"}, "qry_image_path: must end in a file name, got 'ade20k_train/'"),
        ({"pos_text": ""}, "pos_text: is empty, and there is no image either"),
        (
            {"pos_text": "<|image_1|>"},
            r"pos_image_path: is empty, but pos_text says with <\|image_1\|> that there is an",
        ),
        ({"qry": 3}, "qry: must be text, got int"),
        ({"neg_text": ["a", "b"], "neg_image_path": ["", "", ""]}, "neg_image_path: holds 3, but neg_text holds 2"),
    ],
)
def test_schema_errors_name_file_row_and_field(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    write_image(tmp_path / "images/ade20k_train/a.png", 8, 6)
    with pytest.raises(RowError, match=rf"SCAR_ADE20K\.parquet row 1, field {message}"):
        read(tmp_path, **changes)


def test_a_missing_column_is_noticed_at_once(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "x.parquet", [{key: ROW[key] for key in ROW if key != "bbox"}])
    with pytest.raises(ValueError, match=r"x\.parquet has no column 'bbox'; its columns are qry, "):
        ScarTrain(file, tmp_path)


EVAL_ROW: dict[str, Any] = {
    "qry_text": "<|image_1|>\nFind the caption.",
    "qry_image_path": "ade20k_val/a.png",
    "tgt_text": ["a dog left of a cat", *(f"a dog left of {number} cats" for number in range(2, 11))],
    "bbox": [1.0, 2.0, 3.0, 2.5],
}


def test_a_row_of_the_evaluation_has_one_true_caption_and_nine_hard_negatives(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "SCaR_eval_ADE20K.parquet", [EVAL_ROW])
    pair = ScarEval(file, tmp_path / "images")[0]
    assert (pair.query.text, pair.query.image) == ("Find the caption.", tmp_path / "images/ade20k_val/a.png")
    assert pair.query.prompt == Box(1, 2, 4, 4.5)
    assert [item.text for item in pair.positives] == ["a dog left of a cat"]
    assert [item.text for item in pair.negatives] == [f"a dog left of {number} cats" for number in range(2, 11)]
    assert pair.where == f"{file} row 1"


@pytest.mark.parametrize("captions", [[], ["a dog"], ["a dog", " "]])
def test_a_row_of_the_evaluation_without_distractors_is_refused(tmp_path: Path, captions: list[str]) -> None:
    file = write_parquet(tmp_path / "x.parquet", [EVAL_ROW, EVAL_ROW | {"tgt_text": captions}])
    with pytest.raises(
        RowError, match=r"x\.parquet row 2, field tgt_text: must hold the true caption and some that are"
    ):
        ScarEval(file, tmp_path)[1]
