from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.curation.made import region, sample
from tests.curation.tiny_wordnet import write_wordnet
from virtue.curation.checks import check, compare, known_true
from virtue.curation.samples import Distractor, Elements, Fact, Kind, Other, Region, Sample
from virtue.curation.wordnet import WordNet
from virtue.prompts import Box

FORK = Elements("salad fork", "on", "table")
FORK_SWAPS: dict[Kind, tuple[str, ...]] = {
    "object": ("butter knife", "teaspoon", "wine glass"),
    "relation": ("balanced on the edge of", "under the napkin on", "tucked beside the glass on"),
    "scene": ("kitchen counter", "picnic blanket", "wooden deck"),
}


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WordNet]:
    pytest.importorskip("nltk")
    opened = WordNet.open(write_wordnet(tmp_path_factory.mktemp("wordnet")))
    yield opened
    opened.close()


def made(truth: Elements, swaps: dict[Kind, tuple[str, ...]], of: Region | None = None) -> Sample:
    found = [(kind, replace(truth, **{kind: word})) for kind, words in swaps.items() for word in words]
    distractors = tuple(Distractor(kind, elements, elements.caption()) for kind, elements in found)
    return Sample(of or region(0, category=truth.object), truth, truth.caption(), distractors, "test")


def fork(kind: Kind | None = None, place: int = 0, word: str = "", of: Region | None = None) -> Sample:
    """The paper's example, one swap of it changed."""
    swaps = dict(FORK_SWAPS)
    if kind:
        swaps[kind] = (*swaps[kind][:place], word, *swaps[kind][place + 1 :])
    return made(FORK, swaps, of or region(0, category="fork"))


def with_text(of: Sample, where: int, text: str) -> Sample:
    swaps = list(of.distractors)
    swaps[where] = replace(swaps[where], text=text)
    return replace(of, distractors=tuple(swaps))


def found(of: Sample, **options: object) -> list[tuple[str, int | None]]:
    return [(problem.check, problem.where) for problem in check(of, **options)]  # type: ignore[arg-type]


def test_what_is_right_passes(wordnet: WordNet) -> None:
    assert found(sample(region(0))) == []
    assert found(fork()) == []
    assert found(fork(), wordnet=wordnet) == []


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            replace(fork(), distractors=fork().distractors[1:]),
            "three swaps of each kind; there are 2 object, 3",
        ),
        (fork("scene", 1, "the"), "Distractor 8 has no words for its scene."),
        (with_text(fork(), 2, "a wine glass\non table"), "Distractor 3 must be one line of text."),
        (with_text(fork(), 2, "wine glass on table" + "!" * 300), "Distractor 3 has 319 letters; 300 are the most."),
        (replace(fork(), caption=""), "The true caption must be one line of text."),
    ],
)
def test_the_schema(broken: Sample, message: str) -> None:
    problems = check(broken)
    assert {problem.check for problem in problems} == {"schema"}
    assert message in problems[0].message


def test_captions_say_their_elements() -> None:
    (problem,) = check(with_text(fork(), 0, "butter knife near table"))
    assert problem.check == "elements" and problem.where == 0
    assert problem.message == (
        "Distractor 1 is 'butter knife near table', which does not say 'butter knife', 'on', 'table'."
    )


def test_captions_may_say_more_if_they_all_do() -> None:
    worded = replace(
        fork(),
        caption="A salad fork that is on the table.",
        distractors=tuple(
            replace(d, text=f"A {d.elements.object} that is {d.elements.relation} the {d.elements.scene}.")
            for d in fork().distractors
        ),
    )
    assert found(worded) == []
    assert found(with_text(worded, 4, "The salad fork that is under the napkin on the clean table.")) == [
        ("one element", 4)
    ]


def test_exactly_one_element_is_changed() -> None:
    right = fork()
    both = Elements("butter knife", "on", "picnic blanket")
    swaps = (
        Distractor("object", both, both.caption()),
        *right.distractors[1:3],
        replace(right.distractors[3], elements=FORK, text="salad fork on the table"),
        *right.distractors[4:],
    )
    problems = check(replace(right, distractors=swaps))
    assert [problem.message for problem in problems if problem.check == "one element"] == [
        "Distractor 1 should change the object and nothing else; it changes object and scene.",
        "Distractor 4 should change the relation and nothing else; it changes nothing.",
    ]
    assert ("duplicate", 3) in found(replace(right, distractors=swaps))


def test_duplicates_differ_in_more_than_letters() -> None:
    twice = with_text(fork("object", 1, "Butter knife"), 1, "The Butter knife on a table.")
    assert found(twice) == [("duplicate", 1)]
    assert check(twice)[0].message == ("Distractor 2 says the same as distractor 1: 'The Butter knife on a table.'.")


@pytest.mark.parametrize(
    ("truth", "kind", "word", "name"),
    [
        (Elements("couch", "above", "table"), "object", "sofa", "synonym"),
        (Elements("taxi", "above", "table"), "object", "car", "kind"),
        (Elements("car", "above", "table"), "object", "truck", "distinct"),
        (Elements("dog", "in", "kitchen"), "scene", "room", "kind"),
        (Elements("dog", "leading", "cat"), "relation", "guiding", "synonym"),
        (Elements("dog", "on", "table"), "relation", "sitting on", "kind"),
    ],
)
def test_swaps_mean_something_clearly_different(
    wordnet: WordNet, truth: Elements, kind: Kind, word: str, name: str
) -> None:
    swaps: dict[Kind, tuple[str, ...]] = {
        "object": ("mouse", "blanket", "food"),
        "relation": ("right of", "behind", "holding"),
        "scene": ("beach", "fork", "hot dog"),
    }
    swaps[kind] = (word, *swaps[kind][1:])
    assert found(made(truth, swaps), wordnet=wordnet) == [(name, 3 * ("object", "relation", "scene").index(kind))]


