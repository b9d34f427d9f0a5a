from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import PreTrainedTokenizerFast

from virtue.model import VirtueModel
from virtue.model.segmentation import Connector
from virtue.scenes.region_captions import Elements, region_caption
from virtue.scenes.vocabulary import (
    OBJECTS,
    PLACE_NOUNS,
    PLACE_WORDINGS,
    PLACES,
    RELATION_WORDINGS,
    RELATIONS,
    noun_phrase,
)
from virtue.templates import END_TOKEN, IMAGE_TOKEN
from virtue.training.architecture import (
    VOCABULARY,
    nano_config,
    nano_model,
    nano_processor,
    nano_tokenizer,
    start_connector,
)


def captions() -> Iterator[str]:
    """A few hundred, no scene drawn, in which every word occurs."""
    rng = np.random.default_rng(0)
    for _ in range(4):
        for thing in range(len(OBJECTS)):
            elements = Elements(thing, thing % len(RELATIONS), int(rng.integers(len(OBJECTS))), thing % len(PLACES))
            yield region_caption(elements, rng, "varied")
    yield from (
        words for wordings in (RELATION_WORDINGS, PLACE_WORDINGS) for all_ in wordings.values() for words in all_
    )
    yield from PLACE_NOUNS.values()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return nano_tokenizer(captions())


@pytest.fixture(scope="module")
def model() -> VirtueModel:
    return nano_model(0)


def test_the_weights_fit_into_a_package(model: VirtueModel) -> None:
    assert 2 * sum(parameter.numel() for parameter in model.parameters()) < 25e6  # bytes in float16


def test_the_weights_follow_from_the_seed(model: VirtueModel) -> None:
    torch.manual_seed(5)  # whatever was drawn before
    again = nano_model(0).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


def test_a_click_and_the_place_it_points_at_have_one_code(model: VirtueModel) -> None:
    sam = model.sam
    clicks, places = sam.prompt_encoder.shared_embedding, sam.shared_image_embedding
    assert torch.equal(clicks.positional_embedding, places.positional_embedding)


def test_weights_start_at_the_scale_of_their_layers_width(model: VirtueModel) -> None:
    connector = model.connector.mlp[0]
    assert isinstance(connector, nn.Linear)
    assert float(connector.weight.detach().std()) == pytest.approx(64**-0.5, rel=0.1)
    assert float(model.get_input_embeddings().weight.detach().std()) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_connector_starts_with_the_mean_of_its_cells(stride: int) -> None:
    connector = Connector(channels=3, stride=stride, hidden_size=5)
    start_connector(connector)
    cells = torch.randn(2, 3, 4, 4)
    expected = nn.functional.avg_pool2d(cells, stride)
    torch.testing.assert_close(connector.conv(cells), expected)


def test_weights_that_end_a_branch_start_smaller_the_deeper_the_network_is(model: VirtueModel) -> None:
    words, vision, sam = model.vlm.language_model.layers, model.vlm.visual.blocks, model.sam.vision_encoder.backbone
    ends = {
        len(words): words[0].mlp.down_proj.weight,
        len(vision): vision[0].mlp.fc2.weight,
        len(sam.blocks): sam.blocks[-1].attn.proj.weight,
    }
    assert len(ends) == 3
    for depth, weight in ends.items():  # one of two branches in each layer
        assert float(weight.detach().std()) == pytest.approx((2 * depth * weight.shape[1]) ** -0.5, rel=0.1)


def test_a_picture_becomes_64_image_and_64_segmentation_tokens() -> None:
    assert nano_config().segmentation_side == 8
    processor = nano_processor(nano_tokenizer(iter(["a dog"])))
    grid = processor.image_inputs([Image.new("RGB", (256, 256))])["image_grid_thw"]
    assert processor.image_token_counts(grid) == [64]


def test_every_word_of_the_drawn_world_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    wordings = [words for table in (RELATION_WORDINGS, PLACE_WORDINGS) for all_ in table.values() for words in all_]
    phrases = [*(noun_phrase(word.name) for word in OBJECTS), *wordings, *PLACE_NOUNS.values()]
    for phrase in phrases:
        assert len(tokenizer(phrase)["input_ids"]) == len(phrase.split()), phrase
    assert len(tokenizer) <= VOCABULARY


def test_words_are_the_same_in_front_and_in_capitals(tokenizer: PreTrainedTokenizerFast) -> None:
    alone, later = tokenizer("dog")["input_ids"], tokenizer("a dog")["input_ids"]
    assert later[-1:] == alone
    assert tokenizer("A DOG")["input_ids"] == later


@pytest.mark.parametrize("text", ["a zebra's x-ray", "straße, 北京 & café", "1,234.5 %", "a\ttab\nand a line", "🦊"])
def test_any_text_comes_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]).strip() == text.lower()


def test_the_special_tokens_are_those_of_the_configuration(tokenizer: PreTrainedTokenizerFast) -> None:
    config = nano_config()
    assert tokenizer.convert_tokens_to_ids(IMAGE_TOKEN) == config.image_token_id
    assert tokenizer.convert_tokens_to_ids(END_TOKEN) == config.get_text_config().eos_token_id == 0
    assert tokenizer(f"{IMAGE_TOKEN}a dog{END_TOKEN}")["input_ids"][::3] == [config.image_token_id, 0]
