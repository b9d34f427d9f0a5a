"""Trainings of the tiny model: in this process, in one that is killed, or in several that train together.

Processes are forked from a server that has imported everything once.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data._utils import worker
from transformers import TrainerCallback, TrainerState, TrainingArguments

from tests.tiny import tiny_config, tiny_model, tiny_processor
from tests.training.tiny_pairs import TinyPairs
from virtue.data.collator import PairCollator
from virtue.data.mixture import Mixture, Part
from virtue.data.pairs import Pair, RowError
from virtue.images import ImageError
from virtue.items import Item
from virtue.model import VirtueModel, VirtueProcessor
from virtue.training.adaptation import prepare
from virtue.training.settings import AdapterSettings, ChunkSettings, LossSettings, TrainedPart
from virtue.training.sharding import is_sharded, shard
from virtue.training.trainer import ContrastiveTrainer

DORA = AdapterSettings(rank=2, alpha=4, dropout=0.0)
LEARN = LossSettings(temperature=0.1, learn_temperature=True, symmetric=True)
CUT = ChunkSettings(queries=3, targets=4, pictures=2)
KINDS = {"box": 0.3, "point": 0.3, "mask": 0.2, "mixed": 0.2}


def learner(
    part: TrainedPart = "adapter", adapter: AdapterSettings = DORA, **config: Any
) -> tuple[VirtueModel, VirtueProcessor]:
    """A model whose adapter does something already, so that every matrix has a gradient."""
    model = tiny_model(tiny_config(**config))
    torch.manual_seed(0)
    prepare(model, part, adapter)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B" in name:
                parameter.normal_(0, 0.3)
    return model, tiny_processor(model.config)


class Faulty(TinyPairs):
    """Some rows have a picture that cannot be read, some do not follow their format."""

    def __init__(self, count: int = 12, broken: Sequence[int] = (), wrong: Sequence[int] = ()) -> None:
        super().__init__(count)
        self.broken, self.wrong = broken, wrong

    def __getitem__(self, row: int) -> Pair:
        if row in self.broken:
            raise ImageError(f"tiny row {row}: its picture is broken.")
        if row in self.wrong:
            raise RowError(f"tiny row {row}, field box: is no box.")
        return super().__getitem__(row)


class Questions(TinyPairs):
    """Pairs to evaluate on, each with nine hard negatives."""

    def __getitem__(self, row: int) -> Pair:
        pair = super().__getitem__(row)
        negatives = tuple(Item(text=f"wrong {row} {i}") for i in range(9))
        return Pair(pair.query, pair.positives, negatives, where=pair.where)


def arguments(folder: Path, steps: int, **more: Any) -> TrainingArguments:
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 6,
        "per_device_eval_batch_size": 4,
        "learning_rate": 3e-3,
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return TrainingArguments(output_dir=str(folder), max_steps=steps, **settings | more)


def tiny_trainer(
    folder: Path,
    steps: int = 1,
    *,
    model: tuple[VirtueModel, VirtueProcessor] | None = None,
    pairs: TinyPairs | None = None,
    loss: LossSettings = LEARN,
    chunks: ChunkSettings = CUT,
    callbacks: Sequence[TrainerCallback] = (),
    trainer: dict[str, Any] | None = None,
    **more: Any,
) -> ContrastiveTrainer:
    """A trainer; `more` goes to the arguments."""
    network, processor = model or learner()
    mixture = Mixture([Part(pairs or TinyPairs())], seed=0, block=4)
    return ContrastiveTrainer(
        network,
        processor,
        mixture,
        arguments(folder, steps, **more),
        loss=loss,
        chunks=chunks,
        callbacks=callbacks,
        **trainer or {},
    )


class Seen(TrainerCallback):
    """What happened: each step's log, and its gradients before the optimizer used them."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []
        self.gradients: list[dict[str, Tensor]] = []
        self.trainer: ContrastiveTrainer | None = None

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        self.logs.append(dict(logs))

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        if self.trainer is not None and self.trainer.log_temperature.grad is not None:
            found["log_temperature"] = self.trainer.log_temperature.grad.clone()
        self.gradients.append(found)

    def of(self, name: str) -> list[float]:
        return [logs[name] for logs in self.logs if name in logs]


def watched(folder: Path, steps: int = 1, **settings: Any) -> tuple[ContrastiveTrainer, Seen]:
    """A training that has ended, and what was seen of it."""
    seen = Seen()
    seen.trainer = tiny_trainer(folder, steps, callbacks=[seen], **settings)
    seen.trainer.train()
    return seen.trainer, seen


