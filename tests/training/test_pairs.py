import numpy as np
import pytest
import torch
from PIL import Image

from virtue.model import VirtueProcessor
from virtue.model.segmentation import SamPrompts
from virtue.scenes.captions import Query, matches, region_samples
from virtue.scenes.renderer import Scene, SceneObject, render
from virtue.scenes.vocabulary import (
    OBJECTS,
    PLACE_WORDINGS,
    PLACES,
    RELATION_WORDINGS,
    RELATIONS,
    held_out_objects,
    held_out_places,
    noun_phrase,
    opposite,
    place_id,
)
from virtue.training.meetings import Meetings
from virtue.training.pairs import Batch, Batches, everywhere, to_device

NOTHING = len(OBJECTS)
IMAGES, ROWS, DISTRACTORS = 6, 3, 4
STEPS = (0, 6, 7)  # square, wide and high pictures


@pytest.fixture(scope="module")
def batches(processor: VirtueProcessor) -> Batches:
    return Batches(processor, IMAGES, ROWS, DISTRACTORS, seed=0, pixels=False)


@pytest.fixture(scope="module", params=STEPS)
def shown(request: pytest.FixtureRequest, batches: Batches) -> tuple[list[Scene], Batch]:
    """The scenes of a step, drawn again, and its batch."""
    step = request.param
    width, height = {0: (256, 256), 6: (320, 240), 7: (240, 320)}[step]
    return [render(step * IMAGES + i, "train", width, height) for i in range(IMAGES)], batches(step)


def pointed_at(scenes: list[Scene], batch: Batch) -> list[tuple[Scene, SceneObject]]:
    """Each region row's scene and object, found by its mask."""
    found = []
    for image, mask in zip(batch.region_image.tolist(), batch.masks.numpy(), strict=True):
        (thing,) = (thing for thing in scenes[image].objects if np.array_equal(thing.mask, mask))
        found.append((scenes[image], thing))
    return found


def stands(a: SceneObject, relation: str, b: SceneObject) -> bool:
    """Whether a is so related to b, by the boxes alone."""
    (ax, ay), (bx, by) = (((o.box[0] + o.box[2]) / 2, (o.box[1] + o.box[3]) / 2) for o in (a, b))
    if relation in ("left of", "right of"):
        return abs(ax - bx) > 1.3 * abs(ay - by) and (ax < bx) == (relation == "left of")
    if relation in ("above", "below"):
        return abs(ay - by) > 1.3 * abs(ax - bx) and (ay < by) == (relation == "above")
    sides = [min(a.box[k + 2], b.box[k + 2]) - max(a.box[k], b.box[k]) for k in (0, 1)]
    smaller = min((o.box[2] - o.box[0]) * (o.box[3] - o.box[1]) for o in (a, b))
    overlaps = min(sides) > 0 and sides[0] * sides[1] > 0.2 * smaller
    return overlaps and (a.index > b.index) == (relation == "in front of")


def is_true(said: list[int], scene: Scene, thing: SceneObject) -> bool:
    """Whether a region text that says these elements is true of an object of a scene."""
    name, relation, other, place = said
    related = relation < 0 or any(
        stands(thing, RELATIONS[relation], neighbour)
        for neighbour in scene.objects
        if neighbour.index != thing.index and neighbour.name == OBJECTS[other].name
    )
    return OBJECTS[name].name == thing.name and (place < 0 or PLACES[place] == scene.place) and related


def texts_of(processor: VirtueProcessor, tokens: dict[str, torch.Tensor]) -> list[str]:
    return list(processor.tokenizer.batch_decode(tokens["input_ids"], skip_special_tokens=True))


def test_a_region_text_is_true_of_a_row_when_all_that_it_says_is(shown: tuple[list[Scene], Batch]) -> None:
    scenes, batch = shown
    rows, said = pointed_at(scenes, batch), batch.region_elements.tolist()
    expected = [[is_true(text, scene, thing) for text in said] for scene, thing in rows]
    assert batch.region_truth.tolist() == expected


def test_each_rows_own_caption_is_true_and_its_distractors_are_not(shown: tuple[list[Scene], Batch]) -> None:
    _, batch = shown
    rows = len(batch.masks)
    assert len(batch.region_elements) == rows * (1 + DISTRACTORS)
    own = torch.arange(rows)
    assert batch.region_truth[own, own].all()
    for row in range(rows):
        first = rows + row * DISTRACTORS
        assert not batch.region_truth[row, first : first + DISTRACTORS].any()


def test_the_opposite_relation_is_always_among_the_distractors(shown: tuple[list[Scene], Batch]) -> None:
    scenes, batch = shown
    said = batch.region_elements.tolist()
    for row, (scene, thing) in enumerate(pointed_at(scenes, batch)):
        name, relation, other, place = said[len(batch.masks) + row * DISTRACTORS]
        assert (OBJECTS[name].name, PLACES[place]) == (thing.name, scene.place)
        assert is_true([name, RELATIONS.index(opposite(RELATIONS[relation])), other, place], scene, thing)


