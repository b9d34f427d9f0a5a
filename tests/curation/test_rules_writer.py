import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.curation.made import region
from virtue.curation.checks import check
from virtue.curation.corners import corners
from virtue.curation.rules_writer import RulesWriter, Vocabulary, at_place, with_article
from virtue.curation.samples import Distractor, Elements, Fact, Other, Problem, Region, Sample
from virtue.curation.vocabulary import is_name
from virtue.curation.writers import WriterRefusal, true_caption
from virtue.prompts import Box
from virtue.scenes.renderer import scenes

IMAGE = Path("unread.png")
NAMES, PLACES = ("dog", "boat", "owl", "clock", "tree"), ("on a beach", "in a forest", "on a road", "in a desert")


def drawn(count: int) -> Iterator[Region]:
    """Regions of drawn scenes, as their annotations tell them."""
    for scene in scenes("test", 0, count, 64, 64):
        for thing in scene.objects:
            yield region(
                10 * scene.seed + thing.index,
                source="scenes",
                image_id=f"scenes/{scene.seed}",
                width=64,
                height=64,
                box=Box(*thing.box),
                category=thing.name,
                others=tuple(Other(other.name, Box(*other.box)) for other in scene.objects if other is not thing),
                scene=(scene.place,),
                facts=tuple(
                    Fact(thing.name, relation, scene.objects[other].name)
                    for index, relation, other in scene.relations
                    if index == thing.index
                ),
            )


def photographed() -> list[Region]:
    """Regions without a place: people who do things to animals and vehicles."""
    facts = {
        "man": [("riding", "horse"), ("holding", "rope"), ("behind", "fence")],
        "woman": [("feeding", "horse"), ("riding", "bike"), ("in front of", "fence")],
        "boy": [("riding", "elephant"), ("washing", "horse"), ("on", "rock")],
        "dog": [("behind", "horse"), ("pulling", "rope"), ("under", "table")],
    }
    return [
        region(number, category=name, facts=tuple(Fact(name, *fact) for fact in own))
        for number, (name, own) in enumerate(facts.items())
    ]


def write(writer: RulesWriter, of: Region, problems: list[Problem] | None = None) -> Sample | None:
    async def both() -> tuple[Elements, list[Distractor]] | None:
        elements = await writer.elements(of, IMAGE)
        return elements and (elements, await writer.distractors(of, IMAGE, elements, problems or []))

    found = asyncio.run(both())
    return found and Sample(of, found[0], true_caption(of, found[0]), tuple(found[1]), writer.name, writer.instructions)


def test_what_is_written_of_drawn_scenes_passes_the_checks() -> None:
    regions = list(drawn(40))
    writer = RulesWriter(Vocabulary.of(regions))
    samples = [sample for of in regions if (sample := write(writer, of))]
    assert len(samples) > 0.95 * len(regions)  # of some others, nothing is said
    for sample in samples:
        assert check(sample) == [], sample
        first = sample.elements
        assert (first.object, first.scene) == (with_article(sample.region.category), sample.region.scene[0])
        assert any(first.relation == f"{f.relation} {with_article(f.object)}" for f in sample.region.facts)
    failed = [problem for sample in samples for problem in check(corners(sample), design="corners")]
    assert failed == []


def test_objects_of_the_picture_and_opposites_come_first() -> None:
    of = region(
        0,
        facts=(Fact("dog", "left of", "boat"),),
        scene=("on a beach",),
        others=(Other("owl", Box(50, 0, 60, 10)), Other("boat", Box(41, 0, 49, 10))),
    )
    sample = write(RulesWriter(Vocabulary.of([of, *drawn(20)])), of)
    assert sample is not None
    assert sample.caption == "a dog left of a boat on a beach"
    assert sample.distractors[0].text == "an owl left of a boat on a beach"  # no boat left of a boat
    assert sample.distractors[3].text == "a dog right of a boat on a beach"
    assert [d.kind for d in sample.distractors] == ["object"] * 3 + ["relation"] * 3 + ["scene"] * 3


