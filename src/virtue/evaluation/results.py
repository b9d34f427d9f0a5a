"""What a measurement found: plain data, its JSON, and how a task's figures are counted.

Reports, comparisons and plots read `Results` and nothing else. Every figure is a share in [0, 1] with its 95 %
interval; what is kept of every query, where its right candidates stand, is enough to count any of them again and to
compare two runs query by query. In JSON a number that is not known (NaN) is null.

Letters: Q queries, R right candidates of a query.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from virtue.evaluation.intervals import Interval as Interval  # results are made of these: offered here too
from virtue.evaluation.intervals import bootstrap, bootstrap_columns, bootstrap_of_means
from virtue.evaluation.metrics import expected_hit, expected_ndcg, expected_recall, expected_reciprocal_rank
from virtue.evaluation.ranking import Placing, Ranking
from virtue.evaluation.tasks import Task

FORMAT = 1
"""Of the files; one that is read differently gets the next number."""

Setting = str | int | float | bool | None


@dataclass(frozen=True)
class Example:
    """A query that went wrong.

    Attributes:
        id: Of the query.
        text: Of the query.
        image: Of the query, with the region drawn: a JPEG as a data URL, at most 256 pixels wide and high.
        right: What its first right candidate says.
        said: What the best candidate that is not right says.
        rank: Of the first right candidate, from 1; the mean over all orders of what is level.
    """

    id: str
    text: str | None
    image: str | None
    right: str
    said: str
    rank: float


@dataclass(frozen=True)
class TaskResult:
    """What a model got of a task.

    Attributes:
        name: Of the task, such as "scar/ADE20K".
        queries: Q.
        candidates: How many distinct ones the task has.
        metrics: "hit@1", "hit@5", "hit@10", "mrr", "ndcg@10", "recall@1", "recall@5", "recall@10".
        by: hit@1 of parts. "swap": by kind of swap, among the right candidates and the distractors of that kind alone;
            each tag of the task: by word, of the queries with that word.
        chance: hit@1 of a model that gives everything the same score.
        guesser: hit@1 of a guesser that reads the candidates and nothing else; None where they are not texts.
        missing: By reason, how many queries were left out.
        ids: Of each query.
        groups: Of each query what it is about; intervals and tests draw groups.
        ranks: Of each query, of each right candidate in the order of its list: how many are better, and how many are
            level with it, itself among them.
        hits: Of each query, how surely a right candidate comes first.
        top: Of each query, the place in the task's candidates of the best one that is not right; -1 where all are.
        digest: Of the task's queries, candidates and lists: results with the same digest answer the same questions.
        examples: Some that went wrong, the worst first.
        wrong: The commonest wrong answers, and of how many queries each is better than every right one.
    """

    name: str
    queries: int
    candidates: int
    metrics: dict[str, Interval]
    by: dict[str, dict[str, Interval]]
    chance: float
    guesser: float | None
    missing: dict[str, int]
    ids: list[str]
    groups: list[str]
    ranks: list[list[list[int]]]
    hits: list[float]
    top: list[int]
    digest: str
    examples: list[Example]
    wrong: dict[str, int] = field(default_factory=dict)

    @property
    def is_partial(self) -> bool:
        """Whether some queries of the task were left out."""
        return any(self.missing.values())


@dataclass(frozen=True)
class CurvePoint:
    """hit@1 at one severity of a disturbance, of so many queries; the label says the severity in words."""

    severity: float
    label: str
    hit: Interval
    queries: int


@dataclass(frozen=True)
class Curve:
    """hit@1 of a task against the severity of a disturbance, which is counted in a unit such as "share of the side"."""

    task: str
    disturbance: str
    unit: str
    points: list[CurvePoint]


@dataclass(frozen=True)
class Results:
    """One run: a model, how it was shown regions, and what it got.

    Attributes:
        model: Its name.
        fingerprint: Changes when what it computes changes.
        strategy: How it was shown regions.
        dimension: Length of its embeddings.
        settings: Of the run.
        versions: Of what the figures may depend on.
        made: When, ISO 8601.
        tasks: In the order they were measured.
        curves: Of robustness; empty where it was not asked for.
    """

    model: str
    fingerprint: str
    strategy: str
    dimension: int
    settings: dict[str, Setting]
    versions: dict[str, str]
    made: str
    tasks: list[TaskResult]
    curves: list[Curve]

    def save(self, path: Path) -> None:
        """Writes JSON, whole or not at all.

        Args:
            path: The file; its folder is there.
        """
        unfinished = path.with_name(path.name + ".unfinished")
        unfinished.write_text(_written({"format": FORMAT, **_plain(self)}) + "\n", encoding="utf-8")
        unfinished.replace(path)

    @classmethod
    def load(cls, path: Path) -> Results:
        """Reads what `save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is something else, or of another format.
        """
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path}; results of an evaluation are in its results.json.")
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} holds no results of an evaluation: it is not JSON.") from error
        known = value.get("format") if isinstance(value, dict) else None
        if isinstance(known, int) and known != FORMAT:
            raise ValueError(f"{path} is of format {known}, and this version of virtue reads {FORMAT}: measure again.")
        try:
            results: Results = _read(cls, value, "")
            _check_tasks(results.tasks)
        except _WrongError as error:
            raise ValueError(f"{path} holds no results of an evaluation: {error}.") from error
        return results


def task_result(
    task: Task,
    ranking: Ranking,
    *,
    digest: str,
    guesser: float | None = None,
    examples: Iterable[Example] = (),
    wrong: Mapping[str, int] | None = None,
    resamples: int = 2000,
) -> TaskResult:
    """Counts what a ranking is worth.

    Args:
        task: What was asked.
        ranking: Where its candidates stand.
        digest: Of the task's queries, candidates and lists.
        guesser: hit@1 of a guesser that reads the candidates and nothing else.
        examples: Some that went wrong, the worst first.
        wrong: The commonest wrong answers, and of how many queries each is better than every right one.
        resamples: How often groups are drawn for an interval.
    """
    placings, groups = ranking.placings, list(task.groups)
    values = _metrics(placings)
    intervals = bootstrap_columns(np.stack(list(values.values()), axis=1), groups, resamples=resamples)
    return TaskResult(
        name=task.name,
        queries=len(placings),
        candidates=len(task.candidates),
        metrics=dict(zip(values, intervals, strict=True)),
        by=_by_tag(task, values["hit@1"], resamples) | _by_swap(task, ranking.swaps, resamples),
        chance=float(np.mean([len(own.better) / own.listed for own in placings])),
        guesser=guesser,
        missing=dict(task.missing),
        ids=list(task.ids),
        groups=groups,
        ranks=[np.stack([own.better, own.level], axis=1).tolist() for own in placings],
        hits=values["hit@1"].tolist(),
        top=ranking.top.tolist(),
        digest=digest,
        examples=list(examples),
        wrong=dict(wrong or {}),
    )


def mean_of_tasks(results: Results, names: Sequence[str]) -> Interval | None:
    """Mean hit@1 of some tasks, each of which counts the same.

    Args:
        results: Of a run.
        names: Of the tasks.

    Returns:
        None where one of them was not measured, or only in part.
    """
    tasks = _whole(results, names)
    return bootstrap_of_means([(task.hits, task.groups) for task in tasks]) if tasks else None


def mean_of_queries(results: Results, names: Sequence[str]) -> Interval | None:
    """Mean hit@1 of all queries of some tasks, each of which counts the same.

    Args:
        results: Of a run.
        names: Of the tasks.

    Returns:
        None where one of them was not measured, or only in part.
    """
    tasks = _whole(results, names)
    hits = [hit for task in tasks for hit in task.hits]
    return bootstrap(hits, [(task.name, group) for task in tasks for group in task.groups]) if tasks else None


def _whole(results: Results, names: Sequence[str]) -> list[TaskResult]:
    """The tasks of these names; none of them where one is not there or partial."""
    whole = {task.name: task for task in results.tasks if not task.is_partial}
    return [whole[name] for name in names] if all(name in whole for name in names) else []


def _metrics(placings: Sequence[Placing]) -> dict[str, np.ndarray]:
    """Of each query, (Q,)."""
    return {
        **{f"hit@{k}": expected_hit(placings, k) for k in (1, 5, 10)},
        "mrr": expected_reciprocal_rank(placings),
        "ndcg@10": expected_ndcg(placings, 10),
        **{f"recall@{k}": expected_recall(placings, k) for k in (1, 5, 10)},
    }


def _by_tag(task: Task, hits: np.ndarray, resamples: int) -> dict[str, dict[str, Interval]]:
    """hit@1 by tag and word; a query whose word is "" has none."""
    by: dict[str, dict[str, Interval]] = {}
    for tag, words in task.tags.items():
        by[tag] = {}
        for word in sorted(set(words) - {""}):
            own = [query for query, its_word in enumerate(words) if its_word == word]
            by[tag][word] = bootstrap(hits[own], [task.groups[query] for query in own], resamples=resamples)
    return by


def _by_swap(task: Task, swaps: Mapping[str, Mapping[int, Placing]], resamples: int) -> dict[str, dict[str, Interval]]:
    kinds: dict[str, Interval] = {}
    for kind, placings in sorted(swaps.items()):
        groups = [task.groups[query] for query in placings]
        kinds[kind] = bootstrap(expected_hit(list(placings.values()), 1), groups, resamples=resamples)
    return {"swap": kinds} if kinds else {}


_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}


class _WrongError(Exception):
    """Says what of a file is not as it should be."""


def _plain(value: Any) -> Any:
    """What JSON can hold."""
    if is_dataclass(value):
        return {own.name: _plain(getattr(value, own.name)) for own in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_plain(own) for own in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _written(value: Any, margin: str = "") -> str:
    """JSON that people can look through: a line for a list of numbers or a small object, and for nothing less."""
    inner = margin + " "
    if isinstance(value, dict) and any(isinstance(own, dict | list) for own in value.values()):
        rows = [f"{inner}{json.dumps(key)}: {_written(own, inner)}" for key, own in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{margin}}}"
    if isinstance(value, list) and any(isinstance(own, dict) for own in value):
        return "[\n" + ",\n".join(inner + _written(own, inner) for own in value) + f"\n{margin}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _read(kind: Any, value: Any, place: str) -> Any:
    """A value of a type out of JSON; `place` says where it stands."""
    origin, parts = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        _expect(isinstance(value, dict), place, "an object")
        return kind(**{name: _read(part, *_entry(value, name, place)) for name, part in get_type_hints(kind).items()})
    if origin is list:
        _expect(isinstance(value, list), place, "a list")
        return [_read(parts[0], own, f"{place}[{number}]") for number, own in enumerate(value)]
    if origin is dict:
        _expect(isinstance(value, dict), place, "an object")
        return {key: _read(parts[1], own, f"{place}.{key}") for key, own in value.items()}
    known = parts if origin is UnionType else (kind, NoneType) if kind is float else (kind,)
    if type(value) is int and int not in known and float in known:
        value = float(value)
    _expect(type(value) in known, place, " or ".join(_NAMES[own] for own in known))
    _expect(not isinstance(value, float) or math.isfinite(value), place, "finite")
    return math.nan if value is None and kind is float else value


def _entry(value: dict[str, Any], name: str, place: str) -> tuple[Any, str]:
    where = f"{place}.{name}".lstrip(".")
    if name not in value:
        raise _WrongError(f"{where} is missing")
    return value[name], where


def _expect(fits: bool, place: str, what: str) -> None:
    if not fits:
        raise _WrongError(f"{place or 'the whole'} should be {what}")


def _check_tasks(tasks: Sequence[TaskResult]) -> None:
    """Refuses tasks that reports could not show."""
    for number, task in enumerate(tasks):
        if "hit@1" not in task.metrics:
            raise _WrongError(f"tasks[{number}].metrics.hit@1 is missing")
        for name in ("ids", "groups", "ranks", "hits", "top"):
            if len(getattr(task, name)) != task.queries:
                raise _WrongError(f"tasks[{number}].{name} should have an entry for each of {task.queries} queries")
