from collections import Counter

import numpy as np
import pytest

from virtue.evaluation.benchmarks.region_questions import Question, pictures_of, question_of, questions
from virtue.evaluation.benchmarks.region_to_image import caption_elements, region_to_image, region_to_image_from_scar
from virtue.evaluation.tasks import Task
from virtue.items import Item
from virtue.prompts import Box
from virtue.scenes.captions import caption_rng, region_samples
from virtue.scenes.composing import holds
from virtue.scenes.guesser import Guesser, commonest_words_accuracy
from virtue.scenes.region_captions import KINDS, Elements, RegionSample, region_caption
from virtue.scenes.renderer import Scene, render, scenes
from virtue.scenes.vocabulary import OBJECTS, PLACES, RELATION_AXES, RELATIONS, opposite

SEED = 40


@pytest.fixture(scope="module")
def asked() -> list[Question]:
    return questions(25, SEED)  # 50 queries


@pytest.fixture(scope="module")
def drawn(asked: list[Question]) -> list[list[Scene]]:
    return [[picture.scene() for picture in pictures_of(question)] for question in asked]


def shows(scene: Scene, elements: Elements) -> bool:
    words = OBJECTS[elements.object].name, RELATIONS[elements.relation], OBJECTS[elements.other].name
    return holds(scene, *words, PLACES[elements.place])


def test_the_query_pictures_show_both_truths(asked: list[Question]) -> None:
    for question in asked:
        scene = render(question.seed, "test")
        first, second = question.truths
        assert shows(scene, first)
        assert shows(scene, second)
        assert [OBJECTS[truth.object].name for truth in question.truths] == [
            scene.objects[region].name for region in question.regions
        ]
        assert (first.other, first.place) == (second.other, second.place)
        assert first.object != second.object
        assert {RELATIONS[truth.relation] for truth in question.truths} <= {
            RELATIONS[first.relation],
            opposite(RELATIONS[first.relation]),
        }


def test_every_candidate_shows_what_it_should_and_only_one_is_right(
    asked: list[Question], drawn: list[list[Scene]]
) -> None:
    for question, pictures in zip(asked, drawn, strict=True):
        for number, picture in enumerate(pictures):
            assert shows(picture, question.shown[number])
        for truth, swaps in zip(question.truths, question.swaps, strict=True):
            assert [shows(picture, truth) for picture in pictures] == [swap == "" for swap in swaps]


def test_no_candidate_shows_the_other_elements_either(asked: list[Question], drawn: list[list[Scene]]) -> None:
    for question, pictures in zip(asked, drawn, strict=True):
        relations, objects = ({getattr(own, slot) for own in question.shown} for slot in ("relation", "object"))
        for own, picture in zip(question.shown, pictures, strict=True):
            names = {thing.name for thing in picture.objects}
            assert names & {OBJECTS[number].name for number in objects} == {OBJECTS[own.object].name}
            for relation in relations - {own.relation}:
                assert not holds(
                    picture, OBJECTS[own.object].name, RELATIONS[relation], OBJECTS[own.other].name, picture.place
                )


def test_bystanders_are_new(asked: list[Question]) -> None:
    counts: Counter[int] = Counter()
    for question in asked:
        there = {thing.name for thing in render(question.seed, "test").objects}
        for wish in question.wishes:
            bystanders = set(wish.names) - {wish.shown[0], wish.shown[2]}
            counts[len(bystanders)] += 1
            assert not bystanders & there
    assert set(counts) == {0, 1, 2, 3}


