"""What the segmentation stream is compared with: other ways to tell a model which region is meant.

segmentation  the model as it is
crop          the region cut out, enlarged to the picture's size, and the picture itself not seen
words         the box in the words of the picture's row, in source pixels, worded as VLM2Vec's training data are
digits        the same in hundredths of the picture, two digits each: a language model as small as nano's learns them
              in fewer steps
roi           image tokens under the box: in each cell of the grid in which segmentation tokens stand, their mean where
              the box covers them, and how much of the cell it covers, through an MLP as deep as the connector's

A stream says how a step's batch, its losses and a scene that is measured differ from the model's own. All but the
first know no region but a box, so all arms of this question, the first too, are trained with (roughly drawn) boxes.

Letters: N pictures, R region rows, T image tokens, S segmentation tokens, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from virtue.data.prompting import rough_box
from virtue.embedder import Embedder
from virtue.evaluation.scenes import PROMPTS, visual_prompt
from virtue.items import Item
from virtue.model import VirtueConfig, VirtueModel, VirtueProcessor
from virtue.model.features import ImageFeatures
from virtue.model.positions import POSITION_RULES
from virtue.model.segmentation import SamPrompts
from virtue.prompts import Box, VisualPrompt
from virtue.scenes.region_captions import RegionSample
from virtue.scenes.renderer import Scene, SceneObject
from virtue.templates import END_TOKEN, IMAGE_TOKEN, vlm2vec
from virtue.training.contrastive import Learner, unit
from virtue.training.pairs import LENGTH, Batch, Batches
from virtue.training.pictures import PictureBytes

Vectors = NDArray[np.float32]
Look = Callable[[Embedder, Image.Image, Sequence[SceneObject]], dict[str, Vectors]]
"""Embeds objects of a picture, (R, D) for each way to show them that there is, and as "none" the picture, (1, D)."""


# --- templates


def in_words(text: str, *, has_image: bool, prompt: VisualPrompt | None) -> str:
    """VLM2Vec's wording and the end token that nano's embeddings are gathered in."""
    return vlm2vec(text, has_image=has_image, prompt=prompt) + END_TOKEN


def in_digits(text: str, *, has_image: bool, prompt: VisualPrompt | None) -> str:
    """Nano's template, its words the hundredths of a box that is given as such."""
    numbers = ""
    if prompt is not None and prompt.box is not None:
        box = prompt.box
        numbers = " ".join(f"{min(99, int(value)):02d}" for value in (box.x1, box.y1, box.x2, box.y2))
    return f"{IMAGE_TOKEN if has_image else ''}{numbers}{text}{END_TOKEN}"


WORDINGS = {"words": in_words, "digits": in_digits}
"""For `virtue.templates.TEMPLATES`, to which whoever runs the streams adds them."""


# --- steps


class BoxBatches(Batches):
    """Steps whose regions are shown by boxes alone, of whole pixels."""

    def __call__(self, step: int) -> Batch:
        """The batch of a step; `shown` holds each region row's scene and box."""
        self.shown: list[tuple[Scene, Box]] = []
        return super().__call__(step)

    def _prompt(self, scene: Scene, sample: RegionSample, rng: np.random.Generator) -> VisualPrompt:
        box = rough_box(scene.objects[sample.object_index].mask, rng)
        whole = Box(*np.floor([box.x1, box.y1]).tolist(), *np.ceil([box.x2, box.y2]).tolist())
        self.shown.append((scene, whole))
        return VisualPrompt(box=whole)


@dataclass(frozen=True)
class CropBatch(Batch):
    """A batch whose pictures are followed by each region row's crop.

    Attributes:
        places: Of pictures and crops, (N + R,).
    """

    places: Tensor


