"""Which filters a server takes, and that those it takes are understood by the index."""

from __future__ import annotations

import pytest

from tests.tiny import picture, tiny_embedder
from virtue.index import Index, build
from virtue.server.filters import COLUMNS, DEEPEST, MOST_TERMS, check_filter

TAKEN = {
    "width >= 80": 2,
    "path = 'it''s.png'": 1,
    "path != 'it''s.png' and width<100": 1,
    "path LIKE 'it%' OR path NOT LIKE '%x%'": 3,
    "`width` IN (80, 160)": 2,
    "width BETWEEN 41 AND 159 AND NOT (height = 1)": 1,
    "score IS NULL AND box IS NOT NULL": 0,
    "score IS NULL": 3,
    "mtime_ns > -15 AND TRUE": 3,
    "score > -1.5e3": 0,
    "(((width = 160)))": 1,
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("filtered")
    for number, (width, name) in enumerate([(40, "small.png"), (80, "it's.png"), (160, "it (2).png")]):
        picture(width, 60, seed=number).save(folder / name)
    embedder = tiny_embedder()
    index = Index.create(folder, embedder)
    build(index, embedder)
    return index


@pytest.mark.parametrize("text", TAKEN)
def test_conditions_of_columns_are_taken_and_understood(index: Index, text: str) -> None:
    check_filter(text)
    assert len(index.search(tiny_embedder().encode("a dog"), filter=text)) == TAKEN[text]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("length(path) > 3", "length"),
        ("width (1) = 1", "( after a value"),
        ("width + 1 > 3", "+"),
        ("width -1 > 3", "-1 after a value"),
        ("path || 'a' = 'b'", "|"),
        ("vector IS NULL", "vector"),
        ("CAST(width AS TEXT) = '3'", "CAST"),
        ("EXISTS (SELECT 1)", "EXISTS"),
        ("width > 3; DROP TABLE items", ";"),
        ("width > 3 -- so", "-"),
        ("width > 3 /* so", "/"),
        ('path = "a"', '"'),
        ("path = 'a", "'"),
        ("größe > 3", "gr"),
    ],
)
def test_what_computes_or_is_no_column_is_named(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=r"^A filter takes no ") as refused:
        check_filter(text)
    assert str(refused.value).startswith(f"A filter takes no {named}")
    assert all(column in str(refused.value) for column in COLUMNS)


@pytest.mark.parametrize("text", ["(width > 3", "width > 3)", "1=1) OR (1=1", ")("])
def test_brackets_match(text: str) -> None:
    with pytest.raises(ValueError, match=r"^The brackets of the filter do not match\.$"):
        check_filter(text)


@pytest.mark.parametrize(("unit", "terms"), [("width = 1 OR ", 2), ("NOT ", 1), ("1 = ", 1), ("width > 1 AND ", 2)])
def test_so_many_terms_and_no_more(index: Index, unit: str, terms: int) -> None:
    check_filter(f"{unit * (MOST_TERMS // terms)} TRUE")
    with pytest.raises(ValueError, match=f"^A filter has {MOST_TERMS} comparisons and {DEEPEST} brackets"):
        check_filter(f"{unit * (MOST_TERMS // terms + 1)} TRUE")
    try:
        index.search(tiny_embedder().encode("a dog"), filter=f"{unit * (MOST_TERMS // terms)} TRUE")
    except ValueError as error:  # it may make no sense, but must not end the process
        assert "is not understood" in str(error)


def test_so_many_brackets_in_one_another(index: Index) -> None:
    with pytest.raises(ValueError, match=r"^A filter has"):
        check_filter("(" * (DEEPEST + 1) + "width > 1" + ")" * (DEEPEST + 1))
    deep = "(" * DEEPEST + "width > 1" + ")" * DEEPEST
    check_filter(deep)
    assert len(index.search(tiny_embedder().encode("a dog"), filter=deep)) == 3
