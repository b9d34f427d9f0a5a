"""`virtue index`: makes the index of a folder of images, or brings it up to date."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from virtue.commands.progress import progress_bar

if TYPE_CHECKING:
    from virtue.embedder import Embedder
    from virtue.index import Index, Summary
    from virtue.index.building import Progress as Report

EXAMPLES = (
    "virtue index ~/Pictures",
    "virtue index ~/Pictures --regions --to pictures.index",
)

SECONDS_BETWEEN_LINES = 10
SHOWN_UNREADABLE = 50


def index(
    folder: Annotated[Path, typer.Argument(help="The folder of images; those in folders inside it count too.")],
    to: Annotated[Path | None, typer.Option(help="Where the index lies.", show_default="FOLDER/.virtue")] = None,
    model: Annotated[
        str | None, typer.Option(help="Name, folder or Hub id of the model.", show_default="the index's own, or nano")
    ] = None,
    regions: Annotated[
        bool | None,
        typer.Option("--regions/--no-regions", help="Find the objects in each image and index them as well."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch, and how many a kill can lose.")] = 32,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps.", show_default="the best there is")] = None,
) -> None:
    """Make or update the index of a folder of images.

    Images that have not changed are skipped, and those that are gone are removed. It may be stopped at any moment: what
    was done is kept, and the same command goes on.
    """
    from virtue.index import build

    opened, embedder = _open_or_create(folder, to, model, regions, device)
    console = Console(stderr=True)
    try:
        with _reporter(console) as report:
            summary = build(opened, embedder, batch_size=batch_size, progress=report)
    except KeyboardInterrupt:
        console.print(
            f"Stopped. {opened.folder} keeps what was done; run the same command again to go on.", markup=False
        )
        raise
    _show(console, opened, summary)


def _open_or_create(
    folder: Path, to: Path | None, model: str | None, regions: bool | None, device: str | None
) -> tuple[Index, Embedder]:
    """The index, made if there was none, and its model."""
    from virtue.embedder import Embedder
    from virtue.index import FOLDER_NAME, Index, RegionSettings

    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder; give the folder that holds the images.")
    place = folder / FOLDER_NAME if to is None else to
    if not Index.exists(place):
        embedder = Embedder.from_pretrained(model or "nano", device=device)
        return Index.create(folder, embedder, to=place, regions=RegionSettings() if regions else None), embedder
    existing = Index.open(place)
    _check_same(existing, folder, regions)
    embedder = Embedder.from_pretrained(model or existing.settings.model, device=device)
    existing.check(embedder)
    return existing, embedder


def _check_same(existing: Index, folder: Path, regions: bool | None) -> None:
    """Refuses to go on with an index that was made for something else."""
    if existing.root != folder.resolve():
        raise ValueError(
            f"{existing.folder} is the index of {existing.root}, not of {folder}; choose another place with --to."
        )
    has_regions = existing.settings.regions is not None
    if regions is not None and regions != has_regions:
        raise ValueError(
            f"{existing.folder} was made with{'' if has_regions else 'out'} --regions and cannot change; make another "
            "index with --to, or delete that one."
        )


@contextmanager
def _reporter(console: Console) -> Iterator[Report]:
    """A bar for a person at a terminal, now and then a line for a log."""
    if not console.is_terminal:
        yield _LogLines(console)
        return
    with progress_bar("Indexing", "images", console) as report:
        yield report


class _LogLines:
    """Says how far it is at most once in `SECONDS_BETWEEN_LINES`, and when it is done."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.started = self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total or now - self.last >= SECONDS_BETWEEN_LINES:
            self.last = now
            rate = done / max(now - self.started, 1e-9)
            self.console.print(f"{done:,} of {total:,} images done, {rate:.1f}/s", highlight=False)


def _show(console: Console, index: Index, summary: Summary) -> None:
    """What was done, and what could not be."""
    console.print(
        f"Added {summary.added:,}, updated {summary.updated:,}, removed {summary.removed:,}, "
        f"unchanged {summary.unchanged:,}, unreadable {len(summary.unreadable):,}"
        + (f"; {summary.regions:,} regions" if index.settings.regions else "")
        + ".",
        highlight=False,
    )
    for bad in summary.unreadable[:SHOWN_UNREADABLE]:
        console.print(f"  {bad.path}: {bad.reason}", highlight=False, markup=False, soft_wrap=True)
    everything = index.folder / "unreadable.txt"
    everything.unlink(missing_ok=True)
    if len(summary.unreadable) > SHOWN_UNREADABLE:
        lines = "".join(f"{bad.path}: {bad.reason}\n" for bad in summary.unreadable)
        everything.write_text(lines, encoding="utf-8", errors="backslashreplace")
        more = len(summary.unreadable) - SHOWN_UNREADABLE
        console.print(f"  and {more:,} more; {everything} lists all.", highlight=False, markup=False, soft_wrap=True)
    again = "; these are tried again then" if summary.unreadable else ""
    console.print(
        f"The index is {index.folder}. Run the same command to bring it up to date{again}.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
