"""The table behind a search: one row per image and per region, and the model that made all of them.

Every write is one commit of LanceDB: it happens wholly or not at all, whatever kills the process. All rows of an image
are written in the same commit, so an image is never half there and never there twice.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lancedb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virtue.index.regions import RegionSettings
from virtue.prompts import Mask

if TYPE_CHECKING:
    from virtue.embedder import Embedder

MOST_HITS = 2**31 - 1  # LanceDB counts no further
FOLDER_NAME = ".virtue"
"""Where the index of a folder lies inside it, unless told otherwise."""

APPROXIMATE_FROM = 100_000
"""From so many rows on a search looks through the clusters next to the query; below, it compares with every row."""

PARTITION_ROWS = 1_000
PROBES = 40
REFINE = 4
"""An approximate search looks through `PROBES` clusters of about `PARTITION_ROWS` rows, at a byte per number, and
sorts the best `REFINE` times top_k by the exact vectors; `benchmarks/search.py` measures what that is worth."""

_TABLE, _METADATA_KEY = "items", "virtue"
_HIT_COLUMNS = ["path", "box", "rle", "width", "height", "score"]
"""What a hit is made of. Not `kind`, which the box tells: reading ten rows of a column that is the same everywhere
costs LanceDB half as much as the search."""

_OLD_VERSIONS = timedelta(hours=1)
"""A search that is under way may still read a version of the table that has since been replaced."""


@dataclass(frozen=True)
class IndexSettings:
    """What an index remembers of how it was made; none of it can change later.

    Attributes:
        model: Name of the model.
        fingerprint: Digest of its configuration and weights.
        dimension: D, the length of an embedding.
        root: The indexed folder; relative to the index when the index lies inside it, so that both can be moved.
        regions: How regions were found, or None if only whole images are indexed.
    """

    model: str
    fingerprint: str
    dimension: int
    root: str
    regions: RegionSettings | None = None

    def to_json(self) -> str:
        """The settings as the table's metadata keeps them."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> IndexSettings:
        """Reads back what `to_json` wrote."""
        values = json.loads(text)
        regions = values.pop("regions")
        return cls(**values, regions=None if regions is None else RegionSettings(**regions))


@dataclass(frozen=True)
class Row:
    """One embedding and what it is of; the columns of the table, which a filter can name.

    Attributes:
        id: The path, for a region followed by `#` and its number.
        path: The image, relative to the indexed folder, with forward slashes.
        mtime_ns: When the file was changed last, nanoseconds since 1970.
        size: Bytes of the file.
        width: Width of the image in pixels, after the EXIF turn.
        height: Height of the image.
        kind: `image` or `region`.
        box: XYXY in source pixels, for a region.
        rle: The mask as COCO RLE in JSON, for a region.
        score: The intersection over union that the segmenter predicts for the mask, for a region.
        vector: The embedding, (D,).
    """

    id: str
    path: str
    mtime_ns: int
    size: int
    width: int
    height: int
    kind: str
    box: tuple[float, float, float, float] | None
    rle: str | None
    score: float | None
    vector: NDArray[np.float32]


@dataclass(frozen=True)
class Hit:
    """One result of a search.

    Attributes:
        path: The image, relative to the indexed folder, with forward slashes.
        file: The image as a path that can be opened.
        similarity: Cosine of the angle between query and result, at most 1.
        kind: `image` for the whole image, `region` for an object in it.
        width: Width of the image in pixels, after the EXIF turn.
        height: Height of the image.
        box: Where the region is, XYXY in source pixels; None for a whole image.
        rle: Mask of the region as compressed COCO RLE; None for a whole image.
        score: How sure the segmenter was of the region; None for a whole image.
    """

    path: str
    file: Path
    similarity: float
    kind: str
    width: int
    height: int
    box: tuple[float, float, float, float] | None = None
    rle: dict[str, Any] | None = None
    score: float | None = None

    @property
    def mask(self) -> Mask | None:
        """The pixels of the region, decoded; None for a whole image."""
        return None if self.rle is None else Mask.from_rle(self.rle)


