import json
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.files import write_image, write_lines, write_parquet
from virtue.data.own import OwnPairs, from_datasets
from virtue.data.pairs import Pair, RowError
from virtue.images import ImageError
from virtue.items import Item
from virtue.prompts import Box, Mask, Point, VisualPrompt


def texts(items: tuple[Item, ...]) -> list[str | None]:
    return [item.text for item in items]


def read(folder: Path, row: object) -> Pair:
    return OwnPairs(write_lines(folder / "pairs.jsonl", [row]))[0]


def query(folder: Path, entry: object) -> Item:
    return read(folder, {"query": entry, "positive": "yes"}).query


def test_a_row_of_everything(tmp_path: Path) -> None:
    pair = read(
        tmp_path,
        {
            "query": {"image": "street.jpg", "box": [40, 60, 210, 330], "instruction": "Find it.", "text": "red"},
            "positives": ["a red bus", {"image": "bus.jpg"}],
            "negatives": ["a car", {"text": "a cow", "image": "cow.jpg"}],
            "query_negatives": [{"image": "street.jpg", "points": [[3, 4, 1], [5, 6, 0], [7, 8]]}],
        },
    )
    assert (pair.query.text, pair.query.instruction, pair.query.image) == ("red", "Find it.", tmp_path / "street.jpg")
    assert pair.query.prompt == VisualPrompt(box=Box(40, 60, 210, 330))
    assert [(item.text, item.image) for item in pair.positives] == [("a red bus", None), (None, tmp_path / "bus.jpg")]
    assert [(item.text, item.image) for item in pair.negatives] == [("a car", None), ("a cow", tmp_path / "cow.jpg")]
    clicks = (Point(3, 4), Point(5, 6, include=False), Point(7, 8))
    assert [item.prompt for item in pair.query_negatives] == [VisualPrompt(points=clicks)]
    assert pair.where == f"{tmp_path / 'pairs.jsonl'} row 1"


def test_columns_of_sentence_transformers(tmp_path: Path) -> None:
    rows = [
        {"anchor": "q", "positive": "p", "negative": "n", "negative_2": "n2", "negative_10": "n10", "negative_1": "n1"},
        {"anchor": "r", "positive": "s", "negative": "", "negative_2": None, "negative_10": "t", "negative_1": None},
    ]
    for file in (write_lines(tmp_path / "x.jsonl", rows), write_parquet(tmp_path / "x.parquet", rows)):
        source = OwnPairs(file)
        assert (len(source), source.name) == (2, "x")
        assert texts((source[0].query, *source[0].positives)) == ["q", "p"]
        assert texts(source[0].negatives) == ["n", "n1", "n2", "n10"]
        assert texts(source[1].negatives) == ["t"]
        assert source[1].where == f"{file} row 2"


def test_images_may_lie_elsewhere(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "x.jsonl", [{"query": {"image": "a.jpg"}, "positive": {"image": "/b.jpg"}}])
    pair = OwnPairs(file, tmp_path / "images")[0]
    assert (pair.query.image, pair.positives[0].image) == (tmp_path / "images/a.jpg", Path("/b.jpg"))


def test_addresses_are_no_paths(tmp_path: Path) -> None:
    assert query(tmp_path, {"image": "https://example.org/a.jpg"}).image == "https://example.org/a.jpg"


