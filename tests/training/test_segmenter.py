import math
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.tiny import tiny_config, tiny_model
from virtue.model import VirtueProcessor
from virtue.model.segmentation import decode_masks, encode_sam_image, segmentation_features
from virtue.scenes.renderer import render
from virtue.scenes.vocabulary import OBJECTS, object_id
from virtue.training.codes import FRONT_WEIGHT, front_loss, front_tokens, ideal_tokens, pointed_shares
from virtue.training.meetings import CROWDED, Meetings
from virtue.training.pairs import everywhere
from virtue.training.pictures import sam_pixels
from virtue.training.segmenter import (
    SegmentationBatch,
    SegmentationBatches,
    Segmenter,
    dice_loss,
    focal_loss,
    mask_iou,
    order_loss,
    segmentation_losses,
)


def tiny_segmenter() -> Segmenter:
    """In training mode, as evaluation may take another mask, by its stability."""
    return Segmenter(tiny_model(tiny_config()), seed=0).train()


@pytest.fixture(scope="module")
def batch(processor: VirtueProcessor) -> SegmentationBatch:
    return SegmentationBatches(processor, images=2, seed=0)(step=3)


def test_focal_loss_of_an_undecided_model() -> None:
    zeros = torch.zeros(1, 2, 2)
    missed, alarm = 0.25 * 0.25 * math.log(2), 0.75 * 0.25 * math.log(2)  # alpha, (1 - p)^2, -log p
    assert float(focal_loss(zeros, torch.ones(1, 2, 2))) == pytest.approx(missed)
    assert float(focal_loss(zeros, torch.zeros(1, 2, 2))) == pytest.approx(alarm)
    half = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    assert float(focal_loss(zeros, half)) == pytest.approx((missed + alarm) / 2)
    assert float(focal_loss(zeros.expand(3, 2, 2), half.expand(3, 2, 2))) == pytest.approx(1.5 * (missed + alarm))


def test_focal_loss_of_a_sure_and_right_model_is_nothing() -> None:
    target = torch.tensor([[[1.0, 0.0]]])
    assert float(focal_loss(60 * target - 30, target)) == pytest.approx(0, abs=1e-9)


def test_dice_loss() -> None:
    ones = torch.ones(1, 2, 2)
    assert float(dice_loss(0 * ones, ones)) == pytest.approx(2 / 7)  # 1 - (2 * 2 + 1) / (2 + 4 + 1)
    assert float(dice_loss(30 * ones, ones)) == pytest.approx(0, abs=1e-6)
    assert float(dice_loss(30 * ones, 0 * ones)) == pytest.approx(4 / 5)  # 1 - 1 / (4 + 0 + 1)
    assert float(dice_loss(torch.zeros(3, 2, 2), torch.ones(3, 2, 2))) == pytest.approx(6 / 7)


def test_mask_iou() -> None:
    a = torch.tensor([[[1, 1, 0]], [[0, 0, 0]], [[0, 0, 0]]]).bool()
    b = torch.tensor([[[0, 1, 1]], [[0, 0, 0]], [[0, 1, 0]]]).bool()
    assert mask_iou(a, b).tolist() == pytest.approx([1 / 3, 1.0, 0.0])


def test_order_loss_of_an_undecided_model_is_the_log_of_the_choices() -> None:
    maps = torch.zeros(3, 16, 16)
    meetings = Meetings(torch.tensor([0, 0, 1]), maps, maps, torch.tensor([True, False, True]))
    assert float(order_loss(torch.zeros(3), meetings)) == pytest.approx(math.log(2))
    sure = torch.tensor([math.log(3), math.log(3), -math.log(3)])  # right, wrong, wrong, three to one
    assert float(order_loss(sure, meetings)) == pytest.approx((math.log(4 / 3) + 2 * math.log(4)) / 3)


def test_a_step_in_which_nothing_meets_asks_for_no_order(batch: SegmentationBatch) -> None:
    nothing = everywhere(batch.meetings, lambda tensor: tensor[:0])
    terms = segmentation_losses(tiny_segmenter(), replace(batch, meetings=nothing))
    assert terms["order"] == 0
    assert all(torch.isfinite(term) for term in terms.values())


def test_a_batch_is_what_its_scenes_show(processor: VirtueProcessor, batch: SegmentationBatch) -> None:
    scenes = [render(seed, near=CROWDED) for seed in (6, 7)]  # step 3 of two pictures
    things = [(i, thing) for i, scene in enumerate(scenes) for thing in scene.objects]
    assert len(batch.pictures) == 2
    assert batch.rows.tolist() == [i for i, _ in things]
    assert batch.classes.tolist() == [object_id(thing.name) for _, thing in things]
    assert batch.masks.shape == (len(things), 256, 256)
    assert all((mask.numpy() == thing.mask).all() for mask, (_, thing) in zip(batch.masks, things, strict=True))
    meetings = Meetings.of([(scenes[i], thing.index) for i, thing in things])
    assert len(meetings.rows) > 0
    assert torch.equal(batch.meetings.rows, meetings.rows)
    assert torch.equal(batch.meetings.theirs, meetings.theirs)
    plain = [Image.fromarray(scene.image) for scene in scenes]
    assert torch.equal(sam_pixels(batch.pictures), processor.image_inputs(plain)["sam_pixel_values"])
    assert len(batch.prompts.points) == len(things)


