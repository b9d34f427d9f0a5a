import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from tests.curation.made import region, sample
from tests.data.files import write_image
from virtue.curation import layout
from virtue.curation.eval_images import EvalImages, read_eval_images
from virtue.curation.export import export
from virtue.curation.layout import QUERY, safe_names
from virtue.curation.samples import Region
from virtue.curation.staging import replaced
from virtue.curation.store import Curation
from virtue.data.scar import ScarEval, ScarTrain
from virtue.evaluation.benchmarks.scar import scar_tasks
from virtue.prompts import Box

TRUE = "dog left of a fence on a beach"
WRONG = [
    *("cat left of a fence on a beach", "boat left of a fence on a beach", "tree left of a fence on a beach"),
    *("dog right of on a beach", "dog behind on a beach", "dog above on a beach"),
    *("dog left of a fence on a road", "dog left of a fence in a forest", "dog left of a fence in a kitchen"),
]


@pytest.fixture
def fill(tmp_path: Path) -> Callable[..., Curation]:
    """Fills a run with samples of regions, and draws their images."""

    def filled(*regions: Region) -> Curation:
        run = Curation(tmp_path / "run", make=True)
        run.settle({"seed": 0, "writer": "test"})
        run.set_images({one.source: tmp_path / "images" / one.source for one in regions})
        for one in regions:
            write_image(tmp_path / "images" / one.source / one.image, one.width, one.height)
        run.add_regions(regions)
        for one in regions:
            run.put_sample(sample(one))
        return run

    return filled


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def rows(file: Path) -> list[dict[str, Any]]:
    return pq.read_table(file).to_pylist()


# Rows


def test_an_eval_row_is_laid_out_as_published(fill: Callable[..., Curation], out: Path) -> None:
    exported = export(fill(region(1, "COCO_Stuff")), out, eval_share=1, baseline=False)
    file = out / "SCaR_eval_COCO_Stuff.parquet"
    assert pq.read_schema(file) == pa.schema(
        {
            "qry_text": pa.string(),
            "qry_image_path": pa.string(),
            "tgt_text": pa.list_(pa.string()),
            "bbox": pa.list_(pa.float64()),
        }
    )
    box = [4.0, 4.0, 36.0, 26.0]  # XYWH of (4, 4, 40, 30)
    path = "coco_stuff_val/1.png"
    assert rows(file) == [{"qry_text": QUERY, "qry_image_path": path, "tgt_text": [TRUE, *WRONG], "bbox": box}]
    assert (out / "images" / path).is_file()
    assert exported.rows == 1 and not (out / "SCAR_COCO_Stuff.parquet").exists()


def test_a_train_row_has_what_the_published_ones_have(fill: Callable[..., Curation], out: Path) -> None:
    mask = {"size": [48, 64], "counts": "\\c01000000000"}
    export(fill(region(1, "ADE20K", segmentation=mask)), out, eval_share=0, baseline=False)
    (row,) = rows(out / "SCAR_ADE20K.parquet")
    assert json.loads(row.pop("segmentation")) == mask
    assert row == {
        "qry": QUERY,
        "qry_image_path": "ade20k_train/1.png",
        "pos_text": TRUE,
        "pos_image_path": "",
        "neg_text": WRONG,
        "neg_image_path": [""] * 9,
        "bbox": [4.0, 4.0, 36.0, 26.0],
        "category": "dog",
        "image_id": "ADE20K/image-1",
    }


def test_rows_are_read_back_by_the_loaders(fill: Callable[..., Curation], out: Path) -> None:
    mask = {"size": [2, 2], "counts": [1, 1, 2]}  # down the columns: the pixel below the first
    run = fill(region(1, "own", segmentation=mask, width=2, height=2, box=Box(0, 1, 1, 2)), region(2, "own"))
    export(run, out, eval_share=0, baseline=False)
    pairs = list(ScarTrain(out / "SCAR_own.parquet", out / "images"))
    masked, plain = sorted(pairs, key=lambda pair: str(pair.query.image))
    assert masked.query.prompt.mask.array.tolist() == [[False, False], [True, False]]
    assert plain.query.prompt == Box(4, 4, 40, 30)
    assert plain.positives[0].text == TRUE and [one.text for one in plain.negatives] == WRONG
    export(run, out, eval_share=1, baseline=False)
    (first, _) = ScarEval(out / "SCaR_eval_own.parquet", out / "images")
    assert first.positives[0].text == TRUE and [one.text for one in first.negatives] == WRONG


