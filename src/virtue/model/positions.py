"""Position ids of a merged sequence [segmentation tokens; image tokens; text tokens].

Pure functions of one row: the embedding of an item must not depend on its padding, its batch or earlier calls, so
nothing here counts pads or remembers anything.

Letters: S segmentation tokens (side squared), T tokens of the text with its image tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor


def image_frame_positions(image_tokens: Tensor, grid: tuple[int, int] | None, side: int) -> Tensor:
    """M-RoPE positions in which segmentation tokens stand in the image's own frame.

    Image token (r, c) stands at height r and width c. Segmentation token (i, j) of the side x side map stands at the
    centre of the cell it looks at: height (i + 0.5) * rows / side - 0.5, width (j + 0.5) * columns / side - 0.5, a
    fraction of a token where the grids differ. Text goes on behind the image's longer side, as in Qwen2-VL.

    Args:
        image_tokens: Which of the row's real tokens are image tokens, bool (T,).
        grid: Rows and columns of the image tokens; None for text alone.
        side: Segmentation tokens per row and column.

    Returns:
        Time, height and width of every token, (3, side * side + T) or (3, T) for text alone, float32.
    """
    tokens = image_tokens.shape[0]
    device = image_tokens.device
    if grid is None:
        return torch.arange(tokens, device=device, dtype=torch.float32).expand(3, -1)
    rows, columns = grid
    start = int(image_tokens.int().argmax())
    after = tokens - start - rows * columns
    row, column = torch.meshgrid(
        torch.arange(rows, device=device, dtype=torch.float32),
        torch.arange(columns, device=device, dtype=torch.float32),
        indexing="ij",
    )
    image = torch.stack([torch.zeros_like(row), row, column]).flatten(1) + start  # (3, rows * columns)
    before = torch.arange(start, device=device, dtype=torch.float32).expand(3, -1)
    text = (torch.arange(after, device=device, dtype=torch.float32) + start + max(rows, columns)).expand(3, -1)
    cell = torch.arange(side, device=device, dtype=torch.float32) + 0.5
    height, width = torch.meshgrid(cell * rows / max(side, 1) - 0.5, cell * columns / max(side, 1) - 0.5, indexing="ij")
    segmentation = torch.stack([torch.zeros_like(height), height, width]).flatten(1) + start  # (3, side * side)
    return torch.cat([segmentation, before, image, text], dim=1)


def released_positions(image_tokens: Tensor, grid: tuple[int, int] | None, side: int) -> Tensor:
    """Positions as the authors' code counts them: segmentation tokens 0, token j at S + j, three equal axes.

    Their code also counts a row's left pads; this is its rule for a row without padding, so that an item's embedding
    does not depend on its batch.

    Args:
        image_tokens: Which of the row's real tokens are image tokens, bool (T,).
        grid: Rows and columns of the image tokens; None for text alone.
        side: Segmentation tokens per row and column.

    Returns:
        Positions, (3, side * side + T) or (3, T) for text alone, float32.
    """
    segmentation = side * side if grid is not None else 0
    positions = torch.arange(segmentation + image_tokens.shape[0], device=image_tokens.device, dtype=torch.float32)
    positions[:segmentation] = 0
    return positions.expand(3, -1)


POSITION_RULES = {"image_frame": image_frame_positions, "released": released_positions}
