from collections import Counter
from collections.abc import Callable
from dataclasses import astuple, replace

import numpy as np
import pytest

from virtue.scenes.region_captions import KINDS, Elements, RegionSample, region_caption, region_samples, reword
from virtue.scenes.renderer import Scene
from virtue.scenes.vocabulary import (
    OBJECTS,
    PLACES,
    RELATIONS,
    held_out_objects,
    held_out_places,
    object_id,
    opposite,
    place_id,
    relation_id,
)


def test_the_wording_is_scars() -> None:
    elements = Elements(object_id("cat"), relation_id("left of"), object_id("bicycle"), place_id("on a beach"))
    assert region_caption(elements) == "a cat left of a bicycle on a beach"


def test_varied_wordings_mean_the_same() -> None:
    elements = Elements(object_id("cat"), relation_id("above"), object_id("grapes"), place_id("in a forest"))
    texts = {region_caption(elements, np.random.default_rng(seed), "varied") for seed in range(60)}
    assert len(texts) > 15
    assert all("a cat" in text and "grapes" in text and "below" not in text for text in texts)
    with pytest.raises(ValueError, match="needs a random generator"):
        region_caption(elements, wordings="varied")


def pairs(drawn: list[Scene]) -> list[tuple[Scene, RegionSample]]:
    return [(scene, sample) for scene in drawn for sample in region_samples(scene, np.random.default_rng(scene.seed))]


@pytest.fixture(scope="module")
def drawn(train_scenes: list[Scene], test_scenes: list[Scene]) -> list[tuple[Scene, RegionSample]]:
    return pairs(train_scenes[:200] + test_scenes[:200])


def test_each_related_object_gets_one_sample(train_scenes: list[Scene]) -> None:
    for scene in train_scenes[:50]:
        samples = region_samples(scene, np.random.default_rng(0))
        assert [sample.object_index for sample in samples] == sorted({i for i, _, _ in scene.relations})


def test_captions_are_true_of_the_object_pointed_at(drawn: list[tuple[Scene, RegionSample]]) -> None:
    for scene, sample in drawn:
        claim = sample.elements
        names = [thing.name for thing in scene.objects]
        assert names[sample.object_index] == OBJECTS[claim.object].name
        other = names.index(OBJECTS[claim.other].name)
        assert (sample.object_index, RELATIONS[claim.relation], other) in scene.relations
        assert PLACES[claim.place] == scene.place


def test_distractors_are_nine_different_falsehoods_of_the_named_kind(drawn: list[tuple[Scene, RegionSample]]) -> None:
    for scene, sample in drawn:
        assert sample.kinds == KINDS == ("object",) * 3 + ("relation",) * 3 + ("place",) * 3
        assert len({sample.caption, *sample.distractors}) == 10
        other = next(i for i, t in enumerate(scene.objects) if t.name == OBJECTS[sample.elements.other].name)
        true = {relation_id(r) for i, r, j in scene.relations if (i, j) == (sample.object_index, other)}
        for kind, text, claim in zip(sample.kinds, sample.distractors, sample.distractor_elements, strict=True):
            assert text == region_caption(claim)
            assert getattr(claim, kind) != getattr(sample.elements, kind)
            assert claim.other == sample.elements.other != claim.object
            assert kind != "relation" or claim.relation not in true


def test_each_kind_begins_with_a_single_swap_and_the_relations_with_the_opposite(
    drawn: list[tuple[Scene, RegionSample]],
) -> None:
    for _, sample in drawn:
        for first, slot in ((0, 0), (3, 1), (6, 3)):
            same = [
                a == b
                for a, b in zip(astuple(sample.elements), astuple(sample.distractor_elements[first]), strict=True)
            ]
            assert same == [position != slot for position in range(4)]
        assert RELATIONS[sample.distractor_elements[3].relation] == opposite(RELATIONS[sample.elements.relation])


def test_eight_of_the_ten_are_a_full_cross_of_two_objects_two_relations_and_two_places(
    drawn: list[tuple[Scene, RegionSample]],
) -> None:
    for _, sample in drawn:
        claims = [sample.elements, *sample.distractor_elements]
        corners = [claims[i] for i in (0, 1, 2, 4, 5, 7, 8, 9)]
        values = [Counter(column) for column in zip(*(astuple(claim) for claim in corners), strict=True)]
        assert [sorted(value.values()) for value in values] == [[4, 4], [4, 4], [8], [4, 4]]
        assert len(set(corners)) == 8


def test_object_decoys_are_in_the_picture_where_it_has_a_third_object(drawn: list[tuple[Scene, RegionSample]]) -> None:
    for scene, sample in drawn:
        decoy = OBJECTS[sample.distractor_elements[0].object].name
        assert (decoy in {thing.name for thing in scene.objects}) == (len(scene.objects) > 2)


def test_in_training_no_decoy_place_is_given_away_by_being_held_out(train_scenes: list[Scene]) -> None:
    for _, sample in pairs(train_scenes[:200]):
        claims = [sample.elements, *(sample.distractor_elements[i] for i in (0, 1, 3, 4, 6, 7, 8))]
        assert not any(held_out_places()[claim.object, claim.place] for claim in claims)


def test_decoys_are_found_even_where_only_the_truth_is_held_out_so(train_scenes: list[Scene]) -> None:
    both = held_out_places().T.astype(int) @ held_out_objects()  # (places, objects): how many are held out from both
    place, other = np.argwhere(both == 1)[0]
    lonely = np.flatnonzero(held_out_places()[:, place] & held_out_objects()[:, other])[0]
    scene = next(scene for scene in train_scenes if len(scene.objects) == 2 and scene.relations)
    names = (OBJECTS[lonely].name, OBJECTS[other].name)
    things = tuple(replace(thing, name=name) for thing, name in zip(scene.objects, names, strict=True))
    samples = region_samples(replace(scene, objects=things, place=PLACES[place]), np.random.default_rng(0))
    assert [len(set(sample.distractors)) for sample in samples] == [9, 9]


def test_rewording_changes_words_and_nothing_else(
    train_scenes: list[Scene], samples_of: Callable[[list[Scene]], list[RegionSample]]
) -> None:
    sample = samples_of(train_scenes[:3])[0]
    changed = [reword(sample, np.random.default_rng(seed)) for seed in range(5)]
    assert {text.elements for text in changed} == {sample.elements}
    assert {text.distractor_elements for text in changed} == {sample.distractor_elements}
    assert len({text.caption for text in changed}) > 1
