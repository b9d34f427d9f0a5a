"""`virtue train`: trains a model by a recipe, from nothing to weights."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from virtue.training.nano import Plan, StageProgress

EXAMPLES = (
    "virtue train nano --to runs/nano",
    "virtue train nano --to runs/nano --set contrastive_steps=4000 --set images=24",
    "virtue train nano --to runs/smoke --plan smoke",
)
SECONDS_BETWEEN_LINES = 30


class Recipe(StrEnum):
    """What can be trained."""

    NANO = "nano"


def train(
    recipe: Annotated[Recipe, typer.Argument(help="Which recipe: nano, the bundled model.")],
    to: Annotated[Path, typer.Option(help="Folder of the run; the weights end up in its folder `model`.")],
    plan: Annotated[str | None, typer.Option(help="cpu, gpu or smoke.", show_default="by the device")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Change one amount of the plan, name=value.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.", show_default="the best there is")] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Worker processes on CPU.", show_default="one per core")
    ] = None,
) -> None:
    """Train a model by a recipe, from nothing to weights.

    Every stage writes checkpoints. It may be stopped at any moment: the same command goes on where it was.
    """
    import torch

    from virtue.training.nano import PLANS, export
    from virtue.training.processes import run_recipe

    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    name = plan or ("cpu" if where.type == "cpu" else "gpu")
    if name not in PLANS:
        raise ValueError(f"There is no plan {name!r}; choose one of {', '.join(PLANS)}.")
    chosen = changed(PLANS[name], setting or [])
    console = Console(stderr=True)
    try:
        with _reporter(console) as report:
            run_recipe(to, chosen, where, processes or os.cpu_count() or 1, report)
    except KeyboardInterrupt:
        console.print(f"Stopped. {to} keeps the checkpoints; run the same command again to go on.", markup=False)
        raise
    export(to, to / "model")
    typer.echo(f"{recipe.value}: the weights are in {to / 'model'}; try `virtue measure --model {to / 'model'}`.")


def changed(plan: Plan, settings: list[str]) -> Plan:
    """A plan with some amounts changed, each written name=value.

    Raises:
        ValueError: If a name is unknown or a value is not a whole number.
    """
    names = [field.name for field in fields(plan)]
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in names:
            raise ValueError(f"--set {setting}: there is no {name!r}; a plan has {', '.join(names)}.")
        if not value.isdecimal():
            raise ValueError(f"--set {setting}: {name} takes a whole number, not {value!r}.")
        plan = replace(plan, **{name: int(value)})
    return plan


@contextmanager
def _reporter(console: Console) -> Iterator[StageProgress]:
    """A bar per stage in a terminal, a line now and then elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}
        printed: dict[str, float] = {}

        def report(stage: str, step: int, steps: int, figures: dict[str, float]) -> None:
            loss = sum(value for name, value in figures.items() if name != "seconds")
            if console.is_terminal:
                if stage not in tasks:
                    tasks[stage] = bars.add_task(stage, total=steps)
                bars.update(tasks[stage], completed=step, description=f"{stage} loss {loss:.3f}")
            elif time.monotonic() - printed.get(stage, 0.0) > SECONDS_BETWEEN_LINES or step == steps:
                printed[stage] = time.monotonic()
                console.print(f"{stage} {step}/{steps} loss {loss:.3f} {figures['seconds']:.2f} s", highlight=False)

        yield report
