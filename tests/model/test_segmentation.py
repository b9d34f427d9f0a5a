from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Sam2Model
from transformers.models.sam2.modeling_sam2 import Sam2MultiScaleAttention

from tests.tiny import SAM_SIDE, sam_config, tiny_config, tiny_model
from virtue.model.segmentation import (
    PADDING_LABEL,
    Connector,
    HieraAttention,
    SamPrompts,
    build_sam,
    decode_masks,
    encode_prompts,
    encode_sam_image,
    encode_sam_map,
    segmentation_features,
)

CLICK = ([[10.0, 20.0]], [1])
TWO_CLICKS = ([[10.0, 20.0], [50.0, 6.0]], [1, 0])
BOX = ([[5.0, 6.0], [40.0, 50.0]], [2, 3])


@pytest.fixture(scope="module")
def sam() -> Sam2Model:
    sam = tiny_model().sam
    assert sam is not None
    return sam.requires_grad_(False)


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(3, 3, SAM_SIDE, SAM_SIDE)


def prompts(*rows: tuple[list[list[float]], list[int]]) -> SamPrompts:
    """Rows of different lengths as one `SamPrompts`."""
    longest = max(len(labels) for _, labels in rows)
    points = torch.zeros(len(rows), longest, 2)
    labels = torch.full((len(rows), longest), PADDING_LABEL)
    for row, (xy, kinds) in enumerate(rows):
        points[row, : len(xy)] = torch.tensor(xy)
        labels[row, : len(kinds)] = torch.tensor(kinds)
    return SamPrompts(points, labels)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_image_encoder_attends_as_that_of_transformers(pixels: Tensor, implementation: str) -> None:
    model = tiny_model().sam
    assert model is not None
    model.set_attn_implementation(implementation)
    layers = [layer for layer in model.modules() if isinstance(layer, HieraAttention)]
    assert any(layer.query_stride for layer in layers) and not all(layer.query_stride for layer in layers)
    with torch.no_grad():
        ours = encode_sam_map(model, pixels)
        for layer in layers:
            layer.__class__ = Sam2MultiScaleAttention
        assert torch.equal(encode_sam_map(model, pixels), ours)


def test_a_click_and_the_place_it_points_at_share_their_code() -> None:
    sam = build_sam(sam_config())
    code = sam.shared_image_embedding.positional_embedding
    assert torch.equal(sam.prompt_encoder.shared_embedding.positional_embedding, code)
    built = tiny_model().sam
    assert built is not None
    code = built.shared_image_embedding.positional_embedding
    assert torch.equal(built.prompt_encoder.shared_embedding.positional_embedding, code)


def test_connector_summarises_cells_row_by_row() -> None:
    connector = Connector(channels=1, stride=2, hidden_size=1)
    with torch.no_grad():
        connector.conv.weight.fill_(0.25)  # the mean of a cell of 2 x 2
        connector.conv.bias.zero_()
        for layer, shift in ((connector.mlp[0], 100.0), (connector.mlp[2], -100.0)):  # GELU leaves 100 as it is
            layer.weight.fill_(1.0)
            layer.bias.fill_(shift)
        tokens = connector(torch.arange(16.0).view(1, 1, 4, 4))
    assert tokens.view(-1).tolist() == [2.5, 4.5, 10.5, 12.5]


@pytest.mark.parametrize(
    ("depth", "shapes"), [(1, {0: (8, 4)}), (2, {0: (4, 4), 2: (8, 4)}), (3, {0: (4, 4), 2: (4, 4), 4: (8, 4)})]
)
def test_the_connector_is_as_deep_as_asked(depth: int, shapes: dict[int, tuple[int, int]]) -> None:
    connector = Connector(channels=4, stride=2, hidden_size=8, depth=depth)
    state = {name: tuple(tensor.shape) for name, tensor in connector.state_dict().items() if name.startswith("mlp.")}
    assert state == {f"mlp.{place}.weight": shape for place, shape in shapes.items()} | {
        f"mlp.{place}.bias": shape[:1] for place, shape in shapes.items()
    }
    assert connector(torch.zeros(3, 4, 6, 6)).shape == (3, 9, 8)


def test_one_linear_layer_is_the_convolution_through_it() -> None:
    connector = Connector(channels=2, stride=2, hidden_size=3, depth=1)
    features = torch.randn(1, 2, 4, 4)
    with torch.no_grad():
        cells = connector.conv(features).flatten(2)[0].T  # (4, 2)
        expected = cells @ connector.mlp[0].weight.T + connector.mlp[0].bias
        assert torch.allclose(connector(features)[0], expected, atol=1e-6)


def test_rows_are_cut_to_their_longest_list_of_points() -> None:
    some = prompts(CLICK, TWO_CLICKS, CLICK).rows(torch.tensor([0, 2]))
    assert some.points.tolist() == [[[10, 20]], [[10, 20]]]
    assert some.labels.tolist() == [[1], [1]]


