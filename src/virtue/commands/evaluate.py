"""`virtue eval`: measures any embedding model on SCaR, MMEB, generated scenes and one's own data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from virtue.commands.evaluate_progress import EvaluationProgress
from virtue.commands.evaluate_sources import BENCHMARKS, Distractors, Ranking, Shown, Sources
from virtue.commands.report import RESULTS, markdown, show, write_text

if TYPE_CHECKING:
    from virtue.evaluation.models.encoder import Encoder
    from virtue.evaluation.results import Curve, Results
    from virtue.evaluation.sharing import World

EXAMPLES = (
    "virtue eval",
    "virtue eval --count 200 --strategy prompt,none,crop --to runs/eval",
    "virtue eval --model Sony/VIRTUE-2B-SCaR --tasks scar --scar SCaR-Eval --images images --to runs/scar",
    "virtue eval --model st:clip-ViT-B-32 --tasks scar --scar SCaR-Eval --images images --strategy red-circle",
    "virtue eval --tasks mmeb --mmeb MMEB-eval --images images --limit 100",
    "virtue eval --tasks mmeb/VisDial,mmeb/CIRR --mmeb MMEB-eval --images images --ranking global",
    "virtue eval --robustness --count 100 --to runs/robustness",
)
EMBEDDINGS = "embeddings"
"""Folder inside that of the run where embeddings are kept by default."""

STRATEGY_NAMES = ("prompt", "none", "box-in-text", "crop", "crop-margin", "red-circle", "blur", "darken", "alpha")
"""Keys of `STRATEGIES`, here for the help, which should not wait for its module."""

_SOURCES = "What is measured"
_OUTPUT = "Where it goes"


@dataclass(frozen=True)
class Run:
    """What is the same for all strategies of a call.

    Attributes:
        encoder: The model.
        sources: What it is measured on.
        to: Folder of results; None writes none.
        store: Folder of embeddings; None keeps none.
        batch_size: Items embedded together at most.
        robustness: Whether curves are drawn too.
        world: The processes that share the work.
        progress: Where progress goes.
    """

    encoder: Encoder
    sources: Sources
    to: Path | None
    store: Path | None
    batch_size: int
    robustness: bool
    world: World
    progress: EvaluationProgress


def evaluate(
    model: Annotated[
        str, typer.Option(help="Name, folder or Hub id; st:NAME for sentence-transformers; http://HOST/v1#NAME.")
    ] = "nano",
    tasks: Annotated[
        str,
        typer.Option(
            help=f"Which benchmarks, by commas: {', '.join(BENCHMARKS)}; or one set of one, as scar/ADE20K.",
            rich_help_panel=_SOURCES,
        ),
    ] = "scenes",
    strategy: Annotated[
        str,
        typer.Option(help=f"How it is shown a region: {', '.join(STRATEGY_NAMES)}; commas make several runs, + joins."),
    ] = "prompt",
    scar: Annotated[Path | None, typer.Option(help="Folder of SCaR's Parquet files.", rich_help_panel=_SOURCES)] = None,
    mmeb: Annotated[Path | None, typer.Option(help="Folder of MMEB's tasks.", rich_help_panel=_SOURCES)] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder that image paths start from.", rich_help_panel=_SOURCES)
    ] = None,
    own: Annotated[
        Path | None,
        typer.Option(help="Your own queries and candidates: JSON Lines, Parquet, a folder.", rich_help_panel=_SOURCES),
    ] = None,
    shown: Annotated[Shown, typer.Option(help="How scenes point at a region.", rich_help_panel=_SOURCES)] = "box",
    count: Annotated[int, typer.Option(min=2, help="How many scenes.", rich_help_panel=_SOURCES)] = 1000,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the first scene, and of drawn distractors.", rich_help_panel=_SOURCES)
    ] = 0,
    distractors: Annotated[
        Distractors,
        typer.Option(
            help="SCaR's wrong captions: as published, or true ones of the image's other regions or of other images.",
            rich_help_panel=_SOURCES,
        ),
    ] = "published",
    ranking: Annotated[
        Ranking,
        typer.Option(help="Rank MMEB's queries against their own lists or all candidates.", rich_help_panel=_SOURCES),
    ] = "own",
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="Queries of a task of scar and mmeb at most; it is then partial.", rich_help_panel=_SOURCES
        ),
    ] = None,
    instruction: Annotated[
        bool | None,
        typer.Option(
            "--instruction/--no-instruction",
            help="Send SCaR's queries with their words; without, the region and its picture alone.",
            show_default="as the model was trained",
            rich_help_panel=_SOURCES,
        ),
    ] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Disturb regions and pictures too: curves of hit@1 against severity.")
    ] = False,
    to: Annotated[
        Path | None, typer.Option(help="Folder for results.json, report.md and report.html.", rich_help_panel=_OUTPUT)
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder of embeddings, for several runs.",
            show_default=f"{EMBEDDINGS} in --to, else none",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps.", show_default="the best there is")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Items embedded together at most.")] = 32,
) -> None:
    """Measure any embedding model on SCaR, MMEB, scenes or own data.

    Prints a row for each task as it is done. Ties never help, and every hit@1 has its 95 % interval. With --to or
    --cache it may be stopped at any moment: the same command goes on. On several GPUs start it with
    `torchrun --nproc-per-node N -m virtue eval ...`.
    """
    from virtue.evaluation.models.loading import load_encoder
    from virtue.evaluation.sharing import from_environment, own_device

    benchmarks = tuple(dict.fromkeys(part.strip() for part in tasks.split(",")))
    sources = Sources(benchmarks, scar, mmeb, images, own, shown, count, seed, distractors, ranking, limit)
    if robustness and not sources.has_regions:
        raise ValueError(
            f"--robustness disturbs regions of scenes, scar or own, and not of {tasks}: name one of these."
        )
    strategies = _strategies(strategy)
    _check_folder(to)
    sources.tasks()  # what is missing is said before the model is loaded
    world = from_environment()
    encoder = load_encoder(model, device=device or own_device(world))
    words = instruction if instruction is not None else _reads_instructions(encoder)
    run = Run(
        encoder=encoder,
        sources=replace(sources, instruction=words),
        to=to,
        store=cache if cache is not None or to is None else to / EMBEDDINGS,
        batch_size=batch_size,
        robustness=robustness,
        world=world,
        progress=EvaluationProgress(Console(), Console(stderr=True), quiet=world.rank > 0),
    )
    _measure_all(run, strategies)


def _check_folder(to: Path | None) -> None:
    """Refuses before anything is done what could not be written in the end."""
    if to is not None:
        if to.exists() and not to.is_dir():
            raise NotADirectoryError(f"{to} is a file; --to names the folder that results go to.")
        to.mkdir(parents=True, exist_ok=True)


def _strategies(names: str) -> list[str]:
    """Those that are named, known to be right before anything is done."""
    from virtue.evaluation.strategies import strategy_changes

    strategies = list(dict.fromkeys(part.strip() for part in names.split(",")))
    for name in strategies:
        strategy_changes(name)
    return strategies


def _reads_instructions(encoder: Encoder) -> bool:
    """Whether a model was trained with instructions: all but this project's own, whose template has none."""
    from virtue.embedder import Embedder

    return not (isinstance(encoder, Embedder) and encoder.model.config.template == "virtue")


