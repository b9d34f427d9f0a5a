import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import virtue.index.building as building
from tests.index.colours import ColourEmbedder
from virtue.index import Index, RegionSettings, Summary, Unreadable, build
from virtue.index.building import scan

Paint = building.Callable[..., Path]


def rows(index: Index) -> list[str]:
    return sorted(index._table.to_arrow()["id"].to_pylist())


def test_first_run_adds_everything(folder: Path, embedder: ColourEmbedder) -> None:
    index = Index.create(folder, embedder)
    seen = []
    summary = build(index, embedder, batch_size=2, progress=lambda done, total: seen.append((done, total)))
    assert summary == Summary(added=3)
    assert seen == [(2, 3), (3, 3)]
    assert rows(index) == ["deep/blue's.png", "green.png", "red.png"]


def test_next_run_touches_only_what_changed(folder: Path, embedder: ColourEmbedder, paint: Paint) -> None:
    index = Index.create(folder, embedder)
    build(index, embedder)
    embedder.calls = 0
    assert build(index, embedder) == Summary(unchanged=3)
    assert embedder.calls == 0

    paint("red.png", "green", size=(9, 9))
    paint("new.png", "red")
    (folder / "deep" / "blue's.png").unlink()
    assert build(index, embedder) == Summary(added=1, updated=1, unchanged=1, removed=1)
    assert rows(index) == ["green.png", "new.png", "red.png"]
    assert index.search("red", embedder)[0].path == "new.png"


def test_a_changed_image_loses_its_old_regions(folder_with_objects: Path, embedder: ColourEmbedder) -> None:
    index = Index.create(folder_with_objects, embedder, regions=RegionSettings(max_area=0.5))
    assert build(index, embedder) == Summary(added=4, regions=2)
    assert [row for row in rows(index) if "#" in row] == ["squares.png#0", "squares.png#1"]
    Image.new("RGB", (32, 32)).save(folder_with_objects / "squares.png")
    assert build(index, embedder) == Summary(updated=1, unchanged=3)
    assert [row for row in rows(index) if "#" in row] == []
    (folder_with_objects / "squares.png").unlink()
    assert build(index, embedder) == Summary(unchanged=3, removed=1)


def test_unreadable_images_are_listed_and_tried_again(folder: Path, embedder: ColourEmbedder, paint: Paint) -> None:
    (folder / "broken.jpg").write_bytes(b"not an image")
    Image.new("RGB", (1, 1)).save(folder / "tiny.png")
    index = Index.create(folder, embedder)
    summary = build(index, embedder)
    assert summary.added == 3
    assert [bad.path for bad in summary.unreadable] == ["broken.jpg", "tiny.png"]
    assert summary.unreadable[0].reason.startswith("is not an image")
    assert summary.unreadable[1].reason == "an image of one pixel is too small"
    paint("broken.jpg", "red")
    summary = build(index, embedder)
    assert (summary.added, [bad.path for bad in summary.unreadable]) == (1, ["tiny.png"])


def test_an_image_that_became_unreadable_is_no_longer_found(folder: Path, embedder: ColourEmbedder) -> None:
    index = Index.create(folder, embedder)
    build(index, embedder)
    (folder / "red.png").write_bytes(b"")
    summary = build(index, embedder)
    assert [bad.path for bad in summary.unreadable] == ["red.png"]
    assert rows(index) == ["deep/blue's.png", "green.png"]


def test_a_name_that_is_not_text_is_listed(folder: Path, embedder: ColourEmbedder) -> None:
    bad = os.fsencode(folder) + b"/\xff.png"
    with open(bad, "wb") as file:  # noqa: PTH123 - a Path cannot hold these bytes
        file.write((folder / "red.png").read_bytes())
    summary = build(Index.create(folder, embedder), embedder)
    assert summary.added == 3
    assert [(entry.path, entry.reason) for entry in summary.unreadable] == [
        ("\\udcff.png", "its name is not UTF-8, so it cannot be stored")
    ]


