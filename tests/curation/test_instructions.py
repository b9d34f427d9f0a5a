import hashlib
from pathlib import Path

import pytest

from virtue.curation.instructions import NAMES, Instruction, load_instructions


def test_ours_say_what_is_to_be_answered() -> None:
    ours = load_instructions()
    for name, words in zip(NAMES, ['{"object": "..."', '"relation": ["..."', '{"best": 3'], strict=True):
        instruction = getattr(ours, name)
        assert (instruction.name, instruction.version) == (name, "v1")
        assert words in instruction.text


def test_the_version_names_all_three_and_their_text() -> None:
    labels = load_instructions().version.split()
    assert [label.partition("-")[0] for label in labels] == ["elements.v1", "distractors.v1", "pick.v1"]
    digest = hashlib.blake2b(b"Look.", digest_size=4).hexdigest()
    assert Instruction("pick", "v2", "Look.").label == f"pick.v2-{digest}"


def test_the_highest_version_of_an_own_folder_counts_and_the_rest_is_ours(tmp_path: Path) -> None:
    for version in (2, 9, 10):
        (tmp_path / f"pick.v{version}.md").write_text(f"Version {version}.\n")
    (tmp_path / "pick.v11.txt").write_text("Another kind of file.")
    mine, ours = load_instructions(tmp_path), load_instructions()
    assert (mine.pick.version, mine.pick.text) == ("v10", "Version 10.")
    assert (mine.elements, mine.distractors) == (ours.elements, ours.distractors)
    assert mine.version != ours.version


def test_a_folder_without_instructions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elements.md").write_text("No version.")
    with pytest.raises(ValueError, match=r"holds no instructions: they are files called elements\.v1\.md, distract"):
        load_instructions(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no folder .*gone to read instructions"):
        load_instructions(tmp_path / "gone")


def test_an_empty_or_broken_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pick.v1.md"
    file.write_text(" \n")
    with pytest.raises(ValueError, match=r"pick\.v1\.md is empty"):
        load_instructions(tmp_path)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not UTF-8"):
        load_instructions(tmp_path)
