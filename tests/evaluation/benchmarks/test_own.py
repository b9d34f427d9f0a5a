import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.files import write_image, write_lines, write_parquet
from virtue.data.pairs import RowError
from virtue.evaluation.benchmarks.own import own_task
from virtue.evaluation.tasks import Task
from virtue.prompts import Box, Mask, Point, VisualPrompt

ROW: dict[str, Any] = {"query": "a dog", "candidates": ["one", "two"]}


def task_of(tmp_path: Path, *rows: object) -> Task:
    return own_task(write_lines(tmp_path / "bench.jsonl", rows))


def refused(tmp_path: Path, problem: str, *rows: object) -> None:
    with pytest.raises(RowError, match=problem):
        task_of(tmp_path, *rows)


def listed(task: Task, query: int) -> list[str | None]:
    return [task.candidates[place].text for place in task.listed(query)]


def test_each_query_has_its_own_candidates(tmp_path: Path) -> None:
    other = {
        "query": "a cat",
        "candidates": ["two", {"text": "three"}, {"text": "one", "image": None}],
        "relevant": [2, 1],
    }
    task = task_of(tmp_path, ROW, other)
    assert task.name == "own/bench"
    assert [item.text for item in task.queries] == ["a dog", "a cat"]
    assert [item.text for item in task.candidates] == ["one", "two", "three"]
    assert [listed(task, query) for query in (0, 1)] == [["one", "two"], ["two", "three", "one"]]
    assert [right.tolist() for right in task.relevant] == [[0], [0, 2]]
    assert (task.swaps, task.tags, list(task.ids)) == (None, {}, ["0", "1"])
    assert task.groups[0] != task.groups[1]