class CropBatches(BoxBatches):
    """Steps whose regions are cut out and enlarged to the picture's size."""

    def __call__(self, step: int) -> CropBatch:
        """The batch of a step."""
        batch = super().__call__(step)
        cut = [cut_out(Image.fromarray(scene.image), box) for scene, box in self.shown]
        crops = PictureBytes.of([np.asarray(picture) for picture in cut], self.processor)
        own = batch.pictures
        assert own is not None
        everything, boxes = batch.everything, [box for _, box in self.shown]
        rows = [enlarged(everything[image], box) for image, box in zip(batch.region_image.tolist(), boxes, strict=True)]
        return extended(
            CropBatch,
            batch,
            pictures=replace(
                own,
                seen=torch.cat([own.seen, crops.seen]),
                segmented=torch.cat([own.segmented, crops.segmented]),
            ),
            region_image=len(batch.place) + torch.arange(len(boxes)),
            masks=torch.stack([enlarged(mask, box) for mask, box in zip(batch.masks, boxes, strict=True)]),
            everything=torch.cat([everything, torch.stack(rows)]),
            places=torch.cat([batch.place, batch.place[batch.region_image]]),
        )


def cut_out(picture: Image.Image, box: Box) -> Image.Image:
    """A box of a picture, enlarged to the picture's size."""
    return picture.resize(picture.size, Image.Resampling.BICUBIC, box=(box.x1, box.y1, box.x2, box.y2))


def enlarged(pixels: Tensor, box: Box) -> Tensor:
    """A box of whole pixels of a map (H, W), enlarged to the map's size by repeating pixels."""
    height, width = pixels.shape
    x1, y1, x2, y2 = (int(value) for value in (box.x1, box.y1, box.x2, box.y2))
    rows, columns = torch.arange(height) * (y2 - y1) // height + y1, torch.arange(width) * (x2 - x1) // width + x1
    return pixels[rows[:, None], columns]


@dataclass(frozen=True)
class WordBatch(Batch):
    """A batch with the texts that stand beside its pictures.

    Attributes:
        words: Token ids and mask of the region rows and of the pictures, image tokens among them.
    """

    words: dict[str, Tensor]


class WordBatches(BoxBatches):
    """Steps whose regions are said in the words of their rows."""

    def __call__(self, step: int) -> WordBatch:
        """The batch of a step."""
        batch = super().__call__(step)
        boxes: list[Box | None] = [self.told(box, scene.image.shape) for scene, box in self.shown]
        prompts = [None if box is None else VisualPrompt(box=box) for box in [*boxes, *[None] * len(batch.place)]]
        count = batch.grid[0] * batch.grid[1]
        item = Item(image=Image.new("RGB", (1, 1)))
        texts = [self.processor.render(item, prompt) for prompt in prompts]
        inputs = self.processor.text_inputs(texts, [count] * len(texts))
        padded = {name: functional.pad(rows, (0, -rows.shape[1] % LENGTH)) for name, rows in inputs.items()}
        return extended(WordBatch, batch, words=padded)

    def told(self, box: Box, shape: tuple[int, ...]) -> Box:
        """The box in the units in which it is put into words."""
        return box if self.processor.config.template == "words" else in_hundredths(box, shape)


def in_hundredths(box: Box, shape: tuple[int, ...]) -> Box:
    """A box of source pixels in hundredths of a picture of a shape (H, W, ...)."""
    x, y = 100 / shape[1], 100 / shape[0]
    return Box(box.x1 * x, box.y1 * y, box.x2 * x, box.y2 * y)


def extended(kind: type[Any], batch: Batch, **changes: Any) -> Any:
    """A batch as one of another kind, with changes."""
    return kind(**{field.name: getattr(batch, field.name) for field in fields(batch)} | changes)


# --- models


class Unsegmented(VirtueModel):
    """Sees pictures without SAM-2 and makes no segmentation tokens."""

    def encode_images(
        self,
        pixel_values: Tensor,
        image_grid_thw: Tensor,
        sam_pixel_values: Tensor | None = None,
        *,
        sam_features: Tensor | None = None,
        previews: bool = False,
    ) -> ImageFeatures:
        """Image tokens alone; no picture goes through SAM-2."""
        del sam_pixel_values, sam_features, previews
        return super().encode_images(pixel_values, image_grid_thw, sam_features=pixel_values)

    def segmentation_tokens(self, images: ImageFeatures, image_index: Tensor, prompts: SamPrompts) -> Tensor:
        """None for each row, (R, 0, D)."""
        return images.visual[0].new_zeros(len(image_index), 0, self.config.hidden_size)


