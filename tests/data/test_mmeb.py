from pathlib import Path
from typing import Any

import pytest

from tests.data.files import write_parquet
from virtue.data.mmeb import MmebTrain
from virtue.data.pairs import RowError
from virtue.items import Item

ROW: dict[str, Any] = {
    "qry": "<|image_1|>\nRepresent the given image with the question: What is it?\n",
    "qry_image_path": "images/A/1.jpg",
    "pos_text": "a bus",
    "pos_image_path": "",
}
INSTRUCT: dict[str, Any] = {
    "qry_inst": "<|image_1|> Represent the image with the question:",
    "qry_text": "What is it?",
    "qry_img_path": "A/1.jpg",
    "tgt_inst": "",
    "tgt_text": ["a bus", "a car", "a cow"],
    "tgt_img_path": ["", "", ""],
}


def shown(items: tuple[Item, ...]) -> list[tuple[str | None, object]]:
    return [(item.text, item.image and str(item.image)) for item in items]


def one(tmp_path: Path, row: dict[str, Any]) -> MmebTrain:
    return MmebTrain(write_parquet(tmp_path / "A/original-0.parquet", [row]), Path("root"))


def test_a_training_row(tmp_path: Path) -> None:
    source = one(tmp_path, ROW)
    pair = source[0]
    assert (len(source), source.name) == (1, "A/original-0")
    assert shown((pair.query,)) == [
        ("Represent the given image with the question: What is it?\n", "root/images/A/1.jpg")
    ]
    assert shown(pair.positives) == [("a bus", None)]
    assert pair.negatives == ()
    assert pair.where == f"{tmp_path / 'A/original-0.parquet'} row 1"


def test_text_to_image_with_a_hard_negative(tmp_path: Path) -> None:
    row = ROW | {"qry": "Find a bus.\n", "qry_image_path": "", "pos_text": "<|image_1|>\nRepresent it.\n"}
    row |= {"pos_image_path": "b.jpg", "neg_text": "<|image_1|>\nRepresent it.\n", "neg_image_path": "c.jpg"}
    pair = one(tmp_path, row)[0]
    assert shown((pair.query,)) == [("Find a bus.\n", None)]
    assert shown(pair.positives) == [("Represent it.\n", "root/b.jpg")]
    assert shown(pair.negatives) == [("Represent it.\n", "root/c.jpg")]


def test_a_mark_that_ends_the_text_and_two_newlines(tmp_path: Path) -> None:
    row = ROW | {"qry": "Find its like.\n<|image_1|>", "pos_text": "A: yes\n\n"}
    pair = one(tmp_path, row)[0]
    assert (pair.query.text, pair.positives[0].text) == ("Find its like.\n", "A: yes\n\n")


def test_an_image_without_a_mark_or_words(tmp_path: Path) -> None:
    pair = one(tmp_path, ROW | {"qry": "What?", "pos_text": "", "pos_image_path": "b.jpg"})[0]
    assert shown((pair.query, *pair.positives)) == [("What?", "root/images/A/1.jpg"), (None, "root/b.jpg")]


def test_a_folder_is_read_split_by_split(tmp_path: Path) -> None:
    for name in ("A", "B"):
        for split in ("original", "diverse_instruction"):
            row = ROW | {"pos_text": f"{name} {split}"}
            write_parquet(tmp_path / name / f"{split}-00000-of-00001.parquet", [row])

    def texts(source: MmebTrain) -> list[str | None]:
        return [pair.positives[0].text for pair in source]

    assert texts(MmebTrain(tmp_path / "A", ".")) == ["A original"]
    assert MmebTrain(tmp_path / "A", ".").name == "A"
    assert texts(MmebTrain(tmp_path, ".", "diverse_instruction")) == ["A diverse_instruction", "B diverse_instruction"]
    assert texts(MmebTrain(tmp_path / "B", ".", None)) == ["B diverse_instruction", "B original"]
    files = [tmp_path / f"{name}/original-00000-of-00001.parquet" for name in "BA"]
    assert texts(MmebTrain(files, ".")) == ["B original", "A original"]
    with pytest.raises(
        FileNotFoundError, match=r"no Parquet file of the split 'x' in .*A; it has diverse_ins.*original-"
    ):
        MmebTrain(tmp_path / "A", ".", "x")
    (tmp_path / "C").mkdir()
    with pytest.raises(FileNotFoundError, match=r"There is no Parquet file in .*C\.$"):
        MmebTrain(tmp_path / "C", ".", None)
    with pytest.raises(ValueError, match=r"needs at least one Parquet file, got none\."):
        MmebTrain([], ".")
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none\.parquet"):
        MmebTrain(tmp_path / "none.parquet", ".")


def test_evaluation_rows_with_instructions(tmp_path: Path) -> None:
    pair = one(tmp_path, INSTRUCT)[0]
    assert shown((pair.query,)) == [("Represent the image with the question: What is it?\n", "root/A/1.jpg")]
    assert shown(pair.positives) == [("a bus", None)]
    assert shown(pair.negatives) == [("a car", None), ("a cow", None)]


def test_an_instruction_alone_and_targets_with_images(tmp_path: Path) -> None:
    row = INSTRUCT | {"qry_text": "", "tgt_inst": "<|image_1|> Represent it.", "tgt_text": ["", ""]}
    pair = one(tmp_path, row | {"tgt_img_path": ["b.jpg", "c.jpg"]})[0]
    assert pair.query.text == "Represent the image with the question:\n"
    assert shown(pair.positives + pair.negatives) == [
        ("Represent it.\n", "root/b.jpg"),
        ("Represent it.\n", "root/c.jpg"),
    ]


def test_evaluation_rows_of_the_older_layout(tmp_path: Path) -> None:
    row = {key: INSTRUCT[key] for key in INSTRUCT if not key.endswith("_inst")}
    pair = one(tmp_path, row | {"qry_text": "<|image_1|>\nWhat is it?\n"})[0]
    assert shown((pair.query, *pair.positives)) == [("What is it?\n", "root/A/1.jpg"), ("a bus", None)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            ROW | {"qry_image_path": ""},
            r"qry_image_path: is empty, but qry says with <\|image_1\|> that there is an image",
        ),
        (ROW | {"qry_image_path": "images/A/"}, "qry_image_path: must end in a file name, got 'images/A/'"),
        (ROW | {"qry_image_path": "images/.."}, "qry_image_path: must end in a file name"),
        (ROW | {"pos_text": "  "}, "pos_text: is empty, and there is no image either"),
        (INSTRUCT | {"qry_img_path": ""}, "qry_img_path: is empty, but qry_text says"),
        (INSTRUCT | {"tgt_text": ["", "a car", "a cow"]}, "tgt_text: has no first target"),
        (INSTRUCT | {"tgt_text": [], "tgt_img_path": []}, "tgt_text: has no first target"),
        (INSTRUCT | {"tgt_img_path": ["", ""]}, "tgt_img_path: holds 2, but tgt_text holds 3"),
    ],
)
def test_schema_errors_name_file_row_and_field(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError, match=rf"original-0\.parquet row 1, field {message}"):
        one(tmp_path, row)[0]


def test_a_missing_column_is_noticed_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"has no column 'pos_image_path'; its columns are qry, qry_image_path, pos_text"
    ):
        one(tmp_path, {key: ROW[key] for key in ROW if key != "pos_image_path"})
