"""The recipe of the bundled model: from nothing to weights, on a GPU in minutes, on two CPU cores in a few hours.

1. **Segmenter**: a nano SAM-2 learns promptable segmentation (`segmenter`).
2. **Reader**: texts learn to mean what they say; then the vision tower and the language model learn to read scenes,
   with ideal tokens in place of the segmentation stream (`contrastive`). It needs nothing of stage 1: on CPU both run
   at the same time.
3. **Contrastive**: the connector learns what the ideal tokens say, then everything but the frozen segmenter learns
   together, the temperature falling.

Every stage goes on from its last checkpoint after an interruption, with the same data.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed import FileStore  # type: ignore[attr-defined]
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from virtue.model import VirtueModel, VirtueProcessor
from virtue.scenes.captions import region_samples, scene_caption, short_queries
from virtue.scenes.renderer import scenes
from virtue.training.architecture import nano_model, nano_processor, nano_tokenizer
from virtue.training.contrastive import Learner, connector_losses, contrastive_losses, text_losses
from virtue.training.loop import Progress, Schedule, train
from virtue.training.pairs import Batches, to_device
from virtue.training.runs import Run
from virtue.training.segmenter import SegmentationBatches, Segmenter, segmentation_losses

TOKENIZER_SCENES = 1500
TEXTS = 192  # of a text-only step
HOT, COLD = 0.1, 0.03  # temperature at the start and at the end of stage 3

StageProgress = Callable[[str, int, int, dict[str, float]], None]
"""Called after a step with the stage's name, the step, the number of all steps, and the step's figures."""


@dataclass(frozen=True)
class Plan:
    """How much of everything.

    Attributes:
        images: Scenes per step and process.
        segmenter_images: Scenes per step of stage 1.
        segmenter_steps: Steps of stage 1.
        text_steps: Steps of stage 2 on texts alone.
        reader_steps: All steps of stage 2.
        connector_steps: Steps of stage 3 on the connector alone.
        contrastive_steps: All steps of stage 3.
        rows: Most region rows per scene.
        distractors: Hard negative texts per region row.
        seed: Of weights and data.
    """

    images: int = 16
    segmenter_images: int = 8
    segmenter_steps: int = 3000
    text_steps: int = 120
    reader_steps: int = 1200
    connector_steps: int = 200
    contrastive_steps: int = 2400
    rows: int = 3
    distractors: int = 3
    seed: int = 0


PLANS = {
    "cpu": Plan(),
    "gpu": Plan(
        images=96, segmenter_images=64, segmenter_steps=6000, reader_steps=3000, contrastive_steps=8000, distractors=5
    ),
    "smoke": Plan(4, 2, 2, 1, 2, 1, 2, 2, 2),
}
"""Named amounts: "cpu" for two cores, "gpu" for one card, "smoke" to see every stage run."""


def train_segmenter(folder: Path, plan: Plan, device: torch.device, progress: StageProgress | None = None) -> None:
    """Stage 1, into `folder / "segmenter"`."""
    model = nano_model(plan.seed)
    segmenter = Segmenter(model).to(device).train()
    batches = SegmentationBatches(read_processor(folder), plan.segmenter_images, plan.seed)
    train(
        segmenter,
        lambda step: segmentation_losses(segmenter, to_device(batches(step), device)),
        Schedule(plan.segmenter_steps, 1.5e-3),
        Run(folder / "segmenter"),
        _named("segmenter", progress),
    )


def train_reader(folder: Path, plan: Plan, device: torch.device, progress: StageProgress | None = None) -> None:
    """Stage 2, into `folder / "reader"`."""
    learner = Learner(nano_model(plan.seed)).to(device).train()
    batches = Batches(read_processor(folder), plan.images, plan.rows, plan.distractors, plan.seed)

    def losses(step: int) -> dict[str, Tensor]:
        if step < plan.text_steps:
            texts, said = to_device(batches.texts(step, TEXTS), device)
            return text_losses(learner, texts, said)
        return contrastive_losses(learner, to_device(batches(step), device), HOT, ideal=True)

    schedule = Schedule(plan.reader_steps, 1.5e-3, warmup=30, decay=0.2)
    train(learner, losses, schedule, Run(folder / "reader"), _named("reader", progress))


def train_contrastive(
    folder: Path,
    plan: Plan,
    device: torch.device,
    progress: StageProgress | None = None,
    rank: int = 0,
    world: int = 1,
) -> None:
    """Stage 3, into `folder / "contrastive"`, on one process or, with gradients averaged, on several.

    Raises:
        FileNotFoundError: If one of the first two stages has no checkpoint in the folder.
    """
    learner = Learner(nano_model(plan.seed))
    _load(learner, folder)
    learner.to(device).train()
    batches = Batches(read_processor(folder), plan.images, plan.rows, plan.distractors, plan.seed + 1, rank, world)
    warm = plan.connector_steps

    def losses(step: int) -> dict[str, Tensor]:
        batch = to_device(batches(step), device)
        if step < warm:
            return connector_losses(learner, batch)
        done = (step - warm) / max(1, plan.contrastive_steps - warm)
        return contrastive_losses(learner, batch, HOT + (COLD - HOT) * done, ideal=False)

    train(
        learner,
        losses,
        Schedule(plan.contrastive_steps, 1.5e-3, warmup=50, decay=0.6),
        Run(folder / "contrastive"),
        _named("contrastive", progress) if rank == 0 else None,
        _average if world > 1 else None,
        writes=rank == 0,
    )


def export(folder: Path, target: Path) -> None:
    """Write the trained model of a run as a checkpoint in float16.

    Args:
        folder: Of the run.
        target: Of the checkpoint.

    Raises:
        FileNotFoundError: If stage 3 has no checkpoint.
    """
    state = Run(folder / "contrastive").load()
    if state is None:
        raise FileNotFoundError(
            f"{folder / 'contrastive'} holds no checkpoint: run the recipe to its last stage first."
        )
    learner = Learner(nano_model(0))
    learner.load_state_dict(state["module"])
    model: VirtueModel = learner.model
    model.config.trained_on = "Generated scenes only (virtue.scenes): 160 drawn objects in 14 drawn places."
    model.half().save_pretrained(target)
    processor = read_processor(folder)
    processor.config = model.config
    processor.save_pretrained(target)


def read_processor(folder: Path) -> VirtueProcessor:
    """The run's processor; its tokenizer is learnt from training captions the first time."""
    place = folder / "tokenizer"
    if not (place / "tokenizer.json").exists():
        tokenizer = nano_tokenizer(_texts())
        tokenizer.save_pretrained(place)
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place)
    return nano_processor(loaded)


