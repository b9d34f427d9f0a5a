"""What a training is told, section by section: each is a dataclass, so that a recipe can be saved, shown and changed.

`virtue train RECIPE --set section.name=value` changes one of these fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from virtue.data.prompting import Kind
from virtue.training.grad_cache import chunk_rows
from virtue.training.towers import Place

TrainedPart = Literal["adapter", "connector", "full"]
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "down_proj")


@dataclass(frozen=True)
class ModelSettings:
    """What is trained.

    Attributes:
        start: A checkpoint to go on from (folder or Hub id, any layout that `Embedder` loads), or the VLM to compose a
            new model of.
        sam: SAM-2 of a new model; None for one without a segmentation stream, such as VLM2Vec.
        fresh: Compose a new model of `start` and `sam`, rather than go on with a checkpoint.
        template: Text template of a new model.
        part: What learns: "adapter" (LoRA on the language model, and the connector), "connector" alone, or "full" (the
            whole VLM and the connector, in float32 in every process). SAM-2 never does.
        dtype: Of frozen weights; what learns is float32.
    """

    start: str = "nano"
    sam: str | None = "facebook/sam2.1-hiera-base-plus"
    fresh: bool = False
    template: str = "virtue"
    part: TrainedPart = "adapter"
    dtype: Literal["float32", "bfloat16"] = "bfloat16"


@dataclass(frozen=True)
class AdapterSettings:
    """LoRA (arXiv 2106.09685) or DoRA (arXiv 2402.09353) on the language model; the defaults are the paper's.

    Attributes:
        rank: Of the update matrices.
        alpha: The update is scaled by alpha / rank.
        dropout: Of the adapter's input.
        dora: Learn magnitude and direction apart.
        targets: Linear layers that are adapted.
    """

    rank: int = 8
    alpha: int = 64
    dropout: float = 0.1
    dora: bool = True
    targets: Sequence[str] = TARGETS


@dataclass(frozen=True)
class LossSettings:
    """InfoNCE, as `loss.info_nce` and `loss.same_answers` explain it.

    Attributes:
        temperature: Divides similarities; where learning starts if it learns.
        learn_temperature: Train it too.
        symmetric: Also from targets to queries, among them the rows' `query_negatives`, which it alone uses.
        mask_same: A target that answers a query as well as its own positive is no negative.
        margin: A negative more similar than the positive by more than this is taken for a false one; None for none.
        dimensions: Matryoshka dimensions; empty for the whole embedding alone.
    """

    temperature: float = 0.02
    learn_temperature: bool = False
    symmetric: bool = False
    mask_same: bool = True
    margin: float | None = None
    dimensions: Sequence[int] = ()


@dataclass(frozen=True)
class ChunkSettings:
    """How a batch is cut up. None of it changes a gradient, but with dropout which units are dropped.

    Attributes:
        queries: Rows of a chunk of queries at most.
        targets: Rows of a chunk of targets at most.
        tokens: Tokens of a chunk at most, padding counted; None for no limit.
        first_pass: How many times larger the chunks of the pass without gradients are; over 1 only without dropout.
        pictures: Pictures that the towers see together.
        keep: Where the towers' features wait between the passes, "device" or "host".
        keep_bytes: Bytes of features that are kept at most; what is over is computed twice. None for no limit.
        cached: Embed in two passes (GradCache) rather than all rows at once with their graph.
    """

    queries: int = 8
    targets: int = 32
    tokens: int | None = None
    first_pass: int = 1
    pictures: int = 8
    keep: Place = "device"
    keep_bytes: int | None = None
    cached: bool = True

    def chunks(self, side: str, lengths: Sequence[int], times: int = 1) -> list[list[int]]:
        """The chunks of one side ("queries" or "targets"), of rows of these lengths, this many times as large."""
        rows = self.queries if side == "queries" else self.targets
        return chunk_rows(lengths, rows * times, None if self.tokens is None else self.tokens * times)


@dataclass(frozen=True)
class DataSettings:
    """Where pairs come from.

    Attributes:
        sources: Each a table as `sources.open_source` takes it, with `weight` and `cap` if wanted.
        block: Rows that come from one source at a time.
        prompts: How often which kind of visual prompt is drawn from an annotated region; empty takes regions as they
            are annotated.
        hard_negatives: Of each row that are used at most; None for all, 0 for none.
        held_out: A source to evaluate on, or None.
        held_out_share: Of every source's rows, held out of training to evaluate on; instead of `held_out`.
        held_out_rows: To evaluate on at most.
        replay: Sources of an earlier training, mixed in against forgetting.
        replay_share: Of all rows.
        max_skipped: Rows that could not be read, beyond which the run stops.
        workers: Processes that load and decode.
    """

    sources: Sequence[Mapping[str, Any]] = ()
    block: int = 64
    prompts: Mapping[Kind, float] = field(default_factory=dict)
    hard_negatives: int | None = None
    held_out: Mapping[str, Any] | None = None
    held_out_share: float = 0.0
    held_out_rows: int = 500
    replay: Sequence[Mapping[str, Any]] = ()
    replay_share: float = 0.0
    max_skipped: int = 100
    workers: int = 2


@dataclass(frozen=True)
class ForgettingSettings:
    """Elastic weight consolidation (arXiv 1612.00796): what mattered for the earlier training is held in place.

    Attributes:
        strength: Of the pull; 0 for none.
        batches: Of the replayed sources, by which it is measured what matters.
    """

    strength: float = 0.0
    batches: int = 20


@dataclass(frozen=True)
class RunSettings:
    """How long and how fast.

    Attributes:
        steps: Optimizer steps.
        batch: Pairs of a step in each process; on several cards a step has so many times as many.
        learning_rate: At its height.
        warmup: Steps over which it rises.
        schedule: How it falls afterwards, by transformers' name.
        weight_decay: Of AdamW.
        clip: Largest norm of a gradient.
        bf16: Compute in bfloat16.
        checkpointing: Compute activations again in the backward pass instead of keeping them.
        shard: Spread the frozen weights of the language model over the processes, for models that one card cannot hold.
        save_every: Steps between checkpoints.
        keep: Checkpoints kept, the best among them.
        evaluate_every: Steps between evaluations.
        log_every: Steps between log lines.
        tensorboard: Write what is logged for TensorBoard, where it is installed (the extra `train`).
        seed: Of everything.
    """

    steps: int = 1000
    batch: int = 64
    learning_rate: float = 2e-5
    warmup: int = 200
    schedule: str = "linear"
    weight_decay: float = 0.0
    clip: float = 1.0
    bf16: bool = True
    checkpointing: bool = True
    shard: bool = False
    save_every: int = 100
    keep: int = 2
    evaluate_every: int = 100
    log_every: int = 5
    tensorboard: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """A training from start to end.

    Attributes:
        summary: What it makes, in a sentence.
        source: Where its numbers come from.
    """

    summary: str
    source: str
    model: ModelSettings = field(default_factory=ModelSettings)
    adapter: AdapterSettings = field(default_factory=AdapterSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    chunks: ChunkSettings = field(default_factory=ChunkSettings)
    data: DataSettings = field(default_factory=DataSettings)
    forgetting: ForgettingSettings = field(default_factory=ForgettingSettings)
    run: RunSettings = field(default_factory=RunSettings)