def test_masks_are_dropped_where_no_row_has_one() -> None:
    masks = torch.zeros(2, 1, 16, 16)
    both = SamPrompts(torch.zeros(2, 1, 2), torch.ones(2, 1).long(), masks, torch.tensor([True, False]))
    assert both.rows(torch.tensor([1])).masks is None
    assert both.rows(torch.tensor([0, 1])).masks is not None


@pytest.mark.parametrize("prompt", [CLICK, TWO_CLICKS, BOX])
def test_features_and_masks_are_those_of_the_whole_sam(
    sam: Sam2Model, pixels: Tensor, prompt: tuple[list[list[float]], list[int]]
) -> None:
    kept: list[Tensor] = []

    def keep(module: Any, arguments: Any, output: tuple[Tensor, Tensor]) -> None:
        kept.append(output[1])

    asked = prompts(prompt, prompt, prompt)
    handle = sam.mask_decoder.transformer.register_forward_hook(keep)
    whole = sam(
        pixel_values=pixels,
        input_points=asked.points.unsqueeze(1),
        input_labels=asked.labels.unsqueeze(1),
        multimask_output=False,
    )
    handle.remove()
    features, fine, middle = encode_sam_image(sam, pixels)
    ours = segmentation_features(sam, features, asked)
    theirs = kept[0].reshape(3, 16, 16).transpose(1, 2).reshape(3, 16, 4, 4)  # (R, cells, C) to a map
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    logits, quality = decode_masks(sam, features, fine, middle, asked)
    torch.testing.assert_close(logits, whole.pred_masks[:, 0, 0], rtol=0, atol=1e-4)
    torch.testing.assert_close(quality, whole.iou_scores[:, 0, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("levels", [[2, 3], [3], [2], [], [0, 1, 2, 3]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_map_alone_is_that_of_the_whole_encoder(pixels: Tensor, levels: list[int], dtype: torch.dtype) -> None:
    config = tiny_config()
    config.sam_config.vision_config.fpn_top_down_levels = levels
    sam = tiny_model(config).sam
    assert sam is not None
    sam = sam.to(dtype)
    with torch.no_grad():
        assert torch.equal(encode_sam_map(sam, pixels), encode_sam_image(sam, pixels)[0])


def test_the_map_learns_as_the_whole_encoder_does(pixels: Tensor) -> None:
    def gradient(encode: Callable[[Sam2Model, Tensor], Tensor]) -> Tensor:
        sam = tiny_model().sam
        assert sam is not None
        encode(sam, pixels).square().sum().backward()
        grad = sam.vision_encoder.backbone.patch_embed.projection.weight.grad
        assert grad is not None
        return grad

    whole = gradient(lambda sam, pixels: encode_sam_image(sam, pixels)[0])
    assert whole.abs().sum() > 0
    torch.testing.assert_close(gradient(encode_sam_map), whole)


def test_a_row_does_not_see_how_many_points_its_neighbours_have(sam: Sam2Model, pixels: Tensor) -> None:
    features, fine, middle = encode_sam_image(sam, pixels)
    rows = (CLICK, TWO_CLICKS, BOX)
    together = segmentation_features(sam, features, prompts(*rows))
    logits, quality = decode_masks(sam, features, fine, middle, prompts(*rows))
    for row, prompt in enumerate(rows):
        one = slice(row, row + 1)
        alone = segmentation_features(sam, features[one], prompts(prompt))
        torch.testing.assert_close(together[one], alone, rtol=0, atol=1e-5)
        mask, iou = decode_masks(sam, features[one], fine[one], middle[one], prompts(prompt))
        torch.testing.assert_close(logits[one], mask, rtol=0, atol=1e-4)
        torch.testing.assert_close(quality[one], iou, rtol=0, atol=1e-5)


def test_a_mask_changes_its_own_row_alone(sam: Sam2Model) -> None:
    plain = prompts(CLICK, CLICK)
    masks = torch.full((2, 1, 16, 16), -10.0)
    masks[:, :, 4:9, 4:9] = 10.0
    _, without = encode_prompts(sam, plain)
    _, dense = encode_prompts(sam, SamPrompts(plain.points, plain.labels, masks, torch.tensor([False, True])))
    assert torch.equal(dense[0], without[0])
    assert (dense[1] - without[1]).abs().max() > 0.01


def test_a_mask_alone_needs_no_point(sam: Sam2Model, pixels: Tensor) -> None:
    masks = torch.full((1, 1, 16, 16), -10.0)
    asked = SamPrompts(torch.zeros(1, 0, 2), torch.zeros(1, 0).long(), masks, torch.tensor([True]))
    features, _, _ = encode_sam_image(sam, pixels[:1])
    assert segmentation_features(sam, features, asked).isfinite().all()
    sparse, _ = encode_prompts(sam, asked)
    assert torch.equal(sparse[0], sam.prompt_encoder.not_a_point_embed.weight)


def test_include_and_exclude_differ(sam: Sam2Model, pixels: Tensor) -> None:
    features, _, _ = encode_sam_image(sam, pixels[:2])
    out = segmentation_features(sam, features[:1].expand(2, -1, -1, -1), prompts(CLICK, ([[10.0, 20.0]], [0])))
    assert (out[0] - out[1]).abs().max() > 1e-3
