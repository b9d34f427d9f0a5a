"""`virtue curate export`, `stats` and `validate`: runs become sets, and sets are counted and checked."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from virtue.commands.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from virtue.curation.statistics import Statistics
    from virtue.curation.store import Curation

_SHOWN = 20  # problems of each kind that are printed
_SHARE = 0.05  # of the images, to measure on


class Images(StrEnum):
    """How images are put into a set."""

    COPY = "copy"
    LINK = "link"
    NONE = "none"


class Kept(StrEnum):
    """Which samples are exported."""

    ACCEPTED = "accepted"
    UNLESS_REJECTED = "unless-rejected"
    ALL = "all"


def export(
    run: Annotated[Path, typer.Argument(help="Folder of the run.")],
    to: Annotated[Path, typer.Option(help="Folder of the set; an earlier export in it is replaced.")],
    eval_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the images to measure on.", show_default="0.05")
    ] = None,
    eval_images: Annotated[
        Path | None,
        typer.Option(
            help="A file that lists the images to measure on, one a line, in place of a share.", show_default=False
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the split.", show_default="the run's own")] = None,
    keep: Annotated[
        Kept | None,
        typer.Option(
            help="What people accepted, all that they did not reject, or all.",
            show_default="accepted, or all where nobody looked",
        ),
    ] = None,
    images: Annotated[Images, typer.Option(help="Copy images in, link them, or leave them where they are.")] = (
        Images.COPY
    ),
    baseline: Annotated[
        bool, typer.Option(help="Measure for the card what a reader of the captions alone can guess.")
    ] = True,
) -> None:
    """Write a run as a set in the published layout, with a dataset card.

    An image is either learned from or measured on, never both. An earlier export stays until the new one is complete.
    """
    from virtue.curation.export import export as write
    from virtue.curation.store import Curation

    if eval_share is not None and eval_images is not None:
        raise ValueError("Give --eval-share or --eval-images: a share of the images, or a list of them.")
    console = Console(stderr=True)
    with Curation(run) as opened:
        named = None if eval_images is None else _listed(opened, eval_images, console)
        with progress_bar("Exporting", "samples", console) as progress:
            found = write(
                opened,
                to,
                eval_share=_SHARE if eval_share is None else eval_share,
                seed=seed,
                eval_images=named,
                keep=None if keep is None else keep.value,
                images=images.value,
                baseline=baseline,
                progress=progress,
            )
    left_out = f"; left out: {_reasons(found.left_out)}" if found.left_out else ""
    typer.echo(f"{found.folder} holds {found.rows:,} samples{left_out}.")


def _listed(run: Curation, file: Path, console: Console) -> frozenset[str]:
    """The images of a run that a file lists; says how many of the list it has no sample of."""
    from virtue.curation.eval_images import read_eval_images

    named = read_eval_images(run, file)
    if named.unknown:
        console.print(
            f"{len(named.unknown):,} of the images in {file} have no sample in {run.folder}, such as "
            f"{named.unknown[0]}.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    return named.ids


def stats(
    paths: Annotated[list[Path], typer.Argument(help="A run, or SCaR's Parquet files, or folders of them.")],
    eval_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of a run's images that an export would measure on.")
    ] = _SHARE,
    seed: Annotated[int | None, typer.Option(help="Of a run's split.", show_default="the run's own")] = None,
    baseline: Annotated[bool, typer.Option(help="Measure what a reader of the captions alone can guess.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not tables.")] = False,
) -> None:
    """Count a run or published files: images, annotations, words, checks, cost, reviewers, text-only baseline.

    Of a run, samples are counted that an export without options would hold, and others by why it would leave them out.
    """
    from virtue.commands.curate_tables import show

    found = _statistics(paths, eval_share, seed, baseline)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
        return
    show(found, Console())
    if found.left_out:
        typer.echo(f"Not counted above, since an export leaves them out: {_reasons(found.left_out)}.")


def _statistics(paths: list[Path], eval_share: float, seed: int | None, baseline: bool) -> Statistics:
    from virtue.curation.database import FILE
    from virtue.curation.statistics import statistics_of_files, statistics_of_run

    runs = [path for path in paths if (path / FILE).is_file()]
    if not runs:
        return statistics_of_files(paths, baseline=baseline)
    if len(paths) > 1:
        raise ValueError(f"{runs[0]} is a run, and is counted by itself: name one run, or published files.")
    return statistics_of_run(runs[0], eval_share=eval_share, seed=seed, baseline=baseline)


def _reasons(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {reason}" for reason, n in sorted(left_out.items(), key=lambda pair: -pair[1]))


def validate(
    paths: Annotated[list[Path], typer.Argument(help="SCaR's Parquet files, or folders of them.")],
    images: Annotated[
        list[Path] | None,
        typer.Option(help="Folder that image paths start from; may be given again.", show_default="not looked at"),
    ] = None,
) -> None:
    """Check files in the published layout: captions, boxes, masks, images, splits.

    Names every problem with its file and row. The exit code is 1 if there are any.
    """
    from virtue.curation.validation import REMARK
    from virtue.curation.validation import validate as look

    found = look(paths, images or ())
    shown: dict[tuple[str, str], int] = {}
    for finding in found.findings:
        place = finding.file, finding.kind
        shown[place] = shown.get(place, 0) + 1
        if shown[place] <= _SHOWN:
            typer.echo(str(finding))
    rows, files = sum(found.rows.values()), len(found.rows)
    kinds = "".join(f"\n  {n:,} {kind}" for kind, n in found.counts.most_common() if kind != REMARK)
    remarks = f" {found.counts[REMARK]:,} remarks: {REMARK}." if found.counts[REMARK] else ""
    unseen = "" if images else " Images were not looked at: --images DIR."
    typer.echo(f"{rows:,} rows of {files} files: {found.problems:,} problems.{remarks}{unseen}{kinds}")
    if found.problems:
        raise typer.Exit(1)
