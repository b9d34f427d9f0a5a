"""Stages 2 to 4: the language model learns to read scenes, the vision tower to see them, and texts and regions meet.

A model this small, shown pixels and captions from the start, stays on a plateau for hours: nothing can be read
before something is seen, and nothing need be seen before something is read. *Ideal tokens* break the circle. They are
fixed random codes of the truth: what a perfect segmenter would say of each of its cells (how much of it the pointed
object covers, and what that is) and a perfect vision tower of each of its own. The language model learns to read them
(stage 2) while the vision tower learns to say them (stage 3) and the segmenter learns to segment (stage 1); then the
real streams take their place (stage 4), and the ideal tokens stay as one term among several.

Stages 2 and 4 minimise the same terms:

1. region rows against region texts, both ways, with hard negatives that differ in one element;
2. whole pictures against captions and short queries, both ways;
3. heads, thrown away afterwards, that ask rows and texts alike what they say (object, place, relation to another
   object): one head for both sides is what makes them mean the same from the first step on;
4. the relation head, asked of every image token after the language model: how does the pointed object stand to what
   this token shows? Relations are learnt from many places at once or not for a long time.

Letters: N images, R region rows, M region texts, T image texts or image tokens, S segmentation tokens, D width,
K object classes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from virtue.model import VirtueModel
from virtue.model.features import ImageFeatures
from virtue.scenes.renderer import CONE
from virtue.scenes.vocabulary import OBJECTS, relation_id
from virtue.training.codes import class_shares, ideal_tokens, pointed_shares, token_loss
from virtue.training.heads import Heads
from virtue.training.pairs import Batch

DIRECTIONS = ("left of", "right of", "above", "below")
SHOWN = 0.25  # of a cell, for the cell to show an object
SOFT = 0.5  # weight of the point grid's ideal tokens, which show everything at once


class Learner(nn.Module):
    """The model with everything that helps it learn and is thrown away afterwards.

    Args:
        model: What is kept. Its segmenter is frozen.
        seed: Of the run.
    """

    def __init__(self, model: VirtueModel, seed: int) -> None:
        super().__init__()
        assert model.sam is not None
        self.model = model
        model.sam.requires_grad_(False)
        self.heads = Heads(model.config.hidden_size, seed)
        self.codes = self.heads.codes

    def train(self, mode: bool = True) -> "Learner":
        """Train everything but the frozen segmenter."""
        super().train(mode)
        if self.model.sam is not None:
            self.model.sam.eval()
        return self

    def shown(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Share of each segmentation cell that each class, the last of them nothing, covers.

        Returns:
            The pointed object alone, of each region row (R, K + 1, side, side), and everything, of each picture
            (N, K + 1, side, side).
        """
        side = self.model.config.segmentation_side
        classes = batch.region_elements[: len(batch.masks), 0]
        return pointed_shares(batch.masks, classes, side), class_shares(batch.everything, side)

    def ideal_tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What perfect segmentation tokens would say of the region rows (R, S, D) and of whole pictures (N, S, D)."""
        region, image = self.shown(batch)
        return ideal_tokens(self.codes.pointed, region), ideal_tokens(self.codes.pointed, image)

    def connector_loss(self, regions: Tensor, images: Tensor, batch: Batch) -> Tensor:
        """How far the connector's tokens (R, S, D) and (N, S, D) are from what they should say."""
        pointed, everything = self.shown(batch)
        return token_loss(regions, self.codes.pointed, pointed) + SOFT * token_loss(
            images, self.codes.pointed, everything
        )

    def tower_loss(self, visual: Sequence[Tensor], batch: Batch) -> Tensor:
        """How far the vision tower's image tokens, N of (T, D), are from what they should say."""
        tokens = torch.stack(list(visual))
        shares = class_shares(batch.everything, self.grid(batch))
        return token_loss(tokens, self.codes.shown, shares, self.codes.place[batch.place].unsqueeze(1))

    def grid(self, batch: Batch) -> tuple[int, int]:
        """Rows and columns of the image tokens of the batch's pictures, which are all of one size."""
        merge = self.model.vlm.visual.spatial_merge_size
        _, rows, columns = batch.images["image_grid_thw"][0].tolist()
        return rows // merge, columns // merge

    def ideal_image_tokens(self, batch: Batch) -> ImageFeatures:
        """What a perfect vision tower would say: of each cell what it shows, and the place."""
        grid = self.grid(batch)
        tokens = ideal_tokens(self.codes.shown, class_shares(batch.everything, grid))
        tokens = tokens + self.codes.place[batch.place].unsqueeze(1)
        return ImageFeatures(tuple(tokens), (grid,) * len(tokens))


