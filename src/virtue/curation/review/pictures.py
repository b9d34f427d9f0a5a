"""The pictures of the review page: images of the run, never a file outside its folders, as JPEG that a browser shows.

Each is written anew: turned as its EXIF says, so that boxes lie where they should, without anything else its file
holds, and whatever kind of file it was.
"""

from __future__ import annotations

import io
from pathlib import Path

from virtue.curation.samples import Region
from virtue.curation.store import Curation
from virtue.images import load_image, thumbnail

MAX_SIDE = 3000
"""Pixels of the longer side of what is sent, at most."""

QUALITY = 92


def image_file(curation: Curation, region: Region, images: Path | None = None) -> Path:
    """The file of a region's image.

    Args:
        curation: The run.
        region: The region, whose path was written by strangers.
        images: Folder that its path is relative to; by default the one that the run remembers for its source.

    Raises:
        ValueError: If the path leads out of the folder, or the run does not know of one.
        FileNotFoundError: If there is no such file.
    """
    folder = images if images is not None else curation.noted("images", {}).get(region.source)
    if folder is None:
        raise ValueError(f"The run does not know where the images of {region.source} are; give their folder.")
    root = Path(folder).resolve()
    try:
        file = (root / region.image).resolve()
    except (OSError, ValueError) as error:  # a loop of links, a name that no file can have
        raise ValueError(f"The path of the image {region.image!r} is none.") from error
    if not file.is_relative_to(root):
        raise ValueError(f"The path of the image {region.image!r} leads out of the folder of images.")
    if not file.is_file():
        raise FileNotFoundError(f"There is no image {region.image} in {root}.")
    return file


def picture(file: Path) -> bytes:
    """A file as JPEG.

    Raises:
        ImageError: If it is no image, broken, or too large.
    """
    image = load_image(file)
    if max(image.size) > MAX_SIDE:
        image = thumbnail(image, MAX_SIDE)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
