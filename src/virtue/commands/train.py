"""`virtue train`: trains a model by a recipe."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from virtue.commands.train_progress import reporter

if TYPE_CHECKING:
    from virtue.training.nano import Plan

EXAMPLES = (
    'virtue train own-pairs --to runs/mine --set data.sources=\'[{"kind": "pairs", "path": "pairs.jsonl"}]\'',
    "virtue train virtue-2b-scar --to runs/scar --dry-run",
    "virtue train virtue-2b-scar --to runs/scar --set run.batch=32 --set chunks.queries=2",
    "virtue train nano --to runs/nano --set contrastive_steps=4000",
)
NANO = "nano"


def train(
    recipe: Annotated[str, typer.Argument(help="Which recipe; `virtue train list` shows them.")],
    to: Annotated[
        Path | None, typer.Option(help="Folder of the run; the weights end up in its folder `model`.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting, section.name=value; for nano name=value.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing: show data, first batch, parameters and memory.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.", show_default="the best there is")] = None,
    plan: Annotated[str | None, typer.Option(help="For nano: cpu, gpu or smoke.", show_default="by the device")] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="For nano: processes, to train on CPU or to feed a GPU.", show_default="one per core"),
    ] = None,
) -> None:
    """Train a model by a recipe.

    Checkpoints are written on the way. It may be stopped at any moment: the same command goes on where it was. On
    several GPUs start it with `torchrun --nproc-per-node N -m virtue train ...`.
    """
    if recipe == "list":
        _list()
        return
    if to is None and not dry_run:
        raise ValueError("Say where the run is to be kept: --to FOLDER.")
    console = Console(stderr=True)
    try:
        if recipe == NANO:
            _train_nano(to, plan, setting or [], device, processes, dry_run, console)
        elif plan is not None or processes is not None:
            raise ValueError(
                f"--plan and --processes are for {NANO}; {recipe} takes --set, and torchrun for processes."
            )
        else:
            _train_pairs(recipe, to, setting or [], device, dry_run, console)
    except KeyboardInterrupt:
        console.print(f"Stopped. {to} keeps the checkpoints; run the same command again to go on.", markup=False)
        raise


def _list() -> None:
    from virtue.training.recipes import RECIPES

    typer.echo(f"{NANO}: the bundled model, from nothing, on generated scenes")
    for name, recipe in RECIPES.items():
        typer.echo(f"{name}: {recipe.summary}")


def _train_pairs(
    name: str, to: Path | None, settings: list[str], device: str | None, dry_run: bool, console: Console
) -> None:
    from virtue.commands.dry_run import show
    from virtue.commands.trainer_progress import TrainingProgress
    from virtue.training.recipes import RECIPES, changed
    from virtue.training.running import prepare_run, run

    if name not in RECIPES:
        raise ValueError(f"There is no recipe {name!r}; there are {NANO}, {', '.join(RECIPES)}.")
    recipe = changed(RECIPES[name], settings)
    if dry_run:
        show(prepare_run(recipe), to)
        return
    assert to is not None
    progress = TrainingProgress(console)
    try:
        skipped = run(prepare_run(recipe), to, device=device, callbacks=[progress])
    finally:
        progress.bars.stop()  # a run that is stopped would leave the terminal without its cursor
    left_out = f" {skipped} rows could not be read and were left out." if skipped else ""
    typer.echo(f"{name}: the weights are in {to / 'model'}.{left_out}")


def _train_nano(
    to: Path | None,
    plan: str | None,
    settings: list[str],
    device: str | None,
    processes: int | None,
    dry_run: bool,
    console: Console,
) -> None:
    import torch

    from virtue.training.nano import PLANS, export
    from virtue.training.processes import run_recipe

    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    name = plan or ("cpu" if where.type == "cpu" else "gpu")
    if name not in PLANS:
        raise ValueError(f"There is no plan {name!r}; choose one of {', '.join(PLANS)}.")
    chosen = changed_plan(PLANS[name], settings)
    if dry_run:
        typer.echo("\n".join(f"{field.name}: {getattr(chosen, field.name)}" for field in fields(chosen)))
        return
    assert to is not None
    with reporter(console) as report:
        run_recipe(to, chosen, where, processes or os.cpu_count() or 1, report)
    export(to, to / "model")
    typer.echo(f"{NANO}: the weights are in {to / 'model'}; try `virtue measure --model {to / 'model'}`.")


def changed_plan(plan: Plan, settings: list[str]) -> Plan:
    """A plan of the bundled model with some amounts changed, each written name=value.

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