def test_the_ten_are_the_eight_corners_and_two_more(asked: list[Question]) -> None:
    for question in asked:
        first, second = question.truths
        assert len(set(question.shown)) == len(question.shown) == 10
        for slot, most in (("object", {5, 4, 1}), ("relation", {5, 4, 1}), ("place", {4, 5, 6})):
            counts = Counter(getattr(own, slot) for own in question.shown)
            assert set(counts.values()) <= most
        assert set(question.truths) < set(question.shown)
        assert {own.other for own in question.shown} == {first.other}
        third = next(own for own, swap in zip(question.shown, question.swaps[0], strict=True) if swap == "relation")
        assert third.relation != first.relation
        assert Counter(RELATIONS[own.relation] in axis_of(first) for own in question.shown)[False] == 1
        assert second.object in {own.object for own in question.shown}


def axis_of(truth: Elements) -> tuple[str, ...]:
    return next(phrases for phrases in RELATION_AXES.values() if RELATIONS[truth.relation] in phrases)


def test_three_are_swapped_of_each_kind(asked: list[Question]) -> None:
    slots = {"object": "object", "relation": "relation", "scene": "place"}
    for question in asked:
        for truth, swaps in zip(question.truths, question.swaps, strict=True):
            assert Counter(swaps) == {"": 1, "object": 3, "relation": 3, "scene": 3}
            for own, swap in zip(question.shown, swaps, strict=True):
                assert (own == truth) == (swap == "")
                assert not swap or getattr(own, slots[swap]) != getattr(truth, slots[swap])


def test_who_sees_only_the_ten_pictures_gets_one_of_eight() -> None:
    """The guesser of captions knows of every picture exactly what it shows, and nothing of the query."""
    found = questions(300, 0)
    samples = [as_captions(question, query) for question in found for query in (0, 1)]
    learnt, measured = samples[:300], samples[300:]
    assert Guesser().fit(learnt).accuracy(measured) < 1 / 8 + 0.06  # three standard errors
    assert commonest_words_accuracy(samples) < 1 / 8 + 0.04


def as_captions(question: Question, query: int) -> RegionSample:
    """A query's ten pictures as ten captions, the right one first and the others by kind."""
    swaps = question.swaps[query]
    order = sorted(range(10), key=lambda i: ("", "object", "relation", "scene").index(swaps[i]))
    elements = [question.shown[i] for i in order]
    texts = [region_caption(own) for own in elements]
    return RegionSample(question.regions[query], texts[0], tuple(texts[1:]), KINDS, elements[0], tuple(elements[1:]))


def test_questions_are_of_test_scenes_alone(asked: list[Question]) -> None:
    assert [question.seed for question in asked] == sorted({question.seed for question in asked})
    assert all(
        scene.split == "test" for question in asked[:2] for scene in map(lambda one: one.scene(), pictures_of(question))
    )
    assert questions(3, SEED) == asked[:3]


def test_a_scene_may_ask_nothing() -> None:
    without = next(one for one in scenes("test", 0) if len(one.objects) == 2)
    assert question_of(without) is None
    assert region_samples(without, caption_rng(without))


