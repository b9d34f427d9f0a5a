"""The recipe of the bundled model: from nothing to weights, on a GPU in minutes, on two CPU cores in a few hours.

1. **Segmenter**: a nano SAM-2 learns promptable segmentation, and the connector to say what it sees (`segmenter`).
2. **Reader**: texts learn to mean what they say; then the language model learns to read scenes and regions from ideal
   tokens, which stand for the segmentation stream and for the vision tower (`contrastive`).
3. **Tower**: the vision tower learns to say of every cell what its ideal token says.
4. **Contrastive**: real tokens take over from ideal ones while everything but the frozen segmenter learns together, the
   temperature falling.

The first three need nothing of each other, because ideal tokens are fixed codes: they run at the same time.
Every stage goes on from its last checkpoint after an interruption, with the same data.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed import FileStore  # type: ignore[attr-defined]
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from virtue.model import VirtueModel, VirtueProcessor
from virtue.model.quiet import no_progress_bars
from virtue.scenes.captions import region_samples, scene_caption, short_queries
from virtue.scenes.renderer import scenes
from virtue.training.architecture import nano_model, nano_processor, nano_tokenizer
from virtue.training.contrastive import Learner, contrastive_losses, text_losses, tower_losses
from virtue.training.feed import Feed
from virtue.training.loop import Progress, Schedule, train
from virtue.training.meetings import CROWDED
from virtue.training.pairs import Batches, to_device
from virtue.training.runs import Run
from virtue.training.segmenter import SegmentationBatches, Segmenter, segmentation_losses

TOKENIZER_SCENES = 1500
TEXTS = 192  # of a text-only step
HOT, COLD = 0.1, 0.03  # temperature at the start and at the end of stage 4

IDEAL = 0.8  # share of ideal tokens at the start of stage 4; none from its middle on

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
        tower_steps: Steps of stage 3.
        contrastive_steps: Steps of stage 4.
        rows: Region rows per scene, on average.
        distractors: Hard negative texts per region row.
        save_every: Steps between checkpoints.
        seed: Of weights and data.
    """

    images: int = 16
    segmenter_images: int = 8
    segmenter_steps: int = 11200
    text_steps: int = 120
    reader_steps: int = 1500
    tower_steps: int = 9100
    contrastive_steps: int = 5700
    rows: int = 3
    distractors: int = 3
    save_every: int = 100
    seed: int = 0


PLANS = {
    "cpu": Plan(),
    "gpu": Plan(
        images=144,
        segmenter_images=80,
        segmenter_steps=6000,
        reader_steps=2000,
        tower_steps=5000,
        contrastive_steps=5000,
        distractors=5,
        save_every=500,
    ),
    "smoke": Plan(
        images=4,
        segmenter_images=2,
        segmenter_steps=2,
        text_steps=1,
        reader_steps=2,
        tower_steps=1,
        contrastive_steps=2,
        rows=2,
        distractors=2,
    ),
}
"""Named amounts: "cpu" for two cores, "gpu" for one card, "smoke" to see every stage run."""


def keep_to(plan: Plan, folder: Path) -> None:
    """Remember a run's plan in its folder, and refuse to go on with another.

    Raises:
        ValueError: If the folder's run has another plan; says where they differ.
    """
    place = folder / "plan.json"
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(asdict(plan)))
        return
    begun, asked = json.loads(place.read_text()), asdict(plan)
    if changed := [name for name in asked if begun.get(name) != asked[name]]:
        name = changed[0]
        raise ValueError(
            f"{folder} holds a run with {name} = {begun.get(name)}, not {asked[name]}: go on with its own plan, or "
            "train into another folder."
        )


def train_segmenter(
    folder: Path, plan: Plan, device: torch.device, progress: StageProgress | None = None, workers: int = 0
) -> None:
    """Stage 1, into `folder / "segmenter"`."""
    model = nano_model(plan.seed)
    attend_plainly(model, device, "sam.vision_encoder")
    segmenter = Segmenter(model, plan.seed).to(device).train()
    batches = SegmentationBatches(read_processor(folder), plan.segmenter_images, plan.seed)
    feed = Feed(batches, plan.segmenter_steps, device, workers)
    train(
        segmenter,
        lambda step: segmentation_losses(segmenter, feed(step)),
        Schedule(plan.segmenter_steps, 1.5e-3, half=has_half(device), save_every=plan.save_every),
        Run(folder / "segmenter"),
        _named("segmenter", progress),
    )


