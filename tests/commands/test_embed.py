import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from typer.testing import CliRunner, Result

import virtue.commands.embed as command
from tests.index.colours import ColourEmbedder, embed
from virtue import cli

pytestmark = pytest.mark.usefixtures("colours")

RED, BLUE = embed((255, 0, 0)), embed((0, 0, 255))


def run(*args: object, lines: str | None = None) -> Result:
    return CliRunner().invoke(cli.app, ["embed", *(str(arg) for arg in args)], input=lines)


def test_images_in_the_order_given(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npy"
    result = run(folder / "red.png", folder / "blue.png", folder / "red.png", "-o", output)
    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(np.load(output), [RED, BLUE, RED])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out.npy"]


def test_a_list_of_images_to_parquet(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{folder / 'blue.png'}\n\n{folder / 'red.png'}\n")
    assert run("--list", tmp_path / "list.txt", "-o", tmp_path / "out.parquet").exit_code == 0
    table = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert table["input"] == [str(folder / "blue.png"), str(folder / "red.png")]
    np.testing.assert_allclose(table["embedding"], [BLUE, RED])
    assert table["error"] == [None, None]


def test_a_list_may_have_a_byte_order_mark_and_strange_names(folder: Path, tmp_path: Path) -> None:
    strange = folder / "line\u2028separator.png"
    (folder / "red.png").rename(strange)
    (tmp_path / "list.txt").write_text(f"\ufeff{strange}\n{folder / 'blue.png'}\n", encoding="utf-8")
    assert run("--list", tmp_path / "list.txt", "-o", tmp_path / "out.npy").exit_code == 0
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), [RED, BLUE])


def test_a_list_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe")
    result = run("--list", tmp_path / "list.txt", "-o", tmp_path / "out.npy")
    assert result.exit_code == 2
    assert "list.txt is no UTF-8 text" in " ".join(result.stderr.split())


def test_a_line_of_stdin_that_is_no_text_fails_alone(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["embed", "-o", str(tmp_path / "out.npy")], input=b"red\n\xff\nblue\n")
    assert result.exit_code == 1, result.output
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), [RED, [np.nan] * 4, BLUE])


def test_a_folder_as_output_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out.jsonl").mkdir()
    monkeypatch.setattr(ColourEmbedder, "encode", None)
    result = run("-o", tmp_path / "out.jsonl", lines="red\n")
    assert result.exit_code == 2
    assert "is a folder; give the name of a file" in " ".join(result.stderr.split())


def test_two_runs_do_not_share_an_output(tmp_path: Path) -> None:
    with FileLock(tmp_path / "out.npy.lock"):
        result = run("-o", tmp_path / "out.npy", lines="red\n")
    assert result.exit_code != 0
    assert "Another process is writing" in " ".join(result.stderr.split())
    assert run("-o", tmp_path / "out.npy", lines="red\n").exit_code == 0


def test_lines_of_stdin_are_texts(tmp_path: Path) -> None:
    assert run("-o", tmp_path / "out.jsonl", lines="\ufeffblue\nred\n").exit_code == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["input"] for row in rows] == ["blue", "red"]
    np.testing.assert_allclose([row["embedding"] for row in rows], [BLUE, RED])


def test_what_cannot_be_read_keeps_its_row(folder: Path, tmp_path: Path) -> None:
    result = run(folder / "red.png", folder / "nowhere.png", folder / "blue.png", "-o", tmp_path / "out.npy")
    assert result.exit_code == 1
    assert "1 could not be embedded:" in result.stderr
    assert "nowhere.png: does not exist" in result.stderr
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), [RED, [np.nan] * 4, BLUE])
    assert run("-o", tmp_path / "out.jsonl", lines="red\n\nblue\n").exit_code == 1
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["embedding"] is None for row in rows] == [False, True, False]


def test_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PART", 2)
    encoded: list[str] = []
    whole = ColourEmbedder.encode

    def stopping(self: ColourEmbedder, inputs: list[str], **options: object) -> object:
        if len(encoded) == 4:
            raise KeyboardInterrupt
        encoded.extend(inputs)
        return whole(self, inputs)

    monkeypatch.setattr(ColourEmbedder, "encode", stopping)
    lines = "red\nblue\nred\nred\nblue\nblue\nred\n"
    result = run("-o", tmp_path / "out.npy", lines=lines)
    assert result.exit_code == 130
    assert "keeps what was done; run the same command again" in result.stderr
    assert not (tmp_path / "out.npy").exists()

    monkeypatch.setattr(ColourEmbedder, "encode", whole)
    result = run("-o", tmp_path / "out.npy", lines=lines)
    assert "Wrote 7 rows" in result.stderr
    assert "4 of them computed by an earlier run" in result.stderr
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), [RED, BLUE, RED, RED, BLUE, BLUE, RED])


def test_a_changed_image_or_model_is_not_taken_over(folder: Path) -> None:
    names = [str(folder / "red.png")]
    job = command.Job(ColourEmbedder(), True, None, 32)
    first = job.digest(names)
    assert job.digest(names) == first
    assert command.Job(ColourEmbedder(fingerprint="5ade5"), True, None, 32).digest(names) != first
    assert command.Job(ColourEmbedder(), True, "Find the colour.", 32).digest(names) != first
    os.utime(names[0], ns=(1, 1))
    assert job.digest(names) != first


def test_no_input_gives_no_rows(tmp_path: Path) -> None:
    assert run("-o", tmp_path / "out.npy", lines="").exit_code == 0
    assert np.load(tmp_path / "out.npy").shape == (0, 4)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    result = run("-o", tmp_path / "out.csv", lines="red\n")
    assert result.exit_code == 2
    assert "must end in .npy, .parquet, .jsonl" in " ".join(result.stderr.split())
