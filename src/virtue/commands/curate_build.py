"""`virtue curate build`: regions out of annotations, and a sample of each that passes all checks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from virtue.commands.curate_progress import BuildProgress
from virtue.commands.curate_regions import Reading, parse_images, parse_sources, read_regions
from virtue.commands.curate_tables import money_line, wording_lines

if TYPE_CHECKING:
    from virtue.curation.client import LlmClient
    from virtue.curation.pipeline import Plan, Tally
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


@dataclass(frozen=True)
class Llm:
    """How the LLM is asked; see the options of `build`."""

    model: str
    base_url: str | None
    price_in: float | None
    price_out: float | None
    budget: float | None
    budget_tokens: int | None
    concurrency: int
    rate: float | None
    token_rate: float | None
    max_tokens: int
    temperature: float | None
    side: int
    instructions: Path | None
    batch: bool
    poll: float


def build(
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
        if not model:
            raise ValueError("An LLM needs a name: give --model as the endpoint knows it, or take --writer rules.")
        llm = Llm(
            model, base_url, price_in, price_out, budget, budget_tokens, concurrency, rate, token_rate, max_tokens,
            temperature, side, instructions, batch, poll,
        )  # fmt: skip
    dictionary = open_wordnet(wordnet_folder) if wordnet else None
    progress = BuildProgress(Console(stderr=True))
    with _alone(to, progress) as run:
        plan = _plan(seed, design, attempts, dictionary, llm)
        run.settle({"seed": seed})
        made = {"design": design.value, "attempts": attempts, "wordnet": wordnet}
        run.settle(made | {"writer": llm.model if llm else "rules"}, once_begun=True)
        read_regions(run, reading, progress)
        found = asyncio.run(_build(run, plan, llm, progress))
        _conclude(run, found, baseline)


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
def _alone(to: Path, progress: BuildProgress) -> Iterator[Curation]:
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
            progress.say(f"Stopped. {to} keeps what was bought and written; run the same command again to go on.")
            raise
        finally:
            progress.stop()
            lock.release()


async def _build(run: Curation, plan: Plan, llm: Llm | None, progress: BuildProgress) -> Tally:
    """Makes the samples; what stops the LLM ends the command in a sentence."""
    from virtue.curation.pipeline import build as make

    if llm is None:
        run.settle({"instructions": ""}, once_begun=True)
        return await make(run, _rules(run, plan), plan, progress=progress.built)
    from virtue.curation.instructions import load_instructions

    loaded = load_instructions(llm.instructions)
    run.settle({"instructions": loaded.version}, once_begun=True)
    async with _client(run, llm) as client:
        from virtue.curation.llm_writer import LlmWriter

        if not llm.batch:
            _refuse_beside_batches(run, client.address)
        try:
            return await make(run, LlmWriter(client, loaded, side=llm.side), plan, progress=progress.built)
        except _ending_errors() as error:
            progress.say(f"Stopped: {error} {run.folder} keeps what was bought and written; the same command goes on.")
            raise typer.Exit(1) from error


def _rules(run: Curation, plan: Plan) -> Writer:
    from virtue.curation.rules_writer import RulesWriter, Vocabulary

    return RulesWriter(Vocabulary.of(run.regions()), plan.seed, wordnet=plan.wordnet)


def _client(run: Curation, llm: Llm) -> LlmClient:
    """Who is asked.

    Raises:
        ModuleNotFoundError: If openai or pydantic is not installed.
        ValueError: If a number makes no sense, or an address or key is missing.
    """
    try:
        from virtue.curation.batch import BatchClient, BatchSettings
        from virtue.curation.budget import Budget, Prices
        from virtue.curation.client import LlmClient, Settings
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"An LLM is asked through {error.name}: install it with `pip install 'virtue[curate]'`.", name=error.name
        ) from error
    prices = Prices(llm.price_in, llm.price_out)
    budget = Budget(run, prices=prices, money=llm.budget, tokens=llm.budget_tokens)
    settings = Settings(
        max_tokens=llm.max_tokens,
        temperature=llm.temperature,
        concurrency=llm.concurrency,
        requests_per_minute=llm.rate,
        tokens_per_minute=llm.token_rate,
    )
    if not llm.batch:
        return LlmClient(llm.model, run, base_url=llm.base_url, budget=budget, settings=settings)
    how = BatchSettings(gather=min(10.0, llm.poll), poll=llm.poll)
    return BatchClient(llm.model, run, base_url=llm.base_url, budget=budget, settings=settings, batches=how)


def _refuse_beside_batches(run: Curation, address: str) -> None:
    """Refuses to ask one by one what a batch is being asked: it would be bought twice.

    Raises:
        ValueError: If a batch of the run is under way at the address.
    """
    if any(note.get("address", address) == address for note in run.batches().values()):
        raise ValueError(
            f"A batch of the run in {run.folder} is under way at {address}: go on with --batch, which takes its "
            "answers; without it they would be bought again."
        )


def _ending_errors() -> tuple[type[Exception], ...]:
    from virtue.curation.budget import BudgetError
    from virtue.curation.endpoint import LlmError

    return BudgetError, LlmError


def _conclude(run: Curation, found: Tally, baseline: bool) -> None:
    """Prints what came of it."""
    from virtue.curation.pipeline import describe
    from virtue.curation.statistics import first_samples
    from virtue.curation.wording import wording

    typer.echo(f"{run.folder}: {describe(found)}.")
    if line := money_line(run.totals()):
        typer.echo(line)
    if not found.written:
        return
    if baseline:
        for line in wording_lines(wording(first_samples(run), design=run.settings["design"])):
            typer.echo(line)
    typer.echo(f"Next: virtue curate review {run.folder}")
