"""`evaluate`: from a model and tasks to figures.

    results = evaluate("nano", scar_tasks("scar", "images"), strategy="crop", store="embeddings")

Of each task the queries and the candidates are embedded, every query's list is ranked, and the ranking is counted. One
task is in memory at a time. Embeddings go through a store on disk, so a run that was stopped goes on where it was, and
several processes (`sharing`) may do the work.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

import virtue
from virtue.evaluation.changes import Change
from virtue.evaluation.embedding import Role, embed
from virtue.evaluation.examples import common_mistakes, worst_examples
from virtue.evaluation.guesser import text_guesser
from virtue.evaluation.keys import Changes, item_keys, query_keys, task_digest
from virtue.evaluation.models.encoder import Encoder
from virtue.evaluation.models.loading import load_encoder
from virtue.evaluation.ranking import rank
from virtue.evaluation.results import Results, Setting, TaskResult, task_result
from virtue.evaluation.sharing import World, from_environment, own_device
from virtue.evaluation.store import Store, kept_in
from virtue.evaluation.strategies import strategy_changes
from virtue.evaluation.tasks import NotMeasured, Task
from virtue.items import Item

T = TypeVar("T")

Progress: TypeAlias = Callable[[str, int, int], None]
"""What is being embedded ("scar/ADE20K: queries"), how many distinct items are done, and how many there are."""

_LIBRARIES = ("torch", "transformers", "numpy")
_GUESSED: dict[tuple[str, ...], float | None] = {}  # what the guesser gets is the same for all models and strategies


def evaluate(
    model: Encoder | str,
    tasks: Iterable[Task | NotMeasured],
    *,
    strategy: str = "prompt",
    changes: Sequence[Change] = (),
    store: str | Path | None = None,
    batch_size: int = 32,
    resamples: int = 2000,
    device: str | None = None,
    progress: Progress | None = None,
    on_task: Callable[[TaskResult], None] | None = None,
    on_not_measured: Callable[[NotMeasured], None] | None = None,
    world: World | None = None,
) -> Results:
    """Measures a model.

    Args:
        model: An encoder, or the name of one as `load_encoder` takes it.
        tasks: What to measure it on. They are taken one by one, so they may be made when they are asked for. What
            stands for a task of which nothing is left is passed on to the results.
        strategy: How the model is shown a region: "prompt" gives it the visual prompt, and `STRATEGIES` has what a
            model without visual prompts can be shown instead.
        changes: What is done to every query before, such as a disturbance.
        store: Folder that embeddings are kept in; by default a temporary one, gone at the end.
        batch_size: Items of a batch at most.
        resamples: How often queries are drawn anew for the 95 % intervals.
        device: Where a model given by name runs; by default the first of cuda, mps and cpu that there is.
        progress: Called while embedding, with what is embedded, how much is done and how much there is; on rank 0 only.
        on_task: Called with what was found for a task as soon as it is known; on rank 0 only.
        on_not_measured: Called with what stands for a task when its turn comes; on rank 0 only.
        world: The processes that share the work; by default those that torchrun started.

    Returns:
        What was found for each task, in their order; the same in every process.

    Raises:
        ValueError: If there are no tasks or nothing is left of any, the strategy or model is not known, an item cannot
            be embedded, or the model gives embeddings that are not finite, or the same one for everything.
        RuntimeError: If the model fails otherwise, or another process does.
    """
    shown = strategy_changes(strategy)
    place = from_environment() if world is None else world
    encoder = load_encoder(model, device=device or own_device(place)) if isinstance(model, str) else model
    found: list[TaskResult] = []
    lost: list[NotMeasured] = []
    dimension = 0
    with kept_in(store, place) as kept:
        job = _Job(encoder, tuple(changes), shown, kept, batch_size, resamples, place, _first(progress, place))
        tell, tell_lost = _first(on_task, place), _first(on_not_measured, place)
        for task in tasks:
            if isinstance(task, Task):
                result, dimension = job.measure(task)
                found.append(result)
                if tell is not None:
                    tell(result)
            else:
                lost.append(task)
                if tell_lost is not None:
                    tell_lost(task)
    _check_found(found, lost)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    settings = job.settings()
    return Results(encoder.name, encoder.fingerprint, strategy, dimension, settings, _versions(), made, found, [], lost)


def _check_found(found: Sequence[TaskResult], lost: Sequence[NotMeasured]) -> None:
    if found:
        return
    if lost:
        raise ValueError(
            f"Nothing could be measured: {'; '.join(f'{one.name}, because {one.reason}' for one in lost)}."
        )
    raise ValueError("There are no tasks to measure the model on.")


@dataclass(frozen=True)
class _Job:
    """What is the same for all tasks."""

    encoder: Encoder
    changes: tuple[Change, ...]
    shown: tuple[Change, ...]
    store: Store
    batch_size: int
    resamples: int
    world: World
    progress: Progress | None

    def settings(self) -> dict[str, Setting]:
        """What results say of the run, beside model and strategy."""
        return {
            "batch_size": self.batch_size,
            "resamples": self.resamples,
            "changes": ", ".join(change.name for change in self.changes) or None,
            "processes": self.world.size,
            **_where(self.encoder),
        }

    def measure(self, task: Task) -> tuple[TaskResult, int]:
        """What is found for a task, and D."""
        (keys, asked), candidate_keys = query_keys(task), item_keys(task.candidates)
        queries = self._embed(task, "query", keys, self._of_query)
        candidates = self._embed(task, "document", candidate_keys, self._of_candidate)
        ranking = rank(queries, candidates, task)
        digest = task_digest(task, keys, candidate_keys)
        wrong, images = common_mistakes(task, ranking)
        result = task_result(
            task,
            ranking,
            digest=digest,
            asked=task_digest(task, asked, candidate_keys),
            guesser=_guessed(task, digest),
            examples=worst_examples(task, ranking),
            wrong=wrong,
            wrong_images=images,
            resamples=self.resamples,
        )
        return result, queries.shape[1]

    def _embed(self, task: Task, role: Role, keys: Sequence[bytes], changes: Changes) -> NDArray[np.float32]:
        items = task.queries if role == "query" else task.candidates
        what = f"{task.name}: {'queries' if role == 'query' else 'candidates'}"
        progress = self.progress
        try:
            return embed(
                self.encoder,
                items,
                role,
                changes=changes,
                store=self.store,
                batch_size=self.batch_size,
                progress=None if progress is None else lambda done, total: progress(what, done, total),
                world=self.world,
                keys=keys,
            )
        except ValueError as error:
            raise ValueError(f"{task.name}: {error}") from error

    def _of_query(self, item: Item) -> Sequence[Change]:
        """What is done to a query: a disturbance may give it a visual prompt, which the strategy then shows."""
        return self.changes + self.shown if item.prompt is not None or self.changes else ()

    def _of_candidate(self, item: Item) -> Sequence[Change]:
        """What is done to a candidate: nothing without a visual prompt, so that strategies share its embedding."""
        return self.shown if item.prompt is not None else ()


def _guessed(task: Task, digest: str) -> float | None:
    """What the guesser gets of a task; it learns anew from other questions only, as that takes a while."""
    key = (digest, *task.groups)
    if key not in _GUESSED:
        _GUESSED[key] = text_guesser(task)
    return _GUESSED[key]


def _first(told: T | None, world: World) -> T | None:
    """What is told of progress: by one process of several."""
    return told if world.rank == 0 else None


def _where(encoder: Encoder) -> dict[str, Setting]:
    """Where a model of this process runs and in which precision; nothing of a server's."""
    model = getattr(encoder, "model", None)
    known = {"device": getattr(model, "device", None), "precision": getattr(model, "dtype", None)}
    return {name: str(value).removeprefix("torch.") for name, value in known.items() if value is not None}


def _versions() -> dict[str, str]:
    versions = {"virtue": virtue.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # built from source without metadata
            continue
    return versions
