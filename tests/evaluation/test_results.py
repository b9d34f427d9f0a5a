import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from virtue.evaluation.ranking import Placing, Ranking
from virtue.evaluation.results import (
    Curve,
    CurvePoint,
    Example,
    Interval,
    Results,
    TaskResult,
    mean_of_queries,
    mean_of_tasks,
    task_result,
)
from virtue.evaluation.tasks import Task
from virtue.items import Item


def words(*texts: str) -> list[Item]:
    return [Item(text=text) for text in texts]


def placed(better: int, level: int, listed: int) -> Placing:
    return Placing(np.array([better]), np.array([level]), listed)


def counted(name: str = "t", missing: dict[str, int] | None = None) -> TaskResult:
    """Four queries about two things: one right, one level with another, two wrong."""
    task = Task(
        name=name,
        queries=words("a", "b", "c", "d"),
        candidates=words("A", "B", "C", "D"),
        relevant=[np.array([number]) for number in range(4)],
        lists=[np.array(own) for own in ([0, 1], [1, 0], [2, 0, 1, 3], [3, 0, 1, 2])],
        ids=["w", "x", "y", "z"],
        groups=["one", "one", "two", "two"],
        tags={"size": ["small", "small", "large", ""]},
        missing=missing or {},
    )
    placings = [placed(0, 1, 2), placed(0, 2, 2), placed(1, 1, 4), placed(3, 1, 4)]
    swaps = {"scene": {2: placed(0, 1, 2), 3: placed(1, 1, 2)}, "object": {3: placed(0, 1, 2)}}
    example = Example("z", "d", None, "D", "A", 4.0)
    return task_result(
        task,
        Ranking(placings, np.array([1, 0, 0, 0]), swaps),
        digest="d1",
        guesser=0.5,
        examples=[example],
        wrong={"A": 2},
    )


def run(*tasks: TaskResult, curves: list[Curve] | None = None) -> Results:
    return Results(
        model="m",
        fingerprint="f",
        strategy="prompt",
        dimension=8,
        settings={"batch_size": 32, "share": 0.5, "whole": True, "device": None, "store": "here"},
        versions={"numpy": "2"},
        made="2026-01-01T00:00:00+00:00",
        tasks=list(tasks),
        curves=curves or [],
    )


def test_figures_of_a_task() -> None:
    result = counted()
    figures = {name: own.value for name, own in result.metrics.items()}
    assert list(figures) == ["hit@1", "hit@5", "hit@10", "mrr", "ndcg@10", "recall@1", "recall@5", "recall@10"]
    assert figures["hit@1"] == (1 + 1 / 2 + 0 + 0) / 4
    assert figures["hit@5"] == figures["recall@10"] == 1
    assert figures["mrr"] == (1 + 3 / 4 + 1 / 2 + 1 / 4) / 4
    assert result.chance == (1 / 2 + 1 / 2 + 1 / 4 + 1 / 4) / 4
    assert (result.guesser, result.queries, result.candidates) == (0.5, 4, 4)


def test_what_is_kept_of_every_query() -> None:
    result = counted()
    assert result.hits == [1, 1 / 2, 0, 0]
    assert result.ranks == [[[0, 1]], [[0, 2]], [[1, 1]], [[3, 1]]]
    assert result.top == [1, 0, 0, 0]
    assert (result.ids, result.groups) == (["w", "x", "y", "z"], ["one", "one", "two", "two"])
    assert (result.digest, result.wrong) == ("d1", {"A": 2})


def test_intervals_draw_groups() -> None:
    hit = counted().metrics["hit@1"]  # the first thing has a mean of 3/4, the second of 0
    assert (hit.low, hit.high) == (0, 3 / 4)


def test_parts_of_a_task() -> None:
    by = {kind: {word: own.value for word, own in parts.items()} for kind, parts in counted().by.items()}
    assert by == {"size": {"large": 0, "small": 3 / 4}, "swap": {"object": 1, "scene": 1 / 2}}


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    curve = Curve("t", "shifted", "share of the side", [CurvePoint(0.0, "none", Interval(0.5, 0.25, 0.75), 4)])
    result = replace(counted(missing={"no image": 2}), by={}, guesser=None)  # by size there is one group, so NaN
    saved = run(result, curves=[curve])
    saved.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == saved
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    run(counted()).save(path)
    saved = json.loads(path.read_text())
    assert saved["format"] == 1
    assert saved["tasks"][0]["by"]["size"]["small"] == {"value": 0.75, "low": None, "high": None}
    read = Results.load(path).tasks[0].by["size"]["small"]
    assert read.value == 0.75
    assert math.isnan(read.low) and math.isnan(read.high)


