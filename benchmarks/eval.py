"""What an evaluation costs beyond the embedding, against the released way: `python benchmarks/eval.py`.

Random unit vectors stand for embeddings: of each task Q queries and a pool of N candidates of D numbers, and every
query is ranked against a list of its own of all N, in an order of its own. Both ways start from embeddings on disk and
end with hit@1 of every task, and both must find the same.

- *released*: all embeddings of a task lie in two pickles. They are loaded into dictionaries with (text, path) for keys;
  query by query, its candidates' vectors are looked up, stacked, multiplied and sorted.
- *ours*: `evaluate` with a store that has everything. Beside hit@1 it counts seven more metrics with their intervals,
  computes the digests of the tasks, checks the embeddings, and collects examples; "reading and ranking" leaves that out
  and is what the released way does.

Each way runs in a process of its own. Counted are seconds from the first task to the last, without making the tasks
themselves, and how far peak memory rises above what the process had before it began.
"""

from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from virtue.evaluation.embedding import embed
from virtue.evaluation.ranking import rank
from virtue.evaluation.run import evaluate
from virtue.evaluation.store import Store
from virtue.evaluation.tasks import Task
from virtue.items import Item

NOISE = 12.0  # of a query around its right candidate, in lengths of the candidate: about half the queries are hits

Vectors = NDArray[np.float32]


class Vectored:
    """Stands for a model: gives the vectors it was made with, by text, and refuses when there are none."""

    name, fingerprint = "random vectors", "random vectors"

    def __init__(self, vectors: dict[str, Vectors] | None = None) -> None:
        self.vectors = vectors

    def encode_query(self, items: Sequence[Item], *, batch_size: int = 32) -> Vectors:
        """Vectors of texts, (N, D)."""
        if self.vectors is None:
            raise RuntimeError("everything should be in the store")
        return np.stack([self.vectors[str(item.text)] for item in items])

    encode_document = encode_query


class Clock:
    """Seconds of a run, without those spent on making its questions."""

    def __init__(self) -> None:
        self.start, self.making = time.perf_counter(), 0.0

    def made(self, make: Callable[[], Any]) -> Any:
        """What a function makes, off the clock."""
        start = time.perf_counter()
        value = make()
        self.making += time.perf_counter() - start
        return value

    def seconds(self) -> float:
        """So far."""
        return time.perf_counter() - self.start - self.making


def main() -> None:
    """Writes embeddings both ways into a temporary folder, measures the ways and prints what came out."""
    parser = argparse.ArgumentParser(description="Evaluation beyond the embedding.")
    for name, value in (("tasks", 36), ("queries", 1000), ("candidates", 1000), ("dimension", 1536)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measured(WAYS[options.way], options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options)
        found = {way: in_own_process(way, folder) for way in WAYS}
    assert len({tuple(one["hits"]) for one in found.values()}) == 1, "the ways disagree"
    sizes = f"{options.tasks} tasks x {options.queries} queries x {options.candidates} candidates x {options.dimension}"
    print(f"{sizes}, hit@1 {100 * np.mean(found['ours']['hits']):.1f}")
    before = found["released"]
    for way, one in found.items():
        ratios = f"{before['seconds'] / one['seconds']:.1f} times faster, {one['mb'] / before['mb']:.2f} of the memory"
        print(f"{way:20} {one['seconds']:7.1f} s {one['mb']:7.0f} MB" + ("" if way == "released" else f"   {ratios}"))


def in_own_process(way: str, folder: str) -> dict[str, Any]:
    """What a way took, measured in a fresh interpreter."""
    command = [sys.executable, __file__, *sys.argv[1:], "--way", way, "--folder", folder]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


def measured(way: Callable[[argparse.Namespace, Clock], list[float]], options: argparse.Namespace) -> dict[str, Any]:
    """Runs a way: each task's hit@1, seconds, and megabytes that peak memory rose by."""
    before = peak()
    clock = Clock()
    hits = way(options, clock)
    seconds = clock.seconds()
    return {"hits": [round(hit, 6) for hit in hits], "seconds": seconds, "mb": peak() - before}


def peak() -> float:
    """The most memory that this process had so far, MB; `getrusage` would count its parent's too."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def write(folder: Path, options: argparse.Namespace) -> None:
    """Puts the same embeddings into pickles and into a store."""
    store = Store(folder / "store")
    for number in range(options.tasks):
        task, random = question(number, options), np.random.default_rng(number)
        candidates = unit(random.normal(size=(options.candidates, options.dimension)))
        right = candidates[[int(places[0]) for places in task.relevant]]
        queries = unit(right + NOISE * unit(random.normal(size=right.shape)))
        for role, items, vectors in (("query", task.queries, queries), ("document", task.candidates, candidates)):
            texts = [str(item.text) for item in items]
            embed(Vectored(dict(zip(texts, vectors, strict=True))), items, role, store=store)
            with (folder / f"{role}-{number}.pickle").open("wb") as file:
                pickle.dump((vectors, [(text, "") for text in texts]), file)


def question(number: int, options: argparse.Namespace) -> Task:
    """A task; its right candidates are the first of their lists, as in the published files."""
    random = np.random.default_rng([number, 1])
    lists = [random.permutation(options.candidates) for _ in range(options.queries)]
    return Task(
        f"random/{number}",
        [Item(text=f"query {number} {query}") for query in range(options.queries)],
        [Item(text=f"candidate {number} {candidate}") for candidate in range(options.candidates)],
        [places[:1] for places in lists],
        lists,
    )


def unit(vectors: NDArray[np.float64]) -> Vectors:
    """Rows of unit length, (N, D)."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def released(options: argparse.Namespace, clock: Clock) -> list[float]:
    """Pickles, dictionaries, and a loop over queries."""
    hits = []
    for number in range(options.tasks):
        task = clock.made(lambda number=number: question(number, options))
        queries, candidates = (by_key(options.folder / f"{role}-{number}.pickle") for role in ("query", "document"))
        right = 0
        for item, places in zip(task.queries, task.lists or (), strict=True):
            keys = clock.made(lambda task=task, places=places: [(task.candidates[at].text, "") for at in places])
            scores = np.stack([candidates[key] for key in keys]) @ queries[item.text, ""]
            right += int(np.argsort(-scores)[0] == 0)
        hits.append(right / len(task.queries))
    return hits


def by_key(path: Path) -> dict[tuple[str, str], Vectors]:
    """The vectors of a pickle by (text, path)."""
    with path.open("rb") as file:
        vectors, keys = pickle.load(file)
    return dict(zip(keys, vectors, strict=True))


def reading_and_ranking(options: argparse.Namespace, clock: Clock) -> list[float]:
    """Only what the released way does too."""
    hits = []
    store, model = Store(options.folder / "store"), Vectored()
    for number in range(options.tasks):
        task = clock.made(lambda number=number: question(number, options))
        queries = embed(model, task.queries, "query", store=store)
        candidates = embed(model, task.candidates, "document", store=store)
        placings = rank(queries, candidates, task).placings
        hits.append(float(np.mean([own.better[0] == 0 for own in placings])))
    return hits


def ours(options: argparse.Namespace, clock: Clock) -> list[float]:
    """All of `evaluate`."""

    def tasks() -> Iterator[Task]:
        for number in range(options.tasks):
            yield clock.made(lambda number=number: question(number, options))

    results = evaluate(Vectored(), tasks(), store=options.folder / "store")
    return [task.metrics["hit@1"].value for task in results.tasks]


WAYS = {"released": released, "reading and ranking": reading_and_ranking, "ours": ours}

if __name__ == "__main__":
    main()
