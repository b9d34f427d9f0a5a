"""Embeddings on disk: whole or not there, found again, and refused in a sentence where they are not ours."""

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from virtue.evaluation.store import LEFT_BEHIND, Shelf, Store

A, B, C = (bytes([number]) * 16 for number in (1, 2, 3))
VECTORS = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)


def shelf(folder: Path, model: str = "model", role: str = "query") -> Shelf:
    return Store(folder).shelf(model, role)


def test_what_was_written_is_read_by_another_reader(tmp_path: Path) -> None:
    shelf(tmp_path).write([A, B], VECTORS)
    found, vectors = shelf(tmp_path).read([B, C, A, B])
    assert found.tolist() == [True, False, True, True]
    assert vectors.tolist() == [[3, 4], [0, 0], [1, 2], [3, 4]]


def test_a_reader_sees_what_is_added_later(tmp_path: Path) -> None:
    reader = shelf(tmp_path)
    assert not reader.read([A])[0].any()
    shelf(tmp_path).write([A, B], VECTORS)
    assert reader.read([A])[1].tolist() == [[1, 2]]


def test_models_and_roles_have_embeddings_of_their_own(tmp_path: Path) -> None:
    shelf(tmp_path).write([A, B], VECTORS)
    assert not shelf(tmp_path, role="document").read([A])[0].any()
    assert not shelf(tmp_path, model="https://other/v1#model").read([A])[0].any()


def test_an_unfinished_file_is_not_read_and_an_old_one_removed(tmp_path: Path) -> None:
    kept = shelf(tmp_path)
    kept.write([A, B], VECTORS)
    young, old = kept.folder / ".x.1.part", kept.folder / ".y.1.part"
    for path in (young, old):
        path.write_bytes(b"half")
    os.utime(old, (0, young.stat().st_mtime - LEFT_BEHIND - 1))
    assert shelf(tmp_path).read([A])[0].all()
    assert young.exists() and not old.exists()


@pytest.mark.parametrize("cut", [0, 3, -4])
def test_a_cut_shard_is_skipped_and_written_anew(tmp_path: Path, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    reader = shelf(tmp_path)
    reader.write([A, B], VECTORS)
    (path,) = reader.folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:cut])
    with caplog.at_level(logging.WARNING):
        assert not reader.read([A, B])[0].any()
    assert f"{path} is damaged; what it held is embedded again." in caplog.text
    reader.write([A, B], VECTORS)
    assert reader.read([A, B])[1].tolist() == VECTORS.tolist()


def test_a_changed_bit_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reader = shelf(tmp_path)
    reader.write([A, B], VECTORS)
    reader.write([C], VECTORS[:1])
    assert reader.read([A, C])[0].all()
    path = next(
        path for path in reader.folder.glob("*.safetensors") if len(path.read_bytes()) > 0 and A in path.read_bytes()
    )
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert reader.read([A, C])[0].tolist() == [False, True]
    assert "is damaged" in caplog.text


def test_two_that_write_the_same_rows_write_one_file(tmp_path: Path) -> None:
    for _ in range(2):
        shelf(tmp_path).write([A, B], VECTORS)
    assert len(list(shelf(tmp_path).folder.iterdir())) == 1


def test_another_format_is_refused(tmp_path: Path) -> None:
    Store(tmp_path)
    (tmp_path / "store.json").write_text(json.dumps({"format": 7}))
    with pytest.raises(ValueError, match=r"are kept in format 7, this version reads format 1: remove that folder"):
        Store(tmp_path)


def test_other_peoples_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(ValueError, match=r"is no store of embeddings, it holds holiday.jpg: give an empty folder"):
        Store(tmp_path)
    with pytest.raises(ValueError, match="is a file; embeddings are kept in a folder"):
        Store(tmp_path / "holiday.jpg")


def test_a_note_that_says_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(ValueError, match="does not say a store's format"):
        Store(tmp_path)


def test_mixed_lengths_are_refused(tmp_path: Path) -> None:
    kept = shelf(tmp_path)
    kept.write([A], VECTORS[:1])
    kept.write([B], np.ones((1, 3), dtype=np.float32))
    with pytest.raises(ValueError, match="dimensions for what calls itself one model"):
        kept.read([A, B])


def test_arguments_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"A role is a word in small letters, such as query, not '../x'"):
        shelf(tmp_path, role="../x")
    with pytest.raises(ValueError, match=r"1 keys need as many vectors, got an array of shape \(2, 2\)"):
        shelf(tmp_path).write([A], VECTORS)
