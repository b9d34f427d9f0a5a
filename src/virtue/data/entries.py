"""An entry of a user's own pairs as an `Item`: a text, or text, image and region; `own` says the format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from virtue.data import annotated
from virtue.data.rows import Row
from virtue.images import ImageSource, image_size, is_url, load_image
from virtue.items import Item
from virtue.masks import from_image
from virtue.prompts import Box, Mask, Point, VisualPrompt

KEYS = ("text", "image", "instruction", "box", "points", "mask")


def read_entry(row: Row, field: str, entry: object, images: Path) -> Item:
    """One entry as an item.

    Args:
        row: Where it stands.
        field: Its name in the row.
        entry: What stands there.
        images: The folder that relative image paths start from.

    Raises:
        RowError: If the entry does not follow the format.
        ImageError: If a mask's file, or an image whose size polygons have to fit, is missing or broken.
    """
    if isinstance(entry, str):
        entry = {"text": entry}
    elif isinstance(entry, Image.Image):
        entry = {"image": entry}
    if not isinstance(entry, Mapping):
        raise row.error(field, f"must be a text or an object with {', '.join(KEYS)}, got {type(entry).__name__}.")
    _check_keys(row, field, entry)
    # Columns of structs have every key, null where nothing was given.
    given = {key: value for key, value in entry.items() if value is not None}
    image = _image(row, f"{field}.image", given.get("image"), images)
    prompt = _visual_prompt(row, field, given, image, images)
    with row.checked(field):
        return Item(given.get("text"), image, prompt, given.get("instruction"))


def _check_keys(row: Row, field: str, entry: Mapping[Any, Any]) -> None:
    for key in entry:
        if key not in KEYS:
            raise row.error(f"{field}.{key}", f"is unknown; an entry has {', '.join(KEYS)}.")


def _image(row: Row, field: str, value: object, images: Path) -> ImageSource | None:
    """A path within `images`, a URL, or what `datasets` makes of a picture: the bytes of its file, or a PIL image."""
    if isinstance(value, Mapping):  # as `datasets` stores it in Parquet
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        if not value.strip():
            raise row.error(field, "is empty.")
        return value if is_url(value) else images / value
    if value is None or isinstance(value, bytes | Image.Image):
        return value
    raise row.error(field, f"must be a path, got {type(value).__name__}.")


def _visual_prompt(
    row: Row, field: str, given: Mapping[str, Any], image: ImageSource | None, images: Path
) -> VisualPrompt | None:
    box: Box | None = None
    points: tuple[Point, ...] = ()
    mask: Mask | None = None
    if "box" in given:
        with row.checked(f"{field}.box"):
            box = annotated.box_xyxy(given["box"])
    if "points" in given:
        with row.checked(f"{field}.points"):
            points = annotated.points(given["points"])
            if box is None and "mask" not in given and not any(point.include for point in points):
                raise ValueError("only excludes; give a point on the object, a box or a mask as well.")
    if "mask" in given:
        with row.checked(f"{field}.mask"):
            mask = _mask(given["mask"], image, images)
    return VisualPrompt(points, box, mask) if box or points or mask else None


def _mask(value: object, image: ImageSource | None, images: Path) -> Mask:
    if isinstance(value, str):
        return Mask.open(images / value)
    if isinstance(value, Image.Image):
        return Mask(from_image(value))
    mask = annotated.mask(value, lambda: _size(image))
    if mask is None:
        raise ValueError("is empty: no pixel of it is set.")
    return mask


def _size(image: ImageSource | None) -> annotated.Size:
    """Width and height of an entry's image."""
    if image is None:
        raise ValueError("needs an image that the polygons lie in.")
    return image_size(image) if isinstance(image, Path) else load_image(image).size
