"""The loop that every stage of the bundled model's training runs: AdamW, warm-up, flat, decay, checkpoints, a log."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from virtue.training.runs import Run

Progress = Callable[[int, int, dict[str, float]], None]
"""Called after a step with its number, the number of all steps, and the step's figures."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a stage learns.

    Attributes:
        steps: Optimizer steps.
        learning_rate: Of AdamW, after the warm-up and before the decay.
        warmup: Steps over which the rate rises from 0.
        decay: Share of the steps, at the end, over which it falls to 0 (linearly).
        weight_decay: Of AdamW, on matrices only.
        save_every: Steps between checkpoints.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    decay: float = 0.4
    weight_decay: float = 0.02
    save_every: int = 100

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
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = _optimizer(parameters, schedule)
    start = 0
    if (state := run.load()) is not None:
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        start = int(state["step"])
    for step in range(start, schedule.steps):
        began = time.perf_counter()
        terms = losses(step)
        total = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(total):
            raise FloatingPointError(f"The loss of step {step} is {total.item()}: lower the learning rate.")
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        if reduce_gradients is not None:
            reduce_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        optimizer.step()
        figures = {name: float(term.detach()) for name, term in terms.items()} | {
            "seconds": time.perf_counter() - began
        }
        done = step + 1
        if writes:
            run.log({"step": done} | figures)
            if done % schedule.save_every == 0 or done == schedule.steps:
                run.save({"module": module.state_dict(), "optimizer": optimizer.state_dict(), "step": done})
        if progress is not None:
            progress(done, schedule.steps, figures)


def _optimizer(parameters: list[nn.Parameter], schedule: Schedule) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices, none on norms, biases and single vectors."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.98))
