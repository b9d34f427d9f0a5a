"""Brings an index up to date with its folder, so that it may be killed at any moment and simply run again.

1. `scan` lists the images of the folder; their time of change and size tell which are new, changed, gone or as before.
2. `load_batches` decodes what is new or changed, in threads, one batch ahead of the model.
3. A batch is embedded and written in one commit: a kill loses the batch in hand, and the next run finds it missing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from PIL import Image

from virtue.index.regions import Region, RegionSettings, propose_regions
from virtue.index.table import Index, Row
from virtue.reading import Loaded, load_batches

if TYPE_CHECKING:
    from virtue.embedder import Embedder

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of images done and the number to do."""

SUFFIXES = frozenset(".jpg .jpeg .png .webp .gif .bmp .tif .tiff .avif .jp2 .ppm .pgm".split())
COMMITS_UNTIL_COMPACTION = 256
REMOVED_AT_ONCE = 1000


@dataclass(frozen=True)
class Unreadable:
    """An image, or a folder of them, that could not be indexed, and why. It is tried again by the next run."""

    path: str
    reason: str


@dataclass
class Summary:
    """What a run did, in numbers of images.

    Attributes:
        added: New images.
        updated: Images that had changed.
        unchanged: Images that were indexed already.
        removed: Images that are gone from the folder.
        regions: Rows of regions that were written.
        unreadable: What could not be indexed.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    regions: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)


@dataclass(frozen=True)
class ImageFile:
    """An image as the folder lists it: path relative to the folder, nanoseconds since 1970, bytes."""

    path: str
    mtime_ns: int
    size: int


Picture: TypeAlias = tuple[ImageFile, Image.Image]


def build(index: Index, embedder: Embedder, *, batch_size: int = 32, progress: Progress | None = None) -> Summary:
    """Embeds what is new or changed in the folder of an index, and removes what is gone.

    Args:
        index: The index, empty or not.
        embedder: The model it was made with.
        batch_size: Images per commit at most; as many can be lost when the process is killed.
        progress: Is told how far it is, after every batch.

    Returns:
        What was done.

    Raises:
        ValueError: If the embedder is another model, or the batch size is not positive.
        NotADirectoryError: If the folder is gone.
        PermissionError: If the folder itself cannot be read.
        FileExistsError: If another process holds the lock file of the index.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    index.check(embedder)
    with _sole_writer(index.folder):
        summary = Summary()
        found = _readable_names(scan(index.root, index.folder, summary.unreadable), summary)
        known = index.files()
        _remove_gone(index, known, found, summary)
        work = [file for file in found if known.get(file.path) != (file.mtime_ns, file.size)]
        summary.unchanged = len(found) - len(work)
        _write_all(index, embedder, work, known.keys(), batch_size, summary, progress)
        index.optimize()
    return summary


def scan(root: Path, index_folder: Path, unreadable: list[Unreadable]) -> list[ImageFile]:
    """All image files below a folder, by their suffix, in order of path; hidden files and folders are left out.

    Args:
        root: The folder.
        index_folder: Where the index lies, which is left out too.
        unreadable: Gets what the system does not let us look at.

    Raises:
        NotADirectoryError: If there is no such folder.
        PermissionError: If the folder itself cannot be read.
    """
    if not root.is_dir():
        raise NotADirectoryError(
            f"The indexed folder {root} is gone; bring it back, or delete the index {index_folder}."
        )

    def note(error: OSError) -> None:
        if Path(error.filename) == root:  # or everything in it would count as gone
            raise PermissionError(
                f"The indexed folder {root} cannot be read ({(error.strerror or 'no reason given').lower()}); nothing "
                "was changed."
            ) from error
        place = Path(error.filename).relative_to(root).as_posix()
        unreadable.append(Unreadable(place, (error.strerror or "cannot be read").lower()))

    files = []
    for place, folders, names in os.walk(root, onerror=note):
        here = Path(place)
        folders[:] = sorted(name for name in folders if name[0] != "." and here / name != index_folder)
        for name in names:
            path = here / name
            if name[0] == "." or path.suffix.lower() not in SUFFIXES:
                continue
            try:
                status = path.stat()
            except FileNotFoundError:  # gone since the folder was listed, or a link to nothing
                continue
            except OSError as error:
                note(error)
                continue
            if S_ISREG(status.st_mode):
                files.append(ImageFile(path.relative_to(root).as_posix(), status.st_mtime_ns, status.st_size))
    return sorted(files, key=lambda file: file.path)


@contextmanager
def _sole_writer(folder: Path) -> Iterator[None]:
    """Holds the index for this process; the system lets go of it when the process ends, however it ends."""
    owner = folder / "indexer.pid"
    try:
        lock = FileLock(folder / "indexer.lock").acquire(timeout=0)
    except Timeout:
        pid = owner.read_text().strip() if owner.exists() else "unknown"
        raise FileExistsError(f"Process {pid} is writing to the index {folder}; wait until it is done.") from None
    with lock:
        owner.write_text(f"{os.getpid()}\n")
        yield