def test_a_query_may_point_at_a_region(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", 8, 6)
    query = {"image": "a.png", "box": [1, 2, 4, 5], "points": [[2, 3]], "mask": [[1, 1, 3, 1, 3, 3, 1, 3]]}
    task = task_of(
        tmp_path, {"query": query, "candidates": [{"image": "a.png"}, {"image": "a.png", "box": [0, 0, 2, 2]}]}
    )
    prompt = task.queries[0].prompt
    assert isinstance(prompt, VisualPrompt)
    assert (prompt.box, prompt.points) == (Box(1, 2, 4, 5), (Point(2, 3),))
    assert isinstance(prompt.mask, Mask)
    assert len(task.candidates) == 2


def test_ids_groups_tags_and_swaps(tmp_path: Path) -> None:
    rows = [
        ROW | {"id": "first", "group": "street", "tags": {"place": "in"}, "swaps": ["", "object"]},
        ROW | {"id": 7, "group": "street", "tags": {"place": "out"}},
    ]
    task = task_of(tmp_path, *rows)
    assert list(task.ids) == ["first", "7"]
    assert task.groups[0] == task.groups[1]
    assert task.tags == {"place": ["in", "out"]}
    assert task.swaps == [["", "object"], ["", ""]]


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    write_image(tmp_path / "images/a.png", 8, 6)
    query = {"text": "here", "image": "a.png", "box": [1.0, 2, 4, 5]}
    rows = [
        {"query": query, "candidates": ["one", "two"], "relevant": [1], "tags": {"place": "in"}},
        {"query": {**query, "box": None}, "candidates": ["one"], "relevant": None, "tags": {"place": "out"}},
    ]
    task = own_task(write_parquet(tmp_path / "bench.parquet", rows), tmp_path / "images")
    assert [item.prompt for item in task.queries] == [VisualPrompt(box=Box(1, 2, 4, 5)), None]
    assert [right.tolist() for right in task.relevant] == [[1], [0]]
    assert task.tags == {"place": ["in", "out"]}


def test_pictures_inside_parquet(tmp_path: Path) -> None:
    picture = {"bytes": write_image(tmp_path / "a.png").read_bytes(), "path": "a.png"}
    task = own_task(write_parquet(tmp_path / "bench.parquet", [{"query": picture, "candidates": ["one", "two"]}]))
    assert task.queries[0].image == picture["bytes"]


def test_a_corpus_is_searched_whole(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "queries.jsonl", [{"query": "a dog", "relevant": ["b", 3]}, {"query": "a cat", "relevant": ["c"]}]
    )
    candidates = [
        {"id": "a", "candidate": "one"},
        {"id": "b", "candidate": "two"},
        {"id": "c", "candidate": {"text": "one"}},
    ]
    write_parquet(tmp_path / "candidates.parquet", [{"id": "x", "candidate": "?"}])
    write_lines(tmp_path / "candidates.jsonl", [*candidates, {"id": 3, "candidate": "three"}])
    task = own_task(tmp_path)
    assert task.name == f"own/{tmp_path.name}"
    assert task.lists is None
    assert [item.text for item in task.candidates] == ["one", "two", "three"]  # a and c say the same
    assert [right.tolist() for right in task.relevant] == [[1, 2], [0]]


def test_a_folder_needs_both_files(tmp_path: Path) -> None:
    write_lines(tmp_path / "queries.jsonl", [])
    with pytest.raises(FileNotFoundError, match=r"holds neither candidates\.jsonl nor candidates\.parquet\."):
        own_task(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none\.jsonl\."):
        own_task(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match=r"The task own/empty has no queries\."):
        own_task(write_lines(tmp_path / "empty.jsonl", []))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"candidates": ["one"]}, r"bench\.jsonl row 2, field query: is missing\."),
        ({"query": "a"}, r"row 2, field candidates: must be a list that is not empty, got None\."),
        (ROW | {"candidates": []}, r"row 2, field candidates: must be a list that is not empty, got \[\]\."),
        (ROW | {"candidates": ["one", 2]}, r"row 2, field candidates\[1\]: must be a text or an object with text, "),
        (ROW | {"candidates": ["one", "one"]}, r"row 2, field candidates\[1\]: is there twice"),
        (
            ROW | {"candidates": [{"image": "b.png"}]},
            r"row 2, field candidates\[0\]\.image: there is no file .*b\.png\.",
        ),
        (ROW | {"query": {"txt": "a"}}, r"row 2, field query\.txt: is unknown"),
        (ROW | {"relevant": [2]}, r"row 2, field relevant\[0\]: must be a place from 0 to 1, got 2\."),
        (ROW | {"relevant": [True]}, r"row 2, field relevant\[0\]: must be a place from 0 to 1, got True\."),
        (ROW | {"relevant": []}, r"row 2, field relevant: must be a list that is not empty, got \[\]\."),
        (ROW | {"swaps": [""]}, r"row 2, field swaps: has 1 words for 2 candidates\."),
        (ROW | {"tags": {"place": 1}}, r"row 2, field tags\.place: must be text, got int\."),
        (ROW | {"tags": {"place": "in"}}, r"row 2, field tags: must be those of the first row \(none\), got place\."),
        (ROW | {"tags": ["in"]}, r"row 2, field tags: must be an object of words, got list\."),
        (ROW | {"id": 1.5}, r"row 2, field id: must be text or a whole number, got float\."),
        (ROW | {"positive": "one"}, r"row 2, field positive: is unknown; a row has query, relevant, id, group, tags, "),
    ],
)
def test_complaints_name_file_row_and_field(tmp_path: Path, row: object, problem: str) -> None:
    refused(tmp_path, problem, ROW, row)


@pytest.mark.parametrize(
    ("query", "candidate", "problem"),
    [
        ({"relevant": ["z"]}, {}, r"queries\.jsonl row 1, field relevant\[0\]: 'z' is the id of no candidate\."),
        ({"relevant": None}, {}, r"queries\.jsonl row 1, field relevant: must be a list that is not empty, got None\."),
        ({"candidates": ["b"]}, {}, r"queries\.jsonl row 1, field candidates: is unknown"),
        ({}, {"id": None}, r"candidates\.jsonl row 2, field id: is missing"),
        ({}, {"id": "a"}, r"candidates\.jsonl row 2, field id: 'a' is there twice\."),
        ({}, {"candidate": None}, r"candidates\.jsonl row 2, field candidate: must be a text or an object"),
    ],
)
def test_complaints_about_a_corpus(tmp_path: Path, query: Any, candidate: Any, problem: str) -> None:
    write_lines(tmp_path / "queries.jsonl", [{"query": "a dog", "relevant": ["a"], **query}])
    rows = [{"id": "a", "candidate": "one"}, {"id": "b", "candidate": "two", **candidate}]
    write_lines(tmp_path / "candidates.jsonl", [json.dumps(row) for row in rows])
    with pytest.raises(RowError, match=problem):
        own_task(tmp_path)
