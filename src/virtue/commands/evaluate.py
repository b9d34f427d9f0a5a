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
            help=f"Which benchmarks, by commas: {', '.join(BENCHMARKS)}; or single sets: scar/ADE20K, mmeb/VisDial.",
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
    scar_images: Annotated[
        Path | None,
        typer.Option(help="The same for SCaR alone.", show_default="--images", rich_help_panel=_SOURCES),
    ] = None,
    mmeb_images: Annotated[
        Path | None,
        typer.Option(help="The same for MMEB alone.", show_default="--images", rich_help_panel=_SOURCES),
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
    folders = (scar, mmeb, images, scar_images, mmeb_images, own)
    sources = Sources(benchmarks, *folders, shown, count, seed, distractors, ranking, limit, instruction)
    sources.check_options(robustness=robustness)
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
            file = _file(run, name if len(strategies) > 1 else "")
            found.append(_measure(run, name))
            if file is not None:
                written.append(file)
                found[-1].save(file)
            if run.robustness:
                found[-1] = replace(found[-1], curves=_curves(run, name))
                if file is not None:
                    found[-1].save(file)
    except BaseException as error:
        run.progress.stop()
        if isinstance(error, KeyboardInterrupt) and run.store is not None:
            run.progress.say(f"Stopped. {run.store} keeps the embeddings; run the same command again to go on.")
        if written:
            run.progress.say(f"What was found so far is in {', '.join(map(str, written))}; `virtue report` shows it.")
        raise
    run.progress.stop()
    if run.world.rank == 0:
        _conclude(found, run.to, written)


def _file(run: Run, folder: str) -> Path | None:
    """Where results go, a folder of its own for each of several strategies; nowhere in all processes but the first."""
    if run.to is None or run.world.rank > 0:
        return None
    (run.to / folder).mkdir(parents=True, exist_ok=True)
    return run.to / folder / RESULTS


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
        on_not_measured=run.progress.not_measured,
        world=run.world,
    )
    settings = {**results.settings, **run.sources.settings(), "robustness": run.robustness}
    return replace(results, settings=settings)


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
    from virtue.evaluation.reports.comparison import compare

    compared = compare(found)
    show(found, compared)
    if to is None:
        return
    from virtue.evaluation.reports.page import page

    write_text(to / "report.md", markdown(found, compared))
    write_text(to / "report.html", page(found, compared))
    places = ", ".join(map(str, [*written, to / "report.md", to / "report.html"]))
    typer.echo(f"Written: {places}")
