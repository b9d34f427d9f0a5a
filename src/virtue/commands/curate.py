"""`virtue curate`: builds SCaR sets out of annotations, a writer of captions and people; a group of commands."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from virtue.commands.curate_build import build
from virtue.commands.curate_people import label_studio, review
from virtue.commands.curate_sets import export, stats, validate

EXAMPLES = (
    "virtue curate build --source scenes=scenes/ --to run --writer rules",
    "virtue curate build --source coco=instances.json --images photos --to run --model NAME --budget 20 "
    "--price-in 0.25 --price-out 2",
    "virtue curate build --source coco=instances.json --images photos --to run --base-url http://localhost:8000/v1 "
    "--model Qwen/Qwen3-VL-8B-Instruct",
    "virtue curate build --source scenes=scenes/ --to run --writer rules --try-again wording",
    "virtue curate instructions distractors",
    "virtue curate review run",
    "virtue curate label-studio export run tasks.json",
    "virtue curate stats run",
    "virtue curate stats SCaR-Eval SCaR-Train",
    "virtue curate export run --to my-set",
    "virtue curate validate SCaR-Eval --images images",
)


class InstructionName(StrEnum):
    """What an LLM is asked for."""

    ELEMENTS = "elements"
    DISTRACTORS = "distractors"
    PICK = "pick"


def curate() -> None:
    """Build a SCaR set from annotations, an LLM and people.

    Annotations become regions, a writer gives each a true caption and nine distractors, checks drop what will not do,
    people look at the rest, and what they keep is exported in the published layout. A run is a folder; any command may
    be stopped at any moment, and the same command goes on.
    """


def instructions(
    name: Annotated[
        InstructionName | None, typer.Argument(help="Which; all of them by default.", show_default=False)
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--instructions", help="Your own folder of instructions.", show_default="ours")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Copy them into this folder, to change them there.")] = None,
) -> None:
    """Show the instructions that the LLM writes by."""
    from virtue.curation.instructions import NAMES, load_instructions

    loaded = load_instructions(folder)
    chosen = [getattr(loaded, own) for own in (NAMES if name is None else (name.value,))]
    if to is None:
        typer.echo("\n\n".join(f"# {one.label}\n\n{one.text}" for one in chosen))
        return
    to.mkdir(parents=True, exist_ok=True)
    for one in chosen:
        file = to / f"{one.name}.{one.version}.md"
        if file.exists():
            raise FileExistsError(f"{file} exists: it may hold your changes, so it is not written over.")
        file.write_text(f"{one.text}\n", encoding="utf-8")
    typer.echo(f"{to} holds {len(chosen)} instructions; `virtue curate build --instructions {to}` uses them.")


PARTS = {
    "build": build,
    "instructions": instructions,
    "review": review,
    "label-studio": label_studio,
    "stats": stats,
    "export": export,
    "validate": validate,
}
"""The commands of the group."""
