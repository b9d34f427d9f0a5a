"""Opens a source by its kind and where it was unpacked to, and says in a sentence what is missing there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from virtue.curation.sources.ade20k import Ade20kFull, SceneParsing
from virtue.curation.sources.coco import Coco, Scenes
from virtue.curation.sources.coco_stuff import CocoStuff, CocoStuffMaps
from virtue.curation.sources.refcoco import RefCoco
from virtue.curation.sources.source import MIN_SHARE, Source
from virtue.curation.sources.visual_genome import VisualGenome


@dataclass(frozen=True)
class SourceFile:
    """A file or folder that a source is read from.

    Args:
        role: Which argument of the source it is.
        patterns: What it is called, the preferred name first; `*` stands for anything, a slash at the end for a folder.
        about: What it holds.
        required: Whether the source cannot be read without it.
    """

    role: str
    patterns: tuple[str, ...]
    about: str
    required: bool = True


@dataclass(frozen=True)
class Layout:
    """One way in which a source is published.

    Args:
        source: What reads it.
        files: What it is read from, the main file first.
        takes_split: Whether the source itself takes a split; else the split is part of the files' names.
    """

    source: type[Source]
    files: tuple[SourceFile, ...]
    takes_split: bool = False


@dataclass(frozen=True)
class SourceKind:
    """A kind of source.

    Args:
        name: What regions call their source, unless another name is given.
        about: What it is, in a few words.
        layouts: How it is published, the first one that is found counts.
    """

    name: str
    about: str
    layouts: tuple[Layout, ...]


_CAPTIONS = SourceFile("captions", ("captions_*.json", "captions.json"), "captions of whole images", required=False)
_INSTANCES = SourceFile("instances", ("instances.json", "instances_*.json"), "COCO's boxes and categories")


def _refs(*patterns: str) -> tuple[Layout, ...]:
    return (Layout(RefCoco, (SourceFile("refs", patterns, "the pickle of refs"), _INSTANCES, _CAPTIONS), True),)


KINDS: dict[str, SourceKind] = {
    kind.name: kind
    for kind in (
        SourceKind("RefCOCOg", "expressions for COCO's objects", _refs("refs(umd).p", "refs(*).p", "*.p")),
        SourceKind("RefCOCO_plus", "expressions without places", _refs("refs(unc).p", "refs(*).p", "*.p")),
        SourceKind(
            "COCO_Stuff",
            "stuff of COCO's photographs",
            (
                Layout(
                    CocoStuff,
                    (
                        SourceFile("stuff", ("stuff_*.json", "stuff.json"), "boxes and masks of stuff"),
                        SourceFile("instances", ("instances_*.json",), "boxes and masks of things", required=False),
                        _CAPTIONS,
                    ),
                ),
                Layout(
                    CocoStuffMaps,
                    (
                        SourceFile("labels", ("labels.txt",), "names of the classes"),
                        SourceFile("maps", ("*pixelmaps*/", "stuffthingmaps*/", "./"), "label maps"),
                        _CAPTIONS,
                    ),
                    True,
                ),
            ),
        ),
        SourceKind(
            "VisualGenome",
            "objects and their relationships",
            (
                Layout(
                    VisualGenome,
                    (
                        SourceFile("objects", ("objects.json",), "boxes and names"),
                        SourceFile("image_data", ("image_data.json",), "sizes of the images"),
                        SourceFile("relationships", ("relationships.json",), "relationships", required=False),
                        SourceFile("regions", ("region_descriptions.json",), "phrases", required=False),
                        _CAPTIONS,
                    ),
                ),
            ),
        ),
        SourceKind(
            "ADE20K",
            "scenes of many kinds, SceneParsing or the full set",
            (
                Layout(
                    SceneParsing,
                    (
                        SourceFile("classes", ("objectInfo150.txt",), "names of the classes"),
                        SourceFile("maps", ("annotations/", "./"), "label maps"),
                        SourceFile("places", ("sceneCategories*.txt",), "places of the images", required=False),
                    ),
                    True,
                ),
                Layout(Ade20kFull, (SourceFile("folder", ("./",), "JSON of the full set"),), True),
            ),
        ),
        SourceKind(
            "COCO",
            "any set as COCO JSON",
            (
                Layout(
                    Coco,
                    (
                        SourceFile("instances", ("instances*.json", "*.json"), "boxes and categories"),
                        _CAPTIONS,
                    ),
                ),
            ),
        ),
        SourceKind("scenes", "generated scenes", (Layout(Scenes, (_INSTANCES,)),)),
    )
}
"""The kinds of sources by name, and the files that each is read from."""


def open_source(
    kind: str,
    paths: str | Path | Sequence[str | Path],
    images: str | Path | None = None,
    *,
    name: str | None = None,
    split: str | None = None,
    min_share: float = MIN_SHARE,
) -> Source:
    """Opens a source of annotations.

    Args:
        kind: A name out of `KINDS`, in any case and with any punctuation: "coco-stuff", "refcoco+".
        paths: The folder it was unpacked to, or its files. Of a file, what is missing is looked for beside it.
        images: The folder of images; by default the folder of the first path.
        name: What regions call their source; by default the kind's name.
        split: Which part: of RefCOCO's refs ("val"), of file names ("val2017") or folders ("validation"). None for all.
        min_share: Share of the image that the box of a region covers at least, 0 to 1.

    Raises:
        FileNotFoundError: If a path is not there, or a file that the kind needs.
        ValueError: If there is no such kind, a file is not what it should be, or several could be meant.
    """
    given = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    known = kind_of(kind)
    for path in given:
        if not path.exists():
            raise FileNotFoundError(f"There is no {path} to read {known.name} from.")
    if not given:
        raise ValueError(f"Say where {known.name} is: its folder, or its files.")
    home = given[0] if given[0].is_dir() else given[0].parent
    for layout in known.layouts:
        found, missing = _found(layout, given, split)
        if not missing:
            options: dict[str, Any] = {**found, **({"split": split} if layout.takes_split else {})}
            return layout.source(name or known.name, images or home, min_share=min_share, **options)
    raise FileNotFoundError(f"{' and '.join(map(str, given))}: {_needs(known, split)}")


def kind_of(name: str) -> SourceKind:
    """A kind by its name, in any case and with any punctuation.

    Raises:
        ValueError: If there is none.
    """
    for kind in KINDS.values():
        if _bare(kind.name) == _bare(name):
            return kind
    raise ValueError(f"There is no kind of source {name!r}; there are {', '.join(KINDS)}.")


def _bare(name: str) -> str:
    return "".join(character for character in name.lower().replace("+", "plus") if character.isalnum())


def _needs(kind: SourceKind, split: str | None) -> str:
    """What a kind is read from, in a sentence."""
    ways = []
    for layout in kind.layouts:
        files = [f"{file.patterns[0]} ({file.about})" for file in layout.files if file.required]
        ways.append(" and ".join(files))
    of = f" of {split}" if split else ""
    return f"{kind.name} is read from {', or '.join(ways)}{of}; not all of it is there."


def _found(layout: Layout, given: list[Path], split: str | None) -> tuple[Mapping[str, Path], list[SourceFile]]:
    """The files of a layout by role, and those that are missing."""
    found: dict[str, Path] = {}
    missing = []
    for file in layout.files:
        path = _find(file, given, split, next(iter(found.values()), None), takes_split=layout.takes_split)
        if path is not None and path not in found.values():
            found[file.role] = path
        elif file.required:
            missing.append(file)
    return found, missing


def _find(
    file: SourceFile, given: list[Path], split: str | None, main: Path | None, *, takes_split: bool
) -> Path | None:
    """One file: a given one if it has such a name, else one beside the given ones or in a given folder.

    Raises:
        ValueError: If several could be meant.
    """
    here = [path for path in given if path.is_file()]
    folders = list(dict.fromkeys(path if path.is_dir() else path.parent for path in given))
    for places in (here, list(_listed(folders))):
        for pattern in file.patterns:
            matches = list(_matching(pattern, places, folders if places is not here else ()))
            matches = matches if split is None else _of_split(matches, split, takes_split)
            if len(matches) > 1 and main is not None:  # the one of the same part as the main file
                matches = [path for path in matches if _ending(path) == _ending(main)] or matches
            if len(matches) > 1:
                raise ValueError(f"{_several(matches)} could be meant; name the file, or say which by a split.")
            if matches:
                return matches[0]
    return None


def _of_split(paths: list[Path], split: str, takes_split: bool) -> list[Path]:
    """Those of a split. One that the source takes itself is no part of files' names, but may be one of a folder's."""
    if takes_split:  # as in `stuff_val2017_pixelmaps`
        return [path for path in paths if path.is_dir() and split in path.name] or paths
    return [path for path in paths if path.is_dir() or split in path.name]


def _listed(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        for place in (folder, folder / "annotations"):
            yield from sorted(place.iterdir()) if place.is_dir() else ()


def _matching(pattern: str, places: list[Path], folders: Sequence[Path]) -> Iterator[Path]:
    """Those of some paths that are called so, or the folders themselves."""
    if pattern == "./":
        yield from folders[:1]
    is_folder = pattern.endswith("/")
    for path in places:
        if fnmatchcase(path.name, pattern.rstrip("/")) and path.is_dir() == is_folder:
            yield path


def _ending(path: Path) -> str:
    return path.stem.partition("_")[2]


def _several(paths: list[Path]) -> str:
    names = sorted(str(path) for path in paths)
    shown = names[:4] + (["others"] if len(names) > 4 else [])
    return f"{', '.join(shown[:-1])} and {shown[-1]}"
