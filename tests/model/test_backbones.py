"""Each vision-language model that VIRTUE can stand on, at tiny size with random weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel

from tests.tiny import BACKBONES, WIDTH, picture, tiny_config, tiny_model, tiny_processor, vlm_config
from virtue.model import VirtueModel, VirtueProcessor
from virtue.model.patch_projection import PatchProjection
from virtue.prompts import Box, Point
from virtue.templates import IMAGE_TOKEN

TEXTS = ["words alone", IMAGE_TOKEN, f"{IMAGE_TOKEN}and words", f"{IMAGE_TOKEN}here", "other words"]
PICTURES = [None, picture(90, 64, seed=1), picture(64, 120, seed=2), picture(90, 64, seed=1), None]
PROMPTS = [None, None, Box(5, 6, 50, 80), Point(30, 20), None]


def embed(model: VirtueModel, processor: VirtueProcessor, rows: slice, *, prompted: bool) -> Tensor:
    inputs = processor(TEXTS[rows], PICTURES[rows], PROMPTS[rows] if prompted else None)
    with torch.no_grad():
        return model(**inputs).embeddings


@pytest.mark.parametrize("sam", [True, False], ids=["with_sam", "without_sam"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_any_mix_of_rows(backbone: str, sam: bool) -> None:
    model = tiny_model(tiny_config(backbone, sam=sam))
    processor = tiny_processor(model.config, padding_side="left")
    together = embed(model, processor, slice(None), prompted=sam)
    assert together.shape == (5, WIDTH)
    alone = torch.cat([embed(model, processor, slice(row, row + 1), prompted=sam) for row in range(5)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    similarity = (together @ together.T).fill_diagonal_(0)
    assert similarity.max() < 0.9999
    if sam:
        unprompted = embed(model, processor, slice(None), prompted=False)
        changed = (unprompted - together).abs().amax(1) > 1e-4
        assert changed.tolist() == [False, False, True, True, False]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_eager_and_sdpa_agree(backbone: str) -> None:
    model = tiny_model(tiny_config(backbone))
    processor = tiny_processor(model.config)
    expected = embed(model, processor, slice(None), prompted=True)
    model.set_attn_implementation("eager")
    torch.testing.assert_close(embed(model, processor, slice(None), prompted=True), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_half_precision(backbone: str, dtype: torch.dtype) -> None:
    model = tiny_model(tiny_config(backbone))
    processor = tiny_processor(model.config)
    expected = embed(model, processor, slice(None), prompted=True)
    embeddings = embed(model.to(dtype), processor, slice(None), prompted=True)
    assert (embeddings * expected).sum(1).min() > 0.98


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_saved_model_is_the_same_to_the_bit(backbone: str, tmp_path: Path) -> None:
    model = tiny_model(tiny_config(backbone))
    processor = tiny_processor(model.config)
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    expected = embed(model, processor, slice(None), prompted=True)
    assert torch.equal(embed(loaded, processor, slice(None), prompted=True), expected)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_patches_are_projected_as_a_convolution_would(backbone: str) -> None:
    model = tiny_model(tiny_config(backbone))
    projection = model.vlm.visual.patch_embed.proj
    assert type(projection) is PatchProjection
    patch = model.config.vlm_config.vision_config.patch_size
    patches = torch.randn(6, 3, 2, patch, patch)
    expected = nn.functional.conv3d(patches, projection.weight, projection.bias, projection.stride)
    assert projection(patches).shape == expected.shape == (6, WIDTH, 1, 1, 1)
    torch.testing.assert_close(projection(patches), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_weights_keep_the_names_and_shapes_that_transformers_gives_them(backbone: str) -> None:
    ours = tiny_model(tiny_config(backbone, sam=False)).vlm
    theirs = AutoModel.from_config(vlm_config(backbone))
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == {
        name: tensor.shape for name, tensor in theirs.state_dict().items()
    }
    theirs.load_state_dict(ours.state_dict())
    pixels, grid = (
        tiny_processor(tiny_model(tiny_config(backbone, sam=False)).config).image_inputs([picture()]).values()
    )
    for mine, other in zip(
        ours.get_image_features(pixels, grid).pooler_output,
        theirs.eval().get_image_features(pixels, grid).pooler_output,
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-4)


def test_deepstack_of_qwen3_reaches_the_language_model() -> None:
    model = tiny_model(tiny_config("qwen3_vl"))
    processor = tiny_processor(model.config)
    with torch.no_grad():
        features = model.encode_images(**processor.image_inputs([PICTURES[1]]))
        assert [tuple(level.shape for level in picture) for picture in features.deepstack] == [((6, WIDTH),) * 2]
        arguments: dict[str, Any] = processor.text_inputs([f"{IMAGE_TOKEN}a"], [6])
        index = torch.tensor([0])
        prompts = processor.prompt_inputs([None], [PICTURES[1].size])
        arguments |= {"image_index": index, "segmentation": model.segmentation_tokens(features, index, prompts)}
        expected = model.embed(**arguments, images=features)
        zeros = tuple(tuple(torch.zeros_like(level) for level in picture) for picture in features.deepstack)
        without = model.embed(**arguments, images=replace(features, deepstack=zeros))
    assert (expected - without).abs().max() > 1e-3


@pytest.mark.parametrize("backbone", BACKBONES)
def test_words_and_a_picture_are_embedded_as_the_bare_backbone_does(backbone: str) -> None:
    """Without a segmentation stream this is the backbone's own forward with its own positions."""
    model = tiny_model(tiny_config(backbone, sam=False))
    processor = tiny_processor(model.config)
    inputs = processor(TEXTS[2:3], PICTURES[2:3])
    kinds = (inputs["input_ids"] == 1).int()
    with torch.no_grad():
        output = model.vlm(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            pixel_values=inputs["pixel_values"],
            image_grid_thw=inputs["image_grid_thw"],
            mm_token_type_ids=kinds,
            use_cache=False,
        )
        expected = nn.functional.normalize(output.last_hidden_state[:, -1], dim=-1)
        torch.testing.assert_close(model(**inputs).embeddings, expected, rtol=0, atol=1e-5)
