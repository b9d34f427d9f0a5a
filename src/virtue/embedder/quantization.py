"""Smaller embeddings: fewer dimensions, a byte per dimension, a bit per dimension; meaning as in sentence-transformers.

Letters: N embeddings, D dimensions.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]


def truncate(embeddings: NDArray[np.float32], dimension: int | None, *, normalize: bool) -> NDArray[np.float32]:
    """The first dimensions of embeddings (N, D), as unit rows again if `normalize`.

    Raises:
        ValueError: If there are not so many dimensions.
    """
    if dimension is None:
        return embeddings
    check_truncation(dimension, embeddings.shape[1])
    kept = embeddings[:, :dimension]
    return kept / np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-12) if normalize else kept


def check_truncation(dimension: int | None, width: int) -> None:
    """Refuses a `truncate_dim` that a model of `width` dimensions cannot give.

    Raises:
        ValueError: If it is not between 1 and `width`.
    """
    if dimension is not None and not 1 <= dimension <= width:
        raise ValueError(f"truncate_dim is between 1 and the model's {width} dimensions, not {dimension}.")


def quantize_embeddings(
    embeddings: NDArray[np.float32], precision: Precision, ranges: ArrayLike | None = None
) -> NDArray[Any]:
    """Embeddings in fewer bits.

    "int8" and "uint8" cut each dimension's range into 255 steps, from -128 or from 0; "binary" and "ubinary" keep only
    whether a value is above 0, eight to a byte, the byte shifted by -128 for "binary".

    Args:
        embeddings: (N, D) float32.
        precision: One of the five.
        ranges: Lowest and highest value of each dimension, (2, D), for "int8" and "uint8"; by default those of
            `embeddings`, which makes sense from about a hundred embeddings on. Values beyond are clipped.

    Returns:
        (N, D), or (N, ceil(D / 8)) for the binary ones; int8 or uint8.

    Raises:
        ValueError: If the precision is unknown, or the ranges have another shape.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision is one of {', '.join(get_args(Precision))}, not {precision!r}.")
    if precision == "float32" or (len(embeddings) == 0 and ranges is None):
        return embeddings
    if precision in ("binary", "ubinary"):
        bits: NDArray[np.uint8] = np.packbits(embeddings > 0, axis=1)
        return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
    low, high = _ranges(embeddings, ranges)
    shares = (embeddings - low) / np.where(high > low, high - low, 1)
    levels: NDArray[np.float32] = np.clip(shares * 255, 0, 255)
    return levels.astype(np.uint8) if precision == "uint8" else (levels - 128).astype(np.int8)


def _ranges(embeddings: NDArray[np.float32], ranges: ArrayLike | None) -> NDArray[np.float32]:
    if ranges is None:
        return np.stack([embeddings.min(axis=0), embeddings.max(axis=0)])
    given = np.asarray(ranges, dtype=np.float32)
    if given.shape != (2, embeddings.shape[1]):
        raise ValueError(
            f"ranges holds each dimension's lowest and highest value, (2, {embeddings.shape[1]}), not {given.shape}."
        )
    return given
