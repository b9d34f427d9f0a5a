"""The arms of the ablations: what each changes, and how it is trained.

Every arm starts from the same checkpoints of the first three stages and then takes equally many steps of the fourth,
with everything but its own change as in `virtue train nano`. Two things differ from the recipe, in all arms alike:
scenes and texts follow from the arm's seed, and **the connector starts anew**, because that of the checkpoints has
learned for thousands of steps to be the default, against which any other would be handicapped. What remains of that
handicap: the segmenter learned with nine grid points and to be read in 64 tokens, and the language model learned to
read 64 tokens in the image's frame, and from texts with hard negatives.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from ablation_streams import STREAMS, WORDINGS, Stream
from torch import Tensor
from torch.nn import functional

from virtue.embedder import Embedder
from virtue.model import VirtueProcessor
from virtue.model.processing_virtue import SAM_MEAN, SAM_STD, normalized
from virtue.scenes.region_captions import Elements, RegionSample
from virtue.templates import TEMPLATES
from virtue.training.architecture import nano_config, nano_model, start_connector
from virtue.training.contrastive import Learner, contrastive_losses
from virtue.training.loop import Schedule, train
from virtue.training.nano import COLD, HOT, IDEAL, Plan, attend_plainly, has_half, read_processor
from virtue.training.pairs import SIZES, Batch, Batches
from virtue.training.pictures import PictureBytes
from virtue.training.runs import Run

SQUARE = ((256, 256),)
OTHER = ((320, 240), (240, 320), (384, 288), (192, 144))  # of one size none is as large as SAM-2's input
CPU = torch.device("cpu")
FIRST_SEED = 100  # of data: the recipe's stages use the first few
PLAN = Plan()


@dataclass(frozen=True)
class Arm:
    """One row of the tables.

    Attributes:
        settings: Fields of `VirtueConfig` that are not as in the bundled model.
        stream: How regions are shown, a key of `STREAMS`.
        distractors: Hard negative texts per region row.
        trained: Width and height of the training scenes, in turn.
        asked: Those of the scenes it is measured on.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    stream: str = "segmentation"
    distractors: int = PLAN.distractors
    trained: Sequence[tuple[int, int]] = SIZES
    asked: Sequence[tuple[int, int]] = SQUARE


ARMS = {
    "reference": Arm(),
    "tokens-16": Arm({"connector_stride": 4}),
    "tokens-4": Arm({"connector_stride": 8}),
    "tokens-1": Arm({"connector_stride": 16}),
    "points-1": Arm({"points_per_side": 1}),
    "points-25": Arm({"points_per_side": 5}),
    "points-64": Arm({"points_per_side": 8}),
    "depth-1": Arm({"connector_depth": 1}),
    "depth-3": Arm({"connector_depth": 3}),
    "no-hard-negatives": Arm(distractors=0),
    "double-normalization": Arm({"double_normalization": True}),
    "released-positions": Arm({"position_rule": "released"}),
    "other-sizes": Arm(trained=OTHER, asked=OTHER),
    "unscaled-boxes": Arm({"unscaled_boxes": True}, trained=OTHER, asked=OTHER),
    "boxes": Arm(stream="boxes"),
    "roi": Arm(stream="roi"),
    "crop": Arm(stream="crop"),
    "words": Arm(stream="words"),
    "digits": Arm(stream="digits"),
}

QUESTIONS = {
    "segmentation tokens": {"64": "reference", "16": "tokens-16", "4": "tokens-4", "1": "tokens-1"},
    "grid points": {"1": "points-1", "9": "reference", "25": "points-25", "64": "points-64"},
    "connector depth": {"1": "depth-1", "2": "reference", "3": "depth-3"},
    "hard negatives": {"three per region": "reference", "none": "no-hard-negatives"},
    "as released": {
        "nothing": "reference",
        "`double_normalization`": "double-normalization",
        '`position_rule="released"`': "released-positions",
        "nothing, other sizes": "other-sizes",
        "`unscaled_boxes`, other sizes": "unscaled-boxes",
    },
    "a region is shown by": {
        "segmentation tokens": "boxes",
        "pooled image tokens": "roi",
        "the crop alone": "crop",
        "the box in words": "words",
        "the box in digits": "digits",
    },
}
"""Each table's rows and the arms that they show."""


@dataclass
class Trained:
    """An arm's model, ready to be measured.

    Attributes:
        embedder: With the model.
        stream: How regions are shown to it.
    """

    embedder: Embedder
    stream: Stream


