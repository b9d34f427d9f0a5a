"""From a recipe and a folder to a trained model: every part put together, and nothing lost when the run is killed.

folder/recipe.json          what the run was started with; going on with another is refused
folder/checkpoint-N/        what was trained so far, the optimizer, the state of the random numbers
folder/anchor.safetensors   what elastic weight consolidation holds in place, if it is asked for
folder/model/               the trained model, at the end; folder/adapter/ its adapter alone
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments

from virtue.data.chosen import Chosen, split
from virtue.data.collator import PairCollator
from virtue.data.mixture import Mixture, Part
from virtue.data.pairs import Source
from virtue.data.prompting import checked_kinds
from virtue.model import VirtueModel, VirtueProcessor
from virtue.training.adaptation import compute_again, export, prepare, start
from virtue.training.forgetting import Anchor
from virtue.training.gathering import process_count, process_rank, total
from virtue.training.saving import last_checkpoint, load_trained
from virtue.training.settings import DataSettings, Recipe
from virtue.training.sharding import is_sharded, shard
from virtue.training.sources import open_part, open_source
from virtue.training.trainer import ContrastiveTrainer

CHANGEABLE = frozenset(
    {"data.max_skipped", "data.workers", "run.keep", "run.log_every", "run.save_every", "run.tensorboard"}
)
"""What may be set anew when a run goes on, beside `chunks`: nothing of it changes what is trained."""


@dataclass(frozen=True)
class Prepared:
    """A training that is ready to start.

    Attributes:
        recipe: What was asked for.
        model: With what learns prepared.
        processor: The model's.
        mixture: The training pairs.
        collator: Makes batches of them.
        held_out: Pairs to evaluate on, or None.
    """

    recipe: Recipe
    model: VirtueModel
    processor: VirtueProcessor
    mixture: Mixture
    collator: PairCollator
    held_out: Source | None


def prepare_run(recipe: Recipe) -> Prepared:
    """Open the data first and load the model then: what is likelier to be wrong, and quicker to see.

    Raises:
        ValueError: If a setting, a source or a checkpoint is wrong; the message says which.
        FileNotFoundError: If data is missing; the message says where to get it.
    """
    mixture, held_out = make_mixture(recipe.data, recipe.run.seed), held_out_pairs(recipe.data, recipe.run.seed)
    kinds = checked_kinds(recipe.data.prompts) if recipe.data.prompts else None
    model, processor = start(recipe.model, recipe.run.seed)
    torch.manual_seed(recipe.run.seed)
    prepare(model, recipe.model.part, recipe.adapter)
    collator = PairCollator(processor, kinds, recipe.run.seed, recipe.data.hard_negatives, recipe.loss.symmetric)
    return Prepared(recipe, model, processor, mixture, collator, held_out)


def run(prepared: Prepared, folder: Path, device: str | None = None, callbacks: Sequence[TrainerCallback] = ()) -> int:
    """Train, or go on with, a run and write its model.

    Args:
        prepared: What to train.
        folder: Of the run.
        device: "cpu" to leave accelerators alone; by default the best there is.
        callbacks: Told of every step, as transformers tells them.

    Returns:
        How many rows could not be read and were left out, since the run was started or went on.

    Raises:
        ValueError: If the folder holds a run of another recipe.
        FloatingPointError: If the loss is not finite; names the rows.
    """
    recipe = prepared.recipe
    arguments = training_arguments(recipe, folder, device)  # from here on processes know of each other
    keep_to(recipe, folder)
    anchor = _anchor(prepared, folder, arguments)
    trainer = _trainer(prepared, prepared.mixture, arguments, anchor, callbacks)
    trainer.train(resume_from_checkpoint=True)
    if process_rank() == 0:
        model = prepared.model
        if trainer.sharded:  # this process holds a part of it: take it whole once more
            model, _ = start(recipe.model, recipe.run.seed)
            prepare(model, recipe.model.part, recipe.adapter)
        best = trainer.state.best_model_checkpoint
        chosen = last_checkpoint(folder) if best is None else folder / Path(best).name  # the folder may have moved
        if chosen is not None:
            load_trained(model, chosen)
        base = None if recipe.model.fresh else recipe.model.start
        export(model, prepared.processor, folder, base, getattr(torch, recipe.model.dtype))
    return trainer.skipped


def make_mixture(data: DataSettings, seed: int) -> Mixture:
    """The mixture of a recipe's sources, and of the replayed ones with their share.

    Raises:
        ValueError: If there are no sources, or replay is asked for without a share or sources.
    """
    if not data.sources:
        raise ValueError("A training needs data: give at least one source (data.sources).")
    own = [open_part(spec) for spec in data.sources]
    if data.held_out_share:
        own = [Part(split(part.source, data.held_out_share, seed)[0], part.weight, part.cap) for part in own]
    alone = Mixture(own, seed, data.block)
    if not data.replay and not data.replay_share:
        return alone
    if not data.replay or not 0 < data.replay_share < 1:
        raise ValueError(
            f"Replay needs sources (data.replay) and a share between 0 and 1 (data.replay_share), not "
            f"{len(data.replay)} and {data.replay_share}."
        )
    earlier = [open_part(spec) for spec in data.replay]
    shared = [*_weighted(own, 1 - data.replay_share), *_weighted(earlier, data.replay_share)]
    return Mixture(shared, seed, data.block)


def held_out_pairs(data: DataSettings, seed: int) -> Source | None:
    """The pairs to evaluate on: a source of their own, or a share of the sources, which is not trained on.

    Raises:
        ValueError: If both are asked for.
    """
    if data.held_out is not None and data.held_out_share:
        raise ValueError(
            "Evaluate on a source (data.held_out) or on a share of the data (data.held_out_share), not both."
        )
    if data.held_out is not None:
        source = open_source(data.held_out)
        return Chosen([source], [(0, row) for row in range(min(data.held_out_rows, len(source)))])
    if not data.held_out_share:
        return None
    sources = [open_part(spec).source for spec in data.sources]
    held = [split(source, data.held_out_share, seed)[1] for source in sources]
    rows = [(number, row) for number, own in enumerate(held) for row in own[: -(-data.held_out_rows // len(held))]]
    return Chosen(sources, rows[: data.held_out_rows])


def keep_to(recipe: Recipe, folder: Path) -> None:
    """Remember a run's recipe in its folder, and refuse to go on with one that trains something else.

    Raises:
        ValueError: If the folder's run is of another recipe or number of processes; says where they differ.
    """
    place, asked = folder / "recipe.json", json.loads(json.dumps(asdict(recipe))) | {"processes": process_count()}
    begun = json.loads(place.read_text(encoding="utf-8")) if place.exists() else asked
    for name, (then, now) in _differences(begun, asked).items():
        if name not in CHANGEABLE and not name.startswith("chunks."):
            raise ValueError(
                f"{folder} holds a run with {name} = {then!r}, not {now!r}: go on with its own settings, or train into "
                "another folder."
            )
    if process_rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        partial = place.with_suffix(".partial")
        partial.write_text(json.dumps(asked, indent=2), encoding="utf-8")
        partial.replace(place)


def _differences(begun: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What a recipe was begun with and what is asked for now, by section.name, where they differ."""
    found: dict[str, tuple[Any, Any]] = {}
    for section, now in asked.items():
        then = begun.get(section)
        if isinstance(now, dict) and isinstance(then, dict):
            found |= {f"{section}.{name}": (then.get(name), now[name]) for name in now if then.get(name) != now[name]}
        elif section == "processes" and then != now:
            found[section] = (then, now)
    return found