def test_a_batch_follows_from_seed_and_step(processor: VirtueProcessor, batch: SegmentationBatch) -> None:
    again = SegmentationBatches(processor, images=2, seed=0)(step=3)
    assert torch.equal(again.pictures, batch.pictures)
    assert torch.equal(again.prompts.points, batch.prompts.points)
    for seed, step in ((0, 4), (1, 3)):
        other = SegmentationBatches(processor, images=2, seed=seed)(step)
        assert not torch.equal(other.pictures[0], batch.pictures[0])


def test_decode_gives_the_features_and_masks_of_the_finished_model(batch: SegmentationBatch) -> None:
    prompts, rows = batch.prompts, batch.rows
    segmenter = tiny_segmenter()
    maps = encode_sam_image(segmenter.sam, sam_pixels(batch.pictures))
    for row in range(len(rows)):
        one = torch.tensor([row])
        own = tuple(level[rows[one]] for level in maps)
        masks, iou, features = segmenter.decode(own, prompts.rows(one))
        assert torch.allclose(features, segmentation_features(segmenter.sam, own[0], prompts.rows(one)), atol=1e-5)
        expected, quality = decode_masks(segmenter.sam, *own, prompts.rows(one))
        assert torch.allclose(masks, expected, atol=1e-5)
        assert torch.allclose(iou, quality, atol=1e-5)


def test_the_losses_are_finite_and_reach_all_that_learns(batch: SegmentationBatch) -> None:
    segmenter = tiny_segmenter()
    terms = segmentation_losses(segmenter, batch)
    assert terms.keys() == {"all", "focal", "dice", "iou", "pointed", "order", "tokens", "grid_tokens"}
    assert all(torch.isfinite(term) and term > 0 for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    sam = segmenter.sam
    parts = {
        "class, of F_s": segmenter.pointed.weight,
        "order, of F_s": segmenter.order.weight,
        "class, of the image map": segmenter.all.weight,
        "connector": segmenter.connector.conv.weight,
        "prompt encoder, points": sam.prompt_encoder.point_embed.weight,
        "prompt encoder, masks": sam.prompt_encoder.mask_embed.conv1.weight,
        "two-way transformer": sam.mask_decoder.transformer.layers[0].self_attn.q_proj.weight,
        "mask decoder": sam.mask_decoder.upscale_conv1.weight,
        "predicted IoU": sam.mask_decoder.iou_prediction_head.proj_in.weight,
        "image encoder": sam.vision_encoder.backbone.patch_embed.projection.weight,
    }
    for name, weight in parts.items():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


class Says(nn.Module):
    """A connector that says the same of whatever it is shown."""

    def __init__(self, tokens: Tensor) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, features: Tensor) -> Tensor:
        return self.tokens[: len(features)]


def test_the_connector_is_taught_what_lies_in_front(batch: SegmentationBatch) -> None:
    segmenter = tiny_segmenter()
    codes, side = segmenter.codes, segmenter.side
    signs, apart = batch.meetings.signs(len(batch.rows), side), replace(batch, meetings=Meetings.of([]))
    shown, front = ideal_tokens(codes.pointed, pointed_shares(batch.masks, batch.classes, side)), codes.front
    said = shown + front_tokens(front, signs)
    losses = []
    for tokens, learnt in ((said, batch), (shown, apart), (shown, batch)):
        segmenter.connector = Says(tokens)
        losses.append(float(segmentation_losses(segmenter, learnt)["tokens"]))
    assert losses[0] - losses[1] == pytest.approx(
        FRONT_WEIGHT * float(front_loss(said - shown, front, signs)), abs=1e-4
    )
    assert losses[2] > losses[0]  # not to say it costs more


def test_an_untrained_head_asks_each_class_alike(batch: SegmentationBatch) -> None:
    segmenter = tiny_segmenter()
    for head in (segmenter.pointed, segmenter.all, segmenter.order):
        for parameter in head.parameters():
            torch.nn.init.zeros_(parameter)
    terms = {name: term.item() for name, term in segmentation_losses(segmenter, batch).items()}
    assert terms["pointed"] == pytest.approx(0.5 * math.log(len(OBJECTS) + 1), rel=1e-5)
    assert terms["all"] == pytest.approx(0.3 * math.log(len(OBJECTS) + 1), rel=1e-5)
    assert terms["order"] == pytest.approx(3 * math.log(2), rel=1e-5)
