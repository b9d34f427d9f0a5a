import numpy as np
import pytest

from virtue.scenes.composing import Wish, compose, holds
from virtue.scenes.renderer import render
from virtue.scenes.vocabulary import OBJECTS, PLACES, RELATIONS, held_out_objects, held_out_places, opposite

SIDE = 64
CATS = Wish("on a beach", ("cat", "dog"), ("cat", "left of", "dog"))


def relations(scene_objects: tuple[str, ...], found: tuple[tuple[int, str, int], ...]) -> set[tuple[str, str, str]]:
    return {(scene_objects[i], phrase, scene_objects[j]) for i, phrase, j in found}


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_picture_shows_what_is_wished_and_not_what_is_not(relation: str, rng: np.random.Generator) -> None:
    for seed in range(10):
        names = tuple(OBJECTS[i].name for i in rng.choice(len(OBJECTS), 2 + seed % 4, replace=False))
        never = tuple(phrase for phrase in RELATIONS if phrase != relation)[seed % 5 : seed % 5 + 2]
        place = PLACES[seed % len(PLACES)]
        scene = compose(Wish(place, names, (names[0], relation, names[1]), never), seed, width=SIDE, height=SIDE)
        assert scene.place == place
        assert {thing.name for thing in scene.objects} == set(names)
        said = relations(tuple(thing.name for thing in scene.objects), scene.relations)
        assert (names[0], relation, names[1]) in said
        assert (names[1], opposite(relation), names[0]) in said
        assert not {(names[0], phrase, names[1]) for phrase in never} & said
        assert holds(scene, names[0], relation, names[1], place)
        assert not any(holds(scene, names[0], phrase, names[1], place) for phrase in never)
        assert not holds(scene, names[0], relation, names[1], PLACES[(seed + 1) % len(PLACES)])


def test_a_seed_is_a_picture() -> None:
    first, second = compose(CATS, 3), compose(CATS, 3)
    assert np.array_equal(first.image, second.image)
    assert [thing.box for thing in first.objects] == [thing.box for thing in second.objects]


def test_other_seeds_and_splits_are_other_pictures_of_the_same_contents() -> None:
    pictures = [compose(CATS, 3), compose(CATS, 4), compose(CATS, 3, "train")]
    assert [(picture.seed, picture.split) for picture in pictures] == [(3, "test"), (4, "test"), (3, "train")]
    assert len({picture.image.tobytes() for picture in pictures}) == 3
    assert len({tuple(thing.box for thing in picture.objects) for picture in pictures}) == 3


def test_things_are_drawn_in_any_order() -> None:
    orders = {tuple(thing.name for thing in compose(CATS, seed, width=SIDE, height=SIDE).objects) for seed in range(12)}
    assert orders == {("cat", "dog"), ("dog", "cat")}


def test_the_stream_of_composed_pictures_is_not_that_of_scenes() -> None:
    assert not np.array_equal(compose(CATS, 3).image, render(3, "test").image)


def test_training_is_refused_what_is_held_out_for_testing() -> None:
    thing, place = np.argwhere(held_out_places())[0]
    other = next(
        i
        for i in range(len(OBJECTS))
        if i != thing and not held_out_objects()[thing, i] and not held_out_places()[i, place]
    )
    names = OBJECTS[thing].name, OBJECTS[other].name
    wish = Wish(PLACES[place], names, (names[0], "above", names[1]))
    assert compose(wish, 0, width=SIDE, height=SIDE).held_out == ((names[0], PLACES[place]),)
    with pytest.raises(
        ValueError, match=f"Training never shows {names[0]} with {PLACES[place]}: this pair is held out"
    ):
        compose(wish, 0, "train", SIDE, SIDE)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (
            ("on a beach", ("cat", "gryphon"), ("cat", "above", "gryphon")),
            "'gryphon' is not one of the drawn world's",
        ),
        (("on a beech", ("cat", "dog"), ("cat", "above", "dog")), "'on a beech' is not one of"),
        (("on a beach", ("cat", "dog"), ("cat", "beside", "dog")), "'beside' is not one of"),
        (("on a beach", ("cat",), ("cat", "above", "dog")), "A picture shows 2 to 5 different objects, not cat"),
        (("on a beach", ("cat", "cat"), ("cat", "above", "cat")), "different objects, not cat, cat"),
        (("on a beach", ("cat", "dog"), ("cat", "above", "owl")), "'cat above owl' is not about two of the objects"),
        (("on a beach", ("cat", "dog"), ("cat", "above", "dog"), ("above",)), "'above' is both shown and never"),
    ],
)
def test_impossible_wishes_are_refused(wish: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Wish(*wish)  # type: ignore[arg-type]


def test_what_no_arrangement_shows_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("virtue.scenes.composing.ATTEMPTS", 0)
    with pytest.raises(ValueError, match="No arrangement shows cat left of dog"):
        compose(CATS, 0, width=SIDE, height=SIDE)


def test_the_request_is_checked() -> None:
    with pytest.raises(ValueError, match="seed is -1"):
        compose(CATS, -1)