class Index:
    """Images, and objects in them, to search by embedding. Make one with `create` and `build`, reopen it with `open`.

    Attributes:
        folder: Where the index lies.
        settings: What it remembers of how it was made.
    """

    def __init__(self, folder: Path, table: Any, settings: IndexSettings) -> None:
        self.folder = folder
        self.settings = settings
        self._table = table

    @classmethod
    def create(
        cls,
        root: str | Path,
        embedder: Embedder,
        *,
        to: str | Path | None = None,
        regions: RegionSettings | None = None,
    ) -> Index:
        """Makes an empty index; `virtue.index.build` fills it.

        Args:
            root: The folder of images.
            embedder: The model that the index will belong to.
            to: Where the index shall lie; `.virtue` in the folder by default.
            regions: How to find the objects that get rows of their own; None indexes whole images only.

        Raises:
            NotADirectoryError: If there is no folder `root`.
            FileExistsError: If there is an index already.
            ValueError: If regions are wanted of a model that cannot segment.
        """
        if regions is not None and embedder.model.sam is None:
            raise ValueError(f"The model {embedder.name!r} has no segmentation stream, so it finds no regions.")
        root = Path(root).resolve()
        if not root.is_dir():
            raise NotADirectoryError(f"{root} is not a folder; give the folder that holds the images.")
        folder = (root / FOLDER_NAME) if to is None else Path(to).resolve()
        stored = Path("/".join([".."] * len(folder.relative_to(root).parts))) if folder.is_relative_to(root) else root
        settings = IndexSettings(embedder.name, embedder.fingerprint, embedder.dimension, stored.as_posix(), regions)
        if cls.exists(folder):
            raise FileExistsError(f"{folder} already holds an index; open it, or choose another place for the new one.")
        shutil.rmtree(folder / f"{_TABLE}.lance", ignore_errors=True)  # what a kill in the middle of this has left
        return cls(folder, _connect(folder).create_table(_TABLE, schema=_schema(settings)), settings)

    @classmethod
    def open(cls, folder: str | Path) -> Index:
        """Opens the index that lies in a folder.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If what lies there was not made by this project.
        """
        folder = Path(folder).resolve()
        if not cls.exists(folder):
            raise FileNotFoundError(f"There is no index in {folder}; make one with `virtue index`.")
        try:
            table = _connect(folder).open_table(_TABLE)
            settings = IndexSettings.from_json(table.schema.metadata[_METADATA_KEY.encode()])
        except Exception as error:  # LanceDB raises ValueError, OSError and RuntimeError for damaged files
            raise ValueError(
                f"{folder} holds no readable index ({_first_line(error)}); delete it and index again."
            ) from error
        return cls(folder, table, settings)

    @staticmethod
    def exists(folder: str | Path) -> bool:
        """Whether an index lies in the folder; it does from the first commit on."""
        return any((Path(folder) / f"{_TABLE}.lance" / "_versions").glob("*.manifest"))

    @property
    def root(self) -> Path:
        """The indexed folder, to which the paths of hits are relative."""
        return (self.folder / self.settings.root).resolve()

    def __len__(self) -> int:
        """The number of rows, images and regions together."""
        return int(self._table.count_rows())

    @property
    def version(self) -> int:
        """A number that is another after each commit; one of another process is seen within seconds."""
        return int(self._table.version)

    def check(self, embedder: Embedder) -> None:
        """Refuses an embedder whose vectors would mean something else than the stored ones.

        Raises:
            ValueError: If it is not the model the index was made with.
        """
        ours, theirs = self.settings, embedder
        if (ours.fingerprint, ours.dimension) != (theirs.fingerprint, theirs.dimension):
            raise ValueError(
                f"{self.folder} was indexed with the model {ours.model!r} ({ours.dimension} dimensions, fingerprint "
                f"{ours.fingerprint[:12]}) and cannot be used with {theirs.name!r} ({theirs.dimension} dimensions, "
                f"fingerprint {theirs.fingerprint[:12]}); use the first model, or make another index with --to."
            )

    def search(
        self, query: object, embedder: Embedder | None = None, *, top_k: int = 10, filter: str | None = None
    ) -> list[Hit]:
        """The images and regions most similar to a query, the best first.

        Args:
            query: A vector, (D,), or anything `Embedder.encode` takes: a str, an image, an `Item`.
            embedder: The model of the index; needed unless the query is a vector.
            top_k: How many hits at most.
            filter: A condition in SQL on the columns of `Row`, such as `kind = 'image' AND width >= 800`.

        Raises:
            ValueError: If the filter is not understood, the embedder is another model, or the vector has another shape.
        """
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}.")
        request = self._nearest(self._query_vector(query, embedder), min(top_k, MOST_HITS))
        if filter is not None:
            # In brackets nothing can follow the condition unnoticed. Looks through more clusters when the nearest ones
            # hold too few rows that pass.
            request = request.where(f"({filter})").maximum_nprobes(0)
        try:
            found = request.to_arrow()
        except Exception as error:  # what a filter asks for can fail in any way, a panic in Rust among them
            if filter is None:
                raise
            names = ", ".join(name for name in _schema(self.settings).names if name != "vector")
            raise ValueError(
                f"The filter {filter!r} is not understood ({_first_line(error)}); the columns are {names}."
            ) from error
        return [self._hit(values) for values in found.to_pylist()]

    def files(self) -> dict[str, tuple[int, int]]:
        """Every indexed image: its path, when it was changed (nanoseconds since 1970), and its bytes."""
        return self._of_images("mtime_ns", "size")

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Every indexed image: its path, and its width and height in pixels after the EXIF turn."""
        return self._of_images("width", "height")

    def _of_images(self, *columns: str) -> dict[str, tuple[int, int]]:
        rows = self._table.search().where("kind = 'image'").select(["path", *columns]).limit(None).to_arrow()
        path, first, second = (rows[name].to_pylist() for name in ("path", *columns))
        return dict(zip(path, zip(first, second, strict=True), strict=True))

    def write(self, rows: Sequence[Row], replaced: Iterable[str] = ()) -> None:
        """Adds rows and removes all other rows of the replaced images, in one commit.

        Args:
            rows: What to add, all rows of each image together.
            replaced: Paths of images that are in the table already.
        """
        paths = list(replaced)
        if not rows:
            self.remove(paths)
            return
        table = pa.Table.from_pylist([vars(row) for row in rows], schema=_schema(self.settings))
        if not paths:
            self._table.add(table)
        else:
            merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge.when_not_matched_by_source_delete(_path_in(paths)).execute(table)

    def remove(self, paths: Sequence[str]) -> None:
        """Removes all rows of these images, in one commit."""
        if paths:
            self._table.delete(_path_in(paths))

    def compact(self) -> None:
        """Joins the many small files that small commits leave, and forgets versions older than an hour."""
        self._table.optimize(cleanup_older_than=_OLD_VERSIONS)

    def optimize(self, approximate_from: int = APPROXIMATE_FROM) -> None:
        """Makes searching fast after many writes: compacts, and clusters the vectors of a large table.

        Args:
            approximate_from: The number of rows from which on a search may be approximate.
        """
        self.compact()
        rows = len(self)
        if rows >= approximate_from and not self._table.list_indices():
            clusters = lancedb.index.IvfSq(distance_type="cosine", num_partitions=max(1, rows // PARTITION_ROWS))
            self._table.create_index("vector", config=clusters)

    def _nearest(self, vector: NDArray[np.float32], top_k: int) -> Any:
        request = self._table.search(vector, vector_column_name="vector").distance_type("cosine").limit(top_k)
        return request.nprobes(PROBES).refine_factor(REFINE).select([*_HIT_COLUMNS, "_distance"])

    def _query_vector(self, query: object, embedder: Embedder | None) -> NDArray[np.float32]:
        """The query as an embedding, (D,)."""
        if isinstance(query, np.ndarray) and query.ndim == 1:
            vector = query.astype(np.float32)
        elif embedder is None:
            raise ValueError(f"Searching by a {type(query).__name__} needs the embedder of the index.")
        else:
            self.check(embedder)
            vector = np.asarray(embedder.encode_query(query), dtype=np.float32)
        if vector.shape != (self.settings.dimension,):
            raise ValueError(f"A query is one vector of {self.settings.dimension} numbers, got shape {vector.shape}.")
        if not np.isfinite(vector).all() or not vector.any():
            raise ValueError("A query vector must be finite and not all zeros.")
        return vector

    def _hit(self, values: dict[str, Any]) -> Hit:
        box, rle, distance = values.pop("box"), values.pop("rle"), values.pop("_distance")
        return Hit(
            **values,
            file=self.root / values["path"],
            similarity=1.0 - distance,
            kind="image" if box is None else "region",
            box=None if box is None else tuple(box),
            rle=None if rle is None else json.loads(rle),
        )


def find_index(place: str | Path) -> Index:
    """Opens the index that a person means: `place` itself, or the one inside the folder `place`.

    Raises:
        FileNotFoundError: If there is none.
    """
    inside = Path(place) / FOLDER_NAME
    return Index.open(inside if inside.is_dir() else place)


def _connect(folder: Path) -> Any:
    # An index that is open for long, in a server, sees what an indexer has written since.
    return lancedb.connect(folder, read_consistency_interval=timedelta(seconds=5))


def _schema(settings: IndexSettings) -> Any:
    fields = [
        pa.field("id", pa.string()),
        pa.field("path", pa.string()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("size", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("kind", pa.string()),
        pa.field("box", pa.list_(pa.float32(), 4)),
        pa.field("rle", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("vector", pa.list_(pa.float32(), settings.dimension)),
    ]
    return pa.schema(fields, metadata={_METADATA_KEY: settings.to_json()})


def _path_in(paths: Iterable[str]) -> str:
    quoted = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    return f"path IN ({quoted})"


def _first_line(error: Exception) -> str:
    """What LanceDB complains about, without where in its own source, and without the columns, `vector` among them."""
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return re.sub(r"(,? */\S+\.rs:\d+|Valid fields are).*$", "", line).removeprefix("Invalid input, ").rstrip(". ")
