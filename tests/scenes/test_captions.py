import re
from dataclasses import replace

import numpy as np
import pytest

from virtue.scenes.captions import Query, canonical_caption, caption_rng, matches, scene_caption, short_queries
from virtue.scenes.renderer import Scene, render
from virtue.scenes.vocabulary import OBJECTS, PLACE_WORDINGS, RELATION_WORDINGS, noun_phrase


def with_names(scene: Scene, place: str, *names: str) -> Scene:
    things = tuple(replace(thing, name=name) for thing, name in zip(scene.objects, names, strict=False))
    return replace(scene, objects=things, place=place)


@pytest.fixture
def zoo(train_scenes: list[Scene]) -> Scene:
    three = next(scene for scene in train_scenes if len(scene.objects) == 3)
    return with_names(three, "on a beach", "cat", "bicycle", "apple")


def test_the_canonical_caption_lists_the_objects(zoo: Scene) -> None:
    assert canonical_caption(zoo) == "a cat, a bicycle and an apple on a beach"


def names_in(text: str) -> set[str]:
    found = set()
    for word in sorted(OBJECTS, key=lambda word: -len(word.name)):
        text, count = re.subn(rf"\b{word.name}\b", "", text)
        if count:
            found.add(word.name)
    return found


def without_place(text: str, scene: Scene) -> str:
    for wording in sorted(PLACE_WORDINGS[scene.place], key=len, reverse=True):
        if wording in text:
            return text.replace(wording, "")
    raise AssertionError(f"{text!r} names no wording of {scene.place!r}")


def test_whole_captions_name_every_object_and_the_place(train_scenes: list[Scene], rng: np.random.Generator) -> None:
    forms = set()
    for scene in train_scenes[:200]:
        text = scene_caption(scene, rng)
        assert names_in(without_place(text, scene)) == {thing.name for thing in scene.objects}
        forms.add(text.split()[0])
    assert {"a", "there"} < forms


def test_relations_in_whole_captions_are_true(train_scenes: list[Scene], rng: np.random.Generator) -> None:
    said = 0
    for scene in train_scenes[:200]:
        names = [thing.name for thing in scene.objects]
        true = {
            f"{noun_phrase(names[i])} {wording} {noun_phrase(names[j])}"
            for i, relation, j in scene.relations
            for wording in RELATION_WORDINGS[relation]
        }
        text = scene_caption(scene, rng)
        claims = [
            w for wordings in RELATION_WORDINGS.values() for w in wordings if f" {w} " in without_place(text, scene)
        ]
        said += bool(claims)
        assert not claims or any(sentence in text for sentence in true)
    assert said > 20


def test_a_query_asks_for_all_its_objects_and_its_place(zoo: Scene) -> None:
    assert matches(Query("a cat", frozenset({"cat"})), zoo)
    assert matches(Query("a cat and an apple on a beach", frozenset({"cat", "apple"}), "on a beach"), zoo)
    assert matches(Query("something on a beach", frozenset(), "on a beach"), zoo)
    assert not matches(Query("a cat and a dog", frozenset({"cat", "dog"})), zoo)
    assert not matches(Query("a cat in a forest", frozenset({"cat"}), "in a forest"), zoo)


def test_short_queries_are_true_and_say_what_they_ask(train_scenes: list[Scene], rng: np.random.Generator) -> None:
    for scene in train_scenes[:100]:
        queries = short_queries(scene, rng)
        assert len(queries) == 4 * len(scene.objects) + 4
        for query in queries:
            assert matches(query, scene)
            rest = without_place(query.text, scene) if query.place and query.objects else query.text
            assert not query.objects or names_in(rest) == query.objects


def test_a_scene_has_its_own_stream_of_words() -> None:
    scene = render(4, "test", 48, 48)
    assert scene_caption(scene, caption_rng(scene)) == scene_caption(scene, caption_rng(scene))
