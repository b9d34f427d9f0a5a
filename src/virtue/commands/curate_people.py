"""`virtue curate review` and `label-studio`: people look at the samples of a run, here or in another program."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Mapping

    from virtue.curation.samples import Problem, Sample

_AS_BUILT = "as the run was built"


class Direction(StrEnum):
    """Which way tasks go."""

    EXPORT = "export"
    IMPORT = "import"


def review(
    run: Annotated[Path, typer.Argument(help="Folder of the run; it may still be building.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder that image paths start from.", show_default="as the run remembers")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; another machine's reviewers need --token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
    share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the samples that two people see, for their agreement.")
    ] = 0.1,
    token: Annotated[
        str | None, typer.Option(help="Secret that reviewers need.", envvar="VIRTUE_REVIEW_TOKEN", show_default=False)
    ] = None,
    wordnet: Annotated[
        bool | None, typer.Option(help="Check edits with WordNet too, where it is installed.", show_default=_AS_BUILT)
    ] = None,
) -> None:
    """Serve the page on which people accept, reject and edit samples.

    Every decision is on disk before the page goes on. Several people may review at once.
    """
    from virtue.curation.review import serve
    from virtue.curation.store import Curation

    with Curation(run) as curation:
        settings = curation.settings
    console = Console(stderr=True)

    def ready(address: str) -> None:
        console.print(f"Review at {address} (Ctrl-C stops; decisions are kept)", markup=False, soft_wrap=True)

    seed = int(settings.get("seed", 0))
    serve(
        run, images, host=host, port=port, reviewers_share=share, seed=seed, token=token, ready=ready,
        check=_edit_check(settings, wordnet),
    )  # fmt: skip


def label_studio(
    direction: Annotated[Direction, typer.Argument(help="Write tasks, or read decisions.")],
    run: Annotated[Path, typer.Argument(help="Folder of the run.")],
    file: Annotated[Path, typer.Argument(help="Label Studio's JSON: tasks to write, or its export to read.")],
    image_root: Annotated[
        str, typer.Option(help="What image paths start with in Label Studio; {source} stands for the source.")
    ] = "/data/local-files/?d=",
    wordnet: Annotated[
        bool | None, typer.Option(help="Check edits with WordNet too, where it is installed.", show_default=_AS_BUILT)
    ] = None,
) -> None:
    """Exchange samples and decisions with Label Studio.

    `export` writes tasks, and beside them the labeling interface (XML) to paste into the project's settings. `import`
    reads the JSON that Label Studio exports, all of it or nothing; importing a file twice keeps each decision once.
    """
    from virtue.curation.review.label_studio import WrongAnnotationsError, export_tasks, import_decisions
    from virtue.curation.store import Curation

    with Curation(run) as curation:
        if direction is Direction.EXPORT:
            count, interface = export_tasks(curation, file, image_root=image_root)
            typer.echo(f"Written: {count:,} tasks to {file}, the labeling interface to {interface}")
        else:
            try:
                count = import_decisions(curation, file, check=_edit_check(curation.settings, wordnet))
            except WrongAnnotationsError as error:
                for line in error.lines:
                    typer.echo(line, err=True)
                wrong = f"{len(error.lines):,} annotation" + ("s" if len(error.lines) > 1 else "")
                raise ValueError(f"Nothing was read from {file}: {wrong} cannot be taken.") from error
            typer.echo(f"Read: {count:,} new decisions from {file}")


def _edit_check(settings: Mapping[str, Any], wordnet: bool | None) -> _EditCheck:
    """What the samples of a run passed, and so what edits have to pass."""
    return _EditCheck(settings.get("wordnet", True) if wordnet is None else wordnet, settings.get("design", "single"))


class _EditCheck:
    """The checks of a build, for edited samples; WordNet is opened with the first edit."""

    def __init__(self, use_wordnet: bool, design: str) -> None:
        self._use_wordnet, self._design = use_wordnet, design
        self._wordnet: object = None

    def __call__(self, sample: Sample) -> list[Problem]:
        from virtue.commands.curate_build import open_wordnet
        from virtue.curation.checks import check

        if self._wordnet is None and self._use_wordnet:
            self._wordnet = open_wordnet(None, required=False)
            self._use_wordnet = self._wordnet is not None
        return check(sample, wordnet=self._wordnet, design=self._design)  # type: ignore[arg-type]