def _measure_all(run: Run, strategies: Sequence[str]) -> None:
    """Measures, writes results as each strategy is done, and ends with the reports."""
    _announce(run)
    found: list[Results] = []
    written: list[Path] = []
    try:
        for name in strategies:
            found.append(_measure(run, name))
            if run.to is not None and run.world.rank == 0:
                folder = run.to / name if len(strategies) > 1 else run.to
                folder.mkdir(parents=True, exist_ok=True)
                written.append(folder / RESULTS)
                found[-1].save(written[-1])
    except KeyboardInterrupt:
        run.progress.stop()
        if run.store is not None:
            run.progress.say(f"Stopped. {run.store} keeps the embeddings; run the same command again to go on.")
        raise
    finally:
        run.progress.stop()
    if run.world.rank == 0:
        _conclude(found, run.to, written)


def _announce(run: Run) -> None:
    """Says what is kept where."""
    if run.store is None:
        run.progress.say("Embeddings are not kept; --to or --cache keeps them, and a stopped run can then go on.")
    else:
        run.progress.say(f"Embeddings are kept in {run.store}; a run that is stopped goes on from there.")


def _measure(run: Run, strategy: str) -> Results:
    from virtue.evaluation.run import evaluate as measure

    run.progress.heading(f"{run.encoder.name}, {strategy}")
    results = measure(
        run.encoder,
        run.sources.tasks(),
        strategy=strategy,
        store=run.store,
        batch_size=run.batch_size,
        progress=run.progress.embedding,
        on_task=run.progress.task,
        world=run.world,
    )
    curves = _curves(run, strategy) if run.robustness else []
    return replace(results, settings={**results.settings, **run.sources.settings()}, curves=curves)


def _curves(run: Run, strategy: str) -> list[Curve]:
    """Hit@1 against severity for tasks of pointed-at regions, and for whole pictures against where points come from."""
    from virtue.embedder import Embedder
    from virtue.evaluation.robustness.curves import curves
    from virtue.evaluation.robustness.sampling import sampling_curves

    found: list[Curve] = []
    for task in run.sources.for_curves():
        found += curves(
            run.encoder,
            task,
            strategy=strategy,
            store=run.store,
            batch_size=run.batch_size,
            seed=run.sources.seed,
            progress=run.progress.of(f"{task.name}: disturbed"),
            world=run.world,
        )
    if strategy != "prompt" or not isinstance(run.encoder, Embedder) or run.encoder.model.sam is None:
        return found  # no points to choose
    for task in run.sources.of_whole_pictures():
        found += sampling_curves(
            run.encoder,
            task,
            store=run.store,
            batch_size=run.batch_size,
            progress=run.progress.of(f"{task.name}: where points come from"),
            world=run.world,
        )
    return found


def _conclude(found: Sequence[Results], to: Path | None, written: list[Path]) -> None:
    """Prints the tables, and writes the reports beside the results that are written."""
    show(found)
    if to is None:
        return
    from virtue.evaluation.reports.page import page

    write_text(to / "report.md", markdown(found))
    write_text(to / "report.html", page(found))
    places = ", ".join(map(str, [*written, to / "report.md", to / "report.html"]))
    typer.echo(f"Written: {places}")