def trained(
    arm: Arm, seed: int, run: Path, steps: int, images: int, progress: Callable[[int, dict[str, float]], None]
) -> Trained:
    """An arm after its steps.

    Args:
        arm: What is trained.
        seed: Of the new connector and of scenes and texts.
        run: Folder of the first three stages.
        steps: Optimizer steps.
        images: Scenes per step.
        progress: Called after each step with its number and figures.
    """
    stream = STREAMS[arm.stream]
    learner, processor = started(arm, seed, run)
    batches = steps_of(stream.batches, arm, processor, images, seed)

    def losses(step: int) -> dict[str, Tensor]:
        done = step / steps
        return contrastive_losses(learner, batches(step), HOT + (COLD - HOT) * done, max(0.0, IDEAL * (1 - 2 * done)))

    schedule = Schedule(steps, 1.5e-3, warmup=min(50, steps // 5 + 1), decay=0.6, half=has_half(CPU))
    with tempfile.TemporaryDirectory() as folder:
        run_of = Run(Path(folder))  # nothing is written: what was killed starts anew
        train(learner, losses, schedule, run_of, lambda step, _, figures: progress(step, figures), writes=False)
    return Trained(stream.embedder(learner.model, processor), stream)


def started(arm: Arm, seed: int, run: Path) -> tuple[Learner, VirtueProcessor]:
    """An arm before its first step, and its processor."""
    stream = STREAMS[arm.stream]
    TEMPLATES.update(WORDINGS)
    before = Learner(nano_model(0), 0)
    take_over(before, run)
    config = nano_config()
    for name, value in {"template": stream.template, **arm.settings}.items():
        setattr(config, name, value)
    torch.manual_seed(seed)
    model = stream.model(config)
    model.vlm, model.sam = before.model.vlm, before.model.sam
    assert model.connector is not None
    start_connector(model.connector)
    attend_plainly(model, CPU, "vlm.language_model")
    learner = stream.learner(model, 0)
    learner.heads = before.heads
    learner.codes = before.codes
    processor = read_processor(run)
    processor.config = config
    return learner.train(), processor


def take_over(learner: Learner, run: Path) -> None:
    """Load what arms start from: SAM-2 of stage 1, language model and heads of stage 2, vision tower of stage 3.

    Args:
        learner: Of the bundled model's shape.
        run: Folder of the three stages. The codes of ideal tokens may be missing: they are those of seed 0.

    Raises:
        FileNotFoundError: If a stage has no checkpoint.
        ValueError: If a stage's checkpoint is of another model.
    """
    parts = {
        "segmenter": ("model.", "model.sam."),
        "reader": ("", "model.vlm.language_model.", "heads."),
        "tower": ("model.vlm.visual.", "model.vlm.visual."),
    }
    weights = {}
    for stage, (prefix, *wanted) in parts.items():
        state = Run(run / stage).load()
        if state is None:
            raise FileNotFoundError(f"{run / stage} holds no checkpoint: train that stage first.")
        named = {f"{prefix}{name}": tensor for name, tensor in state["module"].items()}
        weights |= {name: tensor for name, tensor in named.items() if name.startswith(tuple(wanted))}
    missing, unknown = learner.load_state_dict(weights, strict=False)
    lacking = [name for name in missing if not name.startswith("model.connector.") and "codes." not in name]
    if lacking or unknown:
        raise ValueError(f"{run} holds stages of another model, such as {(lacking or unknown)[0]} shows.")


def steps_of(kind: type[Batches], arm: Arm, processor: VirtueProcessor, images: int, seed: int) -> Batches:
    """The steps of an arm."""
    changes: list[type[Batches]] = [] if arm.distractors else [WithoutDistractors]
    if processor.config.double_normalization:
        changes.append(TwiceNormalized)
    own = type("Steps", (*changes, kind), {})
    batches: Batches = own(processor, images, PLAN.rows, arm.distractors, FIRST_SEED + seed)
    batches.sizes = arm.trained
    return batches


class WithoutDistractors(Batches):
    """Steps in which a region's only negatives are the texts of others."""

    def _hardest(self, sample: RegionSample, rng: object) -> list[Elements]:
        return []


class TwiceNormalized(Batches):
    """Steps in which SAM-2 sees pictures as the released weights did."""

    def __call__(self, step: int) -> Batch:
        """The batch of a step."""
        batch = super().__call__(step)
        assert batch.pictures is not None
        own = {each.name: getattr(batch.pictures, each.name) for each in fields(PictureBytes)}
        return replace(batch, pictures=TwicePictures(**own))


class TwicePictures(PictureBytes):
    """Pictures whose pixels for SAM-2 are those of a processor with `double_normalization`."""

    def sam_pixels(self) -> Tensor:
        """The tower's pixels at SAM-2's size, normalised a second time, (N, 3, size, size)."""
        side = self.segmented.shape[1]
        once = normalized(self.seen.permute(0, 3, 1, 2).float() / 255, self.mean, self.std)
        resized = functional.interpolate(once, (side, side), mode="bilinear", align_corners=False, antialias=True)
        return normalized(resized, SAM_MEAN, SAM_STD)
