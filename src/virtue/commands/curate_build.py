"""`virtue curate build`: regions out of annotations, and a sample of each that passes all checks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from virtue.commands import curate_llm
from virtue.commands.curate_llm import Llm
from virtue.commands.curate_progress import BuildProgress
from virtue.commands.curate_regions import Reading, parse_images, parse_sources, read_regions
from virtue.commands.curate_tables import money_line, rewording_line, wording_lines
from virtue.commands.same_command import same_command

if TYPE_CHECKING:
    from virtue.curation.again import Rewording
    from virtue.curation.instructions import Instructions
    from virtue.curation.pipeline import Plan
    from virtue.curation.store import Curation
    from virtue.curation.wordnet import WordNet
    from virtue.curation.writers import Writer

_REGIONS, _LLM, _CHECKS = "Which regions", "The LLM", "How samples are made"
_WAITING = 20_000  # regions under way in batch mode: each of them waits for a batch


class WriterName(StrEnum):
    """Who writes captions."""

    LLM = "llm"
    RULES = "rules"


class Design(StrEnum):
    """How distractors relate to the truth."""

    SINGLE = "single"
    CORNERS = "corners"


def build(
    context: typer.Context,
    source: Annotated[
        list[str],
        typer.Option(
            help="KIND=FOLDER or KIND=FILE,FILE; KIND:NAME@PART=... names it and takes one part, as in RefCOCOg@val. "
            "Again for another one.",
            rich_help_panel=_REGIONS,
        ),
    ],
    to: Annotated[Path, typer.Option(help="Folder of the run; made if missing.")],
    images: Annotated[
        list[str] | None,
        typer.Option(
            help="Folder of images; NAME=FOLDER for one source.",
            show_default="where the annotations are",
            rich_help_panel=_REGIONS,
        ),
    ] = None,
    writer: Annotated[
        WriterName, typer.Option(help="An LLM, or rules where annotations say how things stand.")
    ] = WriterName.LLM,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Regions of a source at most.", rich_help_panel=_REGIONS)
    ] = None,
    per_image: Annotated[
        int | None, typer.Option(min=1, help="Regions of an image at most.", rich_help_panel=_REGIONS)
    ] = None,
    per_category: Annotated[
        int | None, typer.Option(min=1, help="Regions of a category at most.", rich_help_panel=_REGIONS)
    ] = None,
    min_share: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of the image that a box covers at least.",
            show_default="0.002",
            rich_help_panel=_REGIONS,
        ),
    ] = None,
    read_again: Annotated[
        bool, typer.Option("--read-again", help="Read sources that were read before.", rich_help_panel=_REGIONS)
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of samples, shuffles and splits.")] = 0,
    design: Annotated[
        Design,
        typer.Option(
            help="One element swapped in each distractor, as published, or corners, which hide the truth better.",
            rich_help_panel=_CHECKS,
        ),
    ] = Design.SINGLE,
    attempts: Annotated[
        int, typer.Option(min=1, help="How often distractors are written at most.", rich_help_panel=_CHECKS)
    ] = 3,
    wordnet: Annotated[
        bool, typer.Option(help="Look for synonyms and kinds in WordNet.", rich_help_panel=_CHECKS)
    ] = True,
    wordnet_folder: Annotated[
        Path | None,
        typer.Option(
            help="Where WordNet's files are.", show_default="where they are looked for", rich_help_panel=_CHECKS
        ),
    ] = None,
    baseline: Annotated[
        bool, typer.Option(help="Measure in the end what the captions alone give away.", rich_help_panel=_CHECKS)
    ] = True,
    try_again: Annotated[
        list[str] | None,
        typer.Option(
            help="Take up what was dropped for this reason; wording: also samples that give the truth away. Again for "
            "another one.",
            metavar="REASON",
            show_default=False,
            rich_help_panel=_CHECKS,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Its name, as the endpoint knows it.", show_default=False, rich_help_panel=_LLM)
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="Any endpoint of OpenAI's protocol.", show_default="OpenAI's", rich_help_panel=_LLM),
    ] = None,
    price_in: Annotated[
        float | None, typer.Option(min=0, help="Of a million tokens read.", show_default=False, rich_help_panel=_LLM)
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(min=0, help="Of a million tokens written.", show_default=False, rich_help_panel=_LLM)
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(min=0, help="Money of the whole run; stops before it.", show_default=False, rich_help_panel=_LLM),
    ] = None,
    budget_tokens: Annotated[
        int | None, typer.Option(min=0, help="The same in tokens.", show_default=False, rich_help_panel=_LLM)
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at once.", rich_help_panel=_LLM)] = 8,
    rate: Annotated[
        float | None, typer.Option(help="Requests a minute at most.", show_default=False, rich_help_panel=_LLM)
    ] = None,
    token_rate: Annotated[
        float | None, typer.Option(help="Tokens a minute at most.", show_default=False, rich_help_panel=_LLM)
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.", rich_help_panel=_LLM)] = 2000,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Of sampling.", show_default="the endpoint's", rich_help_panel=_LLM)
    ] = None,
    side: Annotated[
        int, typer.Option(min=64, help="Longer side of the pictures it sees, in pixels.", rich_help_panel=_LLM)
    ] = 1024,
    instructions: Annotated[
        Path | None, typer.Option(help="Your own folder of instructions.", show_default="ours", rich_help_panel=_LLM)
    ] = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="Ask through the batch API: half the price.", rich_help_panel=_LLM)
    ] = False,
    poll: Annotated[
        float, typer.Option(min=0.1, help="Seconds between looks at a batch.", rich_help_panel=_LLM)
    ] = 30.0,
) -> None:
    """Make regions of annotations, and of each a true caption and nine distractors that pass all checks.

    Every answer of the LLM is on disk before it is used: the run may be stopped or killed at any moment, and the same
    command goes on without buying anything twice. A larger --limit or another --source adds to a run.
    """
    from virtue.curation.sources.source import MIN_SHARE

    reading = Reading(
        parse_sources(source), parse_images(images or []), limit, per_image, per_category,
        MIN_SHARE if min_share is None else min_share, seed, read_again,
    )  # fmt: skip
    llm = None
    if writer is WriterName.LLM:
        llm = Llm(
            model or "", base_url, price_in, price_out, budget, budget_tokens, concurrency, rate, token_rate,
            max_tokens, temperature, side, instructions, batch, poll,
        )  # fmt: skip
    told = curate_llm.check(llm) if llm else None
    dictionary = open_wordnet(wordnet_folder) if wordnet else None
    made = {"design": design.value, "attempts": attempts, "wordnet": wordnet}
    progress, again = BuildProgress(Console(stderr=True)), try_again or []
    with _alone(to, progress, again) as run:
        _settle(run, reading, made | _written_by(llm, told))
        _prepare(run, llm, again, progress)
        read_regions(run, reading, progress)
        _record_limits(run, reading)
        _take_up(run, again, progress)
        plan = _plan(seed, design, attempts, dictionary, llm)
        reworded = asyncio.run(_build(run, plan, llm, told, again, progress))
        mend = same_command(context, leave=["try_again"], add=["--try-again", "wording"])
        _conclude(run, reworded, baseline, mend)


def open_wordnet(folder: Path | None, *, required: bool = True) -> WordNet | None:
    """WordNet, for the checks.

    Args:
        folder: Where its files are; None to look for them.
        required: Whether to refuse to go on without; else None is given.

    Raises:
        FileNotFoundError: If it is required and its files are not there.
        ModuleNotFoundError: If it is required and nltk is not there.
    """
    from virtue.curation.wordnet import WordNet

    try:
        return WordNet.open(folder)
    except (FileNotFoundError, ImportError) as error:
        if not required:
            return None
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ModuleNotFoundError
        raise kind(f"{error} To check without it, give --no-wordnet.") from error


def _plan(seed: int, design: Design, attempts: int, wordnet: WordNet | None, llm: Llm | None) -> Plan:
    from virtue.curation.pipeline import Plan

    under_way = 1 if llm is None else _WAITING if llm.batch else llm.concurrency
    return Plan(seed, design.value, attempts, wordnet, under_way)


@contextmanager
def _alone(to: Path, progress: BuildProgress, again: Sequence[str]) -> Iterator[Curation]:
    """The run, which nobody else builds meanwhile; says how to go on when the build ends early."""
    from filelock import FileLock, Timeout

    from virtue.curation.store import Curation

    with Curation(to, make=True) as run:
        lock = FileLock(to / "build.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"Another `virtue curate build` works on {to}: wait for it, or stop it.") from None
        try:
            yield run
        except KeyboardInterrupt:
            progress.say(f"Stopped. {to} keeps what was bought and written; {_way_on(again)}.")
            raise
        finally:
            progress.stop()
            lock.release()


def _way_on(again: Sequence[str]) -> str:
    """How a build that was stopped goes on. With --try-again it would take up what failed since, once more."""
    return f"the same command {'without --try-again ' if again else ''}goes on"


def _written_by(llm: Llm | None, told: Instructions | None) -> dict[str, Any]:
    """The settings that say who writes."""
    if llm is None or told is None:
        return {"writer": "rules", "instructions": ""}
    return {"writer": llm.model, "instructions": told.version, **llm.decisive}


def _settle(run: Curation, reading: Reading, made: dict[str, Any]) -> None:
    """Fixes what samples depend on: which regions there are, and how samples are made of them.

    Raises:
        ValueError: If the run was begun otherwise.
    """
    chosen = ("seed", "min_share", "per_image", "per_category")
    run.settle({name: getattr(reading, name) for name in chosen}, until="read")
    run.settle(made, until="worked")


def _record_limits(run: Curation, reading: Reading) -> None:
    """Records of each source the largest limit that it was read with; None is larger than any."""
    known = run.settings
    for written in reading.sources:
        name = f"limit of {written.name or written.kind}"
        limits = (known.get(name, 0), reading.limit)
        run.record({name: None if None in limits else max(limits)})


def _prepare(run: Curation, llm: Llm | None, again: Sequence[str], progress: BuildProgress) -> None:
    """Sees that the run can go on so, and counts money that could not be counted before.

    Raises:
        ValueError: If nothing can be taken up for a reason, or a batch is under way that would be asked beside.
    """
    from virtue.curation.again import check_reasons

    check_reasons(run, again)
    if llm is not None:
        curate_llm.refuse_beside_batches(run, llm)
        if said := curate_llm.price_earlier(run, llm):
            progress.say(said)


def _take_up(run: Curation, again: Sequence[str], progress: BuildProgress) -> None:
    from virtue.curation.again import take_up
    from virtue.curation.pipeline import WORDING

    for reason, count in take_up(run, again).items():
        if count or reason != WORDING:
            progress.say(f"Taken up again: {count:,} regions that were dropped for {reason!r}.")


async def _build(
    run: Curation, plan: Plan, llm: Llm | None, told: Instructions | None, again: Sequence[str], progress: BuildProgress
) -> Rewording | None:
    """Makes the samples; what stops that on the way ends the command in a sentence."""
    if llm is None:
        from virtue.curation.rules_writer import RulesWriter, Vocabulary

        rules = RulesWriter(Vocabulary.of(run.regions()), plan.seed, wordnet=plan.wordnet, tries=run.tries)
        with _stopping(run, llm, again, progress):
            return await _make(run, rules, plan, again, progress)
    async with curate_llm.client(run, llm) as client:
        from virtue.curation.llm_writer import LlmWriter

        writer = LlmWriter(client, told, side=llm.side, tries=run.tries)
        with _stopping(run, llm, again, progress):
            return await _make(run, writer, plan, again, progress)


@contextmanager
def _stopping(run: Curation, llm: Llm | None, again: Sequence[str], progress: BuildProgress) -> Iterator[None]:
    """Says what stopped a build on the way, and how it goes on."""
    try:
        yield
    except curate_llm.ending_errors(llm) as error:
        progress.say(f"Stopped: {error} {run.folder} keeps what was bought and written; {_way_on(again)}.")
        raise typer.Exit(1) from error


async def _make(
    run: Curation, writer: Writer, plan: Plan, again: Sequence[str], progress: BuildProgress
) -> Rewording | None:
    """Makes the samples, and writes those again that give the true caption away, if that was asked for."""
    from virtue.curation.again import reword
    from virtue.curation.pipeline import WORDING
    from virtue.curation.pipeline import build as make

    await make(run, writer, plan, progress=progress.built)
    if WORDING not in again:
        return None
    return await reword(run, writer, plan, progress=progress.built, say=progress.say)


def _conclude(run: Curation, reworded: Rewording | None, baseline: bool, mend: str) -> None:
    """Prints what came of it, and the command that comes next: review, or one that mends the wording."""
    from virtue.curation.again import standing_samples
    from virtue.curation.pipeline import describe, tally
    from virtue.curation.statistics import MEASURED
    from virtue.curation.wording import wording

    found = tally(run)
    typer.echo(f"{run.folder}: {describe(found)}.")
    if reworded is not None:
        typer.echo(rewording_line(reworded))
    if line := money_line(run.totals()):
        typer.echo(line)
    if not found.written:
        return
    samples = list(islice(standing_samples(run), MEASURED)) if baseline else []
    measured = wording(samples, design=run.settings["design"]) if samples else None
    for line in wording_lines(measured) if measured else []:
        typer.echo(line)
    typer.echo(f"Next: {mend if measured and not measured.is_near else f'virtue curate review {run.folder}'}")
