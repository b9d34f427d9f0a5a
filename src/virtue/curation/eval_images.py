"""A list of images to measure on, as people write it: one image a line, by what it is called anywhere.

    COCO/285                            the photograph, as in the column `image_id`
    COCO_val2014_000000000285.jpg       a file name of COCO's own, of whatever year
    val2017/000000000285.jpg            the path of the image, or the end of it

Empty lines and those that begin with "#" say nothing. A source's own split, or the images that an older set measures
on, are kept so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from virtue.curation.sources.coco import photograph
from virtue.curation.sources.text_files import lines_of
from virtue.curation.store import Curation


@dataclass(frozen=True)
class EvalImages:
    """Images of a run that a list names.

    Attributes:
        ids: Of the photographs.
        unknown: Names of the list that no sample of the run has.
    """

    ids: frozenset[str]
    unknown: tuple[str, ...]


def read_eval_images(run: Curation, file: str | Path) -> EvalImages:
    """The images of a run that a list names.

    Args:
        run: The run.
        file: The list, UTF-8.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no text in UTF-8, or names no image that the run has a sample of.
    """
    names = _names(Path(file))
    statement = "SELECT DISTINCT image_id, image FROM regions WHERE state = 'written'"
    found: dict[str, set[str]] = {}  # photographs by what they may be called
    for image_id, image in run.rows(statement):
        for name in {image_id, *_ends(image), photograph("", image.rpartition("/")[2])}:
            found.setdefault(name, set()).add(image_id)
    known = {name: found.get(name) or found.get(photograph("", name), set()) for name in names}
    ids = frozenset(image_id for own in known.values() for image_id in own)
    unknown = tuple(name for name, own in known.items() if not own)
    if not ids:
        such_as = f", such as {unknown[0]}" if unknown else ""
        raise ValueError(
            f"{file} names no image that {run.folder} has a sample of{such_as}: it lists one a line, by its image_id, "
            "as in COCO/285, or by its path."
        )
    return EvalImages(ids, unknown)


def _names(file: Path) -> list[str]:
    """What a list names, each once."""
    lines = (line for line in lines_of(file) if line and not line.startswith("#"))
    names = (line.replace("\\", "/").removeprefix("./") for line in lines)
    return list(dict.fromkeys(names))


def _ends(path: str) -> list[str]:
    """A path, and what is left of it without its first folders."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]
