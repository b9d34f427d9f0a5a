from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.curation.tiny_wordnet import write_wordnet
from virtue.curation import wordnet as wordnet_module
from virtue.curation.wordnet import Likeness, WordNet, head

nltk_data = pytest.importorskip("nltk.data")


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WordNet]:
    opened = WordNet.open(write_wordnet(tmp_path_factory.mktemp("wordnet")))
    yield opened
    opened.close()


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no WordNet were installed."""
    monkeypatch.delenv("WORDNET", raising=False)
    monkeypatch.setattr(wordnet_module, "_FOLDERS", ())
    monkeypatch.setattr(nltk_data, "path", [])


@pytest.mark.parametrize(
    ("one", "other", "likeness"),
    [
        ("couch", "sofa", "same"),
        ("a car", "the autos", "same"),
        ("red fork", "big fork", "same"),  # WordNet has neither: both are forks
        ("taxi", "car", "kind"),
        ("dog", "animal", "kind"),
        ("thing", "taxi", "kind"),
        ("salad fork", "fork", "kind"),
        ("car", "truck", "sibling"),
        ("kitchen", "bedroom", None),  # next to each other too, but rooms are a wide category
        ("dog", "cat", None),
        ("hot dog", "dog", None),
        ("on the table", "on a picnic blanket", None),
        ("table", "kitchen counter", None),  # a kind of table to WordNet
        ("mice", "mouse", "same"),
        ("quokka", "wombat", None),
    ],
)
def test_how_alike_two_things_are(wordnet: WordNet, one: str, other: str, likeness: Likeness | None) -> None:
    assert wordnet.compare(one, other) == likeness
    assert wordnet.compare(other, one) == likeness


def test_how_alike_two_actions_are(wordnet: WordNet) -> None:
    assert wordnet.compare_actions("leading", "guiding") == "same"
    assert wordnet.compare_actions("clasping", "holding") == "kind"
    assert wordnet.compare_actions("riding", "holding") is None
    assert wordnet.compare_actions("zorbing", "holding") is None


def test_what_it_knows(wordnet: WordNet) -> None:
    assert wordnet.knows("a hot dog") and wordnet.knows("the striped cats")
    assert not wordnet.knows("quokka")


@pytest.mark.parametrize(
    ("phrase", "word"),
    [
        ("a salad fork", "fork"),
        ("on the picnic blanket in the park", "blanket"),
        ("in a city at night", "city"),
        ("men who wait", "men"),
        ("on", ""),
    ],
)
def test_the_head_of_a_phrase(phrase: str, word: str) -> None:
    assert head(phrase) == word


def test_a_dictionary_is_found_by_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nowhere: None) -> None:
    monkeypatch.setenv("WORDNET", str(write_wordnet(tmp_path / "dictionary")))
    opened = WordNet.open()
    assert opened.folder == str(tmp_path / "dictionary")
    assert opened.compare("taxi", "cab") == "same"
    opened.close()


def test_a_dictionary_is_found_where_nltk_downloads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nowhere: None
) -> None:
    files = sorted(write_wordnet(tmp_path / "wordnet").iterdir())
    (tmp_path / "corpora").mkdir()
    with ZipFile(tmp_path / "corpora" / "wordnet.zip", "w") as archive:
        for file in files:
            archive.write(file, f"wordnet/{file.name}")
    monkeypatch.setattr(nltk_data, "path", [str(tmp_path)])
    opened = WordNet.open()
    assert opened.compare("taxi", "cab") == "same"
    opened.close()


def test_none_is_found(tmp_path: Path, nowhere: None) -> None:
    with pytest.raises(FileNotFoundError, match=r"WordNet, which tells synonyms apart.*apt-get install wordnet-base"):
        WordNet.open()
    with pytest.raises(FileNotFoundError, match=r"holds no WordNet: data\.noun is missing\. Install"):
        WordNet.open(tmp_path)


REAL = all((Path("/usr/share/wordnet") / name).is_file() for name in ("data.noun", "index.noun"))


@pytest.mark.skipif(not REAL, reason="the Debian package wordnet-base is not installed")
def test_the_real_one() -> None:
    opened = WordNet.open("/usr/share/wordnet")
    pairs = {
        ("salad fork", "butter knife"): None,
        ("salad fork", "wine glass"): None,
        ("table", "kitchen counter"): None,
        ("kitchen", "living room"): None,
        ("couch", "sofa"): "same",
        ("puppy", "dog"): "kind",
        ("man", "person"): "kind",
        ("car", "truck"): "sibling",
        ("dog", "wolf"): "sibling",
        ("dog", "cat"): None,
    }
    assert {pair: opened.compare(*pair) for pair in pairs} == pairs
    opened.close()