def join_processes(rank: int, world: int, meeting: Path) -> None:
    """Make this process one of several that train together, meeting through a file."""
    store = FileStore(str(meeting), world)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timedelta(minutes=30))


def _texts() -> Iterator[str]:
    rng = np.random.default_rng(0)
    for scene in scenes("train", 0, TOKENIZER_SCENES):
        for sample in region_samples(scene, rng, "varied"):
            yield sample.caption
            yield from sample.distractors[:3]
        yield scene_caption(scene, rng)
        yield from (query.text for query in short_queries(scene, rng))


def _load(learner: Learner, folder: Path) -> None:
    """The segmenter of stage 1 and everything else of stage 2."""
    segmenter, reader = Run(folder / "segmenter").load(), Run(folder / "reader").load()
    if segmenter is None or reader is None:
        raise FileNotFoundError(f"{folder} lacks the checkpoint of the segmenter or of the reader: train them first.")
    sam = {f"model.{name}": tensor for name, tensor in segmenter["module"].items() if name.startswith("sam.")}
    rest = {name: tensor for name, tensor in reader["module"].items() if not name.startswith("model.sam.")}
    learner.load_state_dict(rest | sam)


def _average(parameters: Iterable[nn.Parameter]) -> None:
    """Mean of the gradients over all processes, in one message; a parameter that a step left out counts as 0."""
    used = [parameter for parameter in parameters]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in used]
    flat = torch.cat([grad.flatten() for grad in grads])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for parameter, grad in zip(used, flat.split([g.numel() for g in grads]), strict=True):
        parameter.grad = grad.view_as(parameter)


def _named(stage: str, progress: StageProgress | None) -> Progress | None:
    return None if progress is None else (lambda step, steps, figures: progress(stage, step, steps, figures))
