"""The edge of a mask as a path that a browser draws.

H and W are height and width of the image in pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def outline(mask: NDArray[np.bool_]) -> str:
    """The lines between what is in a mask and what is not, as the `d` of an SVG path in source pixels.

    Each straight stretch is a line of its own, as in "M2 1H4": the path has no inside and is for strokes only.

    Args:
        mask: bool, (H, W).
    """
    padded = np.pad(mask, 1)
    across = padded[1:, 1:-1] != padded[:-1, 1:-1]  # (H + 1, W): an edge above pixel (y, x)
    down = (padded[1:-1, 1:] != padded[1:-1, :-1]).T  # (W + 1, H): an edge left of pixel (y, x)
    rows = [f"M{start} {y}H{end}" for y, start, end in _stretches(across)]
    return "".join(rows + [f"M{x} {start}V{end}" for x, start, end in _stretches(down)])


def _stretches(edges: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Runs of set cells along the second axis: line, first cell, cell behind the last."""
    steps = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    lines, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    return list(zip(lines.tolist(), starts.tolist(), ends.tolist(), strict=True))