def test_masks_of_every_form_are_the_same(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", 8, 6)
    array = np.zeros((6, 8), dtype=bool)
    array[2:4, 1:3] = True
    Image.fromarray(array).save(tmp_path / "mask.png")
    forms: list[Any] = [
        "mask.png",
        {"size": [6, 8], "counts": [8, 2, 4, 2, 32]},
        Mask(array).to_rle(),
        [[1, 2, 3, 2, 3, 4, 1, 4]],
        [[1, 2], [3, 2], [3, 4], [1, 4]],
    ]
    for form in forms:
        assert query(tmp_path, {"image": "a.png", "mask": form}).prompt == VisualPrompt(mask=Mask(array))
    all_three = query(tmp_path, {"image": "a.png", "mask": forms[1], "box": [1, 2, 3, 4], "points": [1, 2]})
    assert all_three.prompt == VisualPrompt((Point(1, 2),), Box(1, 2, 3, 4), Mask(array))


def test_points_that_exclude_need_something_to_exclude_from(tmp_path: Path) -> None:
    entry = {"image": "a.png", "box": [1, 2, 3, 4], "points": [[1.5, 2, 0]]}
    assert query(tmp_path, entry).prompt == VisualPrompt((Point(1.5, 2, include=False),), Box(1, 2, 3, 4))


def test_blank_lines_count_but_are_no_rows(tmp_path: Path) -> None:
    good = {"query": "ä", "positive": "b"}
    source = OwnPairs(write_lines(tmp_path / "x.jsonl", ["\ufeff" + json.dumps(good), "", "  ", good, {"query": "c"}]))
    assert len(source) == 3
    assert texts((source[0].query, source[1].query)) == ["ä", "ä"]
    assert source[1].where.endswith("x.jsonl row 4")
    with pytest.raises(RowError, match=r"x\.jsonl row 5, field positive: is missing: a query needs something to find"):
        source[2]
    with pytest.raises(IndexError, match="There is no row 3: they are numbered from 0 to 2"):
        source[3]


def test_a_last_line_without_an_end_and_a_copy_in_another_process(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_bytes(b'{"query": "a", "positive": "b"}\r\n{"query": "c", "positive": "d"}')
    source = pickle.loads(pickle.dumps(OwnPairs(file)))
    assert [pair.query.text for pair in source] == ["a", "c"]


def test_objects_in_parquet_have_null_for_what_is_not_given(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", 8, 6)
    rows: list[dict[str, Any]] = [
        {
            "query": {"image": "a.png", "box": [1.0, 2, 3, 4], "points": None, "text": None},
            "positives": ["p", "q"],
            "negatives": [{"text": "n", "image": None}],
        },
        {
            "query": {"image": "a.png", "box": None, "points": [[1.0, 2.0, 1.0], [3.0, 4.0, 0.0]], "text": "x"},
            "positives": ["r"],
            "negatives": None,
        },
    ]
    source = OwnPairs(write_parquet(tmp_path / "x.parquet", rows))
    assert source[0].query.prompt == VisualPrompt(box=Box(1, 2, 3, 4))
    assert source[1].query.prompt == VisualPrompt((Point(1, 2), Point(3, 4, include=False)))
    assert [texts(pair.positives) for pair in source] == [["p", "q"], ["r"]]
    assert [texts(pair.negatives) for pair in source] == [["n"], []]


def test_pictures_inside_parquet(tmp_path: Path) -> None:
    data = write_image(tmp_path / "a.png", 8, 6).read_bytes()
    rows = [{"anchor": {"bytes": data, "path": "x.png"}, "positive": {"image": {"bytes": None, "path": "b.png"}}}]
    pair = OwnPairs(write_parquet(tmp_path / "x.parquet", rows))[0]
    assert (pair.query.image, pair.positives[0].image) == (data, tmp_path / "b.png")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"query": "a", "positve": "b"},
            "field positve: is unknown; a row has query, anchor, positive, positives, neg",
        ),
        ({"query": "a"}, "field positive: is missing"),
        ({"query": "a", "positives": []}, "field positive: is missing"),
        ({"positive": "a"}, "field query: must be one entry, got 0"),
        ({"query": "a", "anchor": "b", "positive": "a"}, "field query: must be one entry, got 2"),
        ({"query": "", "positive": "b"}, "field query: An item needs text or an image, got neither"),
        ({"query": 3, "positive": "b"}, "field query: must be a text or an object with text, image, .*, got int"),
        (
            {"query": {"img": "a"}, "positive": "b"},
            r"field query\.img: is unknown; an entry has text, image, instruction",
        ),
        ({"query": {"text": 3}, "positive": "b"}, "field query: An item's text must be a str, got int"),
        ({"query": {"image": 3}, "positive": "b"}, r"field query\.image: must be a path, got int"),
        ({"query": {"image": " "}, "positive": "b"}, r"field query\.image: is empty"),
        (
            {"query": {"text": "a", "box": [1, 2, 3, 4]}, "positive": "b"},
            "field query: .* needs an image for it to point",
        ),
        ({"query": "a", "positive": {"image": "a", "box": [3, 2, 1, 4]}}, r"field positive\.box: Box\(.*is inverted"),
        (
            {"query": "a", "positives": ["b", {"image": "a", "box": [1, 2]}]},
            r"field positives\[1\]\.box: must be \[x1, y1",
        ),
        (
            {"query": {"image": "a", "points": [[1]]}, "positive": "b"},
            r"field query\.points: each point must be \[x, y\]",
        ),
        ({"query": {"image": "a", "points": [[1, 2, 3]]}, "positive": "b"}, r"field query\.points: each point must be"),
        (
            {"query": {"image": "a", "points": []}, "positive": "b"},
            r"field query\.points: must be a list of \[x, y\] or",
        ),
        (
            {"query": {"image": "a", "points": [[1, "2"]]}, "positive": "b"},
            r"field query\.points: Point y must be a num",
        ),
        ({"query": {"image": "a", "points": [1, 2, 0]}, "positive": "b"}, r"field query\.points: only excludes"),
        ({"query": {"image": "a", "mask": 3}, "positive": "b"}, r"field query\.mask: must be run lengths .* got int"),
        (
            {"query": {"image": "a", "mask": {"size": [2, 2], "counts": [4]}}, "positive": "b"},
            r"\.mask: is empty: no pixel",
        ),
        (
            {"query": {"text": "a", "mask": [[0, 0, 1, 0, 1, 1]]}, "positive": "b"},
            r"\.mask: needs an image that the poly",
        ),
        ({"query": {"image": "a", "mask": "grey.png"}, "positive": "b"}, r"\.mask: .*grey\.png is not a mask"),
        ({"query": "a", "positive": "b", "negatives": ["c", 4]}, r"field negatives\[1\]: must be a text or an object"),
        ('{"query": "a", ', "not valid JSON: "),
        ("[1, 2]", "must be a JSON object in braces, got list"),
        ("[" * 100_000, "not valid JSON: "),
    ],
)
def test_schema_errors_name_file_row_and_field(tmp_path: Path, row: object, message: str) -> None:
    write_image(tmp_path / "grey.png")
    separator = r", " if "field" in message else ": " if not message.startswith(r"\.") else ".*"
    with pytest.raises(RowError, match=rf"pairs\.jsonl row 1{separator}{message}"):
        read(tmp_path, row)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none\.jsonl\."):
        OwnPairs(tmp_path / "none.jsonl")
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none\.parquet\."):
        OwnPairs(tmp_path / "none.parquet")
    with pytest.raises(ImageError, match=r"gone\.png does not exist"):
        query(tmp_path, {"image": "a.png", "mask": "gone.png"})
    with pytest.raises(ImageError, match=r"a\.png does not exist"):
        query(tmp_path, {"image": "a.png", "mask": [[0, 0, 1, 0, 1, 1]]})


