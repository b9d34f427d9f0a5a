import pickle
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.data.files import write_parquet
from virtue.data import tables
from virtue.data.pairs import RowError
from virtue.data.rows import Row
from virtue.data.tables import Table, column_names


def numbered(first: int, count: int) -> list[dict[str, object]]:
    return [{"a": i, "b": f"text {i}", "c": [i, i]} for i in range(first, first + count)]


def test_files_are_one_table_and_rows_are_counted_from_1_in_each(tmp_path: Path) -> None:
    files = [
        write_parquet(tmp_path / "x.parquet", numbered(0, 5)),
        write_parquet(tmp_path / "y.parquet", numbered(5, 3)),
    ]
    table = Table(files, ["a"], ["c", "z"])
    assert len(table) == 8
    assert [table.row(i).values for i in range(8)] == [{"a": i, "c": [i, i]} for i in range(8)]
    assert table.row(4).where == f"{files[0]} row 5"
    assert table.row(5).where == f"{files[1]} row 1"
    assert table.columns == {"a", "c"}


def test_without_a_choice_all_columns_are_read(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "x.parquet", numbered(3, 1))
    assert Table([file]).row(0).values == {"a": 3, "b": "text 3", "c": [3, 3]}
    assert column_names(file) == ["a", "b", "c"]


def test_columns_that_only_some_files_have_are_null_elsewhere(tmp_path: Path) -> None:
    files = [
        write_parquet(tmp_path / "x.parquet", [{"a": "1", "extra": "e"}]),
        write_parquet(tmp_path / "y.parquet", [{"a": "2"}]),
    ]
    table = Table(files, ["a"], ["extra"])
    assert [table.row(i).text("extra") for i in range(2)] == ["e", ""]
    assert table.columns == {"a"}


def test_a_pickled_table_takes_no_data_along(tmp_path: Path) -> None:
    table = Table([write_parquet(tmp_path / "x.parquet", [{"a": "x" * 100_000}])])
    fresh = len(pickle.dumps(table))
    table.row(0)
    assert len(pickle.dumps(table)) == fresh < 5000
    assert pickle.loads(pickle.dumps(table)).row(0).values == table.row(0).values


def test_memory_is_bounded_by_forgetting_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table([write_parquet(tmp_path / "x.parquet", [{"a": f"{i}" * 1000} for i in range(9)], group=1)])
    monkeypatch.setattr(tables, "CACHE_BYTES", 3500)  # three groups of a good 1,000 bytes
    for i in (0, 1, 2, 0, 3):
        assert table.row(i).values == {"a": f"{i}" * 1000}
    assert list(table._cache) == [2, 0, 3]
    assert table._bytes == sum(group.nbytes for group in table._cache.values())


def test_rows_outside_are_refused(tmp_path: Path) -> None:
    table = Table([write_parquet(tmp_path / "x.parquet", numbered(0, 3))])
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"There is no row {index}: they are numbered from 0 to 2"):
            table.row(index)


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "x.parquet", numbered(0, 1))
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    assert len(Table([file], ["a"])) == 0


def test_messages_of_what_cannot_be_opened(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "x.parquet", numbered(0, 1))
    words = tmp_path / "words.parquet"
    words.write_text("no table")
    with pytest.raises(ValueError, match=r"x\.parquet has no column 'qry'; its columns are a, b, c\."):
        Table([file], ["a", "qry"])
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none\.parquet\."):
        Table([tmp_path / "none.parquet"])
    with pytest.raises(ValueError, match=r"words\.parquet is not a Parquet file: "):
        Table([words])


def test_a_file_damaged_inside_is_named(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "x.parquet", [{"a": "x" * 5000}])
    table = Table([file])
    data = bytearray(file.read_bytes())
    data[4:60] = b"\xff" * 56
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.parquet cannot be read any more: "):
        table.row(0)


def test_fields_of_a_row() -> None:
    row = Row({"t": "x", "n": None, "l": ["a", None], "e": "", "j": "[1, 2]", "s": {"a": 1}}, "f row 1")
    assert [row.text(field) for field in ("t", "n", "gone")] == ["x", "", ""]
    assert [row.texts(field) for field in ("t", "n", "l", "e")] == [["x"], [], ["a", ""], []]
    assert [row.structure(field) for field in ("j", "s", "e", "n")] == [[1, 2], {"a": 1}, None, None]


def test_complaints_about_a_row_name_row_and_field() -> None:
    row = Row({"t": 3, "l": ["a", 4], "j": "[1,"}, "f row 7")
    with pytest.raises(RowError, match=r"^f row 7, field t: must be text, got int\.$"):
        row.text("t")
    with pytest.raises(RowError, match=r"^f row 7, field l\[1\]: must be text, got int\.$"):
        row.texts("l")
    with pytest.raises(RowError, match=r"^f row 7, field j: is not JSON: "):
        row.structure("j")
    with pytest.raises(RowError, match=r"^f row 7, field t: too small$"), row.checked("t"):
        raise ValueError("too small")