def agree(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Equal within a tolerance of the largest number among them."""
    assert found.keys() == expected.keys()
    scale = max(1.0, *(float(tensor.abs().max()) for tensor in expected.values()))
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, rtol=0, atol=tolerance * scale), name


# Processes


def start(work: Callable[..., None], *arguments: object) -> Any:
    """A process that works."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=work, args=arguments)
    process.start()
    return process


def together(work: Callable[..., None], folder: Path, *arguments: object, count: int = 2) -> None:
    """Let several processes work, each told its number; fails where one does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(_join, work, rank, count, port, folder, *arguments) for rank in range(count)]
    for process in processes:
        process.join(120)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    notes = "\n".join(path.read_text() for path in sorted(folder.glob("failed-*")))
    assert codes == [0] * count, f"{codes}\n{notes}"


def _join(work: Callable[..., None], rank: int, count: int, port: int, folder: Path, *arguments: object) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    try:
        work(rank, folder, *arguments)
    except BaseException:
        (folder / f"failed-{rank}").write_text(traceback.format_exc())
        raise
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Journal(TrainerCallback):
    """Writes each step's figures to a file at once; ends the process by SIGKILL after a step, if told to."""

    def __init__(self, path: Path, last: int | None) -> None:
        self.path, self.last = path, last

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        kept = {name: value for name, value in logs.items() if "runtime" not in name and "per_second" not in name}
        with self.path.open("a") as file:
            file.write(json.dumps({"step": state.global_step} | kept) + "\n")
        if "grad_norm" in logs and state.global_step == self.last:
            _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_within(stage: str | None) -> None:
    """End the process in the middle of writing its next checkpoint."""
    if stage == "weights":
        ContrastiveTrainer._save_optimizer_and_scheduler = lambda *_: _die()  # type: ignore[method-assign]
    elif stage == "optimizer":
        ContrastiveTrainer._save_rng_state = lambda *_: _die()  # type: ignore[method-assign]
    elif stage == "state":

        def half(state: TrainerState, path: str) -> None:
            text = json.dumps({"global_step": state.global_step, "log_history": []})
            Path(path).write_text(text[: len(text) // 2])
            _die()

        TrainerState.save_to_json = half  # type: ignore[method-assign]


def long_run(folder: Path, steps: int, workers: int, last: int | None = None, stage: str | None = None) -> None:
    """Go on with a run of all that draws random numbers, to its end or until it dies: after a step, or while saving."""
    torch.set_num_threads(1)
    torch.manual_seed(os.getpid())  # what was drawn before must not matter
    worker.MP_STATUS_CHECK_INTERVAL = 0.2  # how soon a killed run's workers end, seconds
    _die_within(stage)
    model = learner(adapter=AdapterSettings(rank=2, alpha=4, dropout=0.3))
    trainer = tiny_trainer(
        folder,
        steps,
        model=model,
        trainer={"collator": PairCollator(model[1], KINDS, 0, 1), "held_out": Questions(3)},  # type: ignore[arg-type]
        callbacks=[Journal(folder / "journal", last)],
        dataloader_num_workers=workers,
        max_grad_norm=1.0,
        save_strategy="steps",
        save_steps=2,
        save_total_limit=2,
        eval_strategy="steps",
        eval_steps=4,
        metric_for_best_model="hit_at_1",
        greater_is_better=True,
    )
    trainer.train(resume_from_checkpoint=True)


def train_together(
    rank: int, folder: Path, steps: int, broken: Sequence[int], cached: bool = True, sharded: bool = False
) -> None:
    """One process of a training; each writes what came out."""
    chunks = CUT if cached else ChunkSettings(cached=False)
    model = learner()
    settings: dict[str, Any] = {}
    if sharded:
        torch.distributed.init_process_group("gloo")
        shard(model[0])
        assert is_sharded(model[0])
        settings = {"trainer": {"held_out": Questions(5)}, "save_strategy": "steps", "save_steps": 1}
        settings |= {"eval_strategy": "steps", "eval_steps": 1}
    trainer, seen = watched(
        folder / "run",
        steps,
        model=model,
        pairs=Faulty(broken=broken),
        chunks=chunks,
        per_device_train_batch_size=3,
        **settings,
    )
    save_result(folder / f"rank-{rank}.safetensors", trainer, seen)


def save_result(path: Path, trainer: ContrastiveTrainer, seen: Seen) -> None:
    """Losses, the first step's gradients and the trained weights of a run."""
    tensors = {"losses": torch.tensor(seen.of("loss"), dtype=torch.float64)}
    tensors |= {"norms": torch.tensor(seen.of("grad_norm"), dtype=torch.float64)}
    tensors |= {"skipped": torch.tensor(trainer.skipped)}
    tensors |= {f"gradient.{name.removeprefix('module.')}": kept(g) for name, g in seen.gradients[0].items()}
    model = trainer.accelerator.unwrap_model(trainer.model)
    tensors |= {f"weight.{name}": kept(p) for name, p in model.named_parameters() if p.requires_grad}
    save_file(tensors | {"weight.log_temperature": trainer.log_temperature.detach()}, path)


def kept(tensor: Tensor) -> Tensor:
    """A copy that can be saved."""
    return tensor.detach().clone().contiguous()
