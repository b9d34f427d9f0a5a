import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tests.tiny import WIDTH, picture, tiny_config, tiny_model
from virtue.items import Item
from virtue.model import VirtueModel, VirtueProcessor
from virtue.model.positions import POSITION_RULES
from virtue.scenes.vocabulary import OBJECTS, PLACES, RELATIONS
from virtue.training import contrastive
from virtue.training.codes import FRONT_WEIGHT, FULL, class_shares, front_loss, front_tokens, ideal_tokens
from virtue.training.contrastive import (
    DIRECTIONS,
    Learner,
    contrastive_losses,
    directions,
    embed_texts,
    layers_in_cells,
    match_loss,
    pairs_in_cells,
    read_images,
    text_losses,
    tower_losses,
    unit,
)
from virtue.training.heads import Heads
from virtue.training.meetings import CELLS, Meetings
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


SIDE = 48  # pixels of a picture drawn by hand; three by three cells


def one_row(batch: Batch) -> Batch:
    """The first region row in an empty picture of three by three cells; maps to be drawn into."""
    return replace(
        batch,
        grid=(3, 3),
        region_image=torch.tensor([1]),
        masks=torch.zeros(1, SIDE, SIDE, dtype=torch.bool),
        meetings=Meetings.of([]),
        related=torch.zeros(1, len(RELATIONS), len(OBJECTS), dtype=torch.bool),
        everything=torch.full((3, SIDE, SIDE), NOTHING, dtype=torch.uint8),
    )


def test_cells_ask_how_the_pointed_thing_stands_to_what_they_show(batch: Batch) -> None:
    batch = one_row(batch)
    pointed, shown = int(batch.region_elements[0, 0]), batch.everything[1]
    other = (pointed + 1) % len(OBJECTS)
    batch.masks[0, 16:32, 16:32] = True
    shown[16:32, 16:32] = pointed
    shown[16:32, 40:48] = other  # half of the cell to the right of it
    shown[45:48, 16:32] = other  # less than a quarter of the cell below: too little
    expected = [-1] * 9
    expected[5] = RELATIONS.index("left of") * len(OBJECTS) + other
    assert pairs_in_cells(batch).tolist() == [expected]


def test_cells_ask_whether_what_they_show_lies_behind_the_pointed_thing_or_in_front(batch: Batch) -> None:
    batch = one_row(batch)
    pointed, shown = int(batch.region_elements[0, 0]), batch.everything[1]
    behind, before, beside = ((pointed + i) % len(OBJECTS) for i in (1, 2, 3))
    in_front_of, is_behind, left_of = (RELATIONS.index(name) for name in ("in front of", "behind", "left of"))
    batch.related[0, in_front_of, behind] = batch.related[0, is_behind, before] = True
    batch.related[0, left_of, beside] = True
    batch.related[0, in_front_of, 0] = True  # of the vocabulary's first object, which no cell shows
    shown[:16] = pointed
    shown[16:32, :16], shown[16:32, 16:32], shown[16:32, 32:] = behind, before, beside
    shown[47, 16:32] = behind  # too little of the cell
    expected = [-1] * 9
    expected[3], expected[4] = in_front_of * len(OBJECTS) + behind, is_behind * len(OBJECTS) + before
    assert layers_in_cells(batch).tolist() == [expected]


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