def training_arguments(recipe: Recipe, folder: Path, device: str | None = None) -> TrainingArguments:
    """A recipe's amounts as transformers' trainer takes them.

    Raises:
        ValueError: If there is no such device, or evaluations fall between checkpoints.
    """
    run = recipe.run
    if device not in (None, "cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f"There is no device {device!r} to train on here: leave it out, or give cpu.")
    evaluation: dict[str, Any] = {"eval_strategy": "no"}
    if recipe.data.held_out is not None or recipe.data.held_out_share:
        if run.evaluate_every % run.save_every:
            raise ValueError(
                f"run.evaluate_every ({run.evaluate_every}) has to be a multiple of run.save_every ({run.save_every}): "
                "the best checkpoint can only be kept if it is written."
            )
        evaluation = {"eval_strategy": "steps", "eval_steps": run.evaluate_every}
        evaluation |= {"metric_for_best_model": "hit_at_1", "greater_is_better": True}
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=run.steps,
        per_device_train_batch_size=run.batch,
        per_device_eval_batch_size=run.batch,
        learning_rate=run.learning_rate,
        warmup_steps=run.warmup,
        lr_scheduler_type=run.schedule,
        weight_decay=run.weight_decay,
        max_grad_norm=run.clip,
        bf16=run.bf16,
        save_steps=run.save_every,
        save_total_limit=run.keep,
        logging_steps=run.log_every,
        report_to=["tensorboard"] if run.tensorboard and find_spec("tensorboard") else [],
        dataloader_num_workers=recipe.data.workers,
        dataloader_prefetch_factor=1 if recipe.data.workers else None,  # a batch of large pictures takes gigabytes
        disable_tqdm=True,
        use_cpu=device == "cpu",
        seed=run.seed,
        **evaluation,
    )


def _trainer(
    prepared: Prepared,
    mixture: Mixture,
    arguments: TrainingArguments,
    anchor: Anchor | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> ContrastiveTrainer:
    recipe = prepared.recipe
    if recipe.run.shard and not is_sharded(prepared.model):
        shard(prepared.model)
    if recipe.run.checkpointing:
        compute_again(prepared.model)
    return ContrastiveTrainer(
        prepared.model,
        prepared.processor,
        mixture,
        arguments,
        loss=recipe.loss,
        chunks=recipe.chunks,
        collator=prepared.collator,
        held_out=prepared.held_out,
        anchor=anchor,
        max_skipped=recipe.data.max_skipped,
        callbacks=callbacks,
    )


def _anchor(prepared: Prepared, folder: Path, arguments: TrainingArguments) -> Anchor | None:
    """What consolidation holds, measured on the replayed sources at the start and kept for a run that goes on."""
    settings, data = prepared.recipe.forgetting, prepared.recipe.data
    if not settings.strength:
        return None
    if not data.replay:
        raise ValueError("Elastic weight consolidation is measured on the earlier data: name it (data.replay).")
    place = folder / "anchor.safetensors"
    found = total(torch.tensor(int(place.exists()), device=arguments.device))
    if int(found) < process_count():  # all measure it together, or all have it
        earlier = Mixture([open_part(spec) for spec in data.replay], prepared.recipe.run.seed, data.block)
        trainer = _trainer(prepared, earlier, arguments)
        anchor = Anchor.measure(prepared.model, trainer.gradients(settings.batches), settings.strength)
        if process_rank() == 0:
            anchor.save(place)
        return anchor
    return Anchor.load(place, settings.strength)


def _weighted(parts: Sequence[Part], share: float) -> list[Part]:
    """The parts with weights that add up to a share; among each other they mix by their weights, or else by size."""
    weights = [float(part.rows) if part.weight is None else part.weight for part in parts]
    return [
        Part(part.source, share * weight / sum(weights), part.cap) for part, weight in zip(parts, weights, strict=True)
    ]
