import pickle
import pickletools
import struct
from datetime import date
from pathlib import Path

import pytest

from tests.curation.published_sources import refs_entry, write_json, write_refcoco
from virtue.curation.samples import Other
from virtue.curation.sources import open_source
from virtue.curation.sources.plain_pickle import load_plain
from virtue.prompts import Box


class Hostile:
    """What a pickle does when it is loaded: here it would make a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.file,))


@pytest.mark.parametrize("protocol", range(6))
def test_a_ref_becomes_a_region(tmp_path: Path, protocol: int) -> None:
    first, second = open_source("RefCOCOg", write_refcoco(tmp_path, protocol=protocol))
    assert (first.id, first.source, first.image_id) == ("RefCOCOg/49", "RefCOCOg", "COCO/285")
    assert first.image == "train2014/COCO_train2014_000000000285.jpg"
    assert (first.category, first.box) == ("dog", Box(4, 6, 24, 16))
    assert first.caption == "a dog next to a boat"  # six words; the others have two and five
    assert first.others == (Other("boat", Box(30, 10, 50, 30)),)
    assert first.segmentation is not None
    assert (second.id, second.caption, second.others) == ("RefCOCOg/51", "brown dog", ())


def test_the_split_of_the_refs_is_chosen(tmp_path: Path) -> None:
    write_refcoco(tmp_path, refs="refs(unc).p")
    (region,) = open_source("refcoco+", tmp_path, split="val")
    assert region.id == "RefCOCO_plus/51"
    with pytest.raises(ValueError, match=r"refs\(unc\)\.p has no split 'testA'; it has train, val"):
        open_source("refcoco+", tmp_path, split="testA")


def test_the_split_test_is_both_of_them(tmp_path: Path) -> None:
    write_refcoco(tmp_path, refs="refs(unc).p")
    entries = [refs_entry(49, 285, "a dog", split="testA"), refs_entry(50, 285, "a boat", split="testB")]
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps([*entries, refs_entry(51, 7, "brown dog", split="val")]))
    assert [region.caption for region in open_source("refcoco+", tmp_path, split="test")] == ["a dog", "a boat"]
    assert [region.caption for region in open_source("refcoco+", tmp_path, split="testB")] == ["a boat"]


def test_the_split_of_the_refs_is_none_of_cocos_files(tmp_path: Path) -> None:
    write_refcoco(tmp_path, refs="refs(unc).p")
    (tmp_path / "instances.json").rename(tmp_path / "instances_train2014.json")
    write_json(tmp_path / "instances_val2014.json", {})
    with pytest.raises(ValueError, match=r"instances_train2014\.json and .*instances_val2014\.json could be meant"):
        open_source("refcoco+", tmp_path, split="val")  # all images of RefCOCO are of train2014


def test_the_split_without_shared_images_is_preferred(tmp_path: Path) -> None:
    write_refcoco(tmp_path)
    (tmp_path / "refs(google).p").write_bytes(pickle.dumps([]))
    assert len(list(open_source("RefCOCOg", tmp_path))) == 2
    assert list(open_source("RefCOCOg", tmp_path / "refs(google).p")) == []


def test_captions_of_the_image_are_scene_words(tmp_path: Path) -> None:
    write_refcoco(tmp_path)
    write_json(
        tmp_path / "captions_train2014.json", {"annotations": [{"image_id": 285, "caption": "A dog on a beach."}]}
    )
    first, second = open_source("RefCOCOg", tmp_path)
    assert (first.scene, second.scene) == (("A dog on a beach.",), ())


def test_refs_to_nothing_are_counted(tmp_path: Path) -> None:
    write_refcoco(tmp_path)
    entries = [refs_entry(999, 285, "a thing"), refs_entry(49, 285), refs_entry(1, 12345, "one", "two")]
    (tmp_path / "refs(umd).p").write_bytes(pickle.dumps(entries))
    source = open_source("RefCOCOg", tmp_path)
    (region,) = source
    assert (region.id, region.caption) == ("RefCOCOg/49", None)
    assert source.left_out == {"that refer to no annotation": 2}


def test_lists_without_end_in_words_are_refused_at_once(tmp_path: Path) -> None:
    write_refcoco(tmp_path)
    many: list[object] = []
    for _ in range(40):  # 80 lists in the pickle, 2 ** 40 in words
        many = [many, many]
    for entry in ({"image_id": many}, refs_entry(49, 285) | {"split": many, "sentences": many}):
        (tmp_path / "refs(umd).p").write_bytes(pickle.dumps([entry]))
        with pytest.raises(ValueError, match=r"without a number as image_id|has no split"):
            open_source("RefCOCOg", tmp_path, split=None if entry["image_id"] is many else "val")


def test_a_list_of_something_else_is_refused(tmp_path: Path) -> None:
    write_refcoco(tmp_path)
    for value, problem in (
        ({"refs": []}, "is not a list of refs"),
        ([{"image_id": "7"}], "has a ref without a number as image_id"),
    ):
        (tmp_path / "refs(umd).p").write_bytes(pickle.dumps(value))
        with pytest.raises(ValueError, match=problem):
            open_source("RefCOCOg", tmp_path)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_is_read_as_pickle_reads_it(tmp_path: Path, protocol: int) -> None:
    value = [{"a": (1, 2.5, None, True), "b": ["é", b"bytes", 2**70, -1, {1: {2, 3}}]}] if protocol > 3 else None
    value = value or [{"a": (1, 2.5, None, True), "b": ["é", 2**70, -1, {1: ()}]}]
    (tmp_path / "file.p").write_bytes(pickle.dumps(value, protocol=protocol))
    assert load_plain(tmp_path / "file.p") == value


def test_bytes_of_python_2_are_text(tmp_path: Path) -> None:
    (tmp_path / "file.p").write_bytes(b"(lp0\nS'dog'\np1\naU\x03\xc3\xa9!a.")
    assert load_plain(tmp_path / "file.p") == ["dog", "é!"]


def test_bytes_of_python_2_that_are_no_utf_8_are_latin_1(tmp_path: Path) -> None:
    (tmp_path / "file.p").write_bytes(b"\x80\x02]q\x00(U\x05caf\xe9!X\x03\x00\x00\x00\xe2\x82\xace.")
    assert load_plain(tmp_path / "file.p") == ["café!", "€"]


@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_pickle_does_nothing(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "file.p").write_bytes(pickle.dumps([Hostile(tmp_path / "made")], protocol=protocol))
    with pytest.raises(ValueError, match=r"file\.p is refused: it holds more than lists, dicts, text and numbers"):
        load_plain(tmp_path / "file.p")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'true'\ntR.",  # a function by its name
        b"(S'true'\nios\nsystem\n.",  # an old way to make an object
        b"Pstored\n.",  # something stored elsewhere
        b"\x82\x01.",  # a number that stands for a class
        b"\x80\x05\x97.",  # a buffer that is handed over beside
        pickle.dumps(date(2020, 1, 1)),
        pickle.dumps(bytearray(b"x"), protocol=5),
    ],
)
def test_what_is_not_plain_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file.p").write_bytes(data)
    with pytest.raises(ValueError, match="is refused: it holds more than"):
        load_plain(tmp_path / "file.p")


def test_a_few_bytes_do_not_ask_for_gigabytes(tmp_path: Path) -> None:
    (tmp_path / "file.p").write_bytes(b"\x80\x02]r" + struct.pack("<I", 2**31) + b".")
    with pytest.raises(ValueError, match=r"is refused: it asks for room for 2,147,483,648 things"):
        load_plain(tmp_path / "file.p")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no pickle",
        b"\x80\x02]",
        b"\x80\x02a.",
        b"\x80\x02h\x05.",
        b"I" + b"9" * 5000 + b"\n.",
        b"\x80\x02}](K\x01tK\x01s.",
        b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x.",
    ],
)
def test_damaged_pickles_are_refused_in_a_sentence(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file.p").write_bytes(data)
    with pytest.raises(
        ValueError, match=r"file\.p is (no pickle, or a damaged one|a damaged pickle|refused|not the pick)"
    ):
        load_plain(tmp_path / "file.p")


def test_every_instruction_that_is_read_makes_plain_data() -> None:
    from virtue.curation.sources.plain_pickle import _PLAIN

    names = {operation.name for operation in pickletools.opcodes}
    assert names >= _PLAIN
    others = "GLOBAL STACK_GLOBAL REDUCE BUILD INST OBJ NEWOBJ NEWOBJ_EX PERSID BINPERSID EXT1 EXT2 EXT4"
    assert names - _PLAIN == {*others.split(), "BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER"}