def test_without_a_place_the_other_thing_is_the_scene() -> None:
    regions = photographed()
    writer = RulesWriter(Vocabulary.of(regions), seed=1)
    for of in regions:
        sample = write(writer, of)
        assert sample is not None
        assert Fact(of.category, sample.elements.relation, sample.elements.scene) in of.facts
        assert check(sample) == []


def test_a_caption_of_the_source_is_kept_where_it_says_the_fact() -> None:
    told = region(8, category="dog", facts=(Fact("dog", "behind", "horse"),), caption="A black dog behind the horse")
    sample = write(RulesWriter(Vocabulary.of([*photographed(), told])), told)
    assert sample is not None
    assert sample.caption == told.caption
    assert check(sample) == []
    swapped = {d.text.replace(d.elements.relation, "?") for d in sample.distractors if d.kind == "relation"}
    assert swapped == {"A black dog ? the horse"}


def test_the_same_seed_and_region_give_the_same_whatever_else_is_there() -> None:
    regions = list(drawn(15))
    samples = [write(RulesWriter(Vocabulary.of(regions), 7), of) for of in regions]
    again = [write(RulesWriter(Vocabulary.of(reversed(regions)), 7), of) for of in reversed(regions)]
    assert samples == again[::-1]
    assert samples != [write(RulesWriter(Vocabulary.of(regions), 8), of) for of in regions]


def test_a_failed_attempt_is_followed_by_another() -> None:
    regions = list(drawn(15))
    writer = RulesWriter(Vocabulary.of(regions))
    first, second = write(writer, regions[0]), write(writer, regions[0], [Problem("picked", "It was.", 2)])
    assert first is not None and second is not None
    assert first.elements == second.elements
    assert first.distractors != second.distractors


def test_what_gives_nothing_to_write() -> None:
    writer = RulesWriter(Vocabulary.of(drawn(5)))
    assert write(writer, region(0)) is None
    assert write(writer, region(0, facts=(Fact("dog", "left of", "dog"),))) is None  # which dog?
    assert write(writer, region(0, facts=(Fact("dog", "left of", "boat no. 7"),))) is None
    lonely = region(0, facts=(Fact("dog", "left of", "boat"),))
    with pytest.raises(WriterRefusal, match="few words to swap the object of 'dog left of boat' for: 0, not 3") as e:
        write(RulesWriter(Vocabulary.of([lonely])), lonely)
    assert e.value.reason == "impossible"


def test_others_elements_are_refused() -> None:
    (of,) = [of for of in photographed() if of.category == "man"]
    other = Elements("man", "eating", "rope")
    with pytest.raises(WriterRefusal, match="No fact of made/0 says 'man eating rope'"):
        asyncio.run(RulesWriter(Vocabulary.of([of])).distractors(of, IMAGE, other, []))


def test_rules_do_not_look() -> None:
    assert asyncio.run(RulesWriter(Vocabulary.of([])).pick(region(0), IMAGE, ["a", "b"])) is None


def test_a_vocabulary_counts_facts() -> None:
    vocabulary = Vocabulary.of([*photographed(), region(9, category="cat")])
    assert vocabulary.objects == {"man": 1, "woman": 1, "boy": 1, "dog": 1}
    assert vocabulary.relations["riding"] == 3
    assert vocabulary.relations_of["horse"] == {"riding": 1, "feeding": 1, "washing": 1, "behind": 1}
    assert vocabulary.things_of["riding"] == {"horse": 1, "bike": 1, "elephant": 1}
    assert vocabulary.objects_of["behind"] == {"man": 1, "dog": 1}
    assert vocabulary.spelled("below") == "under"
    assert vocabulary.spelled("above") == "above"
    assert is_name("traffic light") and is_name("T-shirt")
    assert not (is_name("") or is_name("a man who waits for a bus") or is_name("no. 7"))


@pytest.mark.parametrize(
    ("name", "said"),
    [("dog", "a dog"), ("owl", "an owl"), ("grapes", "grapes"), ("wine glasses", "wine glasses"), ("bus", "a bus")],
)
def test_articles(name: str, said: str) -> None:
    assert with_article(name) == said


def test_places() -> None:
    assert [at_place(name) for name in ("on a beach", "kitchen", "tennis court", "airport")] == [
        *("on a beach", "in a kitchen", "on a tennis court", "in an airport")
    ]
