import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.data.files import write_image, write_parquet
from tests.evaluation.benchmarks.published_scar import FAULTS, MARK, rows_of, write_scar
from virtue.evaluation.benchmarks.distractors import RealDistractors
from virtue.evaluation.benchmarks.scar import SETS, kind_of_swap, kinds_of_swaps, scar_tasks
from virtue.evaluation.keys import query_keys
from virtue.evaluation.tasks import NotMeasured, Task
from virtue.prompts import Box, as_visual_prompt
from virtue.scenes.write import write_scenes
from virtue.templates import DESCRIBE_BOX, released

ROW: dict[str, Any] = {
    "qry_text": "Find the caption.",
    "qry_image_path": "ade20k_val/a.png",
    "tgt_text": ["a dog on a mat", "a cat on a mat", "a dog on a roof"],
    "bbox": [1.0, 2.0, 3.0, 2.5],
}
# The example of the paper.
TRUE = "salad fork on table"
OBJECTS = ["butter knife on table", "teaspoon on table", "wine glass on table"]
RELATIONS = [
    "salad fork balanced on the edge of the table",
    "salad fork under the napkin on the table",
    "salad fork tucked beside the glass on the table",
]
SCENES = ["salad fork on kitchen counter", "salad fork on picnic blanket", "salad fork on wooden deck"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_scar(tmp_path_factory.mktemp("scar"))


def task_of(tmp_path: Path, *rows: dict[str, Any], **options: Any) -> Task:
    write_image(tmp_path / "ade20k_val/a.png", 10, 8)
    write_parquet(tmp_path / "SCaR_eval_ADE20K.parquet", [ROW | row for row in rows])
    (task,) = scar_tasks(tmp_path, tmp_path, **options)
    return task


def texts(task: Task, query: int) -> list[str | None]:
    return [task.candidates[place].text for place in task.listed(query)]


def rendered(task: Task, query: int) -> str:
    """What a released checkpoint reads."""
    item = task.queries[query]
    assert isinstance(item.prompt, Box)
    return released(item.text or "", has_image=True, prompt=as_visual_prompt(item.prompt, 10_000, 10_000))


# The five sets


def test_all_five_sets_are_read(published: tuple[Path, Path]) -> None:
    tasks = list(scar_tasks(*published))
    assert [task.name for task in tasks] == [f"scar/{name}" for name in SETS]
    for number, task in enumerate(tasks):
        rows = rows_of(number)
        assert len(task.queries) == len(rows) >= 4
        assert task.missing == FAULTS
        assert task.is_partial
        for query, row in enumerate(rows):
            assert texts(task, query) == row["tgt_text"]
            assert texts(task, query)[0] == task.candidates[task.relevant[query][0]].text
            assert task.swaps is not None
            assert task.swaps[query] == ["", *["object"] * 3, *["relation"] * 3, *["scene"] * 3]
        assert len({item.text for item in task.candidates}) == len(task.candidates)
        assert list(task.groups) == [row["qry_image_path"] for row in rows]
        assert task.ids[1] == f"SCaR_eval_{list(SETS)[number]}.parquet row 2"


def test_sets_are_chosen_by_name_or_path(published: tuple[Path, Path]) -> None:
    data, images = published
    chosen = ["VisualGenome", data / "SCaR_eval_ADE20K.parquet"]
    assert [task.name for task in scar_tasks(data, images, sets=chosen)] == ["scar/VisualGenome", "scar/ADE20K"]


def test_images_are_found_under_the_root_or_in_it(published: tuple[Path, Path]) -> None:
    data, images = published
    for root, name in ((images.parent, "RefCOCOg"), (images / "refcocog_val", "RefCOCOg")):
        (task,) = scar_tasks(data, root, sets=[name])
        assert task.missing == FAULTS
        assert Path(str(task.queries[0].image)).parent == images / "refcocog_val"


def test_paths_without_their_folder_are_found(tmp_path: Path) -> None:
    assert not task_of(tmp_path, {"qry_image_path": "a.png"}, {"qry_image_path": "elsewhere\\a.png"}).missing


def test_no_path_leads_out_of_the_root(tmp_path: Path) -> None:
    write_image(tmp_path / "b.png")
    task = task_of(tmp_path / "x", {}, {"qry_image_path": "../b.png"}, {"qry_image_path": str(tmp_path / "b.png")})
    assert task.missing == {"with a missing image": 2}


def test_a_set_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no SCaR set: none of SCaR_eval_ADE20K\.parquet, "):
        scar_tasks(tmp_path, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no SCaR set .*SCaR_eval_COCO\.parquet\."):
        scar_tasks(tmp_path, tmp_path, sets=["COCO"])
    with pytest.raises(ValueError, match=r"Distractors are published, image, others, got 'real'\."):
        scar_tasks(tmp_path, tmp_path, distractors="real")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"The limit must be at least one row, got 0\."):
        scar_tasks(tmp_path, tmp_path, limit=0)


def test_nothing_left_says_why(tmp_path: Path) -> None:
    lost = task_of(tmp_path, {"qry_image_path": "b.png"})
    assert lost == NotMeasured("scar/ADE20K", "it has no queries: left out were 1 with a missing image")


def test_rows_without_another_caption_of_their_image_are_counted_apart(tmp_path: Path) -> None:
    write_image(tmp_path / "ade20k_val/b.png")
    rows = [{"tgt_text": [f"a {name}", "a cow"]} for name in ("dog", "cat", "hen")]
    rows[2]["qry_image_path"] = "ade20k_val/b.png"  # alone on its image
    task = task_of(tmp_path, *rows, distractors="image")
    assert (task.ids, task.missing, task.is_partial) == (
        ["SCaR_eval_ADE20K.parquet row 1", "SCaR_eval_ADE20K.parquet row 2"],
        {},
        False,
    )
    assert task.excluded == {"whose image has no other caption": 1}
    assert not task_of(tmp_path, *rows, distractors="others").excluded
    lost = task_of(tmp_path, rows[2], distractors="image")
    assert isinstance(lost, NotMeasured)
    assert lost.reason == "it has no queries: left out were 1 whose image has no other caption"


def test_the_same_is_asked_with_an_instruction_and_without(tmp_path: Path) -> None:
    with_words, without = (task_of(tmp_path, {}, {}, instruction=instruction) for instruction in (True, False))
    assert query_keys(with_words)[0] != query_keys(without)[0]
    assert query_keys(with_words)[1] == query_keys(without)[1]
    assert len(set(query_keys(without)[0])) == 1  # rows alike
    assert len(set(query_keys(without)[1])) == 2
    assert (with_words.manner, without.manner) == ("box, with an instruction", "box")


# A row


def test_the_released_words_are_exact(tmp_path: Path) -> None:
    words = f"{MARK}\nFind it.", "Find it.", "Find it. \n"
    task = task_of(tmp_path, *({"qry_text": text} for text in words))
    box = "Referring object bbox: [1.0, 2.0, 4.0, 4.5]"
    assert rendered(task, 0) == f"<|image_pad|> \nFind it.\n{box}"
    assert rendered(task, 1) == f"<|image_pad|>  Find it.\n{box}"
    assert rendered(task, 2) == f"<|image_pad|>  Find it.\n\n{box}"


def test_a_row_without_an_instruction_leaves_it_to_the_model(tmp_path: Path) -> None:
    without = task_of(tmp_path, {}, instruction=False)
    task = task_of(tmp_path, {"qry_text": ""})
    assert task.queries[0].text is without.queries[0].text is None
    assert rendered(task, 0).startswith(f"<|image_pad|>\n{DESCRIBE_BOX}\n")


def test_boxes_become_corners_and_are_clipped_by_half_a_pixel(tmp_path: Path) -> None:
    task = task_of(tmp_path, {}, {"bbox": [-0.5, 0, 10.9, 8.5]}, {"bbox": [-0.6, 0, 5, 5]}, {"bbox": [1, 1, 0, 5]})
    assert [item.prompt for item in task.queries] == [Box(1, 2, 4, 4.5), Box(0, 0, 10, 8)]
    assert task.missing == {"with a box that does not fit": 2}


def test_size_is_the_share_of_the_image(tmp_path: Path) -> None:
    boxes = [[0, 0, 1, 1], [0, 0, 2, 0.8], [0, 0, 4, 3], [0, 0, 10, 8]]  # of 80 pixels: 1.25, 2, 15, 100 %
    assert task_of(tmp_path, *({"bbox": box} for box in boxes)).tags["size"] == ["small", "medium", "large", "large"]


def test_a_repeated_caption_is_there_once(tmp_path: Path) -> None:
    task = task_of(tmp_path, {"tgt_text": ["a dog", "a cat", "a dog", "a cat"]}, {"tgt_text": ["a cat", "a cow"]})
    assert [texts(task, query) for query in (0, 1)] == [["a dog", "a cat"], ["a cat", "a cow"]]
    assert [item.text for item in task.candidates] == ["a dog", "a cat", "a cow"]


def test_rows_without_captions_are_counted(tmp_path: Path) -> None:
    task = task_of(tmp_path, {}, {"tgt_text": ["a dog"]}, {"tgt_text": ["a dog", " "]}, {"tgt_text": []})
    assert task.missing == {"with no captions": 3}


def test_a_limit_makes_a_set_partial(tmp_path: Path) -> None:
    task = task_of(tmp_path, {}, {}, {}, limit=2)
    assert (len(task.queries), task.missing) == (2, {"beyond the limit": 1})
    assert not task_of(tmp_path, {}, {}, limit=2).is_partial


def test_an_image_cut_short_is_found_out_whatever_its_kind(tmp_path: Path) -> None:
    for kind in ("png", "jpg", "webp"):
        whole = write_image(tmp_path / f"whole.{kind}", 64, 64).read_bytes()
        (tmp_path / f"cut.{kind}").write_bytes(whole[: len(whole) * 3 // 4])
    kinds = [{"qry_image_path": f"{name}.{kind}"} for name in ("whole", "cut") for kind in ("png", "jpg", "webp")]
    assert task_of(tmp_path, *kinds).missing == {"with a broken image": 3}


def test_generated_scenes_are_such_a_set(tmp_path: Path) -> None:
    write_scenes(tmp_path, 3, width=96, height=96)
    shutil.rmtree(tmp_path / ".parts")
    (task,) = scar_tasks(tmp_path, tmp_path)
    assert task.name == "scar/scenes"
    assert not task.missing
    assert task.swaps is not None
    assert list(task.swaps[0]) == ["", *["object"] * 3, *["relation"] * 3, *["scene"] * 3]


# Kinds of swap


def test_the_papers_example_is_told_apart() -> None:
    kinds = [*["object"] * 3, *["relation"] * 3, *["scene"] * 3]
    assert kinds_of_swaps(TRUE, [*OBJECTS, *RELATIONS, *SCENES]) == kinds
    assert kinds_of_swaps(TRUE, [*SCENES, *OBJECTS, *RELATIONS]) == [*kinds[6:], *kinds[:6]]
    assert [kind_of_swap(TRUE, false) for false in (*OBJECTS, *RELATIONS, *SCENES)] == kinds


def test_all_nine_together_tell_what_one_alone_does_not() -> None:
    true = "a white dog on a wooden table"
    false = ["a white cat on a wooden table", "a white dog under a wooden table", "a white dog on a kitchen table"]
    assert [kind_of_swap(true, caption) for caption in false] == ["relation"] * 3
    assert kinds_of_swaps(true, false) == ["object", "relation", "scene"]


def test_what_does_not_show_is_unknown() -> None:
    assert kind_of_swap("a dog on a mat", "two cats under one roof") == ""
    assert kind_of_swap("a dog on a mat", "the dog on the mat") == ""
    assert kinds_of_swaps("a dog on a mat", ["two cats under one roof", "a cat on a mat"]) == ["", "object"]
    assert kinds_of_swaps("a dog on a mat", ["a cat on a mat", "a cow on a mat", "a hen on a mat"]) == ["object"] * 3


def test_a_set_without_any_known_kind_has_none(tmp_path: Path) -> None:
    assert task_of(tmp_path, {"tgt_text": ["a dog on a mat", "two cats under one roof"]}).swaps is None


# Real distractors

CAPTIONS = ["a", "b", "B. ", "c", *(str(number) for number in range(20))]
IMAGES = ["x", "x", "x", "y", *(f"z{number}" for number in range(20))]


def test_captions_of_the_same_image_come_first() -> None:
    drawn = RealDistractors(CAPTIONS, IMAGES).of_image(0)
    assert drawn[0] in ("b", "B. ")  # these two say the same
    assert len(drawn) == len(set(drawn)) == 9
    assert not {"a", "b", "B. "} & set(drawn[1:])


def test_an_image_with_one_caption_has_no_others() -> None:
    assert RealDistractors(CAPTIONS, IMAGES).of_image(3) == []
    assert RealDistractors(["b", "B"], ["x", "x"]).of_image(0) == []


def test_captions_of_other_images_are_others_and_the_same_every_time() -> None:
    drawn = [RealDistractors(CAPTIONS, IMAGES, seed).of_others(1) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    for own in drawn:
        assert len(own) == len(set(own)) == 9
        assert not {"a", "b", "B. "} & set(own)


def test_a_small_set_gives_what_it_has() -> None:
    assert sorted(RealDistractors(["a", "b", "c", ""], ["x", "y", "z", "w"]).of_others(0)) == ["b", "c"]


@pytest.mark.parametrize("kind", ["image", "others"])
def test_tasks_of_real_distractors(published: tuple[Path, Path], kind: str) -> None:
    data, images = published
    (task,) = scar_tasks(data, images, sets=["ADE20K"], distractors=kind)  # type: ignore[arg-type]
    (limited,) = scar_tasks(data, images, sets=["ADE20K"], distractors=kind, limit=1)  # type: ignore[arg-type]
    rows = rows_of(0)
    assert task.name == f"scar-{kind}/ADE20K"
    assert task.swaps is None
    by_image: dict[str, set[str]] = {}
    for row in rows:
        by_image.setdefault(row["qry_image_path"], set()).add(row["tgt_text"][0])
    for query, row in enumerate(rows):
        true, *wrong = texts(task, query)
        near = by_image[row["qry_image_path"]] - {true}
        assert true == row["tgt_text"][0]
        assert true not in wrong
        assert near <= set(wrong) if kind == "image" else not near & set(wrong)
    assert texts(limited, 0) == texts(task, 0)