def contrastive_losses(learner: Learner, batch: Batch, temperature: float, ideal: float) -> dict[str, Tensor]:
    """Loss terms of one step.

    Args:
        learner: What learns.
        batch: Of one process.
        temperature: Divides similarities.
        ideal: Let ideal tokens stand for the segmentation stream and for the vision tower (stage 2), instead of
            the real ones (stage 4).
    """
    model, heads = learner.model, learner.heads
    ideal_region, ideal_image = learner.ideal_tokens(batch)
    own = torch.arange(len(batch.place), device=batch.place.device)
    terms = {}
    features, region_tokens, image_tokens = learner.ideal_image_tokens(batch), ideal_region, ideal_image
    if ideal < 1:
        inputs = batch.images
        real = model.encode_images(inputs["pixel_values"], inputs["image_grid_thw"], inputs["sam_pixel_values"])
        with torch.autocast(own.device.type, enabled=False):  # as `segmenter` has it
            real_region = model.segmentation_tokens(real, batch.region_image, batch.region_prompts)
            real_image = model.segmentation_tokens(real, own, batch.image_prompts)
        terms["connector"] = learner.connector_loss(real_region, real_image, batch)
        terms["tower"] = learner.tower_loss(real.visual, batch)
        region_tokens, image_tokens = _mixed(real_region, ideal_region, ideal), _mixed(real_image, ideal_image, ideal)
        visual = _mixed(torch.stack(real.visual), torch.stack(features.visual), ideal)
        features = ImageFeatures(tuple(visual), features.grids)
    index = torch.cat([batch.region_image, own])
    with hidden_states(model) as kept:
        rows = embed_images(model, features, index, torch.cat([region_tokens, image_tokens]))
    seen = kept[0][: len(region_tokens), region_tokens.shape[1] : -1]  # the image tokens, (R, T, D)
    terms["token_pairs"] = 0.5 * heads.token_loss(seen, pairs_in_cells(batch, features.grids[0]))
    regions, pictures = rows.split([len(batch.region_image), len(features)])
    region_texts = embed_texts(model, batch.region_texts)
    image_texts = embed_texts(model, batch.image_texts)
    terms["region"] = 0.5 * match_loss(regions, region_texts, batch.region_truth, temperature)
    terms["image"] = 0.5 * match_loss(pictures, image_texts, batch.image_truth, temperature)
    terms["region_heads"] = heads.region_loss(regions, batch.region_elements[: len(regions)])
    terms["pairs"] = 0.3 * heads.pair_loss(regions, batch.related)
    terms["text_heads"] = 0.5 * heads.region_loss(region_texts, batch.region_elements)
    terms["image_heads"] = 0.5 * heads.image_loss(pictures, batch.present, batch.place)
    terms["image_text_heads"] = 0.3 * heads.image_loss(image_texts, batch.mentioned, batch.image_text_place)
    return terms