@pytest.mark.parametrize("images", ["copy", "link", "none"])
def test_the_evaluation_asks_every_row(fill: Callable[..., Curation], out: Path, tmp_path: Path, images: Any) -> None:
    run = fill(*(region(number, "own", image=f"deep/{number}.png") for number in range(3)))
    export(run, out, eval_share=1, images=images, baseline=False)
    (task,) = scar_tasks(out, tmp_path / "images" / "own" if images == "none" else out)
    assert (len(task.queries), task.missing) == (3, {})
    assert task.swaps == [["", *("object",) * 3, *("relation",) * 3, *("scene",) * 3]] * 3
    assert (out / "images").exists() == (images != "none")


def test_provenance_tells_of_every_row_where_it_came_from(fill: Callable[..., Curation], out: Path) -> None:
    run = fill(*(region(number, "own") for number in range(4)))
    run.decide("own/2", "ann", "accept")
    export(run, out, eval_share=0.5, keep="unless-rejected", baseline=False)
    told = rows(out / layout.PROVENANCE)
    assert sorted(row["region"] for row in told) == [f"own/{number}" for number in range(4)]
    for row in told:
        written = rows(out / row["file"])[row["row"] - 1]
        assert written["qry_image_path"].endswith(f"/{row['region'].removeprefix('own/')}.png")
        assert row["swaps"] == ["object"] * 3 + ["relation"] * 3 + ["scene"] * 3
        assert row["reviewers"] == (["ann"] if row["region"] == "own/2" else [])


# Splits


def test_a_photograph_of_two_sources_is_in_one_split(fill: Callable[..., Curation], out: Path) -> None:
    photographs = [f"COCO/{number}" for number in range(40)]
    regions = [
        region(number, source, image_id=photographs[number])
        for source in ("RefCOCOg", "COCO_Stuff")
        for number in range(40)
    ]
    exported = export(fill(*regions), out, eval_share=0.5, images="none", baseline=False)
    found: dict[str, set[str]] = {"eval": set(), "train": set()}
    for row in rows(out / layout.PROVENANCE):
        found["eval" if "eval" in row["file"] else "train"].add(row["image_id"])
    assert not found["eval"] & found["train"] and found["eval"] | found["train"] == set(photographs)
    assert exported.counts["RefCOCOg"] == exported.counts["COCO_Stuff"]  # the same photographs, one region of each


def test_images_for_evaluation_can_be_named(fill: Callable[..., Curation], out: Path) -> None:
    run = fill(*(region(number, "own") for number in range(3)))
    exported = export(run, out, eval_images=["own/image-1"], baseline=False)
    assert {split: counted.rows for split, counted in exported.counts["own"].items()} == {"eval": 1, "train": 2}
    assert rows(out / "SCaR_eval_own.parquet")[0]["qry_image_path"] == "own_val/1.png"


def test_a_list_names_images_by_whatever_they_are_called(fill: Callable[..., Curation], tmp_path: Path) -> None:
    coco = {number: f"train2014/COCO_train2014_{number:012}.jpg" for number in (285, 7)}
    run = fill(
        *(region(number, "RefCOCOg", image=name, image_id=f"COCO/{number}") for number, name in coco.items()),
        *(region(number, "own", image=f"déjà vu/{number}.png") for number in range(4)),
    )
    file = tmp_path / "eval.txt"
    for line, ids in {
        "COCO/285": {"COCO/285"},
        "val2017/000000000007.jpg": {"COCO/7"},
        "COCO_val2014_000000000285.jpg": {"COCO/285"},
        "./déjà vu/1.png": {"own/image-1"},
        "déjà vu\\2.png": {"own/image-2"},
        "3.png": {"own/image-3"},
    }.items():
        file.write_text(f"\ufeff# to measure on\n\n  {line}\n{line}\nnowhere.png\n", encoding="utf-8")
        assert read_eval_images(run, file) == EvalImages(frozenset(ids), ("nowhere.png",)), line


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"nowhere.png\nvu/1.pn\n", r"names no image that .*run has a sample of, such as nowhere\.png: it lists one"),
        (b"# nothing\n", r"names no image that .*run has a sample of: it lists one a line"),
        (b"\x89PNG\xff", r"eval\.txt is no text in UTF-8: byte 0 is none"),
    ],
)
def test_a_list_that_names_nothing_is_refused(
    fill: Callable[..., Curation], tmp_path: Path, data: bytes, message: str
) -> None:
    run = fill(region(1, "own"))
    (tmp_path / "eval.txt").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_eval_images(run, tmp_path / "eval.txt")
    with pytest.raises(FileNotFoundError, match=r"There is no file .*gone\.txt"):
        read_eval_images(run, tmp_path / "gone.txt")