def _readable_names(files: list[ImageFile], summary: Summary) -> list[ImageFile]:
    """The files whose names are text; the names of the others cannot be stored."""
    good = []
    for file in files:
        try:
            file.path.encode()
            good.append(file)
        except UnicodeEncodeError:
            name = file.path.encode(errors="backslashreplace").decode()
            summary.unreadable.append(Unreadable(name, "its name is not UTF-8, so it cannot be stored"))
    return good


def _remove_gone(index: Index, known: Iterable[str], found: list[ImageFile], summary: Summary) -> None:
    here = {file.path for file in found}
    unseen = tuple(f"{bad.path}/" for bad in summary.unreadable)  # who knows what is in a folder that cannot be read
    gone = [path for path in known if path not in here and not f"{path}/".startswith(unseen)]
    for start in range(0, len(gone), REMOVED_AT_ONCE):
        index.remove(gone[start : start + REMOVED_AT_ONCE])
    summary.removed = len(gone)


def _write_all(
    index: Index,
    embedder: Embedder,
    work: list[ImageFile],
    known: Iterable[str],
    batch_size: int,
    summary: Summary,
    progress: Progress | None,
) -> None:
    """Steps 2 and 3. Changed files come first: replacing rows costs more than adding them, so they share batches."""
    present = set(known)
    work.sort(key=lambda file: (file.path not in present, file.path))
    done = 0
    batches = load_batches(work, lambda file: index.root / file.path, batch_size)
    for number, batch in enumerate(batches, start=1):
        rows = _embed(batch, embedder, index.settings.regions, summary)
        index.write(rows, [loaded.file.path for loaded in batch if loaded.file.path in present])
        images = [row.path for row in rows if row.kind == "image"]
        updated = sum(path in present for path in images)
        summary.updated += updated
        summary.added += len(images) - updated
        summary.regions += len(rows) - len(images)
        done += len(batch)
        if number % COMMITS_UNTIL_COMPACTION == 0:
            index.compact()
        if progress is not None:
            progress(done, len(work))


def _embed(
    batch: list[Loaded[ImageFile]], embedder: Embedder, regions: RegionSettings | None, summary: Summary
) -> list[Row]:
    """The rows of a batch; what cannot be read or embedded is noted in the summary."""
    summary.unreadable += [Unreadable(loaded.file.path, loaded.reason) for loaded in batch if loaded.image is None]
    pictures = [(loaded.file, loaded.image) for loaded in batch if loaded.image is not None]
    try:
        return _rows(pictures, embedder, regions)
    except ValueError:  # one of them is to blame; each alone tells which
        return [row for picture in pictures for row in _rows_or_reason(picture, embedder, regions, summary)]


def _rows_or_reason(
    picture: Picture, embedder: Embedder, regions: RegionSettings | None, summary: Summary
) -> list[Row]:
    try:
        return _rows([picture], embedder, regions)
    except ValueError as error:
        summary.unreadable.append(Unreadable(picture[0].path, str(error)))
        return []


def _rows(pictures: list[Picture], embedder: Embedder, regions: RegionSettings | None) -> list[Row]:
    if not pictures:
        return []
    if regions is not None:
        return [row for picture in pictures for row in _rows_with_regions(picture, embedder, regions)]
    vectors = embedder.encode_document([image for _, image in pictures], batch_size=len(pictures))
    return [_image_row(picture, vector) for picture, vector in zip(pictures, vectors, strict=True)]


def _rows_with_regions(picture: Picture, embedder: Embedder, settings: RegionSettings) -> list[Row]:
    view = embedder.open(picture[1])
    regions = propose_regions(view, settings)
    vectors = view.encode([None, *(region.mask for region in regions)])
    whole = _image_row(picture, vectors[0])
    pairs = zip(regions, vectors[1:], strict=True)
    return [whole, *(_region_row(whole, number, region, vector) for number, (region, vector) in enumerate(pairs))]


def _image_row(picture: Picture, vector: NDArray[np.float32]) -> Row:
    file, image = picture
    return Row(
        id=file.path,
        path=file.path,
        mtime_ns=file.mtime_ns,
        size=file.size,
        width=image.width,
        height=image.height,
        kind="image",
        box=None,
        rle=None,
        score=None,
        vector=vector,
    )


def _region_row(image: Row, number: int, region: Region, vector: NDArray[np.float32]) -> Row:
    return replace(
        image,
        id=f"{image.path}#{number}",
        kind="region",
        box=region.box,
        rle=json.dumps(region.mask.to_rle()),
        score=region.quality,
        vector=vector,
    )
