"""`ContrastiveTrainer`: a `transformers.Trainer` whose step is GradCache over pairs.

What it overrides, and why:

- `training_step`: embeddings of all rows, their loss, and its gradients by chunks (`grad_cache`); the towers see each
  picture once (`towers`); gradients are summed over the processes once a step.
- `get_train_dataloader`: step n of process r takes its own slice of a mixture, so a resumed run reads on where it was.
- `create_optimizer`: a temperature that learns is trained too.
- `evaluate`: the share of held-out pairs whose own positive is nearest.
- `_save`, `_load_from_checkpoint`: a checkpoint holds what is trained and not the frozen billions.

Everything else (schedules, clipping, bf16, DDP, logging, checkpoints and their rotation) is the parent's. A model whose
frozen weights are spread over the processes (`sharding`) is trained all the same.

Letters: B pairs, M targets, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainingArguments

from virtue.data.collator import PairBatch, PairCollator, Skipped
from virtue.data.mixture import Mixture
from virtue.data.pairs import RowError, Source
from virtue.model import VirtueModel, VirtueProcessor
from virtue.training.feeding import PairRows, StepPositions
from virtue.training.forgetting import Anchor
from virtue.training.gathering import most, process_count, process_rank, sum_gradients, total
from virtue.training.grad_cache import grad_cache
from virtue.training.held_out import own_ranks
from virtue.training.loss import info_nce, same_answers
from virtue.training.saving import TEMPERATURE, TRAINED, last_checkpoint, load_trained
from virtue.training.settings import ChunkSettings, LossSettings
from virtue.training.sharding import is_sharded
from virtue.training.step import SIDES, Everybody, StepRows
from virtue.training.towers import Towers

COLDEST = 0.001  # a learnt temperature does not fall further

log = logging.getLogger(__name__)


class ContrastiveTrainer(Trainer):
    """Trains a model on pairs.

    Args:
        model: Trained in place; what of it learns is what requires gradients (`adaptation.prepare`).
        processor: The model's.
        mixture: The training pairs.
        args: The parent's settings. `max_steps` has to be given: a mixture has no end.
        loss: The loss's settings.
        chunks: How a batch is cut up.
        collator: Makes batches; by default one that takes regions as they are annotated.
        held_out: Pairs to evaluate on, each with hard negatives.
        anchor: What holds the weights where they were (elastic weight consolidation).
        max_skipped: Pairs that could not be read, beyond which the run stops.
        callbacks: The parent's.
        optimizers: An optimizer and a schedule of your own, as the parent takes them.

    Raises:
        ValueError: If nothing of the model learns, no steps are asked for, or settings contradict each other.
    """

    def __init__(
        self,
        model: VirtueModel,
        processor: VirtueProcessor,
        mixture: Mixture,
        args: TrainingArguments,
        *,
        loss: LossSettings | None = None,
        chunks: ChunkSettings | None = None,
        collator: PairCollator | None = None,
        held_out: Source | None = None,
        anchor: Anchor | None = None,
        max_skipped: int = 100,
        callbacks: Sequence[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
    ) -> None:
        self.loss_settings, self.chunks = loss or LossSettings(), chunks or ChunkSettings()
        self.processor, self.mixture = processor, mixture
        self.collator = collator or PairCollator(
            processor, seed=args.seed, query_negatives=self.loss_settings.symmetric
        )
        self.max_skipped, self.skipped = max_skipped, 0
        if args.max_steps < 1:
            raise ValueError("Give the number of steps (max_steps): a mixture has no end.")
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ValueError("Nothing of the model learns: prepare it with virtue.training.adaptation.prepare.")
        if args.gradient_accumulation_steps > 1:
            raise ValueError(
                "Gradients are not accumulated over steps (gradient_accumulation_steps): in-batch negatives are of one "
                "batch, and a large one is cut into chunks anyway. Make the batch larger."
            )
        if args.fp16 or args.deepspeed:
            raise ValueError("Training is in float32 or bfloat16, without DeepSpeed: leave fp16 and deepspeed off.")
        if self.loss_settings.learn_temperature and not COLDEST <= self.loss_settings.temperature <= 1:
            raise ValueError(f"A temperature that learns starts between {COLDEST} and 1.")
        _check_first_pass(model, self.chunks)
        self.sharded = is_sharded(model)
        args.remove_unused_columns = False
        if process_count() == 1:
            args._n_gpu = min(args.n_gpu, 1)  # several cards of one process would each see a part of the negatives
        super().__init__(
            model=model,
            args=args,
            train_dataset=PairRows(mixture),
            eval_dataset=None if held_out is None else PairRows(held_out),
            data_collator=self.collator,
            callbacks=None if callbacks is None else list(callbacks),
            optimizers=optimizers,
        )
        self.anchor = None if anchor is None else anchor.to(args.device)
        if self.is_fsdp_enabled:
            raise ValueError("Shard the model with virtue.training.sharding.shard, and leave accelerate's FSDP off.")
        self.remove_callback(PrinterCallback)  # a library does not print; a caller's own callback may
        start = torch.tensor(float(self.loss_settings.temperature), device=args.device).log()
        self.log_temperature = nn.Parameter(start, requires_grad=self.loss_settings.learn_temperature)

    @property
    def temperature(self) -> Tensor:
        """What similarities are divided by, a scalar."""
        temperature = self.log_temperature.exp()
        return temperature.clamp(COLDEST, 1.0) if self.loss_settings.learn_temperature else temperature

    # Data

    def get_train_dataloader(self) -> DataLoader[Any]:
        """This process's batches of all steps."""
        steps = StepPositions(self.mixture, self.args.max_steps, self.args.per_device_train_batch_size)
        return DataLoader(
            PairRows(self.mixture),
            batch_sampler=steps,
            collate_fn=self.collator,
            num_workers=self.args.dataloader_num_workers,
            persistent_workers=self.args.dataloader_num_workers > 0,
            prefetch_factor=self.args.dataloader_prefetch_factor if self.args.dataloader_num_workers else None,
            generator=torch.Generator().manual_seed(self.args.seed),
        )

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], None]:
        """The next batches; what the parent counts in them, tokens of labels, there is not."""
        return [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)], None

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: the parent's formula is for language models."""
        return 0

    # One step

    def training_step(self, model: nn.Module, inputs: PairBatch, num_items_in_batch: Any = None) -> Tensor:
        """Add one batch's gradients to the parameters'.

        Args:
            model: The model, or what wraps it.
            inputs: This process's share of the batch.
            num_items_in_batch: Not used.

        Returns:
            The loss of the whole batch, a scalar.

        Raises:
            FloatingPointError: If an embedding or the loss is not finite; names the rows.
            RowError: If a row does not follow its format.
            ValueError: If too many rows could not be read.
        """
        model.train()
        self.log_temperature.grad = None  # the parent clears the model's gradients alone
        self._report(inputs.skipped)
        if not int(total(torch.tensor(len(inputs), device=self.args.device))):
            raise ValueError("Not one row of a batch could be read; the log says why.")
        # DDP would sum gradients after every chunk: they are summed once, behind the last.
        with self.compute_loss_context_manager(), self.accelerator.no_sync(model):
            rows = StepRows(model, self.processor, inputs, self._towers(inputs))
            value = self._cached(rows) if self.chunks.cached else self._plain(rows)
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        sum_gradients(learning)
        self._check_gradients(learning)
        if self.anchor is not None:
            value = value + self.anchor.pull(self.accelerator.unwrap_model(model))
        return value.detach()

    def gradients(self, batches: int) -> Iterator[Tensor]:
        """Add the gradients of the mixture's first batches to the parameters', one by one; gives the losses."""
        model = self.accelerator.prepare_model(self.model)
        for step in range(batches):
            positions = self.mixture.batches(
                step, self.args.per_device_train_batch_size, process_rank(), process_count()
            )
            yield self.training_step(model, self.collator([self.train_dataset[position] for position in positions]))

    def _cached(self, rows: StepRows) -> Tensor:
        times = self.chunks.first_pass
        first = self._chunks(rows, times) if times > 1 else None
        return grad_cache(rows.embed, lambda sides: self._loss(sides, rows.batch), self._chunks(rows), first)

    def _chunks(self, rows: StepRows, times: int = 1) -> list[list[list[int]]]:
        """Each side's chunks, one without rows where there are none; of sharded models all processes have as many."""
        sides = [self.chunks.chunks(name, rows.lengths(side), times) or [[]] for side, name in enumerate(SIDES)]
        if self.sharded:
            counts = most(torch.tensor([len(chunks) for chunks in sides], device=self.args.device)).tolist()
            sides = [chunks + [[]] * (count - len(chunks)) for chunks, count in zip(sides, counts, strict=True)]
        return sides

    def _plain(self, rows: StepRows) -> Tensor:
        embeddings = [rows.embed(side, range(len(rows.sides[side]))) for side in range(len(SIDES))]
        value = self._loss(embeddings, rows.batch)
        value.backward()
        return value

    def _loss(self, sides: Sequence[Tensor], batch: PairBatch) -> Tensor:
        """The loss of everybody's rows, of the embeddings of this process's queries and targets, (rows, D)."""
        everybody = Everybody.gather(sides[0], sides[1], batch)
        self._check_finite(everybody, sides, batch)
        settings = self.loss_settings
        same = None
        if settings.mask_same:
            same = same_answers(everybody.query_keys, everybody.target_keys, everybody.positives)
        value = info_nce(
            everybody.queries,
            everybody.targets,
            self.temperature if settings.learn_temperature else settings.temperature,
            positives=everybody.positives,
            symmetric=settings.symmetric,
            same=same,
            margin=settings.margin,
            dimensions=settings.dimensions,
        )
        if not torch.isfinite(value):
            raise FloatingPointError(
                f"The loss of step {self.state.global_step + 1} is {value.item()} although every embedding is finite: "
                "raise the temperature or lower the learning rate."
            )
        return value

    def _check_finite(self, everybody: Everybody, sides: Sequence[Tensor], batch: PairBatch) -> None:
        if bool(torch.isfinite(everybody.queries).all() and torch.isfinite(everybody.targets).all()):
            return
        bad = [
            f"{name[:-1] if name != 'queries' else 'query'} of {rows.where[row]}"
            for name, rows, embeddings in zip(SIDES, (batch.queries, batch.targets), sides, strict=True)
            for row in torch.nonzero(~torch.isfinite(embeddings).all(1)).flatten().tolist()
        ]
        whose = "; ".join(bad[:5]) or "rows of another process"
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise FloatingPointError(
            f"Step {self.state.global_step + 1} has embeddings that are not finite: {whose}{more}. Look at these rows; "
            "if nothing is wrong with them, lower the learning rate."
        )

    def _check_gradients(self, learning: Sequence[nn.Parameter]) -> None:
        """Stop before a gradient that is not finite spoils the weights: all rows would look guilty afterwards."""
        norms = [parameter.grad.norm() for parameter in learning if parameter.grad is not None]
        if norms and not torch.isfinite(torch.stack(norms)).all():
            raise FloatingPointError(
                f"The gradients of step {self.state.global_step + 1} are not finite (embeddings and loss are): "
                "lower the learning rate, or look at the rows of this batch one by one (run.batch=1)."
            )

    def _report(self, skipped: Sequence[Skipped]) -> None:
        """Count what could not be read, in all processes alike."""
        for row in skipped:
            log.warning("skipped: %s", row.reason)
        fatal = [row.reason for row in skipped if row.fatal]
        counts = total(torch.tensor([len(skipped), len(fatal)], device=self.args.device)).tolist()
        self.skipped += counts[0]
        if counts[1]:
            raise RowError(fatal[0] if fatal else "A row that another process read does not follow its format.")
        if self.skipped > self.max_skipped:
            last = skipped[-1].reason if skipped else "read by another process"
            raise ValueError(
                f"{self.skipped} rows could not be read, more than the {self.max_skipped} that are let pass "
                f"(data.max_skipped). The last: {last}"
            )

    def _towers(self, batch: PairBatch) -> Towers:
        return Towers(
            self.accelerator.unwrap_model(self.model),
            batch.images,
            group=self.chunks.pictures,
            keep=self.chunks.keep,
            limit=self.chunks.keep_bytes,
        )

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The parent's optimizer, and in it the temperature if it learns."""
        made = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if made and self.loss_settings.learn_temperature:
            optimizer.add_param_group({"params": [self.log_temperature], "weight_decay": 0.0})
        return optimizer

    # Evaluation

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Ask every held-out query for its positive among its own hard negatives.

        Args:
            eval_dataset: Pairs to ask instead of the held-out ones.
            ignore_keys: Not used.
            metric_key_prefix: Put before the figures' names.

        Returns:
            `eval_hit_at_1` (a share; ties count as the mean over orders) and `eval_loss`, means over the pairs.
        """
        rows = self.eval_dataset if eval_dataset is None else PairRows(eval_dataset)
        module, was_training = self.model_wrapped, self.model.training
        self.model.eval()
        temperature, sums = float(self.temperature.detach()), torch.zeros(3, device=self.args.device)
        for batch in self._held_out_batches(rows):
            with torch.no_grad(), self.compute_loss_context_manager():
                own = StepRows(module, self.processor, batch, self._towers(batch))
                queries, targets = (own.embed_all(side, self.chunks) for side in range(len(SIDES)))
            hits, losses = own_ranks(queries, targets, batch.owners.to(queries.device), temperature)
            sums += torch.stack([hits.sum(), losses.sum(), hits.new_tensor(len(hits))])
        self.model.train(was_training)
        hits_sum, loss_sum, count = total(sums).tolist()
        count = max(count, 1.0)
        figures = {f"{metric_key_prefix}_hit_at_1": hits_sum / count, f"{metric_key_prefix}_loss": loss_sum / count}
        self.log(figures)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        return figures

    def _held_out_batches(self, rows: PairRows) -> Iterator[PairBatch]:
        """This process's share of the held-out pairs, their regions as annotated; of a sharded model all of them."""
        collator = PairCollator(self.processor, seed=self.args.seed)
        size = self.args.per_device_eval_batch_size
        rank, world = (0, 1) if self.sharded else (process_rank(), process_count())
        for start in range(0, len(rows), size * world):
            numbers = range(start + rank, min(start + size * world, len(rows)), world)
            batch = collator([rows[number] for number in numbers])
            for row in batch.skipped:
                log.warning("skipped in evaluation: %s", row.reason)
            if len(batch):
                yield batch

    # Checkpoints

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train to the last step.

        Args:
            resume_from_checkpoint: A checkpoint's folder; True for the newest whole one of the output folder, if any.
            args: The parent's.
            kwargs: The parent's.
        """
        if resume_from_checkpoint is True:
            newest = last_checkpoint(Path(self.args.output_dir))
            resume_from_checkpoint = None if newest is None else str(newest)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: Mapping[str, Tensor] | None = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        model = self.accelerator.unwrap_model(self.model)
        learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        values = model.state_dict() if state_dict is None else state_dict
        tensors = {name: values[name].detach().cpu().contiguous() for name in learning}
        save_file(tensors | {TEMPERATURE: self.log_temperature.detach().cpu()}, folder / TRAINED)

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        found = load_trained(self.accelerator.unwrap_model(model or self.model), Path(resume_from_checkpoint))
        with torch.no_grad():
            self.log_temperature.copy_(found)


def _check_first_pass(model: nn.Module, chunks: ChunkSettings) -> None:
    drops = any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
    if chunks.first_pass > 1 and drops:
        raise ValueError(
            "chunks.first_pass is greater than 1 while the model drops out: random numbers are drawn by the chunk, so "
            "both passes need the same chunks. Set adapter.dropout to 0 or first_pass to 1."
        )
