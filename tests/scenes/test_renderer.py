import numpy as np
import pytest

from virtue.scenes.renderer import MIN_AREA, Scene, SceneObject, relations_between, render, scenes
from virtue.scenes.vocabulary import is_held_out_objects, is_held_out_pair, opposite


def boxed(index: int, *box: float) -> SceneObject:
    return SceneObject(f"thing {index}", (box[0], box[1], box[2], box[3]), np.zeros((1, 1), dtype=bool), index)


def said(*boxes: tuple[float, float, float, float]) -> set[tuple[int, str, int]]:
    return set(relations_between(tuple(boxed(index, *box) for index, box in enumerate(boxes))))


def test_a_seed_is_a_picture() -> None:
    first, second = render(7), render(7)
    assert np.array_equal(first.image, second.image)
    assert [thing.box for thing in first.objects] == [thing.box for thing in second.objects]
    assert not np.array_equal(first.image, render(8).image)


def test_the_words_of_a_seed_stay_what_they_are() -> None:
    scene = render(0, "test")
    assert (scene.place, [thing.name for thing in scene.objects]) == ("in outer space", ["kangaroo", "owl", "onion"])


def test_the_things_of_a_seed_stay_where_they_are() -> None:
    scene = render(6, width=64, height=64)
    boxes = {thing.name: tuple(map(int, thing.box)) for thing in scene.objects}
    assert boxes == {"laptop": (37, 43, 59, 62), "rocket": (44, 40, 58, 56), "candle": (42, 43, 48, 59)}


def test_splits_draw_different_scenes_from_the_same_seed() -> None:
    assert not np.array_equal(render(3, "train").image, render(3, "test").image)


def test_the_stream_is_the_scenes_of_successive_seeds() -> None:
    stream = scenes("train", 5, width=48, height=32)
    assert [next(stream).seed for _ in range(3)] == [5, 6, 7]
    assert [scene.seed for scene in scenes("test", 2, 2, 48, 32)] == [2, 3]


def test_pictures_have_the_size_asked_for() -> None:
    scene = render(1, width=200, height=120)
    assert scene.image.shape == (120, 200, 3)
    assert scene.image.dtype == np.uint8
    assert {thing.mask.shape for thing in scene.objects} == {(120, 200)}


def test_masks_are_apart_and_boxes_tight(train_scenes: list[Scene]) -> None:
    for scene in train_scenes[:100]:
        assert sum(thing.mask.astype(int) for thing in scene.objects).max() == 1
        for thing in scene.objects:
            rows, columns = np.nonzero(thing.mask)
            assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert thing.mask.sum() >= MIN_AREA * thing.mask.size


def test_scenes_are_as_crowded_as_asked_for() -> None:
    def hiding(near: float) -> int:
        """How often a thing is in front of another, in 40 scenes."""
        drawn = [render(seed, width=64, height=64, near=near) for seed in range(40)]
        return sum(relation == "in front of" for scene in drawn for _, relation, _ in scene.relations)

    assert hiding(near=1.0) > 1.3 * hiding(near=0.0)


def test_a_mask_shows_its_object_and_nothing_else() -> None:
    # Drawn things have some contrast of their own, and the place stays visible around them.
    scene = render(2, "train")
    covered = np.any([thing.mask for thing in scene.objects], axis=0)
    inside = [scene.image[thing.mask].reshape(-1, 3).std(axis=0).max() for thing in scene.objects]
    assert 0.01 < covered.mean() < 0.8
    assert min(inside) > 2


def test_every_scene_has_two_to_five_different_objects(train_scenes: list[Scene]) -> None:
    counts = [len(scene.objects) for scene in train_scenes]
    assert set(counts) == {2, 3, 4, 5}
    assert all(len({thing.name for thing in scene.objects}) == len(scene.objects) for scene in train_scenes)
    assert all([thing.index for thing in scene.objects] == [*range(len(scene.objects))] for scene in train_scenes)


def test_side_by_side_and_one_over_the_other() -> None:
    assert said((0, 0, 10, 10), (20, 0, 30, 10)) == {(0, "left of", 1), (1, "right of", 0)}
    assert said((0, 0, 10, 10), (0, 20, 10, 30)) == {(0, "above", 1), (1, "below", 0)}


def test_nothing_is_said_between_the_cones() -> None:
    assert said((0, 0, 10, 10), (20, 20, 30, 30)) == set()
    assert said((0, 0, 10, 10), (26, 20, 36, 30)) == set()  # |dx| is 1.3 |dy|, not more
    assert said((0, 0, 10, 10), (27, 20, 37, 30)) == {(0, "left of", 1), (1, "right of", 0)}


def test_the_later_drawn_is_in_front_where_a_fifth_is_covered() -> None:
    both = said((0, 0, 10, 10), (7, 0, 17, 10))  # 30 of 100
    assert both == {(0, "left of", 1), (1, "right of", 0), (0, "behind", 1), (1, "in front of", 0)}
    assert said((0, 0, 10, 10), (8, 0, 18, 10)) == {(0, "left of", 1), (1, "right of", 0)}  # 20 of 100, not more


def test_relations_are_said_from_both_sides(train_scenes: list[Scene]) -> None:
    for scene in train_scenes:
        assert {(j, opposite(relation), i) for i, relation, j in scene.relations} == set(scene.relations)


def test_every_relation_occurs_often(train_scenes: list[Scene]) -> None:
    relations = [relation for scene in train_scenes for _, relation, _ in scene.relations]
    assert min(relations.count(relation) for relation in set(relations)) > len(relations) / 20
    assert len(set(relations)) == 6


def held_out_pairs(scene: Scene) -> set[tuple[str, ...]]:
    names = [thing.name for thing in scene.objects]
    pairs = {(name, scene.place) for name in names if is_held_out_pair(name, scene.place)}
    return pairs | {(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if is_held_out_objects(a, b)}


def test_training_never_shows_a_held_out_pair(train_scenes: list[Scene]) -> None:
    assert not any(held_out_pairs(scene) or scene.held_out for scene in train_scenes)


def test_most_test_scenes_show_one_and_say_which(test_scenes: list[Scene]) -> None:
    assert all(set(scene.held_out) == held_out_pairs(scene) for scene in test_scenes)
    assert sum(bool(scene.held_out) for scene in test_scenes) > 0.75 * len(test_scenes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed is -1; it must be 0 or more"),
        ({"seed": 0, "split": "dev"}, "split is 'dev'; it must be 'train' or 'test'"),
        ({"seed": 0, "width": 16}, "16 x 256 pixels is too small; each side must be at least 32"),
        ({"seed": 0, "height": 1025}, "256 x 1025 pixels is too long; one side may be at most 4 times the other"),
        ({"seed": 0, "width": 4097, "height": 4097}, "4097 x 4097 pixels is too large; each side may be at most 4096"),
    ],
)
def test_impossible_scenes_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render(**arguments)


def test_a_thing_darkens_what_lies_behind_it_and_not_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    shaded = render(2, "test")
    monkeypatch.setattr("virtue.scenes.renderer._Shadow.cast", lambda *_: None)
    plain = render(2, "test")
    darker = plain.image.astype(int).sum(axis=2) - shaded.image.astype(int).sum(axis=2)
    front = shaded.objects[-1].mask
    beside = np.roll(front, 6, axis=0) & ~front  # light comes from above
    assert (darker >= 0).all()
    assert darker[beside].mean() > 30
    assert darker[front].mean() < 3
    assert [thing.box for thing in shaded.objects] == [thing.box for thing in plain.objects]
    assert shaded.relations == plain.relations