def test_scan_leaves_out_the_hidden_the_index_and_what_is_no_image(folder: Path, paint: Paint) -> None:
    paint(".hidden/a.png", "red")
    paint(".b.png", "red")
    paint("index/c.png", "red")
    paint("UPPER.PNG", "red")
    (folder / "notes.txt").write_text("red")
    files = scan(folder, folder / "index", [])
    assert [file.path for file in files] == ["UPPER.PNG", "deep/blue's.png", "green.png", "red.png"]
    assert files[3].size == (folder / "red.png").stat().st_size


def test_a_folder_that_cannot_be_read_keeps_its_rows(
    folder: Path, embedder: ColourEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.create(folder, embedder)
    build(index, embedder)
    (folder / "red.png").unlink()
    look = os.scandir

    def refused(place: str) -> object:
        if Path(place).name == "deep":
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return look(place)

    monkeypatch.setattr(os, "scandir", refused)
    summary = build(index, embedder)
    assert (summary.removed, summary.unreadable) == (1, [Unreadable("deep", "permission denied")])
    assert rows(index) == ["deep/blue's.png", "green.png"]


def test_a_root_that_cannot_be_read_keeps_everything(
    folder: Path, embedder: ColourEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.create(folder, embedder, to=tmp_path / "index")
    build(index, embedder)
    before = rows(index)

    def refused(place: str) -> object:
        raise PermissionError(errno.EACCES, "Permission denied", str(place))

    with (
        monkeypatch.context() as patched,
        pytest.raises(PermissionError, match=r"cannot be read .*nothing was changed"),
    ):
        patched.setattr(os, "scandir", refused)
        build(index, embedder)
    assert rows(index) == before


def test_a_file_that_vanishes_meanwhile_is_no_error(folder: Path, embedder: ColourEmbedder) -> None:
    (folder / "nothing.png").symlink_to(folder / "gone.png")
    assert build(Index.create(folder, embedder), embedder) == Summary(added=3)


def test_a_folder_that_is_gone_removes_nothing(folder: Path, embedder: ColourEmbedder, tmp_path: Path) -> None:
    index = Index.create(folder, embedder, to=tmp_path / "index")
    build(index, embedder)
    folder.rename(tmp_path / "away")
    with pytest.raises(NotADirectoryError, match="is gone; bring it back"):
        build(index, embedder)
    assert len(index) == 3


def test_only_one_process_writes(folder: Path, embedder: ColourEmbedder) -> None:
    index = Index.create(folder, embedder)

    def second(done: int, total: int) -> None:
        build(index, embedder)

    with pytest.raises(FileExistsError, match=f"Process {os.getpid()} is writing to the index"):
        build(index, embedder, progress=second)
    build(index, embedder)  # the first has let go
    assert len(index) == 3


def test_batch_size_must_be_positive(folder: Path, embedder: ColourEmbedder) -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        build(Index.create(folder, embedder), embedder, batch_size=0)


def test_kill_at_any_moment_loses_at_most_one_batch(folder: Path, embedder: ColourEmbedder, paint: Paint) -> None:
    for number in range(25):
        paint(f"more/{number:02}.png", "red")
    indexed = 0
    for _ in range(3):
        command = [sys.executable, "-m", "tests.index.colours", str(folder), "0.1"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        reported = _reports_until_killed(process, after=random.uniform(0, 0.25))
        now = len(Index.open(folder / ".virtue"))
        # A batch is 2 images; the one that was written may not have been reported yet.
        assert indexed + reported <= now <= indexed + reported + 2
        indexed = now
    assert 6 <= indexed < 28
    index = Index.open(folder / ".virtue")
    assert build(index, embedder) == Summary(added=28 - indexed, unchanged=indexed)
    assert rows(index) == [file.path for file in scan(folder, index.folder, [])]


def _reports_until_killed(process: "subprocess.Popen[str]", after: float) -> int:
    """Kills the process a while after its first report; how many images it said it had done."""
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    last = (first + process.stdout.read()).split()
    process.wait()
    process.stdout.close()
    return int(last[-1]) if last else 0