def tower_losses(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    """Loss terms of the vision tower alone: what its image tokens say, against the ideal ones.

    Args:
        learner: What learns.
        batch: Of one process.
    """
    output = learner.model.vlm.get_image_features(
        batch.images["pixel_values"], batch.images["image_grid_thw"], return_dict=True
    )
    return {"tower": learner.tower_loss(output.pooler_output, batch)}


def text_losses(learner: Learner, texts: dict[str, Tensor], elements: Tensor) -> dict[str, Tensor]:
    """Loss terms of texts alone: the heads ask them what they say.

    Before texts mean anything, pulling pictures towards them teaches neither side and holds both back.

    Args:
        learner: What learns.
        texts: Token ids and mask of M region texts.
        elements: What each says, (M, 4), -1 unsaid.
    """
    return {"text_heads": learner.heads.region_loss(embed_texts(learner.model, texts), elements)}


def embed_texts(model: VirtueModel, tokens: dict[str, Tensor]) -> Tensor:
    """Embeddings of texts, (M, D)."""
    return model.embed(tokens["input_ids"], tokens["attention_mask"])


def embed_images(model: VirtueModel, features: ImageFeatures, index: Tensor, segmentation: Tensor) -> Tensor:
    """Embeddings of rows that are a picture and its segmentation tokens without words, (B, D).

    Args:
        model: Embeds.
        features: Of the pictures, all of one size.
        index: Each row's picture, (B,).
        segmentation: (B, S, D).
    """
    rows, columns = features.grids[0]
    ids = torch.full((len(index), rows * columns + 1), model.config.image_token_id, device=index.device)
    ids[:, -1] = int(model.config.get_text_config().eos_token_id)  # the template's end token
    return model.embed(ids, torch.ones_like(ids), features, index, segmentation)


@contextmanager
def hidden_states(model: VirtueModel) -> Iterator[list[Tensor]]:
    """Keep the language model's final hidden states (B, L, D) of the calls made inside."""
    kept: list[Tensor] = []
    handle = model.vlm.language_model.norm.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    try:
        yield kept
    finally:
        handle.remove()


def directions(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Where each thing stands, seen from each cell, by the scenes' own rule for relations.

    Args:
        masks: Visible pixels, (R, H, W) bool.
        grid: Rows and columns of cells.

    Returns:
        Index into `DIRECTIONS`, -1 between the cones, (R, rows * columns) int64.
    """
    rows, columns = grid
    x, y = _middle(masks.any(1)) * columns, _middle(masks.any(2)) * rows  # (R,) in cells
    cell_y, cell_x = torch.meshgrid(
        torch.arange(rows, device=masks.device) + 0.5, torch.arange(columns, device=masks.device) + 0.5, indexing="ij"
    )
    dx, dy = cell_x.flatten() - x[:, None], cell_y.flatten() - y[:, None]
    beside, over = dx.abs() > CONE * dy.abs(), dy.abs() > CONE * dx.abs()
    side = torch.where(dx > 0, 0, 1)
    height = torch.where(dy > 0, 2, 3)
    return torch.where(beside, side, torch.where(over, height, -1))


def pairs_in_cells(batch: Batch, grid: tuple[int, int]) -> Tensor:
    """For each cell that shows another object: how the pointed object stands to that one.

    Returns:
        relation * K + object, -1 where there is nothing to say, (R, rows * columns) int64.
    """
    share, shown = class_shares(batch.everything, grid)[:, :-1].flatten(2).max(1)  # (N, T)
    shown = torch.where(share > SHOWN, shown, -1)[batch.region_image]  # (R, T)
    pointed = batch.region_elements[: len(shown), :1]
    there = directions(batch.masks, grid)
    relation = torch.tensor([relation_id(phrase) for phrase in DIRECTIONS], device=there.device)[there.clamp(min=0)]
    answer = relation * len(OBJECTS) + shown.clamp(min=0)
    return torch.where((shown >= 0) & (shown != pointed) & (there >= 0), answer, -1)


def _middle(filled: Tensor) -> Tensor:
    """Middle of the True stretch of each row (R, L) bool, as a share of L, (R,)."""
    length = filled.shape[1]
    first = filled.int().argmax(1)
    last = length - filled.flip(1).int().argmax(1)
    return (first + last) / (2 * length)


def match_loss(rows: Tensor, texts: Tensor, truth: Tensor, temperature: float) -> Tensor:
    """InfoNCE both ways, where what is true is never a negative.

    Args:
        rows: Unit embeddings, (B, D); row i's own text is text i.
        texts: Unit embeddings, (M, D), M >= B.
        truth: Which text is true of which row, (B, M) bool.
        temperature: Divides similarities.

    Returns:
        Mean cross-entropy of rows against all texts, and half of that of their own texts against rows, a scalar.
    """
    count = len(rows)
    with torch.autocast(rows.device.type, enabled=False):  # half precision cannot tell close similarities apart
        scores = rows @ texts.T / temperature
    own = torch.eye(count, len(texts), dtype=torch.bool, device=rows.device)
    masked = scores.masked_fill(truth & ~own, float("-inf"))
    target = torch.arange(count, device=rows.device)
    return functional.cross_entropy(masked, target) + 0.5 * functional.cross_entropy(masked[:, :count].T, target)


def _mixed(real: Tensor, ideal: Tensor, share: float) -> Tensor:
    """Some rows (B, T, D) ideal and the others real, spread evenly."""
    chosen = torch.arange(len(real), device=real.device) * 7 % 10 < 10 * share
    return torch.where(chosen.view(-1, 1, 1), ideal, real)