def train_reader(
    folder: Path, plan: Plan, device: torch.device, progress: StageProgress | None = None, workers: int = 0
) -> None:
    """Stage 2, into `folder / "reader"`."""
    learner = _learner(plan, device)
    batches = Batches(read_processor(folder), plan.images, plan.rows, plan.distractors, plan.seed, pixels=False)
    feed = Feed(batches, plan.reader_steps, device, workers)

    def losses(step: int) -> dict[str, Tensor]:
        if step < plan.text_steps:
            texts, said = to_device(batches.texts(step, TEXTS), device)
            return text_losses(learner, texts, said)
        return contrastive_losses(learner, feed(step), HOT, ideal=1.0)

    half = has_half(device)
    schedule = Schedule(plan.reader_steps, 1.5e-3, warmup=30, decay=0.2, half=half, save_every=plan.save_every)
    train(learner, losses, schedule, Run(folder / "reader"), _named("reader", progress))


def train_tower(
    folder: Path, plan: Plan, device: torch.device, progress: StageProgress | None = None, workers: int = 0
) -> None:
    """Stage 3, into `folder / "tower"`."""
    learner = _learner(plan, device)
    batches = Batches(read_processor(folder), plan.images, 1, 1, plan.seed + 1, near=CROWDED)
    feed = Feed(batches, plan.tower_steps, device, workers)
    train(
        learner.model.vlm.visual,
        lambda step: tower_losses(learner, feed(step)),
        Schedule(plan.tower_steps, 1.5e-3, warmup=50, half=has_half(device), save_every=plan.save_every),
        Run(folder / "tower"),
        _named("tower", progress),
    )


def train_contrastive(
    folder: Path,
    plan: Plan,
    device: torch.device,
    progress: StageProgress | None = None,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> None:
    """Stage 4, into `folder / "contrastive"`, on one process or, with gradients averaged, on several.

    Raises:
        FileNotFoundError: If one of the first three stages has no checkpoint in the folder.
    """
    learner = _learner(plan, device)
    _load(learner, folder)
    batches = Batches(read_processor(folder), plan.images, plan.rows, plan.distractors, plan.seed + 2, rank, world)
    feed = Feed(batches, plan.contrastive_steps, device, workers)

    def losses(step: int) -> dict[str, Tensor]:
        done = step / plan.contrastive_steps
        ideal = max(0.0, IDEAL * (1 - 2 * done))
        return contrastive_losses(learner, feed(step), HOT + (COLD - HOT) * done, ideal)

    train(
        learner,
        losses,
        Schedule(
            plan.contrastive_steps, 1.5e-3, warmup=50, decay=0.6, half=has_half(device), save_every=plan.save_every
        ),
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
        FileNotFoundError: If stage 4 has no checkpoint.
    """
    state = Run(folder / "contrastive").load()
    if state is None:
        raise FileNotFoundError(
            f"{folder / 'contrastive'} holds no checkpoint: run the recipe to its last stage first."
        )
    learner = Learner(nano_model(0), 0)
    learner.load_state_dict(state["module"])
    model: VirtueModel = learner.model
    model.config.trained_on = "Generated scenes only (virtue.scenes): 160 drawn objects in 14 drawn places."
    processor = read_processor(folder)
    processor.config = model.config
    with no_progress_bars():
        model.half().save_pretrained(target)
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


def prepare(device: torch.device) -> None:
    """Let a GPU multiply what is not in half precision in TF32, which is exact enough for all of this."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def has_half(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 faster than in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        able = torch.cpu.get_capabilities()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return False


def _learner(plan: Plan, device: torch.device) -> Learner:
    model = nano_model(plan.seed)
    attend_plainly(model, device, "vlm.language_model")
    return Learner(model, plan.seed).to(device).train()


def attend_plainly(model: VirtueModel, device: torch.device, *parts: str) -> None:
    """On a CPU compute the attention of what learns step by step: the gradients of the fused kernel take far longer."""
    if device.type == "cpu":
        for part in parts:
            model.get_submodule(part).set_attn_implementation("eager")


def _load(learner: Learner, folder: Path) -> None:
    """The segmenter of stage 1, the language model and heads of stage 2, the vision tower of stage 3."""
    states = {}
    for stage in ("segmenter", "reader", "tower"):
        state = Run(folder / stage).load()
        if state is None:
            raise FileNotFoundError(f"{folder / stage} holds no checkpoint: train that stage first.")
        states[stage] = state["module"]
    weights = states["reader"]
    weights |= {
        f"model.{name}": t for name, t in states["segmenter"].items() if name.startswith(("sam.", "connector."))
    }
    weights |= {f"model.vlm.visual.{name}": tensor for name, tensor in states["tower"].items()}
    learner.load_state_dict(weights)


def _average(parameters: Iterable[nn.Parameter]) -> None:
    """Mean of the gradients over all processes, in one message; a parameter that a step left out counts as 0."""
    learning = list(parameters)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
    flat = torch.cat([grad.flatten() for grad in grads])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for parameter, grad in zip(learning, flat.split([g.numel() for g in grads]), strict=True):
        parameter.grad = grad.view_as(parameter)


def _named(stage: str, progress: StageProgress | None) -> Progress | None:
    return None if progress is None else (lambda step, steps, figures: progress(stage, step, steps, figures))
