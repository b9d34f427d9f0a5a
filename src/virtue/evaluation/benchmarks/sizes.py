"""How large a pointed-at thing is called, by the share of its picture that its box covers."""

from __future__ import annotations

SMALL, MEDIUM = 0.02, 0.15


def size_word(box: tuple[float, float, float, float], pixels: int) -> str:
    """Says "small" where the box covers less than 2 % of the picture, "medium" less than 15 %, else "large".

    Args:
        box: XYXY in pixels.
        pixels: How many the picture has.
    """
    x1, y1, x2, y2 = box
    share = (x2 - x1) * (y2 - y1) / pixels
    return "small" if share < SMALL else "medium" if share < MEDIUM else "large"
