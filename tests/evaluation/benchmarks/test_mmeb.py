"""Floor 3: MMEB's tasks, their words and their means."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.files import write_image, write_parquet
from tests.evaluation.benchmarks.published_mmeb import CANDIDATES, QUERIES, pictures, write_mmeb
from virtue.data.pairs import RowError
from virtue.evaluation.benchmarks.mmeb import means, mmeb_table, mmeb_tasks
from virtue.evaluation.benchmarks.mmeb_texts import scar_text
from virtue.evaluation.tasks import NotMeasured, Task
from virtue.items import Item
from virtue.prompts import Box, VisualPrompt
from virtue.templates import TEMPLATES

IMAGE = {"qry_img_path": "a.png", "qry_inst": "", "tgt_inst": ""}


@pytest.fixture(scope="module", params=["newer", "older"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_mmeb(tmp_path_factory.mktemp("mmeb"), request.param)


def words(item: Item, template: str = "released") -> str:
    return TEMPLATES[template](item.text or "", has_image=item.image is not None, prompt=None)


def one(folder: Path, name: str, *rows: dict[str, Any], images: str = "abcd", **options: Any) -> Task:
    """The task of rows, where images a.png to d.png are there."""
    [task] = made(folder, name, *rows, images=images, **options)
    assert isinstance(task, Task)
    return task


def made(
    folder: Path, name: str, *rows: dict[str, Any], images: str = "abcd", **options: Any
) -> list[Task | NotMeasured]:
    for image in images:
        write_image(folder / f"{image}.png")
    write_parquet(folder / f"{name}.parquet", rows)
    return list(mmeb_tasks(folder, folder, tasks=[name], **options))


def listed(task: Task, query: int = 0) -> list[str | None]:
    """What a query is ranked against: names of images, or texts."""
    items = [task.candidates[place] for place in task.listed(query)]
    return [item.text if item.image is None else Path(str(item.image)).stem for item in items]


def test_the_table_is_the_papers() -> None:
    table = mmeb_table()
    assert Counter(task.meta_task for task in table.values()) == {
        "classification": 10,
        "vqa": 10,
        "retrieval": 12,
        "grounding": 4,
    }
    assert Counter(task.split for task in table.values()) == {"ind": 20, "ood": 16}
    assert Counter(task.kind for task in table.values()) == {
        "image_to_text": 12,
        "question": 10,
        "text_to_image": 6,
        "image_to_image": 8,
    }
    grounding = {name: task.split for name, task in table.items() if task.meta_task == "grounding"}
    assert grounding == {"MSCOCO": "ind", "RefCOCO": "ood", "RefCOCO-Matching": "ood", "Visual7W-Pointing": "ood"}


def test_all_36_tasks_load(published: tuple[Path, Path]) -> None:
    tasks = list(mmeb_tasks(*published))
    assert [task.name for task in tasks] == [f"mmeb/{name}" for name in mmeb_table()]
    for task in tasks:
        assert (len(task.queries), task.is_partial) == (QUERIES, False)
        lengths = {len(task.listed(query)) for query in range(QUERIES)}
        assert lengths == {4 if task.name == "mmeb/RefCOCO-Matching" else CANDIDATES}
        assert [list(right) for right in task.relevant] == [[task.listed(query)[0]] for query in range(QUERIES)]
        kind = mmeb_table()[task.name.removeprefix("mmeb/")].kind
        assert {item.image is not None for item in task.queries} == {kind != "text_to_image"}
        assert {item.image is not None for item in task.candidates} == {kind.endswith("_to_image")}


def test_both_layouts_say_the_same(tmp_path: Path) -> None:
    newer, older = (write_mmeb(tmp_path / layout, layout) for layout in ("newer", "older"))
    for new, old in zip(mmeb_tasks(*newer), mmeb_tasks(*older), strict=True):
        assert new.ids == old.ids
        assert [np.array_equal(a, b) for a, b in zip(new.relevant, old.relevant, strict=True)] == [True] * QUERIES
        for a, b in zip([*new.queries, *new.candidates], [*old.queries, *old.candidates], strict=True):
            # The released evaluation of the newer layout ends VisDial's queries in two newlines, and crops in none.
            assert words(a).split() == words(b).split()


def test_global_ranking_is_against_all_candidates(published: tuple[Path, Path]) -> None:
    [task] = mmeb_tasks(*published, tasks=["ImageNet-1K"], ranking="global")
    names = [picture.name for picture in pictures()]
    assert task.lists is None
    assert sorted(str(item.text) for item in task.candidates) == sorted(names)
    assert [task.candidates[right[0]].text for right in task.relevant] == names[:QUERIES]


def test_words_of_classification_and_of_captions(tmp_path: Path) -> None:
    row = IMAGE | {"qry_inst": "<|image_1|> Represent the given image for classification", "qry_text": ""}
    task = one(tmp_path, "VOC2007", row | {"tgt_text": ["bus", "cow"], "tgt_img_path": ["", ""]})
    assert words(task.queries[0]) == "<|image_pad|>  Represent the given image for classification\n"
    assert words(task.queries[0], "vlm2vec") == words(task.queries[0])
    assert (
        words(task.queries[0], "virtue") == "<|image_pad|>Represent the given image for classification\n<|endoftext|>"
    )
    assert listed(task) == ["bus", "cow"]


def test_a_space_before_a_newline_goes(tmp_path: Path) -> None:
    row = IMAGE | {"qry_inst": "<|image_1|>\nFind its caption: \n", "qry_text": "It is", "tgt_text": ["a", "b"]}
    task = one(tmp_path, "MSCOCO_i2t", row | {"tgt_inst": "Represent it.", "tgt_img_path": [None, None]})
    assert words(task.queries[0]) == "<|image_pad|>\nFind its caption:\n It is\n"
    assert listed(task) == ["a", "b"]


def test_words_of_a_question(tmp_path: Path) -> None:
    row = IMAGE | {"qry_inst": "<|image_1|> Represent the given image with the following question: "}
    row |= {"qry_text": "What is it?", "tgt_text": ["a bus", "a cow"], "tgt_img_path": ["", ""]}
    task = one(tmp_path, "OK-VQA", row)
    assert words(task.queries[0]) == (
        "<|image_pad|>\nRepresent the given image with the following question: What is it?\n"
    )


@pytest.mark.parametrize(("name", "newlines"), [("MSCOCO_t2i", "\n"), ("VisDial", "\n\n")])
def test_words_of_text_to_image(tmp_path: Path, name: str, newlines: str) -> None:
    row = {"qry_inst": "Find an image of this:", "qry_text": "a bus", "qry_img_path": ""}
    row |= {"tgt_inst": "<|image_1|>\nRepresent the given image.", "tgt_text": ["", ""]}
    task = one(tmp_path, name, row | {"tgt_img_path": ["a.png", "b.png"]})
    assert words(task.queries[0]) == f"Find an image of this: a bus{newlines}"
    assert [words(item) for item in task.candidates] == ["<|image_pad|>\nRepresent the given image.\n"] * 2


def test_words_of_an_image_with_a_text(tmp_path: Path) -> None:
    row = {"qry_inst": "<|image_1|>\nFind a pair that answers this:", "qry_text": "Which bus?", "qry_img_path": ""}
    row |= {"tgt_inst": "<|image_1|> Represent the pair:", "tgt_text": ["A bus.", ""]}
    task = one(tmp_path, "WebQA", row | {"tgt_img_path": ["a.png", "b.png"]})
    assert words(task.queries[0]) == "Find a pair that answers this: Which bus?\n"
    assert [words(item) for item in task.candidates] == [
        "<|image_pad|>  Represent the pair: A bus.\n",
        "<|image_pad|>  Represent the pair: \n",  # the first decides that the row has texts
    ]


def test_words_of_grounding_end_in_no_newline(tmp_path: Path) -> None:
    row = IMAGE | {"qry_inst": "<|image_1|> Select the object:", "qry_text": "bus", "tgt_text": ["", ""]}
    row |= {"tgt_inst": "<|image_1|>\nRepresent the given cropped image.", "tgt_img_path": ["b.png", "c.png"]}
    task = one(tmp_path, "MSCOCO", row)
    assert words(task.queries[0]) == "<|image_pad|>\nSelect the object: bus\n"
    assert words(task.candidates[0]) == "<|image_pad|>\nRepresent the given cropped image."


def test_one_image_is_several_candidates_in_matching(tmp_path: Path) -> None:
    row = IMAGE | {"qry_inst": "<|image_1|> Select:", "qry_text": '"left bus"', "tgt_inst": "<|image_1|>\nSelect:"}
    row |= {"tgt_text": ['"left bus"', '"right bus"', '"left bus"', '"left bus"']}
    task = one(tmp_path, "RefCOCO-Matching", row | {"tgt_img_path": ["a.png", "a.png", "b.png", "a.png"]})
    assert [words(item) for item in task.candidates] == [
        '<|image_pad|>\nSelect: "left bus"\n',
        '<|image_pad|>\nSelect: "right bus"\n',
        '<|image_pad|>\nSelect: "left bus"\n',
    ]
    assert listed(task) == ["a", "a", "b"]  # the true one once, though the list repeats it


def test_words_of_the_older_layout(tmp_path: Path) -> None:
    row = {"qry_text": "<|image_1|>\nRepresent it: What?\n", "qry_img_path": "a.png", "tgt_img_path": ["", ""]}
    task = one(tmp_path, "GQA", row | {"tgt_text": ["a bus", "a cow"]})
    assert (words(task.queries[0]), listed(task)) == ("<|image_pad|>\nRepresent it: What?\n", ["a bus", "a cow"])
    row = {"qry_text": "Dialogue.\n\n", "qry_img_path": "", "tgt_text": ["<|image_1|>\nRepresent it.\n"] * 2}
    [task] = mmeb_tasks(_folder(tmp_path, "VisDial", row | {"tgt_img_path": ["a.png", "b.png"]}), tmp_path)
    assert words(task.queries[0]) == "Dialogue.\n\n"
    assert words(task.candidates[1]) == "<|image_pad|>\nRepresent it.\n"


def _folder(folder: Path, name: str, row: dict[str, Any]) -> Path:
    write_parquet(folder / "other" / name / "part.parquet", [row])
    return folder / "other"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<|image_1|>\nFind it.", "<|image_pad|> \nFind it."),
        ("\nFind it.", "<|image_pad|> \nFind it."),
        ("<|image_1|> Find it.\n", "<|image_pad|>   Find it.\n"),
        ("Find it. \nNow.", "<|image_pad|>  Find it.\nNow."),
    ],
)
def test_words_of_scar(text: str, said: str) -> None:
    box = VisualPrompt(box=Box(8.5, 24, 72.75, 96))
    for template in ("released", "vlm2vec"):
        whole = TEMPLATES[template](scar_text(text), has_image=True, prompt=box)
        assert whole == f"{said}\nReferring object bbox: [8.5, 24.0, 72.75, 96.0]"


def test_missing_images_are_counted(tmp_path: Path) -> None:
    row = IMAGE | {"qry_inst": "Select:", "qry_text": "bus", "tgt_text": [""] * 3}
    rows = [
        row | {"tgt_img_path": ["b.png", "c.png", "d.png"]},
        row | {"tgt_img_path": ["b.png", "gone.png", "d.png"]},
        row | {"tgt_img_path": ["d.png", "gone.png", "b.png"]},
        row | {"tgt_img_path": ["gone.png", "c.png", "d.png"]},
        row | {"tgt_img_path": ["b.png", "c.png", "d.png"], "qry_img_path": "no/such.png"},
    ]
    task = one(tmp_path, "CIRR", *rows)
    assert (task.ids, task.is_partial) == (["CIRR row 1", "CIRR row 2", "CIRR row 3"], True)
    assert task.missing == {
        "with a missing image": 1,
        "with a right candidate whose image is missing": 1,
        "wrong candidates whose image is missing": 1,  # once, though two lists lack it
    }
    assert [listed(task, query) for query in range(3)] == [["b", "c", "d"], ["b", "d"], ["d", "b"]]
    assert task.groups == ["a.png"] * 3
    reason = "it has no queries: left out were 1 with a missing image"
    assert made(tmp_path, "CIRR", rows[-1]) == [NotMeasured("mmeb/CIRR", reason)]


def test_a_set_of_which_nothing_is_left_does_not_end_the_others(tmp_path: Path) -> None:
    row = IMAGE | {"qry_text": "What?", "tgt_text": ["a", "b"], "tgt_img_path": ["", ""]}
    for name, image in (("OK-VQA", "a.png"), ("DocVQA", "gone.png"), ("GQA", "a.png")):
        made(tmp_path, name, row | {"qry_img_path": image})
    found = [type(task) for task in mmeb_tasks(tmp_path, tmp_path)]
    assert found == [Task, NotMeasured, Task]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.8])
def test_broken_images_are_found_without_a_model(tmp_path: Path, name: str, part: float) -> None:
    write_image(tmp_path / name, 64, 48)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(part * len(whole))])
    row = IMAGE | {"qry_inst": "Select:", "qry_text": "bus", "tgt_text": ["", ""]}
    rows = [
        row | {"qry_img_path": "d.png", "tgt_img_path": ["b.png", "c.png"]},
        row | {"qry_img_path": name, "tgt_img_path": ["b.png", "c.png"]},
        row | {"qry_img_path": "d.png", "tgt_img_path": [name, "c.png"]},
        row | {"qry_img_path": "d.png", "tgt_img_path": ["b.png", name]},
    ]
    task = one(tmp_path, "CIRR", *rows, images="bcd")
    assert task.ids == ["CIRR row 1", "CIRR row 4"]
    assert task.missing == {
        "with a broken image": 1,
        "with a right candidate whose image is broken": 1,
        "wrong candidates whose image is broken": 1,
    }
    (tmp_path / name).write_bytes(whole)  # what was learnt of the file goes with it
    assert not one(tmp_path, "CIRR", *rows, images="bcd").missing


def test_images_may_lie_in_a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images/a.png")
    row = IMAGE | {"qry_text": "What?", "tgt_text": ["a", "b", ""], "tgt_img_path": ["", "", ""]}
    task = one(tmp_path, "GQA", row, images="")
    assert task.queries[0].image == tmp_path / "images/a.png"
    assert listed(task) == ["a", "b"]  # an empty text is no candidate


def test_a_limit_makes_a_task_partial(published: tuple[Path, Path]) -> None:
    [task] = mmeb_tasks(*published, tasks={"GQA"}, limit=3)
    assert (len(task.queries), task.missing) == (3, {"beyond the limit": QUERIES - 3})
    [task] = mmeb_tasks(*published, tasks={"GQA"}, limit=QUERIES)
    assert not task.is_partial
    assert task.groups == [f"drawn/{number}-whole.png" for number in range(QUERIES)]


def test_other_splits_of_a_folder_are_not_read(tmp_path: Path) -> None:
    row = IMAGE | {"qry_text": "What?", "tgt_text": ["a", "b"], "tgt_img_path": ["", ""]}
    write_image(tmp_path / "a.png")
    for name in ("test-0.parquet", "train-0.parquet"):
        write_parquet(tmp_path / "GQA" / name, [row])
    assert len(next(mmeb_tasks(tmp_path, tmp_path)).queries) == 1


def test_the_means_are_those_of_the_paper() -> None:
    over = means()
    assert {name: len(tasks) for name, tasks in over.items()} == {
        "classification": 10,
        "vqa": 10,
        "retrieval": 12,
        "grounding": 4,
        "ind": 20,
        "ood": 16,
        "overall": 36,
    }
    assert over["grounding"] == [
        f"mmeb/{name}" for name in ("MSCOCO", "RefCOCO", "RefCOCO-Matching", "Visual7W-Pointing")
    ]
    assert sorted(over["ind"] + over["ood"]) == sorted(over["overall"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qry_img_path": ""}, "qry_img_path: is empty, but the queries of CIRR are images"),
        ({"tgt_img_path": []}, "tgt_img_path: has no first candidate, which is the true one"),
        ({"tgt_img_path": ["", "b.png"]}, "tgt_img_path: has no first candidate"),
        ({"tgt_img_path": ["b.png"]}, "tgt_img_path: holds 1, but tgt_text holds 2"),
        ({"tgt_img_path": ["b/", "c.png"]}, "tgt_img_path: must end in a file name, got 'b/'"),
    ],
)
def test_schema_errors_name_file_row_and_field(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    row = IMAGE | {"qry_text": "bus", "tgt_text": ["", ""], "tgt_img_path": ["b.png", "c.png"]} | change
    if not row["tgt_img_path"]:
        row["tgt_text"] = []
    with pytest.raises(RowError, match=rf"CIRR\.parquet row 1, field {message}"):
        one(tmp_path, "CIRR", row)


def test_what_cannot_be_asked_for(published: tuple[Path, Path], tmp_path: Path) -> None:
    for options, message in (
        ({"tasks": ["MSCOCO-t2i"]}, r"MMEB has no task 'MSCOCO-t2i'; it has ImageNet-1K, N24News"),
        ({"ranking": "local"}, r'ranking is "own" or "global", not \'local\''),
        ({"limit": 0}, r"A limit of 0 leaves no queries"),
    ):
        with pytest.raises(ValueError, match=message):
            mmeb_tasks(*published, **options)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match=r"no task of MMEB in .*: it should hold <task>/\*\.parquet"):
        mmeb_tasks(tmp_path, tmp_path)
    write_parquet(tmp_path / "GQA.parquet", [{"qry_text": ""}])
    with pytest.raises(FileNotFoundError, match=r"The task VizWiz is not in .*, which has GQA\."):
        mmeb_tasks(tmp_path, tmp_path, tasks=["VizWiz"])
    with pytest.raises(ValueError, match=r"GQA\.parquet has no column 'qry_img_path'"):
        mmeb_tasks(tmp_path, tmp_path)
