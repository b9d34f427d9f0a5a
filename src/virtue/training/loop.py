"""The loop that every stage of the bundled model's training runs: warm-up, flat, decay, checkpoints, a log.

Muon (https://kellerjordan.github.io/posts/muon) updates the matrices inside the network, AdamW all the rest: tables,
convolutions, vectors, and the heads that end it; `benchmarks/train.py` compares it with AdamW alone. Half precision
(bfloat16) doubles the speed of a step, on CPUs that have it too.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from virtue.training.muon import BatchedMuon
from virtue.training.runs import Run

MUON = 2.5  # its learning rate over AdamW's, both in units of the mean size of a step's change
HEADS = "heads"  # the submodule that questions the network and is no part of it

Progress = Callable[[int, int, dict[str, float]], None]
"""Called after a step with its number, the number of all steps, and the step's figures."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a stage learns.

    Attributes:
        steps: Optimizer steps.
        learning_rate: Of AdamW, after the warm-up and before the decay. Muon's is `MUON` times as high.
        warmup: Steps over which the rate rises from 0.
        decay: Share of the steps, at the end, over which it falls to 0 (linearly).
        weight_decay: Of everything but norms, biases and single vectors; times the learning rate, so Muon's matrices
            shrink `MUON` times as fast.
        save_every: Steps between checkpoints.
        half: Compute the losses in bfloat16 where that loses nothing; weights stay in float32.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    decay: float = 0.4
    weight_decay: float = 0.02
    save_every: int = 100
    half: bool = False

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        falling = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.learning_rate * min(1.0, (step + 1) / self.warmup, falling)


def train(
    module: nn.Module,
    losses: Callable[[int], dict[str, Tensor]],
    schedule: Schedule,
    run: Run,
    progress: Progress | None = None,
    reduce_gradients: Callable[[Iterable[nn.Parameter]], None] | None = None,
    writes: bool = True,
) -> None:
    """Train a module, going on from the run's checkpoint if there is one.

    Args:
        module: Everything that learns and is saved.
        losses: From a step's number to its loss terms; their sum is minimised.
        schedule: Steps and rates.
        run: Where checkpoints and the log go.
        progress: Called after every step.
        reduce_gradients: Averages gradients over processes.
        writes: Whether this process writes checkpoints and the log.

    Raises:
        FloatingPointError: If a loss is not finite.
        ValueError: If the checkpoint is of an earlier version.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizers = make_optimizers(module, schedule)
    for step in range(_resume(run, module, optimizers), schedule.steps):
        began = time.perf_counter()
        with torch.autocast(parameters[0].device.type, torch.bfloat16, enabled=schedule.half):
            terms = losses(step)
        stacked = torch.stack([term.float() for term in terms.values()])
        total = stacked.sum()
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        total.backward()
        values = stacked.detach().tolist()  # the one place that waits for a GPU
        if not math.isfinite(sum(values)):
            raise FloatingPointError(f"The loss of step {step} is {sum(values)}: lower the learning rate.")
        if reduce_gradients is not None:
            reduce_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step) * (MUON if isinstance(optimizer, torch.optim.Muon) else 1)
            optimizer.step()
        figures = dict(zip(terms, values, strict=True)) | {"seconds": time.perf_counter() - began}
        done = step + 1
        if writes:
            run.log({"step": done} | figures)
            if done % schedule.save_every == 0 or done == schedule.steps:
                saved = [optimizer.state_dict() for optimizer in optimizers]
                run.save({"module": module.state_dict(), "optimizers": saved, "step": done})
        if progress is not None:
            progress(done, schedule.steps, figures)


def _resume(run: Run, module: nn.Module, optimizers: list[torch.optim.Optimizer]) -> int:
    """Take over the run's checkpoint, if there is one; gives the number of steps done."""
    state = run.load()
    if state is None:
        return 0
    if "optimizers" not in state:
        raise ValueError(f"{run.checkpoint} was written by an earlier version: train into another folder.")
    module.load_state_dict(state["module"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return int(state["step"])


def make_optimizers(module: nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside, AdamW for the rest, weight decay on everything but norms, biases and vectors."""
    inner = {
        id(layer.weight)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and HEADS not in name.split(".")
    }
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [p for p in learning if id(p) in inner]
    rest = [p for p in learning if id(p) not in inner]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.98)),
    ]
    if matrices:
        # Changes are scaled to the size that AdamW's have, so that one schedule serves both.
        optimizers.append(
            BatchedMuon(
                matrices,
                lr=schedule.learning_rate,
                weight_decay=schedule.weight_decay,
                momentum=0.95,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return optimizers
