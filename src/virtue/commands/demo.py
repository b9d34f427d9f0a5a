"""`virtue demo`: indexes sample images, searches them by words, by an image and by a thing in one, serves the page."""

from __future__ import annotations

import shlex
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from virtue.commands.progress import progress_bar

if TYPE_CHECKING:
    from virtue.commands.samples import Search
    from virtue.embedder import Embedder
    from virtue.index import Hit, Index
    from virtue.scenes.renderer import Scene

EXAMPLES = (
    "virtue demo",
    "virtue demo --no-serve --folder /tmp/demo",
)

TOP_K = 5


def demo(
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve the web demo afterwards.")] = True,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the web demo; 0 takes a free one.")] = 8000,
    folder: Annotated[Path, typer.Option(help="Where samples, index and results go; made if missing.")] = Path("demo"),
    model: Annotated[str, typer.Option(help="Name, folder or Hub id of the model.")] = "nano",
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps.", show_default="the best there is")] = None,
) -> None:
    """Index the sample images and search them in three ways.

    The samples are scenes of the generated world, drawn on the first run, so it is known which results are right. Each
    search is printed as a table and saved as a picture. The index is kept: the next run is quick.
    """
    from virtue.server.allocation import bound_memory

    if serve:
        bound_memory()  # before torch is read
    from virtue.commands.samples import searches, write_samples
    from virtue.embedder import Embedder

    console = Console()
    images = folder / "images"
    samples = write_samples(images)
    embedder = Embedder.from_pretrained(model, device=device)
    index = _up_to_date_index(images, embedder, console)
    for search in searches(folder / "queries"):
        _run(search, index, embedder, samples, folder, console)
    if serve:
        _serve(index, embedder, port, console)


def _up_to_date_index(images: Path, embedder: Embedder, console: Console) -> Index:
    """The samples' index, made anew if another model or other settings made it."""
    from virtue.index import FOLDER_NAME, Index, RegionSettings, build

    # For a quick first run; the samples show five things at most.
    settings = RegionSettings(grid=5, min_quality=0.5, keep=6)
    place = images / FOLDER_NAME
    index = Index.open(place) if Index.exists(place) else None
    if index is None or (index.settings.fingerprint, index.settings.regions) != (embedder.fingerprint, settings):
        shutil.rmtree(place, ignore_errors=True)
        index = Index.create(images, embedder, regions=settings)
    started = time.monotonic()
    with progress_bar("Indexing", "images", transient=True) as progress:
        summary = build(index, embedder, batch_size=8, progress=progress)
    seconds = time.monotonic() - started
    number = summary.added + summary.updated
    done = f"Indexed {number} sample images and {summary.regions} objects in them in {seconds:.0f} s"
    _say(console, f"{done if number else f'{summary.unchanged} sample images are indexed'}: {images}")
    return index


def _run(
    search: Search, index: Index, embedder: Embedder, samples: dict[str, Scene], folder: Path, console: Console
) -> None:
    """One search: its table, its picture, and the command that does the same."""
    from virtue.commands.contact_sheet import contact_sheet

    hits = index.search(search.item, embedder, top_k=TOP_K, filter=f"kind = '{search.kind}'")
    right = [search.is_right(samples[hit.path], hit) for hit in hits]
    console.print()
    console.print(_table(search, hits, right, samples))
    sheet = folder / f"{search.name}.png"
    contact_sheet(search.item, hits, right).save(sheet)
    _say(console, f"{sum(right)} of {len(hits)} right; picture: {sheet}")
    _say(console, f"{search.command} --in {shlex.quote(str(index.root))}")


def _table(search: Search, hits: list[Hit], right: list[bool], samples: dict[str, Scene]) -> Table:
    from virtue.commands.samples import shown_at
    from virtue.scenes.captions import canonical_caption

    table = Table("", "similarity", "image", "what it shows", f"{search.wanted}?", title=f"Asked with {search.asked}")
    table.columns[1].justify = "right"
    for rank, (hit, is_right) in enumerate(zip(hits, right, strict=True), start=1):
        scene = samples[hit.path]
        shows = canonical_caption(scene)
        if hit.kind == "region":
            shows = f"{shown_at(scene, hit) or 'no one thing'}, in: {shows}"
        verdict = "[green]right[/]" if is_right else "[red]wrong[/]"
        table.add_row(str(rank), f"{hit.similarity:.3f}", hit.path, shows, verdict)
    return table


def _serve(index: Index, embedder: Embedder, port: int, console: Console) -> None:
    """The web demo, until Ctrl-C."""
    from virtue.commands.serving import require_server

    try:
        require_server()
    except ModuleNotFoundError as error:
        _say(console, str(error))
        return
    from virtue.server import serve

    console.print()
    serve(
        embedder,
        index,
        port=port,
        ready=lambda address: _say(console, f"Point and search at {address} (Ctrl-C ends it)"),
    )


def _say(console: Console, line: str) -> None:
    """A line that a person may copy: not wrapped, not coloured."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
