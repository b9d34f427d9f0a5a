"""`virtue measure`: what a model can do on held-out scenes of the drawn world, as tables for a terminal or a page."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from virtue.commands.progress import progress_bar

if TYPE_CHECKING:
    from virtue.evaluation.reports.tables import Sheet
    from virtue.evaluation.scenes import Report

EXAMPLES = (
    "virtue measure",
    "virtue measure --model runs/nano/model --scenes 100",
    "virtue measure --json nano.json --markdown",
)

_REGIONS = {"box": "box", "point": "point", "mask": "mask", "none": "none", "crop": "the region, cropped"}


def measure(
    model: Annotated[str, typer.Option(help="Name, folder or Hub id of the model.")] = "nano",
    scenes: Annotated[int, typer.Option(min=2, help="How many scenes.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first scene; the others follow.")] = 0,
    to_json: Annotated[
        Path | None, typer.Option("--json", help="Write every figure to this file too.", show_default=False)
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps.", show_default="the best there is")] = None,
) -> None:
    """Measure a model on held-out scenes.

    Asks for the true one of ten captions of a pointed-at object, looks for pictures by their captions and by short
    queries, and compares the segmenter's masks with the true ones. All figures are in percent.
    """
    if to_json is not None and not to_json.absolute().parent.is_dir():
        raise NotADirectoryError(f"{to_json.absolute().parent} is not a folder; give --json a file in one that exists.")
    report = _measure(model, scenes, seed, device)
    if to_json is not None:
        to_json.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    if markdown:
        typer.echo("\n\n".join(sheet.to_markdown() for sheet in sheets(report)))
        return
    console = Console()
    console.print(f"{report.model} on {report.scenes:,} scenes from seed {report.seed}; % ± standard error")
    for sheet in sheets(report):
        console.print(sheet.to_rich())


def sheets(report: Report) -> list[Sheet]:
    """The figures as four tables: captions of regions, their relations by axis, text to image, masks."""
    from virtue.evaluation.reports.tables import NOTHING, Sheet
    from virtue.scenes.vocabulary import RELATION_AXES

    kinds = ("all", "object", "relation", "place")
    regions = [(name, *(str(report.accuracy[key][kind]) for kind in kinds)) for key, name in _REGIONS.items()]
    guesser = ("captions alone (a guesser)", f"{100 * report.guesser:.1f}", *[NOTHING] * 3)
    relations = [
        (name, *(str(report.relations[key].get(axis, NOTHING)) for axis in RELATION_AXES))
        for key, name in _REGIONS.items()
    ]
    precision = report.precision
    texts = (
        ("whole captions", str(report.recall["1"]), str(report.recall["10"]), NOTHING),
        ('short queries: "a dog"', NOTHING, NOTHING, str(precision["object"])),
        ('short queries: "a dog on a beach"', NOTHING, NOTHING, str(precision["object and place"])),
    )
    masks = tuple((name, str(figure)) for name, figure in report.mask_overlap.items())
    return [
        Sheet("", ("visual prompt", "10-way accuracy", "objects", "relations", "places"), (*regions, guesser)),
        Sheet("", ("relations", *map(", ".join, RELATION_AXES.values())), tuple(relations)),
        Sheet("", (f"text to image, among {report.scenes:,}", "recall@1", "recall@10", "precision@10"), texts),
        Sheet("", ("mask drawn from a", "intersection over union"), masks),
    ]


def _measure(model: str, count: int, seed: int, device: str | None) -> Report:
    from virtue.embedder import Embedder
    from virtue.evaluation.scenes import measure as measure_scenes

    embedder = Embedder.from_pretrained(model, device=device)
    with progress_bar("Looking at", "scenes", transient=True) as progress:
        return measure_scenes(embedder, count, seed, progress)
