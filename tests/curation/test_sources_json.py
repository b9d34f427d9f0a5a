import json
from pathlib import Path
from typing import Any

import pytest

from virtue.curation.sources import json_entries
from virtue.curation.sources.json_entries import entries, index_by


@pytest.fixture(params=[1, 5, 1 << 22], autouse=True)
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of a byte, of a few, and of the usual size: where one ends must not matter."""
    monkeypatch.setattr(json_entries, "_CHUNK", request.param)


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "file.json"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def values(file: Path) -> list[tuple[str, Any]]:
    return [(entry.key, entry.value) for entry in entries(file)]


def test_entries_of_an_array(tmp_path: Path) -> None:
    file = written(tmp_path, ' [ {"a": 1},\n 12345, "x]", [1, [2]] , null, 1.5e3 ]\n ')
    assert values(file) == [("", value) for value in ({"a": 1}, 12345, "x]", [1, [2]], None, 1500.0)]


def test_entries_of_an_object(tmp_path: Path) -> None:
    file = written(tmp_path, '{"info": {"y": 2017}, "images": [{"id": 1}, {"id": 2}], "none": [], "end": 7}')
    assert values(file) == [("info", {"y": 2017}), ("images", {"id": 1}), ("images", {"id": 2}), ("end", 7)]


def test_empty_files_of_both_kinds(tmp_path: Path) -> None:
    assert values(written(tmp_path, "[]")) == values(written(tmp_path, "{}")) == []


@pytest.mark.parametrize("is_ascii", [True, False])
def test_letters_beyond_ascii_and_a_byte_order_mark(tmp_path: Path, is_ascii: bool) -> None:
    things = [{"name": "Café ☕", "id": 1}, {"name": "plain", "id": 2}]
    text = json.dumps(things, ensure_ascii=is_ascii)
    assert values(written(tmp_path, b"\xef\xbb\xbf" + text.encode())) == [("", thing) for thing in things]


def test_entries_are_read_again_by_group(tmp_path: Path) -> None:
    things = [{"image_id": 7, "name": "é"}, {"image_id": 3, "name": "b"}, {"image_id": 7, "name": "c"}, 5, {"other": 1}]
    index = index_by(written(tmp_path, json.dumps(things, ensure_ascii=False)), lambda value: value.get("image_id"))
    assert index.groups() == [7, 3]
    assert index.of(7) == [things[0], things[2]]
    assert index.of(99) == []
    assert 3 in index and 99 not in index


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('"text"', r"neither an array in \[\] nor an object in \{\} at byte 0"),
        ("", "neither an array"),
        ('[{"a": 1}, {"a": ', "a value is malformed or cut short at byte 11"),
        ('{"a": [1, 2', "']' is expected at byte 11"),
        ('{"a" 1}', "':' is expected at byte 5"),
        ("{1: 2}", "a name in quotes is expected"),
        ("[1] [2]", "something follows its end at byte 4"),
        ("[" * 20 + "x", "a value is malformed or cut short"),
    ],
)
def test_what_is_no_json_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"file.json is not the JSON that is expected: .*{problem}"):
        values(written(tmp_path, text))


def test_a_file_in_latin_1_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"file\.json is not the JSON .*: a value is not in UTF-8 at byte 1"):
        values(written(tmp_path, '["dög"]'.encode("latin-1")))


def test_a_malformed_file_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_entries, "_LONGEST", 64)
    with pytest.raises(ValueError, match="a value is malformed or does not end at byte 1"):
        values(written(tmp_path, '["' + "x" * 10_000))


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nested too deeply|malformed"):
        values(written(tmp_path, "[" * 5_000))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none\.json"):
        values(tmp_path / "none.json")