def test_an_image_text_is_true_of_a_picture_that_shows_what_it_names(shown: tuple[list[Scene], Batch]) -> None:
    scenes, batch = shown
    queries = [
        Query("", frozenset(OBJECTS[k].name for k in torch.nonzero(named).flatten().tolist()), place)
        for named, place in zip(
            batch.mentioned,
            [None if place < 0 else PLACES[place] for place in batch.image_text_place.tolist()],
            strict=True,
        )
    ]
    expected = [[matches(query, scene) for query in queries] for scene in scenes]
    assert batch.image_truth.tolist() == expected
    assert batch.image_truth.diagonal().all()


def test_texts_say_their_elements(processor: VirtueProcessor, shown: tuple[list[Scene], Batch]) -> None:
    _, batch = shown
    for text, said in zip(texts_of(processor, batch.region_texts), batch.region_elements.tolist(), strict=True):
        assert_says(text, said)
    image_texts = texts_of(processor, batch.image_texts)
    for text, named, place in zip(image_texts, batch.mentioned, batch.image_text_place.tolist(), strict=True):
        assert all(OBJECTS[k].name in text for k in torch.nonzero(named).flatten().tolist())
        assert bool(named.any()) or place >= 0


def assert_says(text: str, said: list[int]) -> None:
    name, relation, other, place = said
    assert OBJECTS[name].name in text
    if relation >= 0:
        assert any(words in text for words in RELATION_WORDINGS[RELATIONS[relation]])
        assert noun_phrase(OBJECTS[other].name) in text
    if place >= 0:
        assert any(words in text for words in PLACE_WORDINGS[PLACES[place]])
    if relation < 0 and place < 0:
        assert text in (OBJECTS[name].name, noun_phrase(OBJECTS[name].name))


def test_true_texts_never_hold_a_held_out_pair(batches: Batches) -> None:
    places, objects = held_out_places(), held_out_objects()
    for step in range(3):
        batch = batches(step)
        for name, _, other, place in batch.region_elements[: len(batch.masks)].tolist():
            assert place < 0 or not places[name, place]
            assert other < 0 or not objects[name, other]
            assert place < 0 or other < 0 or not places[other, place]
        for named, place in zip(batch.mentioned, batch.image_text_place.tolist(), strict=True):
            names = torch.nonzero(named).flatten().numpy()
            assert place < 0 or not places[names, place].any()
            assert not objects[np.ix_(names, names)].any()


def test_a_step_has_as_many_rows_as_any_other(processor: VirtueProcessor) -> None:
    """Even one whose scenes have too few to show: some come twice."""
    for step in range(6):
        batch = Batches(processor, 1, 6, 2, seed=4, pixels=False)(step)
        assert len(batch.region_image) == 6
        assert batch.region_truth.shape == (6, 18)
        assert batch.region_texts["input_ids"].shape[1] % 4 == 0
        twice = batch.region_elements[:6, 0]
        assert len(twice.unique()) <= int(batch.present.sum())


def test_a_batch_describes_its_scenes(processor: VirtueProcessor, shown: tuple[list[Scene], Batch]) -> None:
    scenes, batch = shown
    for i, scene in enumerate(scenes):
        names = {thing.name for thing in scene.objects}
        assert {OBJECTS[k].name for k in torch.nonzero(batch.present[i]).flatten().tolist()} == names
        assert batch.place[i] == place_id(scene.place)
        covered = np.any([thing.mask for thing in scene.objects], axis=0)
        assert np.array_equal(batch.everything[i].numpy() != NOTHING, covered)
    for row, (scene, thing) in enumerate(pointed_at(scenes, batch)):
        assert OBJECTS[int(batch.region_elements[row, 0])].name == thing.name
        classes = batch.everything[batch.region_image[row]][batch.masks[row]]
        assert set(classes.tolist()) == {int(batch.region_elements[row, 0])}, scene.seed
    counts = torch.bincount(batch.region_image, minlength=IMAGES)
    assert counts.sum() == IMAGES * ROWS  # as many in every step
    for count, scene in zip(counts.tolist(), scenes, strict=True):
        assert count >= min(ROWS, len(region_samples(scene, np.random.default_rng(0))))
    assert len(batch.region_prompts.points) == len(batch.masks)
    assert len(batch.image_prompts.points) == len(batch.image_texts["input_ids"]) == IMAGES


def test_pictures_are_read_when_pixels_are_wanted(processor: VirtueProcessor, batches: Batches) -> None:
    batch = Batches(processor, IMAGES, ROWS, DISTRACTORS, seed=0)(6)
    pictures = [Image.fromarray(render(6 * IMAGES + i, "train", 320, 240).image) for i in range(IMAGES)]
    assert batch.pictures is not None
    assert torch.equal(batch.pictures.sam_pixels(), processor.image_inputs(pictures)["sam_pixel_values"])
    assert batches(6).pictures is None
    assert batches(6).grid == batch.grid == batch.pictures.grid


