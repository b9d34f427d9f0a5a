import pickle

import numpy as np
import pytest
from PIL import Image

from virtue.prompts import VisualPrompt
from virtue.scenes.captions import caption_rng, region_samples
from virtue.scenes.renderer import render
from virtue.training import scene_pairs
from virtue.training.scene_pairs import ScenePairs


def test_a_row_is_a_region_of_its_scene() -> None:
    source = ScenePairs(3, start=10, split="test")
    assert (len(source), source.name) == (3, "scenes test")
    pair = source[2]
    scene = render(12, "test")
    samples = region_samples(scene, caption_rng(scene))
    (sample,) = [sample for sample in samples if sample.caption == pair.positives[0].text]
    thing = scene.objects[sample.object_index]
    assert isinstance(pair.query.image, Image.Image)
    assert np.array_equal(np.asarray(pair.query.image), scene.image)
    assert isinstance(pair.query.prompt, VisualPrompt)
    assert pair.query.prompt.box is not None
    assert pair.query.prompt.mask is not None
    assert (pair.query.prompt.box.x1, pair.query.prompt.box.y2) == (thing.box[0], thing.box[3])
    assert np.array_equal(pair.query.prompt.mask.array, thing.mask)
    assert tuple(item.text for item in pair.negatives) == sample.distractors
    assert (len(pair.negatives), pair.query_negatives, pair.query.text) == (9, (), None)
    assert pair.where == "scenes test row 3 (seed 12)"


def test_rows_are_the_same_each_time_and_in_another_process() -> None:
    source = ScenePairs(4, size=(96, 64), wordings="varied")
    again = pickle.loads(pickle.dumps(source))
    for i in range(4):
        assert source[i].positives[0].text == again[i].positives[0].text
        assert source[i].query.image.size == (96, 64)  # type: ignore[union-attr]
    plain = ScenePairs(4, size=(96, 64))
    assert any(source[i].positives[0].text != plain[i].positives[0].text for i in range(4))
    with pytest.raises(IndexError, match="There is no row 4: they are numbered from 0 to 3"):
        source[4]


def test_a_scene_without_a_region_is_replaced_by_a_far_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def samples(scene, rng, wordings):  # type: ignore[no-untyped-def]
        asked.append(scene.seed)
        return region_samples(scene, rng, wordings) if len(asked) > 2 else []

    monkeypatch.setattr(scene_pairs, "region_samples", samples)
    pair = ScenePairs(1, start=5, size=(64, 64))[0]
    assert asked == [5, 1_000_000_005, 2_000_000_005]
    assert pair.where == "scenes train row 1 (seed 2000000005)"


def test_only_some_objects_are_asked_about() -> None:
    first = render(0, "train", 64, 64).objects[0].name
    pair = ScenePairs(1, size=(64, 64), objects=[first, "dog"])[0]
    text = pair.positives[0].text
    assert text is not None
    assert text.split(" ", 1)[1].startswith((first, "dog"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count must be 1 or more, got 0"),
        ({"count": 1, "start": -1}, "seed is -1"),
        ({"count": 1, "split": "dev"}, "split is 'dev'"),
        ({"count": 1, "size": (16, 16)}, "16 x 16 pixels is too small"),
        ({"count": 1, "wordings": "free"}, "wordings must be 'canonical' or 'varied', got 'free'"),
        ({"count": 1, "objects": ["unicorn horn"]}, "There is no object 'unicorn horn'; the drawn world has "),
        ({"count": 1, "objects": []}, "objects must not be empty; the drawn world has "),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScenePairs(**arguments)  # type: ignore[arg-type]
