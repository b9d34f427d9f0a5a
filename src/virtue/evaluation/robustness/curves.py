"""Curves of hit@1 against severity: how far people's imprecision and bad pictures throw a model.

1. The candidates are embedded once, and the undisturbed queries once for each way to show an object.
2. Each disturbance (`disturbances`) gives the queries other visual prompts or other pictures at each severity; they are
   embedded, ranked, and give a point with its interval. Visual prompts of one family are embedded together, picture by
   picture, so that a model reads a picture once for all of them. Disturbances come before the strategy: a crop is cut
   at the jittered box.
3. A prompt on another object of the same picture gives two curves. *wrong object*: how often the first one is still
   what is right for the query's own object. *wrong object answered*: how often it is what is right for the other one,
   whose right candidates are added to the lists for this. Both count the queries whose picture has another object.
4. Natural curves need no more embeddings: the undisturbed queries in `BINS` bins of equal number, by the object's size,
   by how its mean colour differs from that of its surroundings, by how much of its box other objects cover, and by
   whatever else is measured of queries. Where only boxes are known, by the size of the box.

What a task allows goes by what its queries show: with masks everything is measured, with boxes no points and no masks,
with pictures alone only what changes pictures.

Q is the number of queries.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from virtue.evaluation.changes import Change, changed
from virtue.evaluation.embedding import Role, embed
from virtue.evaluation.intervals import bootstrap
from virtue.evaluation.keys import Changes
from virtue.evaluation.metrics import expected_hit
from virtue.evaluation.models.encoder import Encoder
from virtue.evaluation.ranking import rank
from virtue.evaluation.results import Curve, CurvePoint
from virtue.evaluation.robustness.disturbances import (
    ANSWERED,
    BASES,
    BOX_SIZE,
    DISTURBANCES,
    NATURAL,
    WRONG_OBJECT,
    Disturbance,
    Family,
    Needs,
    allowed,
    disturbed,
    other_objects,
)
from virtue.evaluation.robustness.measures import BINS, UNITS, bins, measured
from virtue.evaluation.robustness.prompt_disturbances import region_of
from virtue.evaluation.sharing import World, from_environment
from virtue.evaluation.store import Store, kept_in
from virtue.evaluation.strategies import strategy_changes
from virtue.evaluation.tasks import Task
from virtue.images import image_key
from virtue.items import Item

logger = logging.getLogger(__name__)

Vectors = NDArray[np.float32]
Hits = NDArray[np.float64]
Progress = Callable[[int, int], None]

_NEEDED: dict[str, Needs] = {**dict.fromkeys(NATURAL, "mask"), BOX_SIZE: "region"}  # of natural curves

BLOCK = 128
"""Queries that are disturbed at a time, at most."""

MASK_BYTES = 2**28
"""Masks of that many bytes are in memory at once, as far as all pictures are like the first."""


def curves(
    model: Encoder | str,
    task: Task,
    *,
    names: Sequence[str] | None = None,
    strategy: str = "prompt",
    store: str | Path | None = None,
    batch_size: int = 32,
    resamples: int = 2000,
    seed: int = 0,
    measures: Mapping[str, Sequence[float]] | None = None,
    progress: Progress | None = None,
    world: World | None = None,
) -> list[Curve]:
    """Hit@1 of a task against the severity of each disturbance.

    Args:
        model: The model, or what `models.load_encoder` loads.
        task: Its queries are pictures, best with masks as visual prompts.
        names: Of disturbances (keys of `DISTURBANCES`) and natural curves (`NATURAL`, `BOX_SIZE`); by default all that
            the task allows and the model takes.
        strategy: How the model is shown the region, a name of `strategies`.
        store: Folder of embeddings, by which a stopped run goes on; None keeps none.
        batch_size: Items of a batch at most.
        resamples: Of the bootstrap.
        seed: Of what is drawn.
        measures: By name, a number for each query, such as how much of its object is hidden; each gives one more
            natural curve. NaN leaves a query out.
        progress: Called with how many disturbed queries are done and how many there are.
        world: The processes that share the work; by default those that torchrun started.

    Returns:
        In the order of `DISTURBANCES`, then natural ones.

    Raises:
        ValueError: If the queries have no pictures, a name is unknown, the task does not allow what is named, or a
            measure has not a number for each query.
    """
    wanted, natural = _wanted(task, names)
    _check_measures(task, measures or {})
    place = from_environment() if world is None else world
    with kept_in(store, place) as kept:
        run = _Run(_loaded(model), task, strategy_changes(strategy), kept, batch_size, seed, resamples, place)
        if names is None:
            wanted = _telling(run, wanted, strategy)
        told = _Told(len(task.queries) * sum(len(disturbance.severities) for disturbance in wanted), progress)
        made: list[Curve] = []
        for family, group in groupby(wanted, lambda disturbance: disturbance.family):
            make = _shown_otherwise if family in BASES else _seen_otherwise
            made += make(run, list(group), told)
        return [*made, *_natural(run, natural, measures or {})]


def _loaded(model: Encoder | str) -> Encoder:
    if not isinstance(model, str):
        return model
    from virtue.evaluation.models.loading import load_encoder

    return load_encoder(model)


def _wanted(task: Task, names: Sequence[str] | None) -> tuple[list[Disturbance], list[str]]:
    """The disturbances and the natural curves that are named, or that the task allows."""
    if any(item.image is None for item in task.queries):
        raise ValueError(f"The task {task.name} has queries without a picture: there is nothing to disturb.")
    shown = {needs: allowed(needs, task.queries) for needs in get_args(Needs)}
    if names is None:
        natural = list(NATURAL) if shown["mask"] else [BOX_SIZE] if shown["region"] else []
        return [each for each in DISTURBANCES.values() if shown[each.needs]], natural
    needed = {name: each.needs for name, each in DISTURBANCES.items()} | _NEEDED
    for name in names:
        if name not in needed:
            raise ValueError(f"There is no disturbance {name!r}; there are {', '.join(needed)}.")
        if not shown[needed[name]]:
            raise ValueError(
                f"{name!r} needs the {needed[name]} of every query's object, which the queries of {task.name} do not "
                "show."
            )
    return [DISTURBANCES[name] for name in DISTURBANCES if name in names], [name for name in _NEEDED if name in names]


def _telling(run: _Run, wanted: Sequence[Disturbance], strategy: str) -> list[Disturbance]:
    """The disturbances that can make a difference to the model."""
    families = {each.family: each for each in wanted}
    if strategy == "none":  # visual prompts are dropped
        families = {family: each for family, each in families.items() if family == "picture"}
    taken = {family for family, each in families.items() if run.takes(each)}
    return [each for each in wanted if each.family in taken]


def _check_measures(task: Task, measures: Mapping[str, Sequence[float]]) -> None:
    for name, values in measures.items():
        if len(values) != len(task.queries):
            raise ValueError(f"The task {task.name} has {len(task.queries)} queries, but {name!r} has {len(values)}.")


@dataclass
class _Told:
    """Tells of progress, in queries."""

    total: int
    progress: Progress | None
    done: int = 0

    def __call__(self, queries: int) -> None:
        self.done += queries
        if self.progress is not None:
            self.progress(self.done, self.total)


@dataclass
class _Run:
    """One model on one task."""

    model: Encoder
    task: Task
    shown: tuple[Change, ...]
    store: Store
    batch_size: int
    seed: int
    resamples: int
    world: World

    def takes(self, disturbance: Disturbance) -> bool:
        """Whether the model, so shown, takes its family of visual prompts at all; tries it with the first query."""
        if disturbance.family not in BASES:
            return True
        first = disturbed(disturbance, self.task.queries[0], 0, 0)
        try:
            self.model.encode_query([changed(first, self.shown)], batch_size=1)
        except ValueError as error:
            logger.warning(
                "%s takes no %s, so their curves are left out: %s", self.model.name, disturbance.family, error
            )
            return False
        return True

    def queries(self, items: Sequence[Item], changes: Sequence[Change] = ()) -> Vectors:
        """Embeddings of queries after changes and the strategy, in the items' order, (n, D)."""
        return self._embed(items, "query", (*changes, *self.shown))

    @cached_property
    def undisturbed(self) -> Vectors:
        """Embeddings of the queries as the task has them, (Q, D)."""
        return self.queries(self.task.queries)

    @cached_property
    def candidates(self) -> Vectors:
        """Embeddings of the candidates; the strategy is for those that show a region."""
        return self._embed(self.task.candidates, "document", lambda item: () if item.prompt is None else self.shown)

    def hits(self, queries: Vectors, task: Task | None = None) -> Hits:
        """Expected hit@1 of each query, (Q,)."""
        return expected_hit(rank(queries, self.candidates, task or self.task).placings, 1)

    def point(self, severity: float, label: str, hits: Hits, numbers: Sequence[int] | None = None) -> CurvePoint:
        """A point of a curve over some queries, or all."""
        chosen = range(len(hits)) if numbers is None else numbers
        groups = [self.task.groups[number] for number in chosen]
        interval = bootstrap(hits[list(chosen)], groups, resamples=self.resamples, seed=self.seed)
        return CurvePoint(float(severity), label, interval, len(groups))

    def blocks(self, size: int) -> Iterator[list[int]]:
        """The queries' numbers by picture, so many at a time."""
        together: dict[Hashable, list[int]] = {}
        for number, item in enumerate(self.task.queries):
            assert item.image is not None
            together.setdefault(image_key(item.image), []).append(number)
        order = [number for numbers in together.values() for number in numbers]
        for start in range(0, len(order), size):
            yield order[start : start + size]

    def _embed(self, items: Sequence[Item], role: Role, changes: Changes) -> Vectors:
        return embed(
            self.model,
            items,
            role,
            changes=changes,
            store=self.store,
            batch_size=self.batch_size,
            world=self.world,
        )