def meetings(theirs: Tensor, *in_front: bool) -> Meetings:
    """Of the first row, with things that cover so much of the four cells of its segmentation tokens."""
    fine = theirs.repeat_interleave(CELLS // 2, 1).repeat_interleave(CELLS // 2, 2)
    return Meetings(torch.zeros(len(theirs), dtype=torch.long), torch.zeros_like(fine), fine, torch.tensor(in_front))


def test_ideal_segmentation_tokens_say_what_is_pointed_at_and_where_it_hides_or_is_hidden(
    learner: Learner, batch: Batch
) -> None:
    others = torch.tensor([[[0.0, FULL], [0.0, 0.0]], [[0.0, 0.0], [FULL / 2, 0.0]]])
    batch = replace(one_row(batch), meetings=meetings(others, True, False))
    batch.masks[0, :24, :24] = True  # all of the first of four cells
    thing, nothing = learner.codes.pointed[[int(batch.region_elements[0, 0]), NOTHING]]
    front = learner.codes.front[0]
    regions, _ = learner.ideal_tokens(batch)
    assert torch.allclose(regions[0], torch.stack([thing, nothing + front, nothing - front / 2, nothing]))


def test_ideal_tokens_of_whole_pictures_say_everything_there_is(learner: Learner, batch: Batch) -> None:
    batch = one_row(batch)
    batch.everything[1, :24, :24], batch.everything[1, 24:, 24:] = 5, 7
    _, images = learner.ideal_tokens(batch)
    assert torch.allclose(images[1], learner.codes.pointed[[5, NOTHING, NOTHING, 7]])
    assert torch.allclose(images[0], learner.codes.pointed[[NOTHING] * 4])


def test_ideal_image_tokens_say_what_is_shown_and_the_place(learner: Learner, batch: Batch) -> None:
    batch = one_row(batch)
    batch.everything[1, :16, :16] = 5
    tokens = learner.ideal_image_tokens(batch)
    expected = learner.codes.shown[[5, *[NOTHING] * 8]] + learner.codes.place[batch.place[1]]
    assert torch.allclose(tokens[1], expected)


def test_ideal_tokens_are_as_many_as_real_ones(learner: Learner, batch: Batch) -> None:
    assert batch.pictures is not None
    assert learner.ideal_image_tokens(batch).shape == learner.see(batch.pictures).shape
    cells = learner.model.config.segmentation_side**2
    regions, images = learner.ideal_tokens(batch)
    assert (regions.shape, images.shape) == ((len(batch.masks), cells, WIDTH), (3, cells, WIDTH))


def test_a_tower_that_leaves_out_the_place_has_more_to_learn(learner: Learner, batch: Batch) -> None:
    visual = learner.ideal_image_tokens(batch)
    without = ideal_tokens(learner.codes.shown, class_shares(batch.everything, batch.grid))
    assert learner.tower_loss(visual, batch) < learner.tower_loss(without, batch)


def test_a_connector_that_says_its_ideal_tokens_is_asked_no_more_than_what_lies_in_front(
    learner: Learner, batch: Batch
) -> None:
    regions, images = learner.ideal_tokens(batch)
    code, signs = learner.codes.front, learner.signs(batch)
    front, apart = front_tokens(code, signs), replace(batch, meetings=Meetings.of([]))
    whole, rest = learner.connector_loss(regions, images, batch), learner.connector_loss(regions - front, images, apart)
    assert float(whole - rest) == pytest.approx(FRONT_WEIGHT * float(front_loss(front, code, signs)), abs=1e-5)
    assert learner.connector_loss(regions - front, images, batch) > whole
    assert learner.connector_loss(regions, torch.zeros_like(images), batch) > whole


@pytest.mark.parametrize("ideal", [True, False])
def test_contrastive_losses_reach_what_should_learn(learner: Learner, batch: Batch, ideal: bool) -> None:
    terms = contrastive_losses(learner, batch, temperature=0.1, ideal=float(ideal))
    asked = {"region_heads", "pairs", "text_heads", "image_heads", "image_text_heads", "token_pairs", "token_layers"}
    assert terms.keys() >= {"region", "image", *asked}
    assert ({"connector", "tower"} <= terms.keys()) == (not ideal)
    backward(terms)
    reached = moved(learner)
    parts = {".".join(name.split(".")[:3]) for name in reached if name.startswith("model.")}
    streams = set() if ideal else {"model.connector.conv", "model.connector.mlp", "model.vlm.visual"}
    assert parts == {"model.vlm.language_model", *streams}
    heads = {name for name, parameter in learner.heads.named_parameters() if parameter.requires_grad}
    assert {name.removeprefix("heads.") for name in reached if name.startswith("heads.")} == heads


def test_ideal_tokens_stand_for_both_streams_and_image_tokens_are_asked(
    learner: Learner, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Tensor] = []
    asked: list[Tensor] = []

    def keep(model: VirtueModel, visual: Tensor, grid: tuple[int, int], segmentation: Tensor) -> Tensor:
        read.extend([visual, segmentation, read_images(model, visual, grid, segmentation)])
        return read[2]

    def ask(tokens: Tensor, answers: Tensor) -> Tensor:
        assert tokens.shape[:2] == answers.shape
        asked.append(tokens)
        return tokens.sum()

    monkeypatch.setattr(contrastive, "read_images", keep)
    monkeypatch.setattr(learner.heads, "token_loss", ask)
    contrastive_losses(learner, batch, temperature=0.1, ideal=1.0)
    visual, segmentation = learner.ideal_image_tokens(batch), learner.ideal_tokens(batch)
    assert torch.equal(read[0], torch.cat([visual[batch.region_image], visual]))
    assert torch.equal(read[1], torch.cat(segmentation))
    rows, first, count = len(batch.region_image), segmentation[0].shape[1], visual.shape[1]
    assert len(asked) == 2  # of directions, and of what lies in front
    assert all(torch.equal(tokens, read[2][:rows, first : first + count]) for tokens in asked)


def test_real_streams_are_taught_the_embeddings_of_the_finished_model(
    processor: VirtueProcessor, learner: Learner, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[Tensor] = []

    def match(rows: Tensor, *_: object) -> Tensor:
        met.append(rows.detach())
        return rows.sum()

    monkeypatch.setattr(contrastive, "match_loss", match)
    contrastive_losses(learner, batch, temperature=0.1, ideal=0.0)
    model, shown = learner.model, batch.pictures
    assert shown is not None
    text, count = processor.render(Item(image=picture())), batch.grid[0] * batch.grid[1]
    with torch.no_grad():
        features = model.encode_images(shown.patches(), shown.patch_grid, shown.sam_pixels())
        for rows, index, prompts in zip(
            met, (batch.region_image, torch.arange(3)), (batch.region_prompts, batch.image_prompts), strict=True
        ):
            tokens = processor.text_inputs([text] * len(index), [count] * len(index))
            segmentation = model.segmentation_tokens(features, index, prompts)
            expected = model.embed(tokens["input_ids"], tokens["attention_mask"], features, index, segmentation)
            torch.testing.assert_close(rows, expected, rtol=0, atol=1e-5)


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


@pytest.mark.parametrize("rule", POSITION_RULES)
def test_pictures_are_read_as_the_embedder_would(processor: VirtueProcessor, rule: str) -> None:
    model: VirtueModel = tiny_model(tiny_config(position_rule=rule))
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
        states = read_images(model, torch.stack(features.visual)[index], features.grids[0], segmentation)
    assert states.shape == (3, segmentation.shape[1] + len(features.visual[0]) + 1, WIDTH)
    torch.testing.assert_close(unit(states[:, -1]), expected, rtol=0, atol=1e-5)


def test_pictures_without_segmentation_tokens_are_read_as_the_embedder_would(processor: VirtueProcessor) -> None:
    model: VirtueModel = tiny_model(tiny_config())
    inputs = processor.image_inputs([picture(90, 70)])
    count = processor.image_token_counts(inputs["image_grid_thw"])
    tokens = processor.text_inputs([processor.render(Item(image=picture(90, 70)))], count)
    with torch.no_grad():
        features = model.encode_images(**inputs)
        expected = model.embed(tokens["input_ids"], tokens["attention_mask"], features, torch.tensor([0]))
        states = read_images(model, torch.stack(features.visual), features.grids[0], torch.zeros(1, 0, WIDTH))
    torch.testing.assert_close(unit(states[:, -1]), expected, rtol=0, atol=1e-5)


def test_texts_are_embedded_as_the_embedder_would(processor: VirtueProcessor) -> None:
    model: VirtueModel = tiny_model(tiny_config())
    texts = ["a dog", "a small cat to the left of a house", "b"]
    tokens = processor.text_inputs([processor.render(Item(text=text)) for text in texts], [0] * 3)
    with torch.no_grad():
        rows = embed_texts(model, tokens)
        expected = model.embed(tokens["input_ids"], tokens["attention_mask"])
    torch.testing.assert_close(rows, expected, rtol=0, atol=1e-5)


def test_unit_rows_are_in_full_precision() -> None:
    rows = unit(torch.tensor([[3.0, 4.0]], dtype=torch.bfloat16))
    assert rows.dtype == torch.float32
    assert torch.allclose(rows, torch.tensor([[0.6, 0.8]]))