class FakeDataset:
    """What `datasets.load_dataset(name, split=...)` gives, as far as it is used."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows, self.column_names = rows, list(rows[0])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Which data sets were loaded, from a stand-in for the library."""
    loaded: list[tuple[str, str]] = []

    def load_dataset(name: str, split: str) -> FakeDataset:
        loaded.append((name, split))
        return FakeDataset(
            [
                {"anchor": Image.new("RGB", (8, 6), colour), "positive": colour, "negative": None, "id": number}
                for number, colour in enumerate(("red", "blue"))
            ]
        )

    module = ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return loaded


def test_a_data_set_by_its_name(asked: list[tuple[str, str]]) -> None:
    columns = {"anchor": "query", "positive": "positive"}
    source = from_datasets("me/colours", split="validation", columns=columns)
    assert asked == [("me/colours", "validation")]
    assert (source.name, len(source)) == ("me/colours", 2)
    picture = source[1].query.image
    assert isinstance(picture, Image.Image)
    assert picture.getpixel((0, 0)) == (0, 0, 255)
    assert texts(source[1].positives) == ["blue"]
    assert source[1].where == "me/colours row 2"
    assert len(list(source)) == 2


def test_columns_of_a_data_set_that_are_not_there_or_not_known(asked: list[tuple[str, str]]) -> None:
    with pytest.raises(RowError, match=r"me/colours row 1, field id: is unknown"):
        from_datasets("me/colours")[0]
    with pytest.raises(
        ValueError, match=r"me/colours has no column 'q'; its columns are anchor, positive, negative, id\."
    ):
        from_datasets("me/colours", columns={"q": "query"})


def test_without_the_library_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs the package `datasets`: pip install 'virtue\[train\]'\."):
        from_datasets("me/colours")