def _shown_otherwise(run: _Run, disturbances: Sequence[Disturbance], told: _Told) -> Iterator[Curve]:
    """Curves of one family of visual prompts; its undisturbed queries count for each."""
    asked = [(disturbances[0], 0.0), *((each, severity) for each in disturbances for severity in each.severities[1:])]
    whole: Vectors | None = None  # (len(asked), Q, D)
    for block in run.blocks(_together(run.task.queries[0], disturbances[0].family, len(asked))):
        items = [
            disturbed(disturbance, run.task.queries[number], severity, number, run.seed)
            for disturbance, severity in asked
            for number in block
        ]
        vectors = run.queries(items)
        whole = np.empty((len(asked), len(run.task.queries), vectors.shape[1]), np.float32) if whole is None else whole
        whole[:, block] = vectors.reshape(len(asked), len(block), -1)
        told(len(block) * sum(len(each.severities) for each in disturbances))
    assert whole is not None  # a task has queries
    hits = {(each.name, severity): run.hits(own) for (each, severity), own in zip(asked, whole, strict=True)}
    for each in disturbances:
        hits[each.name, 0.0] = hits[disturbances[0].name, 0.0]
        points = [run.point(severity, each.label(severity), hits[each.name, severity]) for severity in each.severities]
        yield Curve(run.task.name, each.name, each.unit, points)


