"""How fast an index answers, and how much of the exact answer it gives: `python benchmarks/search.py --rows 1000000`.

The vectors are drawn around random centres, as embeddings of real images gather around what they show. Recall is the
share of the exact ten nearest that the index returns. Processor time is printed beside the clock's, as it says what a
query costs on a busy machine too. N is the number of rows, D the length of a vector, Q the number of queries.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from virtue.index import Hit, Index
from virtue.index.table import Row

CENTRES = 2000
SPREAD = 0.8
PART = 50_000
TOP_K = 10
SIZES = ((4032, 3024), (3024, 4032), (1920, 1080), (1280, 853), (640, 480), (500, 333), (800, 1200))


def main() -> None:
    """Builds an index in a temporary folder, searches it both ways and prints what came out."""
    parser = argparse.ArgumentParser(description="Search speed and recall.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=192)
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), options.rows, options.dimension, options.queries)


def run(folder: Path, rows: int, dimension: int, queries: int) -> None:
    """Measures an index of `rows` vectors in `folder`."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(CENTRES, dimension)).astype(np.float32)
    model = SimpleNamespace(name="random vectors", fingerprint="0", dimension=dimension)
    index = Index.create(folder, model)
    seconds = timed(lambda: fill(index, centres, rows, random))
    print(f"{rows:,} rows of {dimension} numbers written in {seconds:.0f} s")
    sample = vectors(centres, queries, random)  # (Q, D)
    index.compact()
    exact = measure("exact", index, sample)
    print(f"clustered in {timed(index.optimize):.0f} s")
    measure("index, read for the first time", index, vectors(centres, queries, random))
    found = measure("index", index, sample)
    print(f"recall@{TOP_K} of the index against exact search: {recall(exact, found):.3f}")
    filtered = measure("index, filter keeps 1 in 100 rows", index, sample, "mtime_ns = 7")
    assert all(len(hits) == TOP_K for hits in filtered)


def vectors(centres: NDArray[np.float32], count: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Unit vectors around the centres, (count, D)."""
    noise = random.normal(size=(count, centres.shape[1])).astype(np.float32)
    points = centres[random.integers(0, len(centres), count)] + SPREAD * noise
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def fill(index: Index, centres: NDArray[np.float32], rows: int, random: np.random.Generator) -> None:
    """Writes `rows` random vectors, `PART` a commit."""
    for start in range(0, rows, PART):
        index.write(list(part(start, vectors(centres, min(PART, rows - start), random))))


def part(start: int, points: NDArray[np.float32]) -> Iterator[Row]:
    """Rows for vectors (N, D), with numbers from `start` on for paths, and sizes as cameras and the web have them."""
    for number, vector in enumerate(points, start=start):
        path, (width, height) = f"{number:09}.jpg", SIZES[number % len(SIZES)]
        yield Row(path, path, number % 100, 0, width, height, "image", None, None, None, vector)


def measure(name: str, index: Index, sample: NDArray[np.float32], condition: str | None = None) -> list[list[Hit]]:
    """Searches for each vector of a sample (Q, D); prints how long one took."""
    hits, clock, work = [], [], []
    for vector in sample:
        start, busy = time.perf_counter(), time.process_time()
        hits.append(index.search(vector, top_k=TOP_K, filter=condition))
        clock.append(1000 * (time.perf_counter() - start))
        work.append(1000 * (time.process_time() - busy))
    high = np.quantile(clock, 0.95)
    print(
        f"{name}: median {np.median(clock):.1f} ms, 95 % below {high:.1f} ms; {np.median(work):.1f} ms of one processor"
    )
    return hits


def recall(exact: list[list[Hit]], found: list[list[Hit]]) -> float:
    """Share of the exact hits that were found."""
    pairs = zip(exact, found, strict=True)
    shares = [len({hit.path for hit in a} & {hit.path for hit in b}) / len(a) for a, b in pairs]
    return float(np.mean(shares))


def timed(function: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