def test_without_wordnet_equal_nouns_are_told() -> None:
    assert compare("object", "red fork", "the blue fork") == "same"
    assert compare("object", "couch", "sofa") is None
    assert compare("scene", "on a beach", "in a forest") is None


def test_the_category_counts_as_what_the_object_is() -> None:
    named = fork("object", 0, "cutlery", of=region(0, category="cutlery"))
    assert found(named) == [("synonym", 0)]
    assert check(named)[0].message == "Distractor 1 swaps 'cutlery' for 'cutlery', which means the same."


def test_two_kinds_of_the_category_are_two_things(wordnet: WordNet) -> None:
    """A dog is an animal, and no mouse: that the annotation says "animal" is no reason against "mouse"."""
    swaps: dict[Kind, tuple[str, ...]] = {"object": ("mouse", "cat", "fork"), "relation": ("on", "behind", "holding")}
    swaps["scene"] = ("beach", "kitchen", "couch")
    animal = region(0, category="animal")
    assert found(made(Elements("dog", "below", "table"), swaps, animal), wordnet=wordnet) == []
    swaps["object"] = ("mouse", "animal", "fork")
    assert found(made(Elements("dog", "below", "table"), swaps, animal), wordnet=wordnet) == [("synonym", 1)]


def test_nothing_stands_to_itself() -> None:
    assert [problem.message for problem in check(fork("object", 1, "table"))] == [
        "Distractor 2 is 'table on table', which names 'table' twice."
    ]


def test_a_known_fact_is_no_distractor() -> None:
    riding = Elements("man", "riding", "horse")
    facts = (Fact("man", "riding", "horse"), Fact("man", "holding", "horse"), Fact("man", "riding", "road"))
    told = region(0, category="man", facts=facts)
    swaps: dict[Kind, tuple[str, ...]] = {
        "object": ("dog", "cat", "boy"),
        "relation": ("behind", "feeding", "carrying"),
        "scene": ("bike", "the road", "bus"),
    }
    assert [(problem.check, problem.where, problem.message) for problem in check(made(riding, swaps, told))] == [
        ("true", 5, "Distractor 6, 'man carrying horse', is true of the region: it is holding horse."),
        ("true", 7, "Distractor 8, 'man riding the road', is true of the region: it is riding road."),
    ]
    assert known_true(told, riding, riding) == ""
    assert known_true(told, riding) == "it is riding horse"


def test_a_known_fact_is_told_where_the_relation_holds_the_other_thing() -> None:
    truth = Elements("a dog", "left of a boat", "on a beach")
    told = region(0, facts=(Fact("dog", "left of", "boat"), Fact("dog", "above", "boat"), Fact("dog", "above", "cat")))
    assert known_true(told, replace(truth, relation="over the boat"), truth) == "it is above boat"
    assert known_true(told, replace(truth, relation="below a boat"), truth) == ""
    assert known_true(told, replace(truth, scene="in a forest"), truth) == ""  # what is left of it is said truly


def test_another_word_for_the_place_is_no_distractor() -> None:
    told = region(0, scene=("beach", "coast", "a dog in a forest"))
    truth = Elements("dog", "left of a fence", "on a beach")
    assert known_true(told, replace(truth, scene="at the coast"), truth) == "the place is called 'at the coast'"
    assert known_true(told, replace(truth, scene="in a forest"), truth) == ""  # whole captions are not looked into


def test_another_name_of_the_same_box_is_no_distractor() -> None:
    box = Box(4, 4, 40, 30)
    others = (Other("cat", box), Other("boat", Box(0, 0, 10, 10)))
    assert found(sample(region(0, box=box, others=others))) == [("true", 0)]


def test_what_is_true_of_another_region_may_be_asked() -> None:
    others = (Other("cat", Box(50, 4, 60, 30)),)
    assert found(sample(region(0, others=others))) == []


def test_length_does_not_give_the_truth_away() -> None:
    short: dict[Kind, tuple[str, ...]] = {"object": ("ox", "cow", "hen"), "relation": ("in", "at", "off")}
    short["scene"] = ("sea", "bus", "hut")
    assert check(made(Elements("photographer", "underneath", "skyscraper"), short))[0].message == (
        "The true caption has 34 letters, clearly longer than all others: 27 at the nearest."
    )
    long: dict[Kind, tuple[str, ...]] = {
        kind: tuple(f"{word} number seven" for word in words) for kind, words in short.items()
    }
    assert ("length", None) in found(made(Elements("fox", "up", "bay"), long))
    assert found(made(Elements("fox", "up", "bay"), short)) == []


def test_marks_do_not_give_the_truth_away() -> None:
    assert check(replace(fork(), caption="Salad fork on table"))[0].message == (
        "Only the true caption has a capital letter at the start."
    )
    all_stopped = replace(fork(), distractors=tuple(replace(d, text=f"{d.text}.") for d in fork().distractors))
    assert [problem.message for problem in check(all_stopped)] == ["Only the true caption lacks a full stop."]
    assert found(fork("relation", 0, "not on")) == [("wording", 3)]


def test_corners_may_change_more_and_may_not_point_at_the_truth() -> None:
    assert {name for name, _ in found(sample(region(0)), design="corners")} == {"corners"}
    assert check(sample(region(0)), design="corners")[0].message == (
        "The true object stands in 7 captions, and no other in more than 1, which gives it away."
    )


def test_there_is_no_other_design() -> None:
    with pytest.raises(ValueError, match="'single' or 'corners', not 'double'"):
        check(fork(), design="double")  # type: ignore[arg-type]
