"""How fast nano learns on this machine, as ratios within one run: `python benchmarks/train.py [SECTION ...]`.

steps       a step of each stage as the recipe takes it, against one in float32 with fused attention
optimizers  the vision tower's loss after equally many steps, by the recipe's optimizers and by AdamW alone
"""

import argparse
import time
from collections.abc import Callable, Iterable
from functools import partial
from statistics import mean, median

import torch
from shapes import WORDS
from torch import Tensor, nn

from virtue.model import VirtueProcessor
from virtue.training.architecture import nano_model, nano_processor, nano_tokenizer
from virtue.training.contrastive import Learner, contrastive_losses, tower_losses
from virtue.training.loop import MUON, Schedule, make_optimizers
from virtue.training.nano import HOT, Plan, attend_plainly, has_half
from virtue.training.pairs import Batches
from virtue.training.segmenter import SegmentationBatches, Segmenter, segmentation_losses

Losses = Callable[[], dict[str, Tensor]]
CPU = torch.device("cpu")
PLAN = Plan()
KEPT = 4  # batches, made before the clock starts and taken in turn
WARM, TIMED = 8, 8  # steps: the first of every shape makes its kernels


def main() -> None:
    """Runs the sections asked for, all by default."""
    parser = argparse.ArgumentParser(description="Speed of training.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--steps", type=int, default=350, help="of the section optimizers")
    parser.add_argument("--threads", type=int, default=1, help="one, as each of the recipe's processes has")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    processor = nano_processor(nano_tokenizer(iter(WORDS)))
    for name in options.sections or SECTIONS:
        print(f"\n{name}")
        SECTIONS[name](processor, options)


def steps(processor: VirtueProcessor, options: argparse.Namespace) -> None:
    """Section `steps`: forward and backward, without the drawing of scenes and the optimizers."""
    for name, stage in STAGES.items():
        plain = seconds(stage(processor, False), half=False)
        recipe = seconds(stage(processor, True), half=has_half(CPU))
        print(f"  {name:<12}{plain:7.3f} s plain {recipe:7.3f} s as trained   {plain / recipe:.1f} times faster")


def optimizers(processor: VirtueProcessor, options: argparse.Namespace) -> None:
    """Section `optimizers`."""
    schedule = Schedule(options.steps, 1.5e-3, warmup=50)
    batches = Batches(processor, PLAN.images, 1, 1, seed=1)
    curves = {"with Muon": curve(batches, schedule, make_optimizers), "AdamW alone": curve(batches, schedule, adamw)}
    for end in range(50, options.steps + 1, 50):
        figures = "   ".join(f"{name} {mean(losses[end - 50 : end]):.3f}" for name, losses in curves.items())
        print(f"  mean loss of steps {end - 49:>4} to {end:>4}: {figures}")


def segmenter(processor: VirtueProcessor, plainly: bool) -> Iterable[Losses]:
    """Stage 1."""
    model = nano_model(0)
    if plainly:
        attend_plainly(model, CPU, "sam.vision_encoder")
    learner = Segmenter(model, 0).train()
    batches = SegmentationBatches(processor, PLAN.segmenter_images, 0)
    return [partial(segmentation_losses, learner, batches(step)) for step in range(KEPT)]


def reader(processor: VirtueProcessor, plainly: bool) -> Iterable[Losses]:
    """Stage 2."""
    return contrastive(processor, plainly, ideal=1.0)


def tower(processor: VirtueProcessor, plainly: bool) -> Iterable[Losses]:
    """Stage 3."""
    learner, batches = new_learner(plainly), Batches(processor, PLAN.images, 1, 1, 1)
    return [partial(tower_losses, learner, batches(step)) for step in range(KEPT)]


def contrastive(processor: VirtueProcessor, plainly: bool, ideal: float = 0.0) -> Iterable[Losses]:
    """Stage 4."""
    learner, batches = new_learner(plainly), Batches(processor, PLAN.images, PLAN.rows, PLAN.distractors, 2)
    return [partial(contrastive_losses, learner, batches(step), HOT, ideal) for step in range(KEPT)]


def new_learner(plainly: bool) -> Learner:
    """Everything that stages 2 to 4 train."""
    model = nano_model(0)
    if plainly:
        attend_plainly(model, CPU, "vlm.language_model")
    return Learner(model, 0).train()


def seconds(losses: Iterable[Losses], half: bool) -> float:
    """Median time of a step."""
    kept, taken = list(losses), []
    for number in range(WARM + TIMED):
        began = time.perf_counter()
        total(kept[number % KEPT], half).backward()
        taken.append(time.perf_counter() - began)
    return median(taken[WARM:])


def curve(batches: Batches, schedule: Schedule, choose: Callable[..., list[torch.optim.Optimizer]]) -> list[float]:
    """The vision tower's loss in every step."""
    learner = new_learner(plainly=True)
    module = learner.model.vlm.visual
    chosen, seen = choose(module, schedule), []
    for step in range(schedule.steps):
        loss = total(lambda: tower_losses(learner, batches(step)), has_half(CPU))  # noqa: B023
        module.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        for optimizer in chosen:
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step) * (MUON if isinstance(optimizer, torch.optim.Muon) else 1)
            optimizer.step()
        seen.append(loss.item())
    return seen


def adamw(module: nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """AdamW for everything."""
    return [torch.optim.AdamW(module.parameters(), betas=(0.9, 0.98), weight_decay=schedule.weight_decay)]


def total(losses: Losses, half: bool) -> Tensor:
    """The sum of a step's terms."""
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        return torch.stack(list(losses().values())).sum()


STAGES = {"segmenter": segmenter, "reader": reader, "tower": tower, "contrastive": contrastive}
SECTIONS = {"steps": steps, "optimizers": optimizers}


if __name__ == "__main__":
    main()
