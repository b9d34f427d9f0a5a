"""What a measurement found: plain data, its JSON, and how a task's figures are counted.

Reports, comparisons and plots read `Results` and nothing else. Every figure is a share in [0, 1] with its 95 %
interval; what is kept of every query, where its right candidates stand, is enough to count any of them again and to
compare two runs query by query. In JSON a number that is not known (NaN) is null.

Letters: Q queries, R right candidates of a query.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from virtue.evaluation.intervals import Interval as Interval  # results are made of these: offered here too
from virtue.evaluation.intervals import bootstrap, bootstrap_columns, bootstrap_of_choices
from virtue.evaluation.metrics import expected_hit, expected_ndcg, expected_recall, expected_reciprocal_rank
from virtue.evaluation.ranking import Placing, Ranking
from virtue.evaluation.records import WrongRecordError, read_record, to_plain, written
from virtue.evaluation.tasks import NotMeasured, Task

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
        right_image: Of the first right candidate, where it has one: a JPEG as a data URL, at most 160 pixels wide and
            high.
        said_image: Of the best candidate that is not right, in the same form.
    """

    id: str
    text: str | None
    image: str | None
    right: str
    said: str
    rank: float
    right_image: str | None = None
    said_image: str | None = None


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
        missing: By reason, how many queries were left out that should be asked.
        ids: Of each query.
        groups: Of each query what it is about; intervals and tests draw groups.
        ranks: Of each query, of each right candidate in the order of its list: how many are better, and how many are
            level with it, itself among them.
        hits: Of each query, how surely a right candidate comes first.
        top: Of each query, the place in the task's candidates of the best one that is not right; -1 where all are.
        digest: Of the task's queries, candidates and lists: results with the same digest got the very same items.
        examples: Some that went wrong, the worst first.
        wrong: The commonest wrong answers, and of how many queries each is better than every right one.
        wrong_images: Pictures of those of them that are images, as in `Example`.
        excluded: By reason, how many queries the task's definition leaves out; it is whole without them.
        asked: A digest like `digest`, without how regions are shown and without instructions: results with the same one
            answer the same questions, and may be compared query by query.
        manner: How regions are shown, and whether there are instructions, such as "box, with an instruction".
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
    wrong_images: dict[str, str] = field(default_factory=dict)
    excluded: dict[str, int] = field(default_factory=dict)
    asked: str = ""
    manner: str = ""

    @property
    def is_partial(self) -> bool:
        """Whether some queries of the task were left out that should be asked."""
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
        not_measured: What nothing was left of.
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
    not_measured: list[NotMeasured] = field(default_factory=list)

    @cached_property
    def _means(self) -> dict[object, dict[str, Interval | None]]:
        """Means that were drawn for already, by what they are over: every output asks for them again."""
        return {}

    def save(self, path: Path) -> None:
        """Writes JSON, whole or not at all.

        Args:
            path: The file; its folder is there.
        """
        unfinished = path.with_name(path.name + ".unfinished")
        unfinished.write_text(written({"format": FORMAT, **to_plain(self)}) + "\n", encoding="utf-8")
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
            results: Results = read_record(cls, value, "")
            _check_tasks(results.tasks)
        except WrongRecordError as error:
            raise ValueError(f"{path} holds no results of an evaluation: {error}.") from error
        return results


def task_result(
    task: Task,
    ranking: Ranking,
    *,
    digest: str,
    asked: str = "",
    guesser: float | None = None,
    examples: Iterable[Example] = (),
    wrong: Mapping[str, int] | None = None,
    wrong_images: Mapping[str, str] | None = None,
    resamples: int = 2000,
) -> TaskResult:
    """Counts what a ranking is worth.

    Args:
        task: What was asked.
        ranking: Where its candidates stand.
        digest: Of the task's queries, candidates and lists.
        asked: The same without how regions are shown and without instructions.
        guesser: hit@1 of a guesser that reads the candidates and nothing else.
        examples: Some that went wrong, the worst first.
        wrong: The commonest wrong answers, and of how many queries each is better than every right one.
        wrong_images: Pictures of those that are images.
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
        wrong_images=dict(wrong_images or {}),
        excluded=dict(task.excluded),
        asked=asked,
        manner=task.manner,
    )


def mean_of_tasks(results: Results, names: Sequence[str]) -> Interval | None:
    """Mean hit@1 of some tasks, each of which counts the same.

    Args:
        results: Of a run.
        names: Of the tasks.

    Returns:
        None where one of them was not measured, or only in part.
    """
    return means_of_tasks(results, {"all": names})["all"]


def means_of_tasks(results: Results, choices: Mapping[str, Sequence[str]]) -> dict[str, Interval | None]:
    """What `mean_of_tasks` gives of several choices of tasks; drawn for once, however often a run is asked.

    Args:
        results: Of a run.
        choices: By name, the names of the tasks that a mean is over.
    """
    key = tuple((choice, tuple(names)) for choice, names in choices.items())
    if key not in results._means:
        known = {choice: [task.name for task in _whole(results, names)] for choice, names in choices.items()}
        known = {choice: names for choice, names in known.items() if names}
        chosen = {name for names in known.values() for name in names}
        tasks = {task.name: (task.hits, task.groups) for task in results.tasks if task.name in chosen}
        found = bootstrap_of_choices(tasks, known)
        results._means[key] = {choice: found.get(choice) for choice in choices}
    return results._means[key]


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


def _check_tasks(tasks: Sequence[TaskResult]) -> None:
    """Refuses tasks that reports could not show."""
    for number, task in enumerate(tasks):
        if "hit@1" not in task.metrics:
            raise WrongRecordError(f"tasks[{number}].metrics.hit@1 is missing")
        for name in ("ids", "groups", "ranks", "hits", "top"):
            if len(getattr(task, name)) != task.queries:
                raise WrongRecordError(
                    f"tasks[{number}].{name} should have an entry for each of {task.queries} queries"
                )
