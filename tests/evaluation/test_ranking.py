import math
from collections.abc import Sequence

import numpy as np
import pytest

from virtue.evaluation import ranking
from virtue.evaluation.ranking import LEVEL, Placing, check_embeddings, placing, rank
from virtue.evaluation.tasks import Task
from virtue.items import Item


def texts(*words: str) -> list[Item]:
    return [Item(text=word) for word in words]


def task(relevant: Sequence[Sequence[int]], count: int, lists: Sequence[Sequence[int]] | None = None, **more) -> Task:
    return Task(
        name="t",
        queries=texts(*(f"query {number}" for number in range(len(relevant)))),
        candidates=texts(*(f"word {number}" for number in range(count))),
        relevant=[np.array(own) for own in relevant],
        lists=None if lists is None else [np.array(own) for own in lists],
        **more,
    )


def read(own: Placing) -> tuple[list[int], list[int], int]:
    return own.better.tolist(), own.level.tolist(), own.listed


def directions(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_every_query_meets_all_candidates_where_there_are_no_lists() -> None:
    found = rank(directions(0, 90), directions(10, 20, 80), task([[0], [0, 1]], 3))
    assert read(found.placings[0]) == ([0], [1], 3)
    assert read(found.placings[1]) == ([2, 1], [1, 1], 3)
    assert found.top.tolist() == [1, 2]
    assert found.swaps == {}


@pytest.mark.parametrize("dense", [0, 9])  # always a matrix product, never one
def test_a_list_hides_all_others(monkeypatch: pytest.MonkeyPatch, dense: float) -> None:
    monkeypatch.setattr(ranking, "_DENSE", dense)
    found = rank(directions(0, 90), directions(10, 20, 80), task([[1], [1]], 3, [[2, 1], [1, 0]]))
    assert [read(own) for own in found.placings] == [([0], [1], 2), ([0], [1], 2)]
    assert found.top.tolist() == [2, 0]


def test_the_length_of_an_embedding_does_not_count() -> None:
    lengths = np.array([[1e-3], [1e3]], dtype=np.float32)
    found = rank(directions(0), directions(20, 10) * lengths, task([[0]], 2))
    assert read(found.placings[0]) == ([1], [1], 2)


def test_blocks_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    queries, candidates = rng.standard_normal((7, 4), np.float32), rng.standard_normal((9, 4), np.float32)
    asked = task([[number] for number in range(7)], 9, [rng.permutation(9) for _ in range(7)])
    whole = rank(queries, candidates, asked)
    monkeypatch.setattr(ranking, "_BLOCK", 2 * 9)
    monkeypatch.setattr(ranking, "_CHUNK", 2 * 4)
    parts = rank(queries, candidates, asked)
    assert [read(own) for own in whole.placings] == [read(own) for own in parts.placings]
    assert whole.top.tolist() == parts.top.tolist()


def test_scores_that_hardly_differ_are_level() -> None:
    scores = np.array([0.5, 0.5 + LEVEL / 2, 0.5 - 2 * LEVEL, 0.9])
    assert read(placing(scores, np.array([True, False, False, False]))) == ([1], [2], 4)
    assert read(placing(scores, np.array([False, True, True, False]))) == ([1, 3], [2, 1], 4)


def test_steps_that_hardly_differ_join_what_lies_between() -> None:
    scores = 0.5 + LEVEL * np.array([0, 0.9, 1.8, 2.9])
    for right in range(3):
        assert read(placing(scores, np.arange(4) == right)) == ([1], [3], 4)


def test_a_model_that_gives_two_the_same_score_is_not_given_the_right_one() -> None:
    found = rank(directions(0), directions(30, -30, 90), task([[0]], 3))
    assert read(found.placings[0]) == ([0], [2], 3)
    assert found.top.tolist() == [1]


def test_there_is_no_wrong_answer_where_all_are_right() -> None:
    assert rank(directions(0), directions(1, 2), task([[0, 1]], 2)).top.tolist() == [-1]


def test_kinds_of_swap_are_ranked_apart() -> None:
    asked = task([[0], [1]], 4, [[0, 1, 2, 3], [1, 2]], swaps=[["", "object", "object", "scene"], ["", ""]])
    found = rank(directions(0, 1), directions(20, 10, 30, 40), asked)
    assert set(found.swaps) == {"object", "scene"}
    assert {query: read(own) for query, own in found.swaps["object"].items()} == {0: ([1], [1], 3)}
    assert {query: read(own) for query, own in found.swaps["scene"].items()} == {0: ([0], [1], 2)}


def test_a_list_with_a_candidate_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="Query 0 of the task t has a candidate twice"):
        rank(directions(0), directions(1, 2), task([[0]], 2, [[0, 0, 1]]))
    with pytest.raises(ValueError, match="twice"):
        rank(directions(0), directions(1, 2), task([[0, 0]], 2))


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match=r"has 1 queries, so their embeddings are \(1, D\), not \(2, 2\)"):
        rank(directions(0, 1), directions(1, 2), task([[0]], 2))
    with pytest.raises(ValueError, match="have 2 numbers and those of candidates 3"):
        rank(directions(0), np.eye(2, 3, dtype=np.float32), task([[0]], 2))


@pytest.mark.parametrize(("value", "wrong"), [(math.nan, "not finite"), (math.inf, "not finite"), (0, "zero")])
def test_a_row_that_has_no_direction_is_named(value: float, wrong: str) -> None:
    good, bad = directions(10, 20), directions(10, 20)
    bad[1] = value
    asked = task([[0], [1]], 2, ids=["first", "row 7"])
    with pytest.raises(ValueError, match=f"query row 7 of t is {wrong}"):
        rank(bad, good, asked)
    with pytest.raises(ValueError, match=rf"candidate 1 \('word 1'\) of t is {wrong}"):
        rank(good, bad, asked)


def test_a_row_beyond_the_first_chunk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_CHUNK", 4)
    vectors = directions(0, 10, 20, 30, 40)
    vectors[3, 0] = math.nan
    with pytest.raises(ValueError, match="row 3"):
        check_embeddings(vectors, texts(*"abcde"), lambda number: f"row {number}")


def test_a_model_that_tells_nothing_apart_is_refused() -> None:
    same = np.tile(directions(30), (3, 1)) * np.array([[1], [2], [1 + 1e-7]], dtype=np.float32)
    with pytest.raises(ValueError, match="row 0 and the 2 others the same embedding: it tells nothing apart"):
        check_embeddings(same, texts("a", "b", "a"), lambda number: f"row {number}")
    with pytest.raises(ValueError, match="nothing apart"):
        rank(directions(1, 2), same[:2], task([[0], [1]], 2))


def test_what_is_the_same_may_have_the_same_embedding() -> None:
    same, picture = directions(30, 30), np.zeros((2, 2, 3), dtype=np.uint8)
    check_embeddings(same, texts("a", "a"), str)
    check_embeddings(same, [Item(image=picture), Item(image=picture.copy())], str)  # shown without their regions
    check_embeddings(same[:1], texts("a"), str)
    with pytest.raises(ValueError, match="nothing apart"):
        check_embeddings(same, [Item(image=picture), Item(image=picture + 1)], str)
