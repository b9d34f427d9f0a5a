"""Which regions `virtue curate build` works on: sources as they are written on the command line, read into a run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from virtue.commands.curate_progress import BuildProgress
    from virtue.curation.sources import Source
    from virtue.curation.store import Curation

_SOURCE = re.compile(r"(?P<kind>[^=:@]+)(?::(?P<name>[^=@]+))?(?:@(?P<part>[^=]+))?=(?P<paths>.+)")


@dataclass(frozen=True)
class Written:
    """A source as the command line has it.

    Attributes:
        kind: "RefCOCOg".
        name: What regions call it; None for the kind's name.
        part: "val"; None for all of it.
        paths: Its folder or files.
    """

    kind: str
    name: str | None
    part: str | None
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """What is read from which sources; see the options of `build`.

    Attributes:
        sources: Where annotations are.
        images: Folders of images by the name of the source; "" for all others.
        limit: Regions of a source at most.
        per_image: Regions of an image at most.
        per_category: Regions of a category at most.
        min_share: Share of the image that a box covers at least.
        seed: Of the sample.
        again: Read what was read before.
    """

    sources: tuple[Written, ...]
    images: Mapping[str, str]
    limit: int | None
    per_image: int | None
    per_category: int | None
    min_share: float
    seed: int
    again: bool

    def wish(self, written: Written) -> dict[str, Any]:
        """All that decides which regions a source gives, as JSON."""
        values = {name: getattr(self, name) for name in ("limit", "per_image", "per_category", "min_share", "seed")}
        return {**values, "source": [*asdict(written).values()][:3], "paths": list(written.paths)}


def parse_sources(texts: Sequence[str]) -> tuple[Written, ...]:
    """Sources written KIND=FOLDER, KIND=FILE,FILE or KIND:NAME@PART=....

    Raises:
        ValueError: If one is written otherwise, or two would have one name.
    """
    from virtue.curation.sources import kind_of

    found = []
    for text in texts:
        match = _SOURCE.fullmatch(text)
        if match is None:
            raise ValueError(f"A source is written KIND=FOLDER or KIND=FILE, as in COCO=instances.json, got {text!r}.")
        kind = kind_of(match["kind"]).name
        paths = tuple(part.strip() for part in match["paths"].split(",") if part.strip())
        found.append(Written(kind, match["name"], match["part"], paths))
    names = Counter(one.name or one.kind for one in found)
    for name, count in names.items():
        if count > 1:
            raise ValueError(f"{count} sources are called {name}: name them apart, as in {found[0].kind}:NAME=PATH.")
    return tuple(found)


def parse_images(texts: Sequence[str]) -> dict[str, str]:
    """Folders of images written FOLDER, or NAME=FOLDER for one source.

    Raises:
        ValueError: If two are for the same sources.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        name, folder = (name, folder) if equals and not Path(text).is_dir() else ("", text)
        if name in found:
            what = f"of {name}" if name else "of all sources"
            raise ValueError(f"Two folders are given for the images {what}: write NAME=FOLDER for each source.")
        found[name] = folder
    return found


def read_regions(run: Curation, reading: Reading, progress: BuildProgress) -> None:
    """Adds regions of all sources to a run; a source that was read to its end before is not read again.

    Raises:
        FileNotFoundError: If a file or folder of a source is missing, or a folder holds none of its images.
        ValueError: If a source is not what it should be, or nothing at all is there to work on.
    """
    names = {written.name or written.kind for written in reading.sources}
    unknown = [name for name in reading.images if name and name not in names]
    if unknown:
        raise ValueError(f"--images names {unknown[0]!r}, which is no source; they are {', '.join(sorted(names))}.")
    for name, folder in run.noted("images", {}).items():
        if name not in names:
            _check_images(run, name, folder)
    for written in reading.sources:
        _read(run, written, reading, progress)
    if not any(own.total() for own in run.states().values()):
        reasons = Counter[str]()
        for own in run.counts().values():
            reasons.update(own)
        why = ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common()) or "they hold no annotations"
        raise ValueError(f"No source has a region that could be worked on: {why}.")


def _read(run: Curation, written: Written, reading: Reading, progress: BuildProgress) -> None:
    from virtue.curation.sampling import sample

    name = written.name or written.kind
    images = reading.images.get(name) or reading.images.get("") or _home(written)
    if not Path(images).is_dir():
        raise FileNotFoundError(f"There is no folder of images {images}.")
    _check_images(run, name, images)
    run.set_images({name: images})
    note, wish = f"read {name}", reading.wish(written)
    if run.noted(note) == wish and not reading.again:
        progress.say(f"{name} was read before; --read-again looks for what is new in it.")
        return
    source = _open(written, images, reading.min_share)
    chosen = sample(
        source,
        reading.seed,
        per_image=reading.per_image,
        per_category=reading.per_category,
        limit=reading.limit,
    )
    added = run.add_regions(progress.reading(name, chosen))
    source.check_images()
    run.count(f"{name}, left out", source.left_out)
    run.count(f"{name}, mended", source.mended)
    run.note(note, wish)
    progress.say(f"{name}: {added:,} regions added" + _reasons(source) + ".")


def _check_images(run: Curation, name: str, folder: str) -> None:
    """Refuses to go on where all images of a source are gone: its regions would be dropped one by one."""
    from virtue.curation.sources.image_files import FIRST, check_images

    statement = "SELECT image FROM regions WHERE source = ? ORDER BY rank LIMIT ?"
    if images := [image for (image,) in run.rows(statement, (name, 10 * FIRST))]:
        check_images(folder, images)


def _open(written: Written, images: str, min_share: float) -> Source:
    from virtue.curation.sources import open_source

    return open_source(written.kind, written.paths, images, name=written.name, split=written.part, min_share=min_share)


def _home(written: Written) -> str:
    """Where the annotations are, and so the images unless it is said otherwise."""
    first = Path(written.paths[0])
    return str(first if first.is_dir() else first.parent)


def _reasons(source: Source) -> str:
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in source.left_out.most_common())
    return f"; left out: {reasons}" if reasons else ""
