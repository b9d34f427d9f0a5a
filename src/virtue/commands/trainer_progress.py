"""How far a contrastive training is: a bar with the time left in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import TaskID
from transformers import TrainerCallback

from virtue.commands.train_progress import SECONDS_BETWEEN_LINES, bars


class TrainingProgress(TrainerCallback):
    """Shows the steps, losses and evaluations of a `ContrastiveTrainer`.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self.console, self.bars = console, bars(console)
        self.task: TaskID | None = None
        self.began = self.printed = 0.0
        self.first = 0
        self.loss = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say where it starts, and from which checkpoint's step it goes on."""
        if not state.is_world_process_zero:
            self.bars.disable = True
            return
        self.began, self.first = time.monotonic(), state.global_step
        if self.first:
            self.console.print(f"going on at step {self.first} of {state.max_steps}", highlight=False)
        self.bars.start()
        self.task = self.bars.add_task("training", total=state.max_steps, completed=self.first)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the bar, or print a line if the last is a while ago."""
        if self.task is None:
            return
        self.bars.update(self.task, completed=state.global_step, description=f"training{self.loss}")
        due = time.monotonic() - self.printed > SECONDS_BETWEEN_LINES or state.global_step == state.max_steps
        if not self.console.is_terminal and due:
            self.printed = time.monotonic()
            pace = (self.printed - self.began) / max(state.global_step - self.first, 1)
            left = timedelta(seconds=round(pace * (state.max_steps - state.global_step)))
            line = f"step {state.global_step}/{state.max_steps}{self.loss} {pace:.2f} s a step, {left} left"
            self.console.print(line, highlight=False)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Keep the newest loss; print an evaluation at once."""
        figures = logs or {}
        if "loss" in figures:
            self.loss = f" loss {figures['loss']:.4f}"
        if "eval_hit_at_1" in figures and self.task is not None:
            line = f"step {state.global_step}: held-out hit@1 {100 * figures['eval_hit_at_1']:.1f} %"
            self.console.print(f"{line}, loss {figures['eval_loss']:.4f}", highlight=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        self.bars.stop()
