import json

import pytest

from tests.curation.made import region, sample
from virtue.curation.samples import Distractor, Elements, Fact, Other, Problem, Region, Sample
from virtue.prompts import Box


def full_region() -> Region:
    return region(
        49,
        segmentation={"size": [48, 64], "counts": "0"},
        caption="a dog next to a boat",
        others=(Other("boat", Box(1, 2, 3.5, 4)),),
        scene=("beach",),
        facts=(Fact("dog", "left of", "boat"),),
    )


def test_a_sample_survives_json() -> None:
    before = sample(full_region(), instructions="distractors.v1", attempts=2)
    assert Sample.from_json(json.loads(json.dumps(before.to_json()))) == before


def test_a_problem_survives_json() -> None:
    for problem in (Problem("synonym", "It is one.", 3), Problem("length", "It is long.")):
        assert Problem.from_json(json.loads(json.dumps(problem.to_json()))) == problem


def test_json_is_plain() -> None:
    value = full_region().to_json()
    assert value["box"] == [4.0, 4.0, 40.0, 30.0]
    assert value["others"] == [{"category": "boat", "box": [1.0, 2.0, 3.5, 4.0]}]
    assert value["facts"] == [{"subject": "dog", "relation": "left of", "object": "boat"}]


def test_a_region_with_a_mask_can_stand_in_a_set() -> None:
    assert len({full_region(), full_region()}) == 1


def test_elements_are_joined_in_their_order() -> None:
    assert Elements("salad fork", "on", "table").caption() == "salad fork on table"
    assert Elements("dog", "", "on a beach").caption() == "dog on a beach"


def test_an_unknown_swap_is_refused() -> None:
    value = {"kind": "place", "elements": {"object": "a", "relation": "b", "scene": "c"}, "text": "a b c"}
    with pytest.raises(ValueError, match="A swap is of kind object, relation, scene, not 'place'"):
        Distractor.from_json(value)
