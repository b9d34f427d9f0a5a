"""WordNet: whether two phrases name the same thing, one a kind of the other, or two kinds of one narrow category.

The dictionary is read by nltk from the database files that WordNet itself publishes; Debian packages them as
`wordnet-base`, and `nltk.download("wordnet")` fetches them. (`wn`, the other library, reads another format, which
neither has.) It is looked for in the folder that is named, in `$WORDNET`, in /usr/share/wordnet, then where nltk keeps
its data.

A phrase is looked up by the longest end of it that the dictionary has: "on the picnic blanket" as "blanket", but "hot
dog" as itself. Of an ambiguous word the commonest senses are compared; the rest ("dog" for an andiron) would find
likenesses that nobody sees.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

Likeness = Literal["same", "kind", "sibling"]
"""Same meaning; one a kind of the other; or both next under one narrow category, as car and truck are."""

INSTALL = (
    "Install the Debian package wordnet-base (apt-get install wordnet-base), run `python -m nltk.downloader wordnet`, "
    "or name a folder that has the database files (data.noun, index.noun, ...) in WORDNET."
)

NARROW = 8
"""How deep under "entity" a category lies, counted in steps of its longest path, from which on its members count as
too alike to swap. Motor vehicles (10), canines (12), cutlery (8) and seats (8) are so; rooms, adults and carriages (7)
are not: a kitchen is clearly no bedroom."""

_SYNONYM_SENSES, _KIND_SENSES = 3, 2
_FOLDERS = (Path("/usr/share/wordnet"), Path("/usr/local/share/wordnet"))
_FILES = tuple(f"{table}.{part}" for part in ("noun", "verb", "adj", "adv") for table in ("data", "index"))
_ARTICLES = {"a", "an", "the", "some", "this", "that", "his", "her", "its", "their", "two", "three", "several", "many"}
_BEFORE = {
    *("on", "in", "at", "by", "of", "near", "under", "over", "above", "below", "behind", "beside", "inside", "outside"),
    *("with", "to", "from", "into", "onto", "along", "across", "against", "around", "between", "among", "through"),
    *("within", "beneath", "underneath", "upon", "atop", "next", "front", "off", "towards", "toward", "during", "for"),
}
# WordNet has counters as a kind of table, which nobody who looks at one says.
_TOLD_APART = {frozenset({"counter", "table"}), frozenset({"counter", "desk"})}


class WordNet:
    """A WordNet dictionary; `open` finds one.

    Args:
        reader: Reads the files: nltk's `WordNetCorpusReader`.
        folder: Where they are.
    """

    def __init__(self, reader: Any, folder: str) -> None:
        self._reader, self.folder = reader, folder
        self._senses, self._name = cache(self._find_senses), cache(self._find_name)
        self._categories = cache(_categories)

    @classmethod
    def open(cls, folder: str | Path | None = None) -> Self:
        """The dictionary of a folder, or the first that is found where the module says. Takes about a second.

        Args:
            folder: Where the database files are.

        Raises:
            FileNotFoundError: If there is none, with what to do about it.
            ImportError: If nltk is not installed.
        """
        try:
            from nltk.corpus.reader import wordnet  # type: ignore[import-untyped]
        except ImportError as error:
            raise ImportError('WordNet is read by nltk; install it with `pip install "virtue[curate]"`.') from error
        root = _root(folder)

        class Reader(wordnet.WordNetCorpusReader):
            def open(self, file: str) -> Any:
                # Debian leaves this table of topic names out; it is checked when it is read, and not used here.
                return io.StringIO(_TOPICS) if file == "lexnames" else super().open(file)

            def map_wn(self, version: str = "wordnet") -> None:
                """Nothing: it maps other languages, from a file that Debian leaves out too."""

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it knows English only
            return cls(Reader(root, None), str(root))

    def close(self) -> None:
        """Closes the files."""
        for file in self._reader._data_file_map.values():
            file.close()

    def knows(self, phrase: str) -> bool:
        """Whether it has the phrase or its head as a noun."""
        return bool(self._senses(phrase, "n"))

    def compare(self, one: str, other: str) -> Likeness | None:
        """How alike two things or places are; None for clearly distinct ones and for those it does not know.

        Args:
            one: A phrase, as in "a salad fork" or "on a beach".
            other: Another.
        """
        a, b = (self._name(phrase) for phrase in (one, other))
        if a == b:
            return "same"
        return None if frozenset({a, b}) in _TOLD_APART else self._likeness(one, other, "n")

    def compare_actions(self, one: str, other: str) -> Likeness | None:
        """The same of what is done, as in "riding" or "looking": never "sibling", since ways to move differ to the eye.

        Args:
            one: A verb in any form.
            other: Another.
        """
        found = self._likeness(one, other, "v")
        return None if found == "sibling" else found

    def _likeness(self, one: str, other: str, part: str) -> Likeness | None:
        a, b = self._senses(one, part), self._senses(other, part)
        if {*a[:_SYNONYM_SENSES]} & {*b[:_SYNONYM_SENSES]}:
            return "same"
        for x in a[:_KIND_SENSES]:
            for y in b[:_KIND_SENSES]:
                if x in self._categories(y) or y in self._categories(x):
                    return "kind"
        if a and b and any(parent.max_depth() >= NARROW for parent in {*a[0].hypernyms()} & {*b[0].hypernyms()}):
            return "sibling"
        return None

    def _find_senses(self, phrase: str, part: str) -> tuple[Any, ...]:
        """Meanings of what it is looked up by, the commonest first."""
        return tuple(self._reader.synsets(phrase.lower() if part == "v" else self._name(phrase), part))

    def _find_name(self, phrase: str) -> str:
        """The longest end of what a phrase names that the dictionary has; its last word if it has none."""
        words = _head_words(phrase)
        ends = (words[start:] for start in range(len(words)))
        names = (joint.join(end) for end in ends for joint in ("_", ""))  # it has "wineglass", and no "wine glass"
        return next((name for name in names if self._reader.synsets(name, "n")), head(phrase))


def head(phrase: str) -> str:
    """The last word of what a phrase names: "blanket" of "on the picnic blanket in the park".

    Articles, what stands before a noun, and everything after it are left out.

    Args:
        phrase: A noun with what belongs to it.
    """
    return next(reversed(_head_words(phrase)), "")


def _head_words(phrase: str) -> list[str]:
    words: list[str] = []
    for word in re.findall(r"[\w'-]+", phrase.lower()):
        if word in _BEFORE or word in ("that", "who", "which", "and", "or"):
            if words:
                break
        elif word not in _ARTICLES:
            words.append(word)
    return words


def _categories(synset: Any) -> frozenset[Any]:
    """Everything that it is a kind or an instance of."""
    return frozenset(_up(synset))


def _up(synset: Any) -> Iterator[Any]:
    for parent in (*synset.hypernyms(), *synset.instance_hypernyms()):
        yield parent
        yield from _up(parent)


_TOPICS = "".join(f"{number:02d}\ttopic.{number}\t1\n" for number in range(45))


def _root(folder: str | Path | None) -> Any:
    """What nltk reads the files from: a folder, or a folder in a zip archive.

    Raises:
        FileNotFoundError: If there is none.
    """
    named = folder or os.environ.get("WORDNET")
    if named:
        missing = [name for name in _FILES if not (Path(named) / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{named} holds no WordNet: {missing[0]} is missing. {INSTALL}")
        return _allowed(Path(named))
    for place in _FOLDERS:
        if all((place / name).is_file() for name in _FILES):
            return _allowed(place)
    import nltk.data  # type: ignore[import-untyped]

    for name in ("corpora/wordnet", "corpora/wordnet.zip/wordnet/"):
        try:
            return nltk.data.find(name)
        except LookupError:
            continue
    raise FileNotFoundError(f"WordNet, which tells synonyms apart, is not installed. {INSTALL}")


def _allowed(folder: Path) -> str:
    """The folder, which nltk then agrees to read: it reads from no folder that is not on its list."""
    import nltk.data

    path = str(folder.resolve())
    if path not in nltk.data.path:
        nltk.data.path.append(path)
    return path
