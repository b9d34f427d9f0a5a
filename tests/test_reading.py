import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from virtue import reading
from virtue.reading import ahead, load_batches, one_ahead


def test_reading_ahead_keeps_order_and_reads_only_so_far() -> None:
    asked: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(10):
            asked.append(number)
            yield number

    results = ahead(lambda number: number * number, numbers(), depth=3)
    assert next(results) == 0 and len(asked) == 4
    assert list(results) == [number * number for number in range(1, 10)]


def test_the_next_batch_is_prepared_meanwhile() -> None:
    made = []

    def batches() -> Iterator[list[int]]:
        for number in range(3):
            made.append(number)
            yield [number]

    stream = one_ahead(batches())
    assert next(stream) == [0]
    time.sleep(0.1)
    assert made == [0, 1]
    assert list(stream) == [[1], [2]]


def test_errors_of_the_batches_are_passed_on() -> None:
    def batches() -> Iterator[list[int]]:
        yield [0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(one_ahead(batches()))


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three images of 48, 96 and 48 pixels."""
    for name, width in [("a.png", 8), ("b.png", 16), ("c.png", 8)]:
        Image.new("RGB", (width, 6)).save(tmp_path / name)
    return ["a.png", "b.png", "c.png"]


def test_batches_end_at_a_number_of_pixels(tmp_path: Path, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BATCH_PIXELS", 90)
    batches = load_batches(files, lambda name: tmp_path / name, batch_size=10)
    assert [[loaded.file for loaded in batch] for batch in batches] == [["a.png", "b.png"], ["c.png"]]


def test_batches_end_at_a_number_of_images_and_say_what_cannot_be_read(tmp_path: Path, files: list[str]) -> None:
    (tmp_path / "b.png").write_bytes(b"no image")
    first, second = load_batches(files, lambda name: tmp_path / name, batch_size=2)
    assert [loaded.image is None for loaded in (*first, *second)] == [False, True, False]
    assert first[1].reason and str(tmp_path) not in first[1].reason