class RoiModel(Unsegmented):
    """Pools image tokens under a box instead; the pictures of one call are of one size."""

    def __init__(self, config: VirtueConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.connector = nn.Sequential(nn.Linear(width + 1, width), nn.GELU(), nn.Linear(width, width))

    def encode_images(self, *args: Any, **kwargs: Any) -> ImageFeatures:
        """Image tokens, and the same again as the map that boxes meet, (N, D, rows, columns)."""
        features = super().encode_images(*args, **kwargs)
        return replace(features, segmentation=as_map(torch.stack(features.visual), features.grids[0]))

    def segmentation_tokens(self, images: ImageFeatures, image_index: Tensor, prompts: SamPrompts) -> Tensor:
        """Tokens of the image tokens under each row's box, (R, S, D)."""
        assert images.segmentation is not None
        side = self.config.segmentation_side
        maps = images.segmentation[image_index].float()
        rows, columns = maps.shape[2:]
        cover = covered(boxes_of(prompts) / self.config.sam_image_size, (rows, columns)).unsqueeze(1)
        inside = functional.adaptive_avg_pool2d(cover, side)
        mean = functional.adaptive_avg_pool2d(maps * cover, side) / inside.clamp(min=1e-6)
        tokens: Tensor = self.connector(torch.cat([mean, inside], dim=1).flatten(2).transpose(1, 2))
        return tokens


def as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Image tokens (N, T, D) where they stand, (N, D, rows, columns)."""
    return tokens.transpose(1, 2).unflatten(2, grid)


def boxes_of(prompts: SamPrompts) -> Tensor:
    """XYXY of each row's box in SAM-2's frame, (R, 4); rows without one get the largest box there is."""
    boxes = torch.tensor([[0.0, 0.0, torch.inf, torch.inf]]).repeat(len(prompts.labels), 1)
    boxed = (prompts.labels == 2).any(1)
    corners = [prompts.points[prompts.labels == label] for label in (2, 3)]
    boxes[boxed] = torch.cat(corners, dim=1)
    return boxes


def covered(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Share of each cell that each box (R, 4) in [0, 1] covers, (R, rows, columns)."""

    def along(low: Tensor, high: Tensor, count: int) -> Tensor:
        edges = torch.arange(count + 1) / count
        return (high[:, None].minimum(edges[1:]) - low[:, None].maximum(edges[:-1])).clamp(min=0) * count

    x1, y1, x2, y2 = boxes.unbind(1)
    return along(y1, y2, grid[0]).unsqueeze(2) * along(x1, x2, grid[1]).unsqueeze(1)


# --- learners


class Unguided(Learner):
    """Learns without segmentation tokens, ideal or real."""

    def segment(self, pictures: PictureBytes, visual: Tensor) -> ImageFeatures:
        """Nothing."""
        return ImageFeatures(tuple(visual), ())

    def ideal_tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """None, (R, 0, D) and (N, 0, D)."""
        width = self.model.config.hidden_size
        return torch.zeros(len(batch.masks), 0, width), torch.zeros(len(batch.place), 0, width)

    def connector_loss(self, regions: Tensor, images: Tensor, batch: Batch) -> Tensor:
        """Nothing to learn."""
        return regions.new_zeros(())


class CropLearner(Unguided):
    """Learns of pictures and crops."""

    def tower_loss(self, visual: Tensor, batch: Batch) -> Tensor:
        """Crops too should say what they show."""
        assert isinstance(batch, CropBatch)
        return super().tower_loss(visual, replace(batch, place=batch.places))

    def ideal_image_tokens(self, batch: Batch) -> Tensor:
        """Of pictures and crops."""
        assert isinstance(batch, CropBatch)
        return super().ideal_image_tokens(replace(batch, place=batch.places))


class WordLearner(Unguided):
    """Learns from rows with words."""

    def read(self, batch: Batch, visual: Tensor, segmentation: Tensor) -> tuple[Tensor, Tensor]:
        """Region rows and pictures with their words behind the image tokens, as `VirtueModel.embed` has them."""
        assert isinstance(batch, WordBatch)
        ids, mask = batch.words["input_ids"], batch.words["attention_mask"]
        count = visual.shape[1]
        words = self.model.get_input_embeddings()(ids[:, count:])
        seen = visual[torch.cat([batch.region_image, torch.arange(len(batch.place))])].to(words.dtype)
        rule = POSITION_RULES[self.model.config.position_rule]
        positions = rule(torch.arange(ids.shape[1]) < count, batch.grid, 0).unsqueeze(1).expand(-1, len(ids), -1)
        hidden = torch.cat([seen, words], dim=1)
        output = self.model.vlm.language_model(inputs_embeds=hidden, position_ids=positions, use_cache=False)
        states = output.last_hidden_state  # causal: padding on the right is seen by nothing
        return states[:, :count], unit(states[torch.arange(len(ids)), mask.sum(1) - 1])


class RoiLearner(Learner):
    """Learns to pool its own image tokens."""

    def segment(self, pictures: PictureBytes, visual: Tensor) -> ImageFeatures:
        """The image tokens where they stand."""
        return ImageFeatures((), (), segmentation=as_map(visual, pictures.grid))


# --- looking at what is measured


def look(embedder: Embedder, picture: Image.Image, things: Sequence[SceneObject]) -> dict[str, Vectors]:
    """As the model itself shows objects: by box, point and mask."""
    prompts = [visual_prompt(kind, thing) for kind in PROMPTS for thing in things]
    *pointed, whole = embedder.open(picture).encode([*prompts, None])
    kinds = np.reshape(pointed, (len(PROMPTS), len(things), len(whole)))
    return dict(zip(PROMPTS, kinds, strict=True)) | {"none": whole[None]}


def look_at_boxes(embedder: Embedder, picture: Image.Image, things: Sequence[SceneObject]) -> dict[str, Vectors]:
    """By box alone."""
    boxes = [Box(*thing.box) for thing in things]
    if embedder.processor.config.template == "digits":
        boxes = [in_hundredths(box, (picture.height, picture.width)) for box in boxes]
    vectors = embedder.open(picture).encode([*boxes, None])
    return {"box": vectors[:-1], "none": vectors[-1:]}


def look_at_crops(embedder: Embedder, picture: Image.Image, things: Sequence[SceneObject]) -> dict[str, Vectors]:
    """By crops."""
    vectors = embedder.encode([*(cut_out(picture, Box(*thing.box)) for thing in things), picture])
    return {"box": vectors[:-1], "none": vectors[-1:]}


@dataclass(frozen=True)
class Stream:
    """A way to tell a model which region is meant.

    Attributes:
        model: Class of the model that learns.
        learner: Class of what learns.
        batches: Class of its steps.
        look: Embeds what is measured.
        template: Of the rows.
        segmented: Whether something stands where segmentation tokens stand.
    """

    model: type[VirtueModel] = VirtueModel
    learner: type[Learner] = Learner
    batches: type[Batches] = Batches
    look: Look = look
    template: str = "virtue"
    segmented: bool = True

    def embedder(self, model: VirtueModel, processor: VirtueProcessor) -> Embedder:
        """The trained model as users run it: without SAM-2, if it does without."""
        if self.segmented:
            return Embedder(model, processor)
        config = VirtueConfig(vlm_config=model.config.vlm_config, sam_config=None, template=self.template)
        plain = VirtueModel(config)
        plain.vlm = model.vlm
        return Embedder(plain, VirtueProcessor(processor.image_processor, processor.tokenizer, config))


STREAMS = {
    "segmentation": Stream(),
    "boxes": Stream(batches=BoxBatches),
    "crop": Stream(Unsegmented, CropLearner, CropBatches, look_at_crops, segmented=False),
    "words": Stream(Unsegmented, WordLearner, WordBatches, look_at_boxes, "words", segmented=False),
    "digits": Stream(Unsegmented, WordLearner, WordBatches, look_at_boxes, "digits", segmented=False),
    "roi": Stream(RoiModel, RoiLearner, BoxBatches, look_at_boxes),
}
