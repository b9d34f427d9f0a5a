"""`virtue embed`: writes the embeddings of texts or images to a file, one row per input, in the order of the inputs.

Long inputs survive a kill: every `PART` rows are kept beside the output, in `OUTPUT.parts`, under a name that holds a
digest of the model and of those inputs. The next run takes over the parts whose names it would give itself, so that a
changed input or another model is computed anew, and joins them at the end. D is the length of an embedding.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from virtue.reading import load_batches

if TYPE_CHECKING:
    from virtue.embedder import Embedder

EXAMPLES = (
    "virtue embed photos/*.jpg --output photos.npy",
    "virtue embed --list photos.txt --output photos.parquet",
    "virtue embed --output queries.jsonl < queries.txt",
)

PART = 256
SECONDS_BETWEEN_LINES = 10
SHOWN_FAILURES = 50
COLUMNS = ["input", "embedding", "error"]

Result: TypeAlias = NDArray[np.float32] | str
"""An embedding, (D,), or what was wrong with the input."""


@dataclass(frozen=True)
class Job:
    """What is the same for all rows.

    Attributes:
        embedder: The model.
        images: Whether the inputs are paths of images; they are texts otherwise.
        instruction: What the embeddings are for; None leaves the choice to the model.
        batch_size: Rows computed together at most.
    """

    embedder: Embedder
    images: bool
    instruction: str | None
    batch_size: int

    def digest(self, inputs: list[str]) -> str:
        """A name for the result of these inputs, by the model, the texts, and the files as they are now."""
        described = [[name, *_stamp(Path(name))] for name in inputs] if self.images else inputs
        job = [self.embedder.fingerprint, self.embedder.dimension, self.instruction, self.images, described]
        return hashlib.blake2b(json.dumps(job).encode(), digest_size=12).hexdigest()


@dataclass(frozen=True)
class Part:
    """A stretch of the rows, finished and on disk: its file, its rows, and whether an earlier run had made it."""

    file: Path
    rows: int
    taken_over: bool


def embed(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write: .npy, .parquet or .jsonl.")],
    files: Annotated[list[Path] | None, typer.Argument(help="Images. Without any, texts are read from stdin.")] = None,
    listed: Annotated[
        Path | None, typer.Option("--list", help="A text file with the path of one image a line.")
    ] = None,
    model: Annotated[str, typer.Option(help="Name, folder or Hub id of the model.")] = "nano",
    instruction: Annotated[
        str | None, typer.Option(help="What the embeddings are for.", show_default="the model's own")
    ] = None,
    truncate_dim: Annotated[int | None, typer.Option(min=1, help="Keep only the first numbers of each.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows computed together at most.")] = 32,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps.", show_default="the best there is")] = None,
) -> None:
    """Write embeddings of texts and images to a file.

    Row i belongs to input i: images given as arguments or in a list (whose blank lines do not count), or else the
    lines of stdin as texts. An input that cannot be read gets NaN (npy) or null, is listed at the end, and makes the
    exit code 1. It may be stopped at any moment; the same command goes on.
    """
    from virtue.embedder import Embedder

    join = _writer(output)
    inputs = _inputs(files or [], listed)
    embedder = Embedder.from_pretrained(model, device=device, truncate_dim=truncate_dim)
    job = Job(embedder, bool(files) or listed is not None, instruction, batch_size)
    folder = output.with_name(output.name + ".parts")
    output.parent.mkdir(parents=True, exist_ok=True)
    with _alone(output):
        folder.mkdir(exist_ok=True)
        try:
            parts = list(_compute(job, inputs, folder))
        except KeyboardInterrupt:
            typer.echo(f"Stopped. {folder} keeps what was done; run the same command again to go on.", err=True)
            raise
        unfinished = output.with_name(output.name + ".unfinished")
        join(parts, unfinished, embedder.dimension)
        unfinished.replace(output)
        failures = [f"{name}: {reason}" for part in parts for name, reason in _failures(part)]
        shutil.rmtree(folder)
    _report(output, parts, failures)


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Refuses a second run to the same output; the system lets go of the lock when the process ends."""
    file = output.with_name(output.name + ".lock")
    try:
        lock = FileLock(file).acquire(timeout=0)
    except Timeout:
        raise FileExistsError(f"Another process is writing {output}; wait until it is done.") from None
    with lock:
        yield
        file.unlink(missing_ok=True)


def _inputs(files: list[Path], listed: Path | None) -> Iterator[str]:
    """Paths of images from the arguments and the list, or else the lines of stdin."""
    if files or listed is not None:
        return iter([*map(str, files), *(_lines(listed) if listed is not None else [])])
    if sys.stdin is None or sys.stdin.isatty():
        raise ValueError("Give images, or --list with a file of their paths, or texts on stdin, one a line.")
    return (line.rstrip("\r\n") for line in _as_it_comes(sys.stdin))


def _lines(listed: Path) -> list[str]:
    """The lines of a list that are not blank."""
    try:
        text = listed.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{listed} is no UTF-8 text ({error}); save it as UTF-8.") from error
    return [line for line in text.split("\n") if line.strip()]  # a name may hold what splitlines() splits at