def test_a_file_from_before_lacks_what_came_later(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    run(counted()).save(path)
    saved = json.loads(path.read_text())
    del saved["not_measured"]
    for name in ("wrong_images", "excluded", "asked", "manner"):
        del saved["tasks"][0][name]
    for name in ("right_image", "said_image"):
        del saved["tasks"][0]["examples"][0][name]
    path.write_text(json.dumps(saved))
    read = Results.load(path)
    assert (read.not_measured, read.tasks[0].excluded, read.tasks[0].asked) == ([], {}, "")
    assert read.tasks[0].examples == counted().examples


def test_a_file_has_a_line_for_a_list_of_all_queries(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    run(counted()).save(path)
    lines = [line.strip() for line in path.read_text().splitlines()]
    assert '"ranks": [[[0, 1]], [[0, 2]], [[1, 1]], [[3, 1]]],' in lines
    assert '"versions": {"numpy": "2"},' in lines


def refusal(path: Path) -> str:
    with pytest.raises(ValueError, match="^" + str(path)) as caught:
        Results.load(path)
    return str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    with pytest.raises(FileNotFoundError, match="no file"):
        Results.load(path)
    path.write_bytes(b"\xff not text")
    assert refusal(path) == f"{path} holds no results of an evaluation: it is not JSON."
    path.write_text("[1, 2]")
    assert "the whole should be an object" in refusal(path)
    path.write_text("[" * 100_000)
    assert "it is not JSON" in refusal(path)
    path.write_text('{"model": "m"}')
    assert "fingerprint is missing" in refusal(path)
    path.write_text('{"format": 2}')
    assert "is of format 2, and this version of virtue reads 1" in refusal(path)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("queries", "4", "tasks[0].queries should be a whole number"),
        ("hits", [1, 0, "x", 0], "tasks[0].hits[2] should be a number or null"),
        ("metrics", {"hit@1": {"value": 1, "low": 0}}, "tasks[0].metrics.hit@1.high is missing"),
        ("metrics", {}, "tasks[0].metrics.hit@1 is missing"),
        ("chance", math.inf, "tasks[0].chance should be finite"),
        ("guesser", "often", "tasks[0].guesser should be a number or null"),
        ("digest", None, "tasks[0].digest should be a text"),
        ("top", [1], "tasks[0].top should have an entry for each of 4 queries"),
        ("ids", None, "tasks[0].ids should be a list"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, name: str, value: object, said: str) -> None:
    path = tmp_path / "results.json"
    run(counted()).save(path)
    saved = json.loads(path.read_text())
    saved["tasks"][0][name] = value
    path.write_text(json.dumps(saved))
    assert refusal(path) == f"{path} holds no results of an evaluation: {said}."


def test_a_mean_of_tasks_counts_each_the_same() -> None:
    one, other = counted("one"), replace(counted("other"), hits=[1.0], groups=["x"], ids=["x"], queries=1)
    results = run(one, other)
    mean, pooled = mean_of_tasks(results, ["one", "other"]), mean_of_queries(results, ["one", "other"])
    assert mean is not None and mean.value == (3 / 8 + 1) / 2
    assert pooled is not None and pooled.value == (1.5 + 1) / 5
    assert 0 <= pooled.low < pooled.value < pooled.high <= 1


@pytest.mark.parametrize("mean", [mean_of_tasks, mean_of_queries])
def test_there_is_no_mean_of_what_was_not_measured_whole(mean) -> None:
    results = run(counted("one"), counted("part", missing={"no image": 1}))
    assert mean(results, ["one"]).value == 3 / 8
    assert mean(results, ["one", "part"]) is None
    assert mean(results, ["one", "absent"]) is None
    assert mean(results, []) is None