def test_the_same_run_exports_to_the_same_bytes(fill: Callable[..., Curation], tmp_path: Path) -> None:
    run = fill(*(region(number, source) for source in ("one", "two") for number in range(10)))
    folders = [tmp_path / "a" / "set", tmp_path / "b" / "set"]
    for folder in folders:
        export(run, folder, eval_share=0.3)
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()) for folder in folders]
    assert files[0] == files[1] and len(files[0]) > 20
    assert all((folders[0] / file).read_bytes() == (folders[1] / file).read_bytes() for file in files[0])


# People


def test_where_people_decided_only_what_they_accepted_goes_in(fill: Callable[..., Curation], out: Path) -> None:
    run = fill(*(region(number, "own") for number in range(5)))
    run.decide("own/0", "ann", "accept")
    run.decide("own/1", "ann", "reject", reason="not true")
    run.decide("own/2", "ann", "accept")
    run.decide("own/2", "bob", "reject", reason="wording")
    run.decide("own/3", "ann", "edit", captions=["dog by a fence on a beach", *WRONG])
    exported = export(run, out, eval_share=1, baseline=False)
    assert exported.keep == "accepted"
    assert exported.left_out == {"rejected by people": 1, "disputed by people": 1, "not reviewed": 1}
    captions = {row["qry_image_path"]: row["tgt_text"][0] for row in rows(out / "SCaR_eval_own.parquet")}
    assert captions == {"own_val/0.png": TRUE, "own_val/3.png": "dog by a fence on a beach"}
    assert {row["region"]: row["edited"] for row in rows(out / layout.PROVENANCE)} == {"own/0": False, "own/3": True}
    assert export(run, out, eval_share=1, keep="unless-rejected", baseline=False).rows == 3
    assert export(run, out, eval_share=1, keep="all", baseline=False).rows == 5


def test_without_decisions_all_that_passed_goes_in(fill: Callable[..., Curation], out: Path) -> None:
    run = fill(region(1), region(2))
    exported = export(run, out, baseline=False)
    assert exported.keep == "all" and exported.rows == 2
    assert "people did not choose among them" in (out / "README.md").read_text()
    with pytest.raises(ValueError, match=r"Nothing is left to export from .*run: 2 not reviewed\."):
        export(run, out, keep="accepted", baseline=False)
    run.decide("made/1", "Ann", "skip")
    run.undo(run.decide("made/2", "Ann", "accept").number)
    assert export(run, out, baseline=False).keep == "all"


def test_an_edit_that_makes_two_captions_one_is_left_out(fill: Callable[..., Curation], out: Path) -> None:
    run = fill(region(1), region(2))
    run.decide("made/1", "ann", "edit", captions=[TRUE, TRUE, *WRONG[1:]])
    run.decide("made/2", "ann", "accept")
    assert export(run, out, baseline=False).left_out == {"edited to no use": 1}


# The folder


