"""A WordNet of a few words in the format of the real one: a line for each meaning, found by where in the file it is."""

from collections.abc import Mapping, Sequence
from pathlib import Path

Meanings = Mapping[str, tuple[Sequence[str], Sequence[str]]]

NOUNS: Meanings = {
    # Name of a meaning: its words, and the names of what it is a kind of.
    "entity": (["entity"], []),
    "thing": (["thing"], ["entity"]),
    "artifact": (["artifact"], ["thing"]),
    "instrumentality": (["instrumentality"], ["artifact"]),
    "conveyance": (["conveyance"], ["instrumentality"]),
    "vehicle": (["vehicle"], ["conveyance"]),
    "wheeled": (["wheeled_vehicle"], ["vehicle"]),
    "self-propelled": (["self-propelled_vehicle"], ["wheeled"]),
    "motor": (["motor_vehicle"], ["self-propelled"]),  # eight steps under "entity"
    "car": (["car", "auto"], ["motor"]),
    "truck": (["truck"], ["motor"]),
    "taxi": (["taxi", "cab"], ["car"]),
    "room": (["room"], ["artifact"]),
    "kitchen": (["kitchen"], ["room"]),
    "bedroom": (["bedroom"], ["room"]),
    "table": (["table"], ["instrumentality"]),
    "counter": (["counter"], ["table"]),
    "couch": (["couch", "sofa"], ["instrumentality"]),
    "animal": (["animal"], ["thing"]),
    "dog": (["dog"], ["animal"]),
    "cat": (["cat"], ["animal"]),
    "mouse": (["mouse"], ["animal"]),
    "food": (["food"], ["thing"]),
    "hotdog": (["hotdog", "hot_dog"], ["food"]),
    "fork": (["fork"], ["artifact"]),
    "salad fork": (["salad_fork"], ["fork"]),
    "blanket": (["blanket"], ["artifact"]),
    "beach": (["beach"], ["thing"]),
}

VERBS: Meanings = {
    "move": (["move"], []),
    "ride": (["ride"], ["move"]),
    "hold": (["hold", "take_hold"], []),
    "grip": (["clasp"], ["hold"]),
    "guide": (["lead", "guide"], []),
}


def write_wordnet(folder: Path, nouns: Meanings = NOUNS, verbs: Meanings = VERBS) -> Path:
    """Writes the files, and returns their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, letter, meanings in (("noun", "n", nouns), ("verb", "v", verbs), ("adj", "a", {}), ("adv", "r", {})):
        _write(folder, part, letter, meanings)
        (folder / f"{part}.exc").write_text("mice mouse\n" if part == "noun" else "")
    (folder / "cntlist.rev").write_text("")
    return folder


def _write(folder: Path, part: str, letter: str, meanings: Meanings) -> None:
    offsets, text = dict.fromkeys(meanings, 0), ""
    for _ in range(2):  # the first time for where the lines are: numbers have a fixed width
        text = "  1 no real dictionary\n"
        for name in meanings:
            offsets[name] = len(text)
            text += _line(name, letter, meanings, offsets) + "\n"
    (folder / f"data.{part}").write_text(text)
    senses: dict[str, list[str]] = {}
    for name, (words, _) in meanings.items():
        for word in words:
            senses.setdefault(word, []).append(f"{offsets[name]:08d}")
    lines = [f"{w} {letter} {len(found)} 0 {len(found)} 0 {' '.join(found)}  \n" for w, found in sorted(senses.items())]
    (folder / f"index.{part}").write_text("  1 no real dictionary\n" + "".join(lines))


def _line(name: str, letter: str, meanings: Meanings, offsets: Mapping[str, int]) -> str:
    words, parents = meanings[name]
    said = " ".join(f"{word} 0" for word in words)
    pointers = "".join(f" @ {offsets[parent]:08d} {letter} 0000" for parent in parents)
    frames = " 01 + 02 00" if letter == "v" else ""
    return f"{offsets[name]:08d} 03 {letter} {len(words):02x} {said} {len(parents):03d}{pointers}{frames} | {name}"
