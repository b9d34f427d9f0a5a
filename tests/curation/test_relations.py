import pytest

from virtue.curation.relations import Reading, compare_relations, opposites, read_relation, words


def test_words_leave_articles_and_punctuation_out() -> None:
    assert words("The cat's bed, on a T-shirt.") == ["cat's", "bed", "on", "t-shirt"]


@pytest.mark.parametrize(
    ("relation", "reading"),
    [
        ("on", Reading("", "on", ())),
        ("on top of", Reading("", "on", ())),
        ("to the left of a boat", Reading("", "left of", ("boat",))),
        ("is sitting atop", Reading("sitting", "on", ())),
        ("riding", Reading("riding", "", ())),
        ("carrying", Reading("holding", "", ())),
        ("tucked beside the glass on", Reading("tucked", "next to", ("glass", "on"))),
    ],
)
def test_a_relation_in_its_parts(relation: str, reading: Reading) -> None:
    assert read_relation(relation) == reading


@pytest.mark.parametrize(
    ("one", "other", "likeness"),
    [
        ("on", "upon", "same"),
        ("left of a boat", "to the left of the boat", "same"),
        ("holding", "carrying", "same"),
        ("on", "sitting on", "kind"),  # what sits on it is on it
        ("left of a boat", "beside a boat", "kind"),
        ("above", "on", "kind"),
        ("riding", "on", "kind"),
        ("wearing", "has", "kind"),
        ("sitting on", "standing on", None),
        ("on", "balanced on the edge of", None),
        ("on", "under the napkin on", None),
        ("left of a boat", "right of a boat", None),
        ("left of a boat", "left of a tree", None),
        ("riding", "holding", None),
        ("in front of", "behind", None),
    ],
)
def test_how_alike_two_relations_are(one: str, other: str, likeness: str | None) -> None:
    assert compare_relations(one, other) == likeness
    assert compare_relations(other, one) == likeness


@pytest.mark.parametrize(
    ("relation", "opposite"),
    [
        ("left of", ("right of",)),
        ("to the left of a boat", ("to the right of a boat",)),
        ("sitting in front of", ("sitting behind",)),
        ("on top of", ("below",)),
        ("below", ("above", "on")),
        ("riding", ()),
    ],
)
def test_opposites(relation: str, opposite: tuple[str, ...]) -> None:
    assert opposites(relation) == opposite