def test_an_export_that_fails_leaves_the_old_one(fill: Callable[..., Curation], out: Path, tmp_path: Path) -> None:
    run = fill(region(1), region(2))
    export(run, out, eval_share=1, baseline=False)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (tmp_path / "images" / "made" / "2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"2\.png is gone: put it back, or export with `--images none`"):
        export(run, out, eval_share=0, baseline=False)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out.un")] == []
    export(run, out, eval_share=0, images="none", baseline=False)
    assert not (out / "SCaR_eval_made.parquet").exists() and not (out / "images").exists()


def test_a_kill_between_the_two_moves_is_mended(tmp_path: Path) -> None:
    place = tmp_path / "set"
    for name, words in ((".set.old", "old"), (".set.unfinished", "half")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mark").write_text(words)
    with pytest.raises(KeyError), replaced(place, "mark"):
        raise KeyError
    assert (place / "mark").read_text() == "old"
    with replaced(place, "mark") as new:
        assert list(new.iterdir()) == []
        (new / "mark").write_text("new")
    assert (place / "mark").read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} - {".set.lock"} == {"set"}


def test_a_place_where_nothing_can_be_written_is_named() -> None:
    with pytest.raises(OSError, match=r"\.set\.lock"), replaced(Path("/proc/set"), "mark"):
        pass


REPLACE = """
import itertools, sys
from pathlib import Path
from virtue.curation.staging import replaced

for number in itertools.count(int(sys.argv[2])):
    with replaced(Path(sys.argv[1]), "mark") as folder:
        for name in ("mark", "one", "two"):
            (folder / name).write_text(str(number))
    print(number, flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_folder(tmp_path: Path) -> None:
    place, last, rng = tmp_path / "set", 0, random.Random(0)
    for _ in range(8):
        command = [sys.executable, "-c", REPLACE, str(place), str(last + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout and process.stdout.readline()
            time.sleep(rng.uniform(0, 0.02))
            process.kill()
            said = [int(line) for line in process.stdout]
        whole = place if place.exists() else place.with_name(".set.old")
        numbers = {(whole / name).read_text() for name in ("mark", "one", "two")}
        assert len(numbers) == 1
        last, before = int(numbers.pop()), last
        assert last > before and last >= max(said, default=0) - (whole is not place)


def test_other_folders_are_not_touched(fill: Callable[..., Curation], tmp_path: Path) -> None:
    run = fill(region(1))
    (tmp_path / "images" / "diary.txt").write_text("dear diary")
    with pytest.raises(ValueError, match=r"images holds something that is no exported set \(no export\.json\)"):
        export(run, tmp_path / "images", baseline=False)
    with (
        FileLock(tmp_path / ".busy.lock"),
        pytest.raises(ValueError, match="busy is being written by another process"),
    ):
        export(run, tmp_path / "busy", baseline=False)


def test_paths_that_leave_the_folder_of_a_source_are_refused(tmp_path: Path, out: Path) -> None:
    run = Curation(tmp_path / "run", make=True)
    outside = region(1, image="../secret.png")
    run.set_images({"made": tmp_path / "images"})
    run.add_regions([outside])
    run.put_sample(sample(outside))
    with pytest.raises(ValueError, match=r"made/1 is outside the folder of its source: \.\./secret\.png"):
        export(run, out, baseline=False)


def test_the_manifest_says_what_was_exported(fill: Callable[..., Curation], out: Path) -> None:
    run = fill(region(1), region(2))
    export(run, out, eval_share=1, baseline=False)
    found = {
        "format": 1,
        "keep": "all",
        "eval_share": 1,
        "eval_images": None,
        "images": "copy",
        "design": "single",
        "counts": {"made": {"eval": {"images": 2, "rows": 2}}},
        "left_out": {},
    }
    assert json.loads((out / layout.MANIFEST).read_text()) == found
    export(run, out, eval_images={"made/image-1"}, baseline=False)
    counts = {"made": {split: {"images": 1, "rows": 1} for split in ("eval", "train")}}
    named = {"eval_share": None, "eval_images": 1, "counts": counts}
    assert json.loads((out / layout.MANIFEST).read_text()) == found | named


def test_names_of_files_are_safe_and_apart() -> None:
    assert safe_names(["RefCOCOg", "my set/2", "all"]) == {
        "RefCOCOg": "RefCOCOg",
        "my set/2": "my_set_2",
        "all": "all_",
    }
    with pytest.raises(ValueError, match="'a b' and 'A_b' would share the files of 'A_b': rename one"):
        safe_names(["a b", "A_b"])
