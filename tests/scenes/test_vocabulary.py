import numpy as np

from virtue.scenes.vocabulary import (
    OBJECTS,
    PLACE_NOUNS,
    PLACE_WORDINGS,
    PLACES,
    RELATION_WORDINGS,
    RELATIONS,
    held_out_objects,
    held_out_places,
    is_held_out_objects,
    is_held_out_pair,
    noun_phrase,
    object_id,
    opposite,
    place_id,
    relation_id,
)


def test_the_world_has_160_objects_14_places_and_6_relations() -> None:
    assert (len(OBJECTS), len(PLACES), len(RELATIONS)) == (160, 14, 6)
    assert len({word.name for word in OBJECTS}) == 160


def test_ids_are_positions() -> None:
    assert [object_id(word.name) for word in OBJECTS] == list(range(160))
    assert [place_id(place) for place in PLACES] == list(range(14))
    assert [relation_id(relation) for relation in RELATIONS] == list(range(6))


def test_noun_phrases_carry_the_article() -> None:
    assert [noun_phrase(name) for name in ("dog", "owl", "grapes")] == ["a dog", "an owl", "grapes"]


def test_opposites_come_in_pairs() -> None:
    assert opposite("left of") == "right of"
    assert all(opposite(opposite(relation)) == relation != opposite(relation) for relation in RELATIONS)


def test_every_relation_and_place_has_wordings_that_mean_it_alone() -> None:
    for words, wordings in ((RELATIONS, RELATION_WORDINGS), (PLACES, PLACE_WORDINGS)):
        assert tuple(wordings) == words
        assert all(wordings[word][0] == word for word in words)
        said = [wording for word in words for wording in wordings[word]]
        assert len(said) == len(set(said))
    assert tuple(PLACE_NOUNS) == PLACES


def test_about_15_percent_of_the_pairs_are_held_out() -> None:
    assert abs(held_out_places().mean() - 0.15) < 0.02
    upper = held_out_objects()[np.triu_indices(160, 1)]
    assert abs(upper.mean() - 0.15) < 0.02


def test_held_out_pairs_do_not_depend_on_order_or_machine() -> None:
    assert (held_out_objects() == held_out_objects().T).all()
    assert not held_out_objects().diagonal().any()
    unseen = [place for place in PLACES if is_held_out_pair("cat", place)]
    assert unseen == ["on a grass field", "at sunset on the sea", "near a volcano"]
    assert is_held_out_objects("dog", "cat") == is_held_out_objects("cat", "dog")
