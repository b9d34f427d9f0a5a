"""The gallery: what it says of the index's pictures, and that a picture is read once for as long as it is the same."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.tiny import picture, tiny_embedder
from virtue.index import Index, build
from virtue.server import create_app, files
from virtue.server.files import IndexFiles, Thumbnails


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures, one of which lies on its side in the file."""
    folder = tmp_path_factory.mktemp("gallery")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    picture(80, 60).save(folder / "turned.jpg", exif=exif)
    picture(80, 60, seed=1).save(folder / "a.png")
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    embedder = tiny_embedder()
    index = Index.create(folder, embedder)
    build(index, embedder)
    with TestClient(create_app(embedder, index), base_url="http://127.0.0.1") as client:
        yield client


def test_sizes_are_those_that_are_shown(client: TestClient) -> None:
    answer = client.get("/v1/gallery").json()
    assert [(one["path"], one["width"], one["height"]) for one in answer["data"]] == [
        ("a.png", 80, 60),
        ("turned.jpg", 60, 80),
    ]
    for one in answer["data"]:
        shown = Image.open(io.BytesIO(client.get(one["image"]).content))
        assert shown.size == (one["width"], one["height"])


def test_a_browser_keeps_a_picture_until_its_file_or_the_size_changes(client: TestClient, folder: Path) -> None:
    first = client.get("/v1/gallery/image?path=a.png&size=32")
    tag = first.headers["ETag"]
    assert "private, max-age=" in first.headers["Cache-Control"]
    for named in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get("/v1/gallery/image?path=a.png&size=32", headers={"If-None-Match": named})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    for query in ("path=a.png&size=33", "path=turned.jpg&size=32"):
        assert client.get(f"/v1/gallery/image?{query}", headers={"If-None-Match": tag}).status_code == 200
    picture(80, 60, seed=2).save(folder / "a.png")
    os.utime(folder / "a.png", ns=(1, 1))
    changed = client.get("/v1/gallery/image?path=a.png&size=32", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.content != first.content


def test_a_picture_is_read_once(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    first = client.get("/v1/gallery/image?path=turned.jpg&size=40")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("It was read again.")

    monkeypatch.setattr(files, "open_image", never)
    assert client.get("/v1/gallery/image?path=turned.jpg&size=40").content == first.content
    assert client.get("/v1/gallery/image?path=turned.jpg&size=41").status_code == 500


def test_what_was_not_used_for_longest_makes_room() -> None:
    kept = Thumbnails(budget=1600)
    for number in range(16):
        kept.keep(str(number), bytes(100))
    assert kept.get("0") == bytes(100)
    kept.keep("new", bytes(100))
    kept.keep("new", bytes(60))  # in its place
    kept.keep("large", bytes(101))
    assert (kept.get("0"), kept.get("1"), kept.get("large")) == (bytes(100), None, None)
    assert kept.nbytes == 1560


def test_the_list_is_read_again_when_the_index_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder, read, listing = tiny_embedder(), [], Index.files
    index = Index.create(tmp_path, embedder)
    monkeypatch.setattr(Index, "files", lambda self: read.append(self) or listing(self))
    files = IndexFiles(index)
    assert (files.listed(), files.listed(), len(read)) == ({}, {}, 1)
    picture(80, 60).save(tmp_path / "a.png")
    build(index, embedder)
    read.clear()
    assert (list(files.listed()), list(files.listed()), len(read)) == (["a.png"], ["a.png"], 1)
