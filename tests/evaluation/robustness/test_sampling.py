"""Points of whole pictures: which ones are chosen, and that nine on a grid are what a model does by itself."""

import numpy as np
import pytest
import torch

from tests.tiny import picture, tiny_config, tiny_embedder, tiny_model, tiny_processor
from virtue.embedder import Embedder
from virtue.evaluation.robustness.sampling import (
    CANDIDATES,
    Sampled,
    Way,
    distinct_best,
    grid_points,
    sampling_curves,
    spread_peaks,
    turned_round,
)
from virtue.evaluation.tasks import Task
from virtue.items import Item
from virtue.prompts import Box, Point

PICTURES = [picture(80, 60, 0), picture(60, 90, 1), picture(64, 64, 2)]
WAYS: tuple[Way, ...] = ("grid", "sam", "attention")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return tiny_embedder()


def wholes() -> list[Item]:
    return [Item(image=image) for image in PICTURES]


# The grid


def test_a_grid_has_the_centres_of_its_cells_row_by_row() -> None:
    assert grid_points(1).tolist() == [[0.5, 0.5]]
    assert grid_points(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


@pytest.mark.parametrize("rule", ["image_frame", "released"])
def test_nine_points_on_a_grid_are_the_models_own(rule: str) -> None:
    embedder = tiny_embedder(position_rule=rule)
    own = embedder.encode(wholes())
    assert np.abs(Sampled(embedder, "grid", 9).encode(wholes()) - own).max() < 1e-6
    assert np.abs(Sampled(embedder, "grid", 4).encode(wholes()) - own).max() > 1e-4


def test_nine_points_on_a_grid_are_nanos_own() -> None:
    nano = Embedder.from_pretrained("nano")
    item = Item(image=picture(120, 90))
    assert np.abs(Sampled(nano, "grid", 9).encode([item]) - nano.encode([item])).max() < 1e-6


def test_points_are_not_put_in_words() -> None:
    config = tiny_config(template="released")
    embedder = Embedder(tiny_model(config), tiny_processor(config), name="tiny")
    items = [Item(text="what is this", image=PICTURES[0])]
    assert np.abs(Sampled(embedder, "grid", 9).encode(items) - embedder.encode(items)).max() < 1e-6


# The best masks


def test_of_two_masks_of_one_thing_the_better_is_taken() -> None:
    masks = torch.zeros(4, 10)
    masks[0, :5] = 1
    masks[1, :4] = 1  # four of five pixels shared with the first
    masks[2, 4:8] = 1  # one of eight
    assert distinct_best(masks, torch.tensor([0.9, 0.8, 0.7, 1.0])) == [0, 2]  # the last one is empty
    assert distinct_best(masks, torch.tensor([0.8, 0.9, 0.7, 1.0])) == [1, 2]
    assert distinct_best(torch.zeros(2, 10), torch.tensor([0.1, 0.2])) == [1]


def test_points_of_masks_are_candidates_and_the_best_come_first(embedder: Embedder) -> None:
    item = wholes()[0]
    many = Sampled(embedder, "sam", 6).points(item).points
    few = Sampled(embedder, "sam", 2).points(item).points
    assert many[: len(few)] == few
    centres = {(float(x), float(y)) for x, y in grid_points(CANDIDATES) * PICTURES[0].size}
    assert {(point.x, point.y) for point in many} <= centres


# Where the model looks


def test_peaks_are_spread_before_neighbours_are_taken() -> None:
    heights = np.array([[9, 8, 1, 7], [6, 5, 2, 3]], dtype=np.float32)
    assert spread_peaks(heights).tolist() == [[0, 0], [0, 3], [0, 1], [1, 0], [1, 1], [1, 3], [1, 2], [0, 2]]


def test_points_of_attention_stand_in_cells_of_image_tokens(embedder: Embedder) -> None:
    inputs = embedder.processor.image_inputs([PICTURES[0]])
    _, high, wide = inputs["image_grid_thw"][0].tolist()
    rows, columns = high // 2, wide // 2
    prompt = Sampled(embedder, "attention", 2).points(wholes()[0])
    assert len(prompt.points) == 2
    for point in prompt.points:
        assert (point.x / 80 * columns - 0.5) % 1 == pytest.approx(0)
        assert (point.y / 60 * rows - 0.5) % 1 == pytest.approx(0)


def test_looking_at_attention_leaves_the_model_as_it_was(embedder: Embedder) -> None:
    language_model = embedder.model.vlm.language_model
    usual = language_model.config._attn_implementation
    before = embedder.encode(wholes())
    Sampled(embedder, "attention", 3).encode(wholes())
    assert language_model.config._attn_implementation == usual
    assert not any(layer.self_attn._forward_hooks for layer in language_model.layers)
    assert np.array_equal(embedder.encode(wholes()), before)


@pytest.mark.parametrize("backbone", ["qwen2_5_vl", "qwen3_vl"])
def test_every_backbone_tells_where_it_looks(backbone: str) -> None:
    config = tiny_config(backbone)
    embedder = Embedder(tiny_model(config), tiny_processor(config), name="tiny")
    assert len(Sampled(embedder, "attention", 2).points(wholes()[0]).points) == 2


def test_points_go_by_what_the_last_token_sees() -> None:
    embedder = tiny_embedder()
    item = wholes()[0]
    few = Sampled(embedder, "attention", 1).points(item)
    texts = [Sampled(embedder, "attention", 1).points(Item(text=text, image=item.image)) for text in "abcdefgh"]
    assert len({*texts, few}) > 1


# Items


@pytest.mark.parametrize("way", WAYS)
def test_an_item_counts_for_itself(embedder: Embedder, way: Way) -> None:
    sampled = Sampled(embedder, way, 4)
    items = [*wholes(), Item(text="a dog"), Item(image=PICTURES[0], prompt=Box(1, 1, 20, 20)), Item(image=PICTURES[1])]
    together = sampled.encode_query(items)
    alone = np.concatenate([sampled.encode_document([item]) for item in items])
    assert np.abs(together - alone).max() < 1e-6
    assert np.abs(together[3:5] - embedder.encode(items[3:5])).max() < 1e-6
    assert np.allclose(np.linalg.norm(together, axis=1), 1)


def test_ways_and_counts_are_told_apart(embedder: Embedder) -> None:
    sampled = [Sampled(embedder, way, count) for way in WAYS for count in (1, 4)]
    assert len({each.fingerprint for each in sampled}) == len({each.name for each in sampled}) == 6
    assert sampled[0].name == "tiny, points on a grid: 1"
    assert sampled[0].dimension == embedder.dimension


def test_what_makes_no_sense_is_said(embedder: Embedder) -> None:
    with pytest.raises(ValueError, match="tiny has no segmentation stream, so points make no difference"):
        Sampled(tiny_embedder(sam=False), "grid", 9)
    with pytest.raises(ValueError, match="Points come from grid, sam, attention, not from 'luck'"):
        Sampled(embedder, "luck", 9)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a square number such as 9, not 8"):
        Sampled(embedder, "grid", 8)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        Sampled(embedder, "sam", 0)
    with pytest.raises(ValueError, match="without a picture gets no points"):
        Sampled(embedder, "sam", 1).points(Item(text="a dog"))


# Tasks


def task() -> Task:
    return Task(
        name="test/pictures",
        queries=[Item(text="one"), Item(text="two"), Item(text="three")],
        candidates=wholes(),
        relevant=[np.array([0]), np.array([0, 2]), np.array([2])],
    )


def test_a_task_is_turned_round() -> None:
    turned = turned_round(task())
    assert turned.name == "test/pictures turned round"
    assert [item.image for item in turned.queries] == [PICTURES[0], PICTURES[2]]
    assert [right.tolist() for right in turned.relevant] == [[0, 1], [1, 2]]
    listed = Task("test/lists", [Item(text="a")], wholes(), [np.array([0])], lists=[np.array([0, 1])])
    with pytest.raises(ValueError, match="test/lists ranks each query's own list"):
        turned_round(listed)


def test_curves_over_the_number_of_points(embedder: Embedder) -> None:
    told: list[tuple[int, int]] = []
    found = sampling_curves(
        embedder, task(), counts=(1, 4), resamples=10, progress=lambda done, total: told.append((done, total))
    )
    assert [curve.disturbance for curve in found] == ["points on a grid", "points of SAM masks", "points of attention"]
    for curve in found:
        assert [(point.severity, point.label, point.queries) for point in curve.points] == [(1, "1", 3), (4, "4", 3)]
    assert told == [(number, 6) for number in range(1, 7)]


def test_a_task_needs_whole_pictures(embedder: Embedder) -> None:
    pointed = Task("test/pointed", [Item(image=PICTURES[0], prompt=Point(1, 1))], [Item(text="a")], [np.array([0])])
    with pytest.raises(ValueError, match="test/pointed has no picture without a visual prompt"):
        sampling_curves(embedder, pointed)
    with pytest.raises(ValueError, match="this project's models only"):
        sampling_curves(object(), task())  # type: ignore[arg-type]