def _as_it_comes(stream: TextIO) -> TextIO:
    """The stream, which no longer ends at bytes that are not UTF-8: the line that holds them fails alone."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8-sig", errors="surrogateescape")
    return stream


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_mtime_ns, status.st_size


# Rows in parts


def _compute(job: Job, inputs: Iterator[str], folder: Path) -> Iterator[Part]:
    """Computes what an earlier run has not; yields all parts in order."""
    last = time.monotonic()
    done = 0
    for number in itertools.count():
        names = list(itertools.islice(inputs, PART))
        if not names:
            return
        file = folder / f"{number:07}-{job.digest(names)}.parquet"
        taken_over = file.exists()
        if not taken_over:
            _save(file, job.embedder.dimension, names, _encode(job, names))
        yield Part(file, len(names), taken_over)
        done += len(names)
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            typer.echo(f"{done:,} rows done", err=True)


def _encode(job: Job, names: list[str]) -> list[Result]:
    """A vector (D,) for each input, or what was wrong with it."""
    if not job.images:
        return _encode_batch(job, names)
    results: list[Result] = []
    for batch in load_batches(names, Path, job.batch_size):
        vectors = iter(_encode_batch(job, [loaded.image for loaded in batch if loaded.image is not None]))
        results += [loaded.reason if loaded.image is None else next(vectors) for loaded in batch]
    return results


def _encode_batch(job: Job, values: Sequence[object]) -> list[Result]:
    if not values:
        return []
    try:
        return list(job.embedder.encode(list(values), instruction=job.instruction, batch_size=job.batch_size))
    except ValueError as error:  # one of them is to blame; each alone tells which
        if len(values) == 1:
            return [str(error)]
        return [result for value in values for result in _encode_batch(job, [value])]


def _save(file: Path, dimension: int, names: list[str], results: list[Result]) -> None:
    """Writes a part; it appears under its name only when it is whole."""
    good = [None if isinstance(result, str) else result for result in results]
    bad = [result if isinstance(result, str) else None for result in results]
    # A name that is not UTF-8 is a path only; it is kept readable.
    shown = [name.encode(errors="backslashreplace").decode() for name in names]
    table = pa.table([shown, pa.array(good, _vectors_of(dimension)), pa.array(bad, pa.string())], COLUMNS)
    unfinished = file.with_suffix(".unfinished")
    pq.write_table(table, unfinished)
    unfinished.replace(file)


def _failures(part: Part) -> list[tuple[str, str]]:
    table = pq.read_table(part.file, columns=["input", "error"])
    return [(row["input"], row["error"]) for row in table.to_pylist() if row["error"] is not None]


# The formats


def _writer(output: Path) -> Callable[[list[Part], Path, int], None]:
    writer = WRITERS.get(output.suffix.lower())
    if writer is None:
        raise ValueError(f"--output {output} must end in {', '.join(WRITERS)}.")
    if output.is_dir():
        raise IsADirectoryError(f"--output {output} is a folder; give the name of a file.")
    return writer


def _write_npy(parts: list[Part], target: Path, dimension: int) -> None:
    """float32 (N, D); NaN where the input could not be read."""
    shape = (sum(part.rows for part in parts), dimension)
    with target.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(_as_array(pq.read_table(part.file)["embedding"], dimension).astype("<f4").tobytes())


def _write_parquet(parts: list[Part], target: Path, dimension: int) -> None:
    """Columns input (str), embedding (D float32, or null), error (str or null)."""
    types = [pa.string(), _vectors_of(dimension), pa.string()]
    with pq.ParquetWriter(target, pa.schema(list(zip(COLUMNS, types, strict=True)))) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part.file))


def _write_jsonl(parts: list[Part], target: Path, dimension: int) -> None:
    """One object a line: input, embedding (D numbers, or null), error (or null)."""
    del dimension  # each line shows it
    with target.open("w", encoding="utf-8") as file:
        for part in parts:
            for row in pq.read_table(part.file).to_pylist():
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


WRITERS = {".npy": _write_npy, ".parquet": _write_parquet, ".jsonl": _write_jsonl}


def _as_array(column: Any, dimension: int) -> NDArray[np.float32]:
    """A column of vectors as (N, D), NaN where there is none."""
    array = np.full((len(column), dimension), np.nan, dtype=np.float32)
    good = column.is_valid().to_numpy()
    array[good] = column.combine_chunks().drop_null().flatten().to_numpy().reshape(-1, dimension)
    return array


def _vectors_of(dimension: int) -> Any:
    return pa.list_(pa.float32(), dimension)


def _report(output: Path, parts: list[Part], failures: list[str]) -> None:
    rows, earlier = sum(part.rows for part in parts), sum(part.rows for part in parts if part.taken_over)
    kept = f", {earlier:,} of them computed by an earlier run" if earlier else ""
    typer.echo(f"Wrote {rows:,} rows to {output}{kept}.", err=True)
    if failures:
        typer.echo(f"{len(failures):,} could not be embedded:", err=True)
        for line in failures[:SHOWN_FAILURES]:
            typer.echo(f"  {line}", err=True)
        if len(failures) > SHOWN_FAILURES:
            typer.echo(f"  and {len(failures) - SHOWN_FAILURES:,} more.", err=True)
        raise typer.Exit(1)
