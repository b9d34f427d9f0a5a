from collections import Counter
from dataclasses import replace

import pytest

from tests.curation.made import region, sample
from virtue.curation.checks import check
from virtue.curation.corners import corners, say
from virtue.curation.samples import KINDS, Elements

TRUTH, RIVAL = Elements("dog", "left of a fence", "on a beach"), Elements("cat", "right of", "on a road")
THIRD = Elements("boat", "behind", "in a forest")


def test_all_corners_are_there_and_two_more() -> None:
    made = corners(sample(region(0)))
    said = [d.elements for d in made.distractors]
    eight = {
        Elements(o, r, s)
        for o in (TRUTH.object, RIVAL.object)
        for r in (TRUTH.relation, RIVAL.relation)
        for s in (TRUTH.scene, RIVAL.scene)
    }
    assert {TRUTH, *said} >= eight
    third_object, third_relation = (elements for elements in said if elements not in eight)
    assert third_object.object == THIRD.object and third_relation.relation == THIRD.relation
    assert [d.kind for d in made.distractors] == [kind for kind in KINDS for _ in range(3)]
    assert all(d.text == d.elements.caption() for d in made.distractors)
    assert (made.caption, made.region, made.writer) == (TRUTH.caption(), region(0), "test")
    assert check(made, design="corners") == []


def test_no_element_of_the_truth_stands_out() -> None:
    """Over many regions the truth's elements are said as often as their rivals, but for the truth itself."""
    said = {kind: Counter[str]() for kind in KINDS}
    for number in range(400):
        for distractor in corners(sample(region(number))).distractors:
            for kind in KINDS:
                said[kind][getattr(distractor.elements, kind)] += 1
    for kind in KINDS:
        true, rival = said[kind][getattr(TRUTH, kind)] / 400, said[kind][getattr(RIVAL, kind)] / 400
        # Three of the seven corners and four; a third object or relation stands on either with even odds.
        extra = 1.0 if kind == "scene" else 0.5
        assert true == pytest.approx(3 + extra, abs=0.1)
        assert rival == pytest.approx(4 + extra, abs=0.1)


def test_the_same_seed_and_region_give_the_same() -> None:
    assert corners(sample(region(0)), 3) == corners(sample(region(0)), 3)
    different = {tuple(d.text for d in corners(sample(region(0)), seed).distractors) for seed in range(20)}
    assert len(different) > 5


def test_too_few_swaps() -> None:
    one = sample(region(0))
    few = replace(one, distractors=one.distractors[:4])
    with pytest.raises(ValueError, match="need 2 or more swaps of the relation, and there are 1"):
        corners(few)


def test_captions_may_say_more() -> None:
    said, other = Elements("dog", "on", "beach"), Elements("cat", "under", "tree")
    assert say("A dog that is on a beach.", said, other) == "A cat that is under a tree."
    assert say("dog on beach", said, Elements("dog", "under", "beach")) == "dog under beach"
    assert say("dog on beach", said, said) == "dog on beach"
