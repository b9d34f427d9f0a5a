"""Label maps: pictures whose pixels are numbers of classes. H and W are height and width in pixels.

A map says what a pixel is, not which thing it belongs to. `parts` takes them apart: what touches at an edge and has the
same label is one part.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from virtue.images import load_image
from virtue.masks import bounding_box


@dataclass(frozen=True)
class Part:
    """A connected part of a label map.

    Args:
        label: The label.
        number: Of the part, in the map of parts.
        box: Tight around it, XYXY in pixels.
    """

    label: int
    number: int
    box: tuple[float, float, float, float]


def read_labels(file: str | Path) -> NDArray[Any]:
    """A label map, (H, W), the indices themselves where it has a palette.

    Args:
        file: The picture.

    Raises:
        ImageError: If there is no such file, or it is no image.
        ValueError: If it is in colours.
    """
    labels = np.asarray(load_image(file))
    if labels.ndim != 2:
        raise ValueError(f"{file} is no label map: its pixels are colours, not numbers of classes.")
    return labels


def parts(labels: NDArray[Any], but: tuple[int, ...] = ()) -> tuple[NDArray[np.int64], list[Part]]:
    """Connected parts of a label map, by their first pixels from the top left.

    1. Every stretch of one label in a row gets a number.
    2. Stretches that touch the one above and have its label are joined.

    Args:
        labels: (H, W).
        but: Labels that are no class.

    Returns:
        The map of parts, (H, W), and the parts; `map == part.number` is a part's mask.
    """
    begins = np.ones(labels.shape, dtype=bool)
    begins[:, 1:] = labels[:, 1:] != labels[:, :-1]
    stretches = (np.cumsum(begins.ravel()) - 1).reshape(labels.shape)  # (H, W)
    joined = _joined(stretches, labels[1:] == labels[:-1])[stretches]
    firsts = np.unique(joined, return_index=True)[1]
    ends = {int(joined.flat[first]): _bounds(first, labels.shape) for first in firsts}
    rows, columns = np.nonzero(begins)
    last = np.append(np.flatnonzero(begins.ravel())[1:], labels.size) - 1  # a stretch's last pixel
    for number, row, left, right in zip(
        joined[begins].tolist(), rows.tolist(), columns.tolist(), (last % labels.shape[1]).tolist(), strict=True
    ):
        box = ends[number]
        box[0], box[2], box[3] = min(box[0], left), max(box[2], right + 1), row + 1
    found = [(int(labels.flat[first]), int(joined.flat[first])) for first in sorted(firsts)]
    return joined, [_part(label, number, ends[number]) for label, number in found if label not in but]


def pixels_of(labels: NDArray[Any], label: int, _size: tuple[int, int] = (0, 0)) -> NDArray[np.bool_]:
    """All pixels of a label, bool (H, W); a map has a size of its own, so that of the image changes nothing."""
    found: NDArray[np.bool_] = labels == label
    return found


def label_box(labels: NDArray[Any], label: int) -> tuple[float, float, float, float]:
    """The box around all pixels of a label, XYXY."""
    return bounding_box(pixels_of(labels, label))


def _bounds(first: int, shape: tuple[int, ...]) -> list[int]:
    row, column = divmod(int(first), shape[1])
    return [column, row, column + 1, row + 1]


def _part(label: int, number: int, box: list[int]) -> Part:
    x1, y1, x2, y2 = map(float, box)
    return Part(label, number, (x1, y1, x2, y2))


def _joined(stretches: NDArray[np.int64], is_alike: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The lowest stretch that each stretch is joined to, (stretches,)."""
    count = int(stretches[-1, -1]) + 1
    pairs = np.unique(stretches[:-1][is_alike] * count + stretches[1:][is_alike])
    parents = list(range(count))

    def root(stretch: int) -> int:
        while parents[stretch] != stretch:
            parents[stretch] = parents[parents[stretch]]
            stretch = parents[stretch]
        return stretch

    for above, below in zip((pairs // count).tolist(), (pairs % count).tolist(), strict=True):
        one, two = root(above), root(below)
        parents[max(one, two)] = min(one, two)
    return np.array([root(stretch) for stretch in range(count)], dtype=np.int64)