def test_scenes_are_of_the_sizes_asked_for_in_turn(processor: VirtueProcessor) -> None:
    batches = Batches(processor, 1, ROWS, DISTRACTORS, seed=0, pixels=False)
    batches.sizes = ((64, 96), (128, 32))
    assert [tuple(batches(step).masks.shape[1:]) for step in range(3)] == [(96, 64), (32, 128), (96, 64)]


def test_scenes_are_as_crowded_as_asked_for(processor: VirtueProcessor) -> None:
    for near in (0.0, 1.0):
        batch = Batches(processor, 2, ROWS, DISTRACTORS, seed=0, pixels=False, near=near)(0)
        scenes = [render(seed, near=near) for seed in range(2)]
        covered = [np.any([thing.mask for thing in scene.objects], axis=0) for scene in scenes]
        assert np.array_equal(batch.everything.numpy() != NOTHING, np.stack(covered))


def test_meetings_are_those_of_the_rows_objects(shown: tuple[list[Scene], Batch]) -> None:
    scenes, batch = shown
    expected = Meetings.of([(scene, thing.index) for scene, thing in pointed_at(scenes, batch)])
    assert len(expected.rows) > 0
    for name in ("rows", "ours", "theirs", "in_front"):
        assert torch.equal(getattr(batch.meetings, name), getattr(expected, name))
    relation = RELATIONS.index("in front of")
    assert set(batch.meetings.rows[batch.meetings.in_front].tolist()) == set(
        torch.nonzero(batch.related[:, relation].any(1)).flatten().tolist()
    )


def tensors(batch: Batch) -> list[torch.Tensor]:
    prompts = [batch.region_prompts.points, batch.region_prompts.labels, batch.image_prompts.points]
    texts = [batch.region_texts["input_ids"], batch.image_texts["input_ids"]]
    return [
        *prompts,
        *texts,
        batch.region_truth,
        batch.region_elements,
        batch.everything,
        batch.masks,
        batch.meetings.theirs,
    ]


def test_a_batch_follows_from_seed_rank_and_step(processor: VirtueProcessor) -> None:
    def drawn(step: int, seed: int = 0, rank: int = 0) -> Batch:
        return Batches(processor, 2, ROWS, DISTRACTORS, seed, rank, world=2, pixels=False)(step)

    first = drawn(1)
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(drawn(1)), strict=True))
    for other in (drawn(2), drawn(1, seed=1), drawn(1, rank=1)):
        assert not torch.equal(first.everything, other.everything)


def test_processes_share_the_scenes_out_without_overlap(
    processor: VirtueProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    def draw(seed: int, split: str, width: int, height: int, near: float) -> Scene:
        drawn.append(seed)
        return scene

    scene = render(0)
    monkeypatch.setattr("virtue.training.pairs.render", draw)
    for step in range(2):
        for rank in range(2):
            Batches(processor, 2, ROWS, DISTRACTORS, 0, rank, world=2, pixels=False)(step)
    assert drawn == list(range(8))


def test_texts_alone_say_their_elements(processor: VirtueProcessor, batches: Batches) -> None:
    tokens, said = batches.texts(0, 40)
    assert said.shape == (40, 4)
    for text, elements in zip(texts_of(processor, tokens), said.tolist(), strict=True):
        assert_says(text, elements)
    again, same = batches.texts(0, 40)
    assert torch.equal(tokens["input_ids"], again["input_ids"])
    assert torch.equal(said, same)
    assert not torch.equal(said, batches.texts(1, 40)[1])


def test_everything_of_a_batch_moves_to_the_device(batches: Batches) -> None:
    moved = to_device(batches(0), torch.device("meta"))
    assert isinstance(moved, Batch)
    assert all(tensor.device.type == "meta" for tensor in tensors(moved))


def test_what_holds_tensors_keeps_its_shape_when_they_change() -> None:
    prompts = SamPrompts(torch.zeros(1, 1, 2), torch.ones(1, 1))
    values = {"prompts": prompts, "pair": (torch.zeros(2), 0.5), "none": None}
    changed = everywhere(values, lambda tensor: tensor + 1)
    assert changed["prompts"].points.tolist() == [[[1, 1]]]
    assert (changed["pair"][0].tolist(), *changed["pair"][1:], changed["none"]) == ([1, 1], 0.5, None)
    assert prompts.points.sum() == 0  # the values themselves stay


def test_tuples_move_to_the_device_too() -> None:
    prompts = SamPrompts(torch.zeros(1, 1, 2), torch.ones(1, 1))
    tokens, moved, none = to_device(({"ids": torch.zeros(2)}, prompts, None), torch.device("meta"))
    assert {tokens["ids"].device.type, moved.points.device.type, moved.labels.device.type} == {"meta"}
    assert none is None
