import io
import pickle
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from virtue.embedder import Embedder
from virtue.evaluation.benchmarks.scene_pictures import ScenePicture, relation_axis
from virtue.evaluation.benchmarks.scene_tasks import SWAPS, scene_tasks
from virtue.evaluation.benchmarks.sizes import size_word
from virtue.evaluation.scenes import measure, visual_prompt
from virtue.evaluation.tasks import Task
from virtue.images import open_image
from virtue.items import Item
from virtue.prompts import Mask, Point, as_visual_prompt
from virtue.scenes.captions import canonical_caption, caption_rng, region_samples
from virtue.scenes.composing import Wish, compose
from virtue.scenes.renderer import render, scenes
from virtue.scenes.vocabulary import RELATIONS

COUNT, SEED = 20, 5


@pytest.fixture(scope="module")
def tasks() -> dict[str, Task]:
    return {task.name: task for task in scene_tasks(COUNT, SEED)}


def hits(task: Task, scores: NDArray[np.float32], swap: str | None = None) -> float:
    """Mean hit@1, among the right one and the distractors of one kind or of all; scores are (Q, N)."""
    right = []
    for number, own in enumerate(scores):
        kinds: Sequence[str] = task.swaps[number] if task.swaps else [swap or ""] * len(task.candidates)
        listed = task.listed(number)[[swap is None or kind in ("", swap) for kind in kinds]]
        right.append(listed[np.argmax(own[listed])] in task.relevant[number])
    return float(np.mean(right))


def test_the_four_tasks(tasks: dict[str, Task]) -> None:
    regions = sum(len(region_samples(scene, caption_rng(scene))) for scene in scenes("test", SEED, COUNT))
    sizes = {name: (len(task.queries), len(task.candidates)) for name, task in tasks.items()}
    captions = sizes["scenes/region-to-caption"][1]
    assert sizes == {
        "scenes/region-to-caption": (regions, captions),
        "scenes/text-to-image": (COUNT, COUNT),
        "scenes/region-to-image": (8, 40),  # a fifth of the pictures, two queries and ten candidates each
        "scenes/region-to-image-global": (8, 40),
    }
    assert regions < captions <= 10 * regions
    assert not any(task.is_partial for task in tasks.values())


def test_captions_are_those_of_the_scenes(tasks: dict[str, Task]) -> None:
    task = tasks["scenes/region-to-caption"]
    asked = [(scene, one) for scene in scenes("test", SEED, COUNT) for one in region_samples(scene, caption_rng(scene))]
    texts = [item.text for item in task.candidates]
    assert len(set(texts)) == len(texts)
    for number, (scene, sample) in enumerate(asked):
        assert [texts[place] for place in task.listed(number)] == [sample.caption, *sample.distractors]
        assert [texts[place] for place in task.relevant[number]] == [sample.caption]
        assert task.ids[number] == f"scene {scene.seed} object {sample.object_index}"
        assert task.groups[number] == str(scene.seed)
        thing = scene.objects[sample.object_index]
        assert task.queries[number].prompt == visual_prompt("box", thing)
        assert task.tags["size"][number] == size_word(thing.box, thing.mask.size)
        assert task.tags["relation"][number] == relation_axis(sample.elements.relation)
        assert np.array_equal(np.asarray(open_image(task.queries[number].image)), scene.image)
    assert task.swaps is not None
    assert set(task.swaps) == {("", *["object"] * 3, *["relation"] * 3, *["scene"] * 3)}


def test_pictures_are_found_by_their_captions(tasks: dict[str, Task]) -> None:
    task = tasks["scenes/text-to-image"]
    assert [item.text for item in task.queries] == [canonical_caption(one) for one in scenes("test", SEED, COUNT)]
    assert [right.tolist() for right in task.relevant] == [[place] for place in range(COUNT)]
    assert task.lists is None


def test_figures_agree_with_those_of_measure() -> None:
    nano, few = Embedder.from_pretrained("nano"), 4
    report = measure(nano, few, SEED)
    captions, pictures, *_ = scene_tasks(few, SEED)
    scores, found = (
        nano.encode_query(own.queries) @ nano.encode_document(own.candidates).T for own in (captions, pictures)
    )
    assert hits(captions, scores) == pytest.approx(report.accuracy["box"]["all"].mean)
    for kind, swap in SWAPS.items():
        assert hits(captions, scores, swap) == pytest.approx(report.accuracy["box"][kind].mean)
    assert hits(pictures, found) == pytest.approx(report.recall["1"].mean)


@pytest.mark.parametrize("shown", ["point", "mask"])
def test_regions_are_shown_in_other_ways(shown: str) -> None:
    task = scene_tasks(2, SEED, shown=shown)[0]
    thing = render(SEED, "test").objects[0]
    prompt = task.queries[0].prompt
    assert isinstance(prompt, Point if shown == "point" else Mask)
    assert prompt == visual_prompt(shown, thing)
    as_visual_prompt(prompt, 256, 256)


def test_a_region_may_not_be_shown_at_all() -> None:
    assert {query.prompt for query in scene_tasks(2, SEED, shown="none")[0].queries} == {None}


def test_a_picture_is_read_like_a_file() -> None:
    picture = ScenePicture(SEED)
    for source in (picture, pickle.loads(pickle.dumps(picture))):
        assert np.array_equal(np.asarray(open_image(source)), render(SEED, "test").image)
        with Image.open(io.BytesIO(source.read())) as opened:
            assert (opened.format, opened.size) == ("PPM", (256, 256))


def test_a_composed_picture_is_its_wish() -> None:
    wish = Wish("on a beach", ("cat", "dog"), ("cat", "left of", "dog"))
    assert np.array_equal(np.asarray(open_image(ScenePicture(3, wish))), compose(wish, 3).image)


def test_a_task_holds_no_pixels() -> None:
    task = scene_tasks(2, SEED, shown="mask")[0]
    assert all(len(pickle.dumps(query)) < 1000 for query in task.queries)
    assert isinstance(task.queries[0], Item)


def test_sizes_have_words() -> None:
    def sized(side: int) -> str:
        return size_word((0, 0, side, side), 10_000)

    assert [sized(side) for side in (14, 15, 38, 39)] == ["small", "medium", "medium", "large"]


def test_relations_have_axes() -> None:
    axes = [relation_axis(number) for number in range(len(RELATIONS))]
    assert dict(zip(RELATIONS, axes, strict=True))["behind"] == "depth"
    assert set(axes) == {"sideways", "upright", "depth"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 1}, "1 scenes make no task; take 2 or more"),
        ({"shown": "circle"}, "A region is shown as box, point, mask, none, not as 'circle'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_what_cannot_be_asked_is_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scene_tasks(**{"count": 2, **arguments})  # type: ignore[arg-type]
