"""Stages 2 to 4: the language model learns to read scenes, the vision tower to see them, and texts and regions meet.

A model this small, shown pixels and captions from the start, stays on a plateau for hours: nothing can be read before
something is seen, and nothing need be seen before something is read. *Ideal tokens* break the circle. They are fixed
random codes of the truth: what a perfect segmenter would say of each of its cells (how much of it the pointed object
covers, what that is, and what lies in front of it or behind) and a perfect vision tower of each of its own. The
language model learns to read them (stage 2) while the vision tower learns to say them (stage 3) and the segmenter
learns to segment (stage 1); then the real streams take their place (stage 4), and the ideal tokens stay as one term
among several.

Stages 2 and 4 minimise the same terms:

1. region rows against region texts, both ways, with hard negatives that differ in one element;
2. whole pictures against captions and short queries, both ways;
3. heads, thrown away afterwards, that ask rows and texts alike what they say (object, place, relation to another
   object): one head for both sides is what makes them mean the same from the first step on;
4. the relation head, asked of every image token after the language model: on which side does the pointed object stand
   of what this token shows, and does it lie in front or behind? Relations are learnt from many places at once or not
   for a long time.

Letters: N images, R region rows, M region texts, T image texts or image tokens, S segmentation tokens, D width,
K object classes.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from virtue.model import VirtueModel
from virtue.model.features import ImageFeatures
from virtue.model.positions import POSITION_RULES
from virtue.model.segmentation import encode_sam_map
from virtue.scenes.renderer import CONE
from virtue.scenes.vocabulary import OBJECTS, relation_id
from virtue.training.codes import (
    class_shares,
    ideal_tokens,
    pointed_shares,
    token_loss,
)
from virtue.training.heads import Heads
from virtue.training.pairs import Batch
from virtue.training.pictures import PictureBytes
from virtue.training.vision import image_tokens

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

    def see(self, pictures: PictureBytes) -> Tensor:
        """The vision tower's image tokens, (N, T, D)."""
        return image_tokens(self.model.vlm.visual, pictures)

    def shown(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Share of each segmentation cell that each class, the last of them nothing, covers.

        Returns:
            The pointed object alone, of each region row (R, K + 1, side, side), and everything, of each picture
            (N, K + 1, side, side).
        """
        side = self.model.config.segmentation_side
        classes = batch.region_elements[: len(batch.masks), 0]
        return pointed_shares(batch.masks, classes, side), class_shares(batch.everything, side)

    def signs(self, batch: Batch) -> Tensor:
        """What lies behind and in front of each region row's object, `Meetings.signs`, (R, side, side)."""
        return batch.meetings.signs(len(batch.masks), self.model.config.segmentation_side)

    def ideal_tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What perfect segmentation tokens would say of the region rows (R, S, D) and of whole pictures (N, S, D)."""
        region, image = self.shown(batch)
        return self.codes.region_tokens(region, self.signs(batch)), ideal_tokens(self.codes.pointed, image)

    def connector_loss(self, regions: Tensor, images: Tensor, batch: Batch) -> Tensor:
        """How far the connector's tokens (R, S, D) and (N, S, D) are from what they should say."""
        pointed, everything = self.shown(batch)
        of_regions = self.codes.region_loss(regions, pointed, self.signs(batch))
        return of_regions + SOFT * token_loss(images, self.codes.pointed, everything)

    def tower_loss(self, visual: Tensor, batch: Batch) -> Tensor:
        """How far the vision tower's image tokens (N, T, D) are from what they should say."""
        shares = batch.shares
        return token_loss(visual, self.codes.shown, shares, self.codes.place[batch.place].unsqueeze(1))

    def ideal_image_tokens(self, batch: Batch) -> Tensor:
        """What a perfect vision tower would say: of each cell what it shows, and the place, (N, T, D)."""
        tokens = ideal_tokens(self.codes.shown, batch.shares)
        return tokens + self.codes.place[batch.place].unsqueeze(1)

    def segment(self, pictures: PictureBytes, visual: Tensor) -> ImageFeatures:
        """What segmentation tokens are made from: SAM-2's maps, and nothing of the image tokens (N, T, D)."""
        del visual
        assert self.model.sam is not None
        with torch.no_grad():
            maps = encode_sam_map(self.model.sam, pictures.sam_pixels())
        return ImageFeatures((), (), segmentation=maps.float())

    def read(self, batch: Batch, visual: Tensor, segmentation: Tensor) -> tuple[Tensor, Tensor]:
        """Let the language model read the region rows and then the whole pictures.

        Args:
            batch: Of one process.
            visual: Image tokens of the pictures, (N, T, D).
            segmentation: Segmentation tokens of the rows and of the pictures, (R + N, S, D).

        Returns:
            Final hidden states of their image tokens, (R + N, T, D), and their embeddings, (R + N, D).
        """
        own = torch.arange(len(batch.place), device=visual.device)
        states = read_images(self.model, visual[torch.cat([batch.region_image, own])], batch.grid, segmentation)
        return states[:, segmentation.shape[1] : -1], unit(states[:, -1])


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
    own = torch.arange(len(batch.place), device=batch.place.device)
    terms = {}
    region_tokens, grid_tokens = learner.ideal_tokens(batch)
    visual = learner.ideal_image_tokens(batch)
    if ideal < 1:
        assert batch.pictures is not None
        seen = learner.see(batch.pictures).float()
        features = learner.segment(batch.pictures, seen)
        with torch.autocast(own.device.type, enabled=False):  # as `segmenter` has it
            real_region = model.segmentation_tokens(features, batch.region_image, batch.region_prompts)
            real_image = model.segmentation_tokens(features, own, batch.image_prompts)
            terms["connector"] = learner.connector_loss(real_region, real_image, batch)
            terms["tower"] = learner.tower_loss(seen, batch)
        region_tokens = _mixed(real_region, region_tokens, ideal)
        grid_tokens = _mixed(real_image, grid_tokens, ideal)
        visual = _mixed(seen, visual, ideal)
    states, rows = learner.read(batch, visual, torch.cat([region_tokens, grid_tokens]))
    hidden = states[: len(region_tokens)]  # (R, T, D)
    terms["token_pairs"] = 0.5 * heads.token_loss(hidden, pairs_in_cells(batch))
    terms["token_layers"] = 0.5 * heads.token_loss(hidden, layers_in_cells(batch))
    regions, pictures = rows.split([len(batch.region_image), len(own)])
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
    assert batch.pictures is not None
    tokens = learner.see(batch.pictures)
    with torch.autocast(tokens.device.type, enabled=False):
        return {"tower": learner.tower_loss(tokens.float(), batch)}


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
    """Embeddings of texts, padded on the right, (M, D): what `VirtueModel.embed` gives, with nothing to wait for."""
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    hidden = model.get_input_embeddings()(ids)
    positions = torch.arange(ids.shape[1], device=ids.device).expand(3, len(ids), -1)
    states = model.vlm.language_model(inputs_embeds=hidden, position_ids=positions, use_cache=False).last_hidden_state
    return unit(states[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1])  # causal: no pad comes before it


def read_images(model: VirtueModel, visual: Tensor, grid: tuple[int, int], segmentation: Tensor) -> Tensor:
    """The language model's final hidden states of rows that are a picture and its segmentation tokens without words.

    Args:
        model: Reads.
        visual: Image tokens of each row, (B, T, D).
        grid: Their rows and columns.
        segmentation: (B, S, D), of a square of cells, or none.

    Returns:
        (B, S + T + 1, D), the last of them the embedding before it is made a unit vector.
    """
    table = model.get_input_embeddings()
    end = table(torch.tensor([int(model.config.get_text_config().eos_token_id)], device=visual.device))
    end = end.expand(len(visual), 1, -1)  # the template's end token
    hidden = torch.cat([segmentation.to(end.dtype), visual.to(end.dtype), end], dim=1)
    is_image = torch.arange(visual.shape[1] + 1, device=visual.device) < visual.shape[1]
    rule = POSITION_RULES[model.config.position_rule]
    positions = rule(is_image, grid, math.isqrt(segmentation.shape[1])).unsqueeze(1).expand(-1, len(visual), -1)
    output = model.vlm.language_model(inputs_embeds=hidden, position_ids=positions, use_cache=False)
    states: Tensor = output.last_hidden_state
    return states


def unit(rows: Tensor) -> Tensor:
    """Rows as unit vectors in float32, (B, D)."""
    return functional.normalize(rows.float(), dim=-1)


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


def pairs_in_cells(batch: Batch) -> Tensor:
    """For each image token that shows another object: on which side of that one the pointed object stands.

    Returns:
        relation * K + object, -1 where there is nothing to say, (R, T) int64.
    """
    shown = _shown(batch)
    pointed = batch.region_elements[: len(shown), :1]
    there = directions(batch.masks, batch.grid)
    relation = torch.tensor([relation_id(phrase) for phrase in DIRECTIONS], device=there.device)[there.clamp(min=0)]
    answer = relation * len(OBJECTS) + shown.clamp(min=0)
    return torch.where((shown >= 0) & (shown != pointed) & (there >= 0), answer, -1)


def layers_in_cells(batch: Batch) -> Tensor:
    """For each image token that shows an object which the pointed one is in front of or behind: which of the two.

    Returns:
        relation * K + object, -1 where there is nothing to say, (R, T) int64.
    """
    shown = _shown(batch)
    answer = torch.full_like(shown, -1)
    for relation in (relation_id("in front of"), relation_id("behind")):
        true = batch.related[:, relation].gather(1, shown.clamp(min=0)) & (shown >= 0)
        answer = torch.where(true, relation * len(OBJECTS) + shown, answer)
    return answer


def _shown(batch: Batch) -> Tensor:
    """The class that each image token of each region row's picture shows, -1 for none, (R, T) int64."""
    share, shown = batch.shares[:, :-1].flatten(2).max(1)  # (N, T)
    return torch.where(share > SHOWN, shown, -1)[batch.region_image]


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
