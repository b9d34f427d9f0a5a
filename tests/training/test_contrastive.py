import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tests.tiny import WIDTH, picture, tiny_config, tiny_model
from virtue.items import Item
from virtue.model import VirtueModel, VirtueProcessor
from virtue.scenes.vocabulary import OBJECTS, PLACES, RELATIONS
from virtue.training.contrastive import (
    DIRECTIONS,
    Learner,
    contrastive_losses,
    directions,
    embed_images,
    embed_texts,
    match_loss,
    pairs_in_cells,
    text_losses,
    tower_losses,
)
from virtue.training.heads import Heads
from virtue.training.pairs import Batch, Batches

NOTHING = len(OBJECTS)


@pytest.fixture(scope="module")
def batch(processor: VirtueProcessor) -> Batch:
    return Batches(processor, images=3, rows=2, distractors=2, seed=0)(0)


@pytest.fixture
def learner() -> Learner:
    return Learner(tiny_model(tiny_config()), seed=0).train()


def backward(terms: dict[str, Tensor]) -> None:
    assert all(torch.isfinite(term) for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()


def moved(module: nn.Module) -> set[str]:
    """Names of the parameters that the loss reaches."""
    grads = {name: parameter.grad for name, parameter in module.named_parameters()}
    return {name for name, grad in grads.items() if grad is not None and bool(grad.abs().sum() > 0)}


def test_match_loss_of_rows_that_are_all_alike_is_the_log_of_the_choices() -> None:
    zeros, own = torch.zeros(4, 8), torch.eye(4, dtype=torch.bool)
    both_ways = math.log(4) + 0.5 * math.log(4)
    assert float(match_loss(zeros, zeros, own, 0.1)) == pytest.approx(both_ways)
    more = torch.zeros(10, 8)  # six hard negatives: more choices for the rows, none for the texts
    own = torch.eye(4, 10, dtype=torch.bool)
    assert float(match_loss(zeros, more, own, 0.1)) == pytest.approx(math.log(10) + 0.5 * math.log(4))


def test_match_loss_never_counts_what_is_true_as_a_negative() -> None:
    zeros, truth = torch.zeros(2, 8), torch.eye(2, 3, dtype=torch.bool)
    truth[0, 2] = True  # the third text is true of the first row too
    rows, texts = (math.log(2) + math.log(3)) / 2, math.log(2)
    assert float(match_loss(zeros, torch.zeros(3, 8), truth, 0.1)) == pytest.approx(rows + 0.5 * texts)
    truth[0, 1] = True  # and so is the second row's own, which leaves it nothing to be confused with
    rows, texts = (math.log(1) + math.log(3)) / 2, (math.log(2) + math.log(1)) / 2
    assert float(match_loss(zeros, torch.zeros(3, 8), truth, 0.1)) == pytest.approx(rows + 0.5 * texts)


def test_match_loss_divides_similarities_by_the_temperature() -> None:
    unit = torch.eye(2)  # own text: similarity 1, the other: 0
    expected = 1.5 * math.log(1 + math.exp(-1 / 0.5))
    assert float(match_loss(unit, unit, torch.eye(2, dtype=torch.bool), 0.5)) == pytest.approx(expected)


def test_directions_are_those_of_the_thing_seen_from_each_cell() -> None:
    masks = torch.zeros(2, 30, 30, dtype=torch.bool)
    masks[0, 10:20, 10:20] = True  # in the middle of three by three cells
    masks[1, 0:10, 20:30] = True  # in the upper right one
    left, right, above, below = range(4)
    assert [DIRECTIONS[i] for i in (left, right, above, below)] == ["left of", "right of", "above", "below"]
    assert directions(masks, (3, 3)).tolist() == [
        [-1, below, -1, right, -1, left, -1, above, -1],
        [right, right, -1, right, -1, above, -1, above, above],
    ]


def test_cells_ask_how_the_pointed_thing_stands_to_what_they_show(batch: Batch) -> None:
    pointed = int(batch.region_elements[0, 0])
    other = (pointed + 1) % len(OBJECTS)
    batch = replace(batch, everything=torch.full((3, 30, 30), NOTHING), masks=torch.zeros(1, 30, 30, dtype=torch.bool))
    picture = int(batch.region_image[0])
    batch = replace(batch, region_image=batch.region_image[:1])
    batch.masks[0, 10:20, 10:20] = True
    batch.everything[picture, 10:20, 10:20] = pointed
    batch.everything[picture, 10:20, 24:30] = other  # six tenths of the cell to the right of it
    batch.everything[picture, 28:30, 10:20] = other  # two tenths of the cell below: too little
    expected = [-1] * 9
    expected[5] = RELATIONS.index("left of") * len(OBJECTS) + other
    assert pairs_in_cells(batch, (3, 3)).tolist() == [expected]


def test_heads_that_know_nothing_answer_with_the_log_of_the_choices() -> None:
    heads = Heads(WIDTH, seed=0)
    for parameter in heads.parameters():
        nn.init.zeros_(parameter)
    rows = normalize(torch.randn(3, WIDTH), dim=1)
    place = 0.3 * math.log(len(PLACES))
    everything = torch.tensor([[5, 1, 7, 2]] * 3)
    said = math.log(len(OBJECTS)) + place + math.log(len(RELATIONS))
    assert heads.region_loss(rows, everything).item() == pytest.approx(said, rel=1e-5)
    only_objects = torch.tensor([[5, -1, -1, -1]] * 3)
    assert heads.region_loss(rows, only_objects).item() == pytest.approx(math.log(len(OBJECTS)), rel=1e-5)
    tokens, answers = torch.randn(2, 4, WIDTH), torch.full((2, 4), -1)
    assert heads.token_loss(tokens, answers).item() == 0.0  # no cell has anything to say
    answers[1, 2] = 7
    choices = math.log(len(RELATIONS) * len(OBJECTS))
    assert heads.token_loss(tokens, answers).item() == pytest.approx(choices, rel=1e-5)
    present = torch.zeros(3, len(OBJECTS), dtype=torch.bool)
    assert heads.image_loss(rows, present, torch.tensor([0, -1, 3])).item() == pytest.approx(place, rel=1e-5)
    present[0, :2] = True  # the two pictures without a named object ask nothing
    expected = math.log(len(OBJECTS)) + place
    assert heads.image_loss(rows, present, torch.tensor([0, -1, 3])).item() == pytest.approx(expected, rel=1e-5)


def test_ideal_tokens_say_how_much_of_a_cell_is_covered_and_by_what(learner: Learner, batch: Batch) -> None:
    region, image = learner.ideal_tokens(batch)
    cells = learner.model.config.segmentation_side**2
    assert region.shape == (len(batch.masks), cells, WIDTH)
    assert image.shape == (3, cells, WIDTH)
    batch = replace(batch, masks=torch.zeros_like(batch.masks))
    batch.masks[0, :128, :128] = True  # a quarter of the picture: all of the first cell, where there are 2 x 2
    thing, nothing = learner.codes.pointed[[int(batch.region_elements[0, 0]), -1]]
    assert cells == 4
    expected = torch.stack([thing, *[nothing] * 3])
    assert torch.allclose(learner.ideal_tokens(batch)[0][0], expected)


def test_ideal_image_tokens_are_as_many_as_the_vision_towers(learner: Learner, batch: Batch) -> None:
    ideal = learner.ideal_image_tokens(batch)
    inputs = batch.images
    seen = learner.model.encode_images(inputs["pixel_values"], inputs["image_grid_thw"], inputs["sam_pixel_values"])
    assert ideal.grids == seen.grids
    assert [tokens.shape for tokens in ideal.visual] == [tokens.shape for tokens in seen.visual]


@pytest.mark.parametrize("ideal", [True, False])
def test_contrastive_losses_reach_what_should_learn(learner: Learner, batch: Batch, ideal: bool) -> None:
    terms = contrastive_losses(learner, batch, temperature=0.1, ideal=float(ideal))
    assert terms.keys() >= {"region", "image", "region_heads", "text_heads", "image_heads", "image_text_heads"}
    assert ({"connector", "tower"} <= terms.keys()) == (not ideal)
    backward(terms)
    reached = moved(learner)
    parts = {".".join(name.split(".")[:3]) for name in reached if name.startswith("model.")}
    streams = set() if ideal else {"model.connector.conv", "model.connector.mlp", "model.vlm.visual"}
    assert parts == {"model.vlm.language_model", *streams}
    heads = {name for name, parameter in learner.heads.named_parameters() if parameter.requires_grad}
    assert {name.removeprefix("heads.") for name in reached if name.startswith("heads.")} == heads


def test_the_vision_tower_learns_alone(learner: Learner, batch: Batch) -> None:
    backward(tower_losses(learner, batch))
    assert {".".join(name.split(".")[:3]) for name in moved(learner)} == {"model.vlm.visual"}


def test_texts_learn_alone(processor: VirtueProcessor, learner: Learner) -> None:
    texts, said = Batches(processor, 1, 1, 1, seed=0).texts(0, 6)
    backward(text_losses(learner, texts, said))
    reached = moved(learner)
    assert {".".join(name.split(".")[:3]) for name in reached if name.startswith("model.")} == {
        "model.vlm.language_model"
    }


def test_the_segmenter_stays_frozen(learner: Learner) -> None:
    assert learner.training
    assert not learner.model.sam.training
    assert not any(parameter.requires_grad for parameter in learner.model.sam.parameters())


def test_pictures_are_embedded_as_the_embedder_would(processor: VirtueProcessor) -> None:
    model: VirtueModel = tiny_model(tiny_config())
    pictures = [picture(90, 70, seed) for seed in (1, 2)]
    inputs = processor.image_inputs(pictures)
    index = torch.tensor([1, 0, 1])
    text = processor.render(Item(image=pictures[0]))
    tokens = processor.text_inputs([text] * 3, [processor.image_token_counts(inputs["image_grid_thw"])[0]] * 3)
    with torch.no_grad():
        features = model.encode_images(inputs["pixel_values"], inputs["image_grid_thw"], inputs["sam_pixel_values"])
        prompts = processor.prompt_inputs([None] * 3, [(90, 70)] * 3)
        segmentation = model.segmentation_tokens(features, index, prompts)
        expected = model.embed(tokens["input_ids"], tokens["attention_mask"], features, index, segmentation)
        assert torch.equal(embed_images(model, features, index, segmentation), expected)


def test_texts_are_embedded_as_unit_rows(processor: VirtueProcessor) -> None:
    tokens = processor.text_inputs([processor.render(Item(text=text)) for text in ("a dog", "a small cat")], [0, 0])
    with torch.no_grad():
        rows = embed_texts(tiny_model(tiny_config()), tokens)
    assert rows.shape == (2, WIDTH)
    assert torch.allclose(rows.norm(dim=1), torch.ones(2))
