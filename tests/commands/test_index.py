from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import virtue.commands.index as command
from virtue import cli

pytestmark = pytest.mark.usefixtures("colours")


def run(*args: object) -> Result:
    return CliRunner().invoke(cli.app, [str(arg) for arg in args])


def test_indexing_ends_with_a_summary_and_can_be_repeated(folder: Path) -> None:
    (folder / "broken[1].jpg").write_bytes(b"nothing")
    result = run("index", folder)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "Added 3, updated 0, removed 0, unchanged 0, unreadable 1." in result.stderr
    assert "  broken[1].jpg: " in result.stderr
    assert f"The index is {folder / '.virtue'}. Run the same command to bring it up to date" in result.stderr
    (folder / "broken[1].jpg").unlink()
    assert "Added 0, updated 0, removed 0, unchanged 3, unreadable 0." in run("index", folder).stderr


def test_a_long_list_of_unreadable_files_is_kept_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SHOWN_UNREADABLE", 1)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / name).write_bytes(b"nothing")
    listed = folder / ".virtue" / "unreadable.txt"
    assert f"and 2 more; {listed} lists all." in run("index", folder).stderr
    assert [line.split(":")[0] for line in listed.read_text().splitlines()] == ["a.jpg", "b.jpg", "c.jpg"]
    for name in ("b.jpg", "c.jpg"):
        (folder / name).unlink()
    run("index", folder)
    assert not listed.exists()


def test_regions_are_counted_and_remembered(folder: Path, tmp_path: Path) -> None:
    to = tmp_path / "index"
    assert (
        "Added 3, updated 0, removed 0, unchanged 0, unreadable 0; 1 regions."
        in run("index", folder, "--regions", "--to", to).stderr
    )
    assert "unchanged 3, unreadable 0; 0 regions." in run("index", folder, "--to", to).stderr
    result = run("index", folder, "--no-regions", "--to", to)
    assert result.exit_code == 2
    assert "was made with --regions and cannot change" in result.stderr


def test_an_index_without_regions_gets_none(folder: Path) -> None:
    run("index", folder)
    assert "was made without --regions and cannot change" in run("index", folder, "--regions").stderr


def test_another_model_or_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    run("index", folder)
    result = run("index", folder, "--model", "other")
    assert result.exit_code == 2
    assert "'nano'" in result.stderr
    assert "'other'" in result.stderr
    assert "--to" in result.stderr
    (tmp_path / "second").mkdir()
    result = run("index", tmp_path / "second", "--to", folder / ".virtue")
    assert result.exit_code == 2
    assert f"is the index of {folder}, not of" in result.stderr


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    result = run("index", tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "nowhere is not a folder" in " ".join(result.stderr.split())


def test_interruption_says_that_it_can_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("virtue.index.building.load_batches", interrupted)
    result = run("index", folder)
    assert result.exit_code == 130
    assert "keeps what was done; run the same command again to go on" in " ".join(result.stderr.split())
