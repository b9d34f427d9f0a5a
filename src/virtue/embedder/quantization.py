"""Smaller embeddings: fewer dimensions, a byte per dimension, a bit per dimension; meaning as in sentence-transformers.

Letters: N embeddings, D dimensions.
"""

from __future__ import annotations

import logging
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEW = 100  # embeddings, below which their ranges are a guess
logger = logging.getLogger(__name__)

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
        ValueError: If the precision is unknown, the ranges make no sense, or there is one embedding alone to take them
            from.
    """
    check_precision(precision, ranges, embeddings.shape[1])
    if precision == "float32":
        return embeddings
    if precision in ("binary", "ubinary"):
        bits: NDArray[np.uint8] = np.packbits(embeddings > 0, axis=1)
        return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
    check_count(precision, ranges, len(embeddings))
    low, high = _ranges(embeddings, ranges)
    shares = (embeddings - low) / np.where(high > low, high - low, 1)
    levels: NDArray[np.float32] = np.clip(shares * 255, 0, 255)
    return levels.astype(np.uint8) if precision == "uint8" else (levels - 128).astype(np.int8)


def check_precision(precision: str, ranges: ArrayLike | None, width: int) -> None:
    """Refuses a precision, or ranges for embeddings of `width` dimensions, that `quantize_embeddings` cannot use.

    Raises:
        ValueError: If the precision is unknown, or the ranges are of another shape, not finite or upside down.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision is one of {', '.join(get_args(Precision))}, not {precision!r}.")
    if ranges is None:
        return
    given = np.asarray(ranges, dtype=np.float32)
    if given.shape != (2, width):
        raise ValueError(f"ranges holds each dimension's lowest and highest value, (2, {width}), not {given.shape}.")
    if not np.isfinite(given).all() or (given[0] > given[1]).any():
        raise ValueError("ranges holds finite numbers, the lowest value of each dimension first, then the highest.")


def check_count(precision: str, ranges: ArrayLike | None, count: int) -> None:
    """Refuses to take ranges from a single embedding.

    Raises:
        ValueError: If there is one embedding, no ranges, and a precision that needs them.
    """
    if count == 1 and ranges is None and precision in ("int8", "uint8"):
        raise ValueError(
            "One embedding alone has no range to be cut into bytes: give `ranges`, those of the embeddings it will be "
            "compared with."
        )


def _ranges(embeddings: NDArray[np.float32], ranges: ArrayLike | None) -> NDArray[np.float32]:
    if ranges is not None:
        return np.asarray(ranges, dtype=np.float32)
    if len(embeddings) == 0:
        return np.zeros((2, embeddings.shape[1]), dtype=np.float32)
    if len(embeddings) < FEW:
        logger.warning("The ranges of %d embeddings say little of others; give `ranges`.", len(embeddings))
    return np.stack([embeddings.min(axis=0), embeddings.max(axis=0)])
