"""Two stand-ins for a model: one that knows everything and one that knows nothing; both figures follow by hand."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from virtue.evaluation.scenes import Report, interior_point, measure, visual_prompt
from virtue.prompts import AnyPrompt, Point, as_visual_prompt
from virtue.scenes.captions import canonical_caption, caption_rng, region_samples
from virtue.scenes.renderer import Scene, SceneObject, render, scenes
from virtue.scenes.vocabulary import RELATION_AXES, RELATIONS

COUNT, SEED = 12, 5
Vectors = NDArray[np.float32]


def vector_of(text: str) -> Vectors:
    """A random direction that belongs to the text, (256,)."""
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    vector = np.random.default_rng(seed).normal(size=256)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class Knowing:
    """Recognises a scene by its pixels, and gives a region the vector of its caption."""

    name = "knowing"

    def __init__(self) -> None:
        self.scenes = {scene.image.tobytes(): scene for scene in scenes("test", SEED, COUNT)}

    def encode(self, inputs: list[str] | list[Image.Image], *, batch_size: int = 32) -> Vectors:
        return np.stack([vector_of(value if isinstance(value, str) else str(value.size)) for value in inputs])

    def open(self, image: Image.Image) -> "KnowingView":
        return KnowingView(self.scenes[image.tobytes()])


class KnowingView:
    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.samples = {sample.object_index: sample for sample in region_samples(scene, caption_rng(scene))}

    def encode(self, prompts: list[AnyPrompt | None]) -> Vectors:
        scene, samples = self.scene, self.samples
        texts = [
            canonical_caption(scene) if prompt is None else samples[self._meant(prompt).index].caption
            for prompt in prompts
        ]
        return np.stack([vector_of(text) for text in texts])

    def masks(self, prompts: list[AnyPrompt]) -> tuple[NDArray[np.bool_], Vectors]:
        return np.stack([self._meant(prompt).mask for prompt in prompts]), np.ones(len(prompts), np.float32)

    def _meant(self, prompt: AnyPrompt) -> SceneObject:
        asked = as_visual_prompt(prompt, 256, 256)
        for thing in self.scene.objects:
            if asked.mask is not None and np.array_equal(asked.mask.array, thing.mask):
                return thing
            if asked.box is not None and (asked.box.x1, asked.box.y1, asked.box.x2, asked.box.y2) == thing.box:
                return thing
            if asked.points and thing.mask[int(asked.points[0].y), int(asked.points[0].x)]:
                return thing
        raise AssertionError(f"{prompt} shows no object")


class Blind(Knowing):
    """Gives everything the same vector and no mask a pixel."""

    name = "blind"

    def encode(self, inputs: list[str] | list[Image.Image], *, batch_size: int = 32) -> Vectors:
        return np.ones((len(inputs), 1), np.float32)

    def open(self, image: Image.Image) -> "BlindView":
        return BlindView()


class BlindView:
    def encode(self, prompts: list[AnyPrompt | None]) -> Vectors:
        return np.ones((len(prompts), 1), np.float32)

    def masks(self, prompts: list[AnyPrompt]) -> tuple[NDArray[np.bool_], Vectors]:
        return np.zeros((len(prompts), 256, 256), bool), np.ones(len(prompts), np.float32)


@pytest.fixture(scope="module")
def known() -> Report:
    return measure(Knowing(), COUNT, SEED)


@pytest.fixture(scope="module")
def blind() -> Report:
    return measure(Blind(), COUNT, SEED)


@pytest.mark.parametrize("region", ["box", "point", "mask"])
def test_who_knows_the_regions_gets_all_captions_right(known: Report, region: str) -> None:
    assert {kind: figure.mean for kind, figure in known.accuracy[region].items()} == dict.fromkeys(
        ("all", "object", "relation", "place"), 1
    )
    assert known.mask_overlap[region].mean == 1


def test_relations_are_counted_by_axis(known: Report, blind: Report) -> None:
    assert known.relations["box"].keys() == RELATION_AXES.keys()
    assert {figure.mean for figure in known.relations["box"].values()} == {1}
    assert all(figure.mean == pytest.approx(1 / 4) for figure in blind.relations["mask"].values())
    asked = Counter(
        axis
        for scene in scenes("test", SEED, COUNT)
        for sample in region_samples(scene, caption_rng(scene))
        for axis, phrases in RELATION_AXES.items()
        if RELATIONS[sample.elements.relation] in phrases
    )
    whole = sum(known.relations["none"][axis].mean * count for axis, count in asked.items())
    assert whole == pytest.approx(known.accuracy["none"]["relation"].mean * known.regions)


def test_who_knows_the_captions_finds_the_pictures(known: Report) -> None:
    assert known.recall["1"].mean == known.recall["10"].mean == 1
    assert known.recall["1"].error == 0


def test_a_whole_picture_and_a_crop_tell_no_region(known: Report) -> None:
    assert known.accuracy["none"]["all"].mean < 0.5
    assert known.accuracy["crop"]["all"].mean < 0.5


def test_equal_scores_are_worth_what_guessing_is(blind: Report) -> None:
    for region in blind.accuracy.values():
        assert region["all"].mean == pytest.approx(1 / 10)
        assert region["place"].mean == pytest.approx(1 / 4)
    assert blind.recall["1"].mean == pytest.approx(1 / COUNT)
    assert blind.recall["10"].mean == pytest.approx(10 / COUNT)
    assert blind.mask_overlap["box"].mean == 0


def test_a_report_says_what_was_measured(known: Report) -> None:
    asked = sum(len(region_samples(scene, caption_rng(scene))) for scene in scenes("test", SEED, COUNT))
    assert (known.model, known.scenes, known.seed, known.regions) == ("knowing", COUNT, SEED, asked)
    assert 0 <= known.guesser <= 0.5


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    measure(Blind(), 2, SEED, lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_a_scene_without_relations_asks_for_no_region() -> None:
    asked = [len(region_samples(scene, caption_rng(scene))) for scene in scenes("test", 22, 2)]
    assert asked[0] > 0 == asked[1]
    assert measure(Blind(), 2, 22).regions == asked[0]


def test_one_scene_is_too_few() -> None:
    with pytest.raises(ValueError, match="take 2 or more"):
        measure(Blind(), 1)


def test_the_interior_point_of_a_rectangle_is_its_middle() -> None:
    mask = np.zeros((9, 12), dtype=bool)
    mask[2:7, 3:10] = True  # rows 2 to 6, columns 3 to 9
    assert interior_point(mask) == Point(6.5, 4.5)


def test_the_edge_of_the_picture_is_an_edge() -> None:
    mask = np.ones((3, 5), dtype=bool)
    assert interior_point(mask) == Point(2.5, 1.5)


def test_the_interior_point_lies_inside_a_ring() -> None:
    rows, columns = np.mgrid[:21, :21]
    distance = (rows - 10) ** 2 + (columns - 10) ** 2
    ring = (distance <= 100) & (distance >= 36)
    point = interior_point(ring)
    assert ring[int(point.y), int(point.x)]


def test_visual_prompts_fit_their_objects() -> None:
    for thing in render(SEED, "test").objects:
        for kind in ("box", "point", "mask"):
            assert as_visual_prompt(visual_prompt(kind, thing), 256, 256)