def test_the_two_tasks(asked: list[Question]) -> None:
    own, everywhere = region_to_image(3, SEED)
    assert (own.name, everywhere.name) == ("scenes/region-to-image", "scenes/region-to-image-global")
    assert len(own.queries) == 6
    assert len(own.candidates) == 30
    assert [own.listed(number).tolist() for number in (0, 1, 2)] == [[*range(10)], [*range(10)], [*range(10, 20)]]
    assert own.swaps == [swaps for question in asked[:3] for swaps in question.swaps]
    for number, right in enumerate(own.relevant):
        question = asked[number // 2]
        shown = question.shown[right[0] - 10 * (number // 2)]
        assert [len(right), shown] == [1, question.truths[number % 2]]
        assert own.queries[number].prompt == Box(
            *render(question.seed, "test").objects[question.regions[number % 2]].box
        )
    assert own.relevant[0].tolist() != own.relevant[1].tolist()
    assert everywhere.lists is None
    assert [right.tolist() for right in everywhere.relevant] == [right.tolist() for right in own.relevant]
    assert own.groups == [str(asked[number // 2].seed) for number in range(6)]


def test_who_does_not_look_at_the_region_gets_half_at_most() -> None:
    own = region_to_image(8, SEED, shown="none")[0]
    assert all(own.queries[number].prompt is None for number in range(16))
    for best in range(10):  # whichever of its ten pictures such a model likes best
        right = [own.listed(number)[best] in own.relevant[number] for number in range(16)]
        assert all(sum(right[number : number + 2]) <= 1 for number in range(0, 16, 2))


def test_every_picture_that_holds_the_elements_is_right_globally() -> None:
    """Compared with drawing everything."""
    own, everywhere = region_to_image(4, SEED)
    asked = questions(4, SEED)
    truths = [truth for question in asked for truth in question.truths]
    pictures = [picture.scene() for question in asked for picture in pictures_of(question)]
    for truth, right in zip(truths, everywhere.relevant, strict=True):
        assert right.tolist() == [number for number, picture in enumerate(pictures) if shows(picture, truth)]
    assert own.lists is not None


def test_strangers_may_be_right(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [questions(1, SEED)[0]] * 2  # the same question again: its right pictures are right for both
    monkeypatch.setattr("virtue.evaluation.benchmarks.region_to_image.questions", lambda count, seed: asked)
    own, everywhere = region_to_image(2, SEED)
    first = own.relevant[0][0]
    assert everywhere.relevant[0].tolist() == everywhere.relevant[2].tolist() == [first, first + 10]


def test_nothing_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="0 pictures ask nothing; take 1 or more"):
        region_to_image(0)
    with pytest.raises(ValueError, match="A region is shown as box, point, mask, none"):
        region_to_image(1, shown="ring")


# Photographs

FORK = {
    "scene": ("salad fork on kitchen counter", "salad fork on picnic blanket", "salad fork on wooden deck"),
    "relation": (
        "salad fork balanced on the edge of the table",
        "salad fork under the napkin on the table",
        "salad fork tucked beside the glass on the table",
    ),
    "object": ("butter knife on table", "teaspoon on table", "wine glass on table"),
}


def test_captions_tell_their_elements() -> None:
    assert caption_elements("salad fork on table", FORK) == ("salad fork", "table")
    assert caption_elements("Salad fork on the table.", FORK) == ("salad fork", "table")


def test_where_swaps_do_not_tell_there_are_no_elements() -> None:
    assert caption_elements("salad fork on table", {**FORK, "scene": ()}) is None
    assert caption_elements("salad fork on table", {**FORK, "scene": ("wine on table",)}) is None
    assert caption_elements("fork on table", {**FORK, "object": ("salad fork on table",)}) is None  # nothing replaced


def test_captions_of_the_drawn_world_tell_their_elements() -> None:
    told = []
    for scene in scenes("test", 0, 30):
        for sample in region_samples(scene, caption_rng(scene)):
            swapped = {
                "scene" if kind == "place" else kind: [
                    text for text, own in zip(sample.distractors, sample.kinds, strict=True) if own == kind
                ]
                for kind in KINDS
            }
            elements = caption_elements(sample.caption, swapped)
            thing, place = OBJECTS[sample.elements.object].name, PLACES[sample.elements.place]
            told.append(elements == (thing, place.removeprefix("on ").removeprefix("in ").removeprefix("a ")))
    assert np.mean(told) > 0.8


def photographs(*rows: tuple[str, str, str], swaps: bool = True) -> Task:
    """Regions of photographs, each given by its image, its object and its scene; captions are swapped in all slots."""
    queries, lists, texts = [], [], []
    for image, thing, scene in rows:
        ten = [f"{thing} on {scene}", *(f"{other} on {scene}" for other in ("ape", "bee", "cow"))]
        ten += [f"{thing} {relation} {scene}" for relation in ("under", "beside", "behind")]
        ten += [f"{thing} on {other}" for other in ("mars", "venus", "pluto")]
        lists.append(np.arange(len(texts), len(texts) + len(ten)))
        texts += ten
        queries.append(Item(image=image, prompt=Box(0, 0, 5, 5), text="Find the caption."))
    kinds = ["", *["object"] * 3, *["relation"] * 3, *["scene"] * 3]
    return Task(
        name="scar/Photographs",
        queries=queries,
        candidates=[Item(text=text) for text in texts],
        relevant=[own[:1] for own in lists],
        lists=lists,
        swaps=[kinds] * len(rows) if swaps else None,
        groups=[image for image, _, _ in rows],
        tags={"size": ["small"] * len(rows)},
        missing={"missing image": 2},
    )


def test_photographs_of_the_same_thing_in_the_same_place_are_right() -> None:
    own, everywhere = region_to_image_from_scar(
        photographs(
            ("a.png", "dog", "sofa"),
            ("b.png", "dog", "sofa"),
            ("c.png", "dog", "road"),
            ("d.png", "cat", "sofa"),
            ("e.png", "cat", "road"),
            ("f.png", "dog", "road"),  # has the dog on the road and the cat on the sofa: no dog on the sofa, maybe
            ("f.png", "cat", "sofa"),
        )
    )
    assert (own.name, everywhere.name) == ("region-to-image/Photographs", "region-to-image/Photographs-global")
    assert [item.image for item in own.candidates] == ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"]
    assert own.ids == ["0", "1", "2", "3", "5", "6"]  # no other cat is on a road
    assert own.missing == everywhere.missing == {"missing image": 2}
    assert own.excluded == {"with unknown elements": 0, "without another image of the same": 1}
    assert own.queries[0].text is None
    assert own.queries[0].prompt == Box(0, 0, 5, 5)
    assert (own.relevant[0].tolist(), set(own.listed(0).tolist())) == ([1], {1, 2, 3})
    assert own.swaps is not None
    assert dict(zip(own.listed(0).tolist(), own.swaps[0], strict=True)) == {1: "", 2: "scene", 3: "object"}
    assert everywhere.listed(0).tolist() == [1, 2, 3, 4]  # neither its own image nor the one that may be right unsaid
    assert everywhere.relevant[0].tolist() == [1]
    assert own.tags == {"size": ["small"] * 6}


def test_all_right_photographs_are_right_globally_and_one_of_them_among_ten() -> None:
    rows = [(f"{number}.png", "dog", "sofa") for number in range(4)]
    rows += [(f"{number}.png", "dog", "road") for number in range(10, 30)]
    rows += [(f"{number}.png", "cat", "sofa") for number in range(30, 50)]
    own, everywhere = region_to_image_from_scar(photographs(*rows))
    assert everywhere.relevant[0].tolist() == [1, 2, 3]
    assert len(everywhere.listed(0)) == 43
    assert own.swaps is not None
    for number in range(4):
        assert set(own.relevant[number]) < set(everywhere.relevant[number])
        assert len(own.listed(number)) == 10
        kinds = Counter(own.swaps[number])
        assert kinds[""] == 1
        assert min(kinds["object"], kinds["scene"]) == 4
    again = region_to_image_from_scar(photographs(*rows))[0]
    assert [right.tolist() for right in again.relevant] == [right.tolist() for right in own.relevant]


def test_a_set_that_tells_nothing_is_refused() -> None:
    message = "has no queries: left out were 2 missing image, 1 with unknown elements"
    with pytest.raises(ValueError, match=message):
        region_to_image_from_scar(photographs(("a.png", "dog", "sofa"), swaps=False))


def test_queries_may_say_something() -> None:
    rows = ("a.png", "dog", "sofa"), ("b.png", "dog", "sofa"), ("c.png", "dog", "road")
    own = region_to_image_from_scar(photographs(*rows), text="Find such a thing in such a place.")[0]
    assert {query.text for query in own.queries} == {"Find such a thing in such a place."}
