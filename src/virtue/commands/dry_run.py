"""`virtue train --dry-run`: what a training would do, before it does anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from rich.console import Console
from rich.table import Table

from virtue.commands.contact_sheet import ASKED, RIGHT, Tile, drawn, tiled
from virtue.data.collator import PairBatch, Skipped
from virtue.data.pairs import Pair
from virtue.training.adaptation import parameter_counts
from virtue.training.estimate import A100, H100, RTX_4090, Load, estimate
from virtue.training.feeding import PairRows

if TYPE_CHECKING:
    from virtue.training.running import Prepared

SHOWN = 8  # pairs of the first batch on the picture
COLUMNS = 4  # tiles in a row: a query and its positive, twice
PICTURE = "first_batch.png"


def show(prepared: Prepared, folder: Path | None) -> None:
    """Print what a training would do and write a picture of its first batch.

    Args:
        prepared: The training.
        folder: Where the picture goes; the working folder by default.

    Raises:
        RowError: If a row of the first batch does not follow its format.
        ValueError: If no row of it can be read.
    """
    console = Console()
    run = prepared.recipe.run
    console.print(f"{prepared.recipe.summary} Source: {prepared.recipe.source}.", highlight=False)
    console.print(_sources(prepared))
    console.print(_parameters(prepared))
    rows = PairRows(prepared.mixture)
    first = [rows[position] for position in prepared.mixture.batches(0, run.batch)]
    batch = prepared.collator(first)
    if not len(batch):
        raise ValueError(f"No row of the first batch can be read; the first: {batch.skipped[0].reason}")
    console.print(_first_batch(batch))
    console.print(_estimate(prepared, batch))
    for row in batch.skipped[:5]:
        console.print(f"skipped: {row.reason}", style="yellow", markup=False)
    place = (folder or Path()) / PICTURE
    place.parent.mkdir(parents=True, exist_ok=True)
    _picture(prepared, first).save(place)
    console.print(f"{run.steps} steps of {run.batch} pairs. Nothing was trained; {place} shows the first batch.")


def _sources(prepared: Prepared) -> Table:
    table = Table("source", "rows", "used", "in an epoch", title="Data")
    for part in prepared.mixture.counts():
        table.add_row(part.name, f"{part.rows:,}", f"{part.used:,}", f"{part.per_epoch:,}")
    if prepared.held_out is not None:
        table.add_row(f"{prepared.held_out.name} (held out)", f"{len(prepared.held_out):,}", "", "")
    return table


def _parameters(prepared: Prepared) -> Table:
    table = Table("part", "parameters", "that learn", title="Parameters")
    counts = parameter_counts(prepared.model)
    for name, (count, learning) in counts.items():
        table.add_row(name, f"{count:,}", f"{learning:,}")
    table.add_row("all", *(f"{sum(each):,}" for each in zip(*counts.values(), strict=True)))
    return table


def _first_batch(batch: PairBatch) -> Table:
    table = Table("", "rows", "longest, tokens of text and image", title="First batch")
    for name, side in (("queries", batch.queries), ("targets", batch.targets)):
        table.add_row(name, str(len(side)), str(max(len(ids) for ids in side.ids)))
    table.add_row("distinct pictures", str(len(batch.images)), "")
    return table


def _estimate(prepared: Prepared, batch: PairBatch) -> Table:
    """What steps like the first would need, computed."""
    figures = estimate(prepared.model.config, prepared.recipe, _load(prepared, batch))
    table = Table("what", "one process", title="Computed, not measured")
    table.add_row("memory of the card or, without one, of the machine", _size(figures.device_bytes))
    table.add_row("memory of the host for pictures and features", _size(figures.host_bytes))
    table.add_row("operations of a step", f"{figures.flops:.2e}")
    for card in (RTX_4090, A100, H100):
        table.add_row(f"all {prepared.recipe.run.steps:,} steps on one {card.name}", f"{figures.hours(card):.2g} hours")
    return table


def _load(prepared: Prepared, batch: PairBatch) -> Load:
    """The first batch as a typical step."""
    counts = [
        prepared.processor.image_token_counts(batch.images[i]["image_grid_thw"])[0] for i in range(len(batch.images))
    ]
    sides = (batch.queries, batch.targets)
    shown = [sum(image >= 0 for image in side.image) for side in sides]
    rows = sum(len(side) for side in sides)
    words = sum(len(ids) for side in sides for ids in side.ids)
    words -= sum(counts[image] for side in sides for image in side.image if image >= 0)
    plain = [len(side) - count for side, count in zip(sides, shown, strict=True)]
    return Load(
        image_tokens=max(1, round(sum(counts) / max(len(counts), 1))),
        text_tokens=max(1, round(words / rows)),
        pictures=len(batch.images),
        queries=(shown[0], plain[0]),
        targets=(shown[1], plain[1]),
    )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**29 else f"{count / 2**20:.0f} MB"


def _picture(prepared: Prepared, first: list[Pair | Skipped]) -> Image.Image:
    """The first pairs that can be read, each a query and its positive."""
    tiles: list[Tile] = []
    for pair in first:
        if isinstance(pair, Skipped) or len(tiles) == 2 * SHOWN:
            continue
        try:
            query, positive = prepared.collator.shown(pair)
        except ValueError:
            continue
        tiles += [Tile(drawn(query), "query", ASKED), Tile(drawn(positive), "positive", RIGHT)]
    return tiled(tiles, COLUMNS)
