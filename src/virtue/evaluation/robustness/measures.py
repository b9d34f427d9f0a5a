"""What of a query's object makes it hard without anyone's doing: its size, its contrast, what covers it.

Of an object that only a box is known of, its size is not known: "box size" is that of the box, and is called so.

Q is the number of queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from virtue.evaluation.robustness.disturbances import BOX_SIZE
from virtue.evaluation.robustness.prompt_disturbances import Region, region_of, window
from virtue.images import ImageSource, image_key, open_image
from virtue.items import Item

BINS = 5
Values = NDArray[np.float64]


def measured(name: str, items: Sequence[Item]) -> Values:
    """A number for each query, (Q,).

    Args:
        name: "object size" is the share of the picture's pixels; "object contrast" the distance between the mean colour
            of the object and that of its surroundings (the box and a quarter of its sides around it, without the
            object), as a share of the distance from black to white; "object covered" the share of its box that the
            other objects asked about in its picture fill with pixels that can be seen; "box size" the share of the
            picture that the box covers.
        items: Queries that show their objects by masks; for "box size" boxes will do.
    """
    together: dict[object, list[int]] = {}
    for number, item in enumerate(items):
        assert item.image is not None
        together.setdefault(image_key(item.image), []).append(number)
    values = np.full(len(items), np.nan)
    for numbers in together.values():
        regions = [region for number in numbers if (region := region_of(items[number])) is not None]
        image = items[numbers[0]].image
        assert image is not None
        values[numbers] = _MEASURES[name](regions, image)
    return values


def bins(values: Values, count: int = BINS) -> list[NDArray[np.intp]]:
    """Numbers of the queries in each of `count` bins of about equal number, from the least value to the greatest.

    Equal values share a bin, so there may be fewer bins; NaN is in none.

    Args:
        values: (Q,).
        count: Of bins at most.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return []
    starts = np.unique(np.quantile(known, np.arange(count) / count, method="higher"))
    place = np.where(np.isnan(values), -1, np.searchsorted(starts, values, side="right") - 1)
    return [np.flatnonzero(place == number) for number in range(len(starts))]


def _sizes(regions: Sequence[Region], image: ImageSource) -> list[float]:
    del image
    return [float(region.pixels.mean()) for region in regions]


def _box_sizes(regions: Sequence[Region], image: ImageSource) -> list[float]:
    del image
    sizes = []
    for region in regions:
        x1, y1, x2, y2 = region.box
        sizes.append((x2 - x1) * (y2 - y1) / (region.size[0] * region.size[1]))
    return sizes


def _contrasts(regions: Sequence[Region], image: ImageSource) -> list[float]:
    pixels = np.asarray(open_image(image), dtype=np.float64) / 255
    return [_contrast(pixels[window(region)], region.pixels[window(region)]) for region in regions]


def _contrast(pixels: Values, mask: NDArray[np.bool_]) -> float:
    """Of pixels (h, w, 3) from 0 to 1; NaN where the object leaves no surroundings."""
    if mask.all():
        return float("nan")
    return float(np.linalg.norm(pixels[mask].mean(0) - pixels[~mask].mean(0)) / np.sqrt(3))


def _covered(regions: Sequence[Region], image: ImageSource) -> list[float]:
    del image
    seen = np.sum([region.pixels for region in regions], axis=0)  # (H, W): how many objects hold each pixel
    shares = []
    for region in regions:
        x1, y1, x2, y2 = (int(edge) for edge in region.box)
        own = region.pixels[y1:y2, x1:x2]
        shares.append(float(((seen[y1:y2, x1:x2] - own > 0) & ~own).mean()))
    return shares


_MEASURES: dict[str, Callable[[Sequence[Region], ImageSource], list[float]]] = {
    "object size": _sizes,
    "object contrast": _contrasts,
    "object covered": _covered,
    BOX_SIZE: _box_sizes,
}

UNITS = {
    "object size": "share of the picture",
    "object contrast": "distance of mean colours",
    "object covered": "share of its box",
    BOX_SIZE: "share of the picture",
}