def _together(item: Item, family: Family, times: int) -> int:
    """How many queries to disturb at a time, when each becomes so many."""
    region = region_of(item)
    if family != "mask" or region is None:
        return BLOCK
    return max(1, min(BLOCK, MASK_BYTES // (times * region.size[0] * region.size[1])))


def _seen_otherwise(run: _Run, disturbances: Sequence[Disturbance], told: _Told) -> Iterator[Curve]:
    """Curves whose undisturbed queries are those of the task: other pictures, and other objects."""
    for each in disturbances:
        if each.name == WRONG_OBJECT:
            yield from _wrong_object(run, each)
        else:
            points = [
                run.point(severity, each.label(severity), run.hits(_seen(run, each, severity)))
                for severity in each.severities
            ]
            yield Curve(run.task.name, each.name, each.unit, points)
        told(len(run.task.queries) * len(each.severities))


def _seen(run: _Run, disturbance: Disturbance, severity: float) -> Vectors:
    """Embeddings of the queries with their pictures changed, (Q, D)."""
    if not severity or disturbance.change is None:
        return run.undisturbed
    return run.queries(run.task.queries, [disturbance.change(severity, run.seed)])


def _wrong_object(run: _Run, disturbance: Disturbance) -> Iterator[Curve]:
    """Step 3."""
    task = run.task
    others = other_objects(task.queries, [right.tolist() for right in task.relevant], run.seed)
    if not others:
        logger.info("No picture of %s is asked about twice, so there is no wrong object to show.", task.name)
        return
    mistaken = [
        replace(item, prompt=task.queries[others[number]].prompt) if number in others else item
        for number, item in enumerate(task.queries)
    ]
    answers = _answered_by_other(task, others)
    own, answered = [], []
    for severity in disturbance.severities:
        vectors = run.queries(mistaken) if severity else run.undisturbed
        label, numbers = disturbance.label(severity), sorted(others)
        own.append(run.point(severity, label, run.hits(vectors), numbers))
        answered.append(run.point(severity, label, run.hits(vectors, answers), numbers))
    yield Curve(task.name, WRONG_OBJECT, disturbance.unit, own)
    yield Curve(task.name, ANSWERED, disturbance.unit, answered)


def _answered_by_other(task: Task, others: Mapping[int, int]) -> Task:
    """The task whose right candidates are those of the other object, added to the query's own list."""
    queries = range(len(task.queries))
    relevant = [task.relevant[others.get(number, number)] for number in queries]
    lists = None
    if task.lists is not None:
        lists = [np.union1d(own, right) for own, right in zip(task.lists, relevant, strict=True)]
    return replace(task, relevant=relevant, lists=lists, swaps=None, tags={})


def _natural(run: _Run, names: Sequence[str], measures: Mapping[str, Sequence[float]]) -> Iterator[Curve]:
    """Step 4."""
    if not names and not measures:
        return
    hits = run.hits(run.undisturbed)
    values = {name: measured(name, run.task.queries) for name in names}
    values |= {name: np.asarray(given, dtype=float) for name, given in measures.items()}
    for name, numbers in values.items():
        parts = bins(numbers, BINS)
        if len(parts) < 2:
            logger.info("%r is the same for all queries of %s, so it has no curve.", name, run.task.name)
            continue
        points = [run.point(float(numbers[part].mean()), _range(numbers[part]), hits, part.tolist()) for part in parts]
        yield Curve(run.task.name, name, UNITS.get(name, name), points)


def _range(values: Hits) -> str:
    return f"{values.min():.2g} to {values.max():.2g}"
