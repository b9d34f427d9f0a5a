"""Ideal tokens: what perfect streams would say of each cell of a picture, as fixed random codes of the truth.

They let the parts of the model be taught apart (`contrastive` says why): the segmenter and its connector learn to say
them, the vision tower learns to say them, the language model learns to read them.

Letters: B pictures or rows, K object classes, T tokens, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from virtue.scenes.vocabulary import OBJECTS, PLACES

CODE_STD = 0.5  # of the numbers of a code, as of the token embeddings
LOUDNESS = 4.0  # divides the product of a token and a code, about 48 where they agree
NOTHING_WEIGHT = 0.05  # of cells that show no object
FRONT_WEIGHT = 3.0  # of what is in front, beside all else that tokens say: it is the hardest to see
FULL = 0.25  # of a segmentation cell: so much of another object says "in front" or "behind" as loud as can be


class IdealCodes(nn.Module):
    """The codes, the same in every stage of a run.

    Args:
        width: D.
        seed: Of the run.

    Attributes:
        pointed: Of segmentation tokens: each class, and nothing, (K + 1, D).
        shown: Of image tokens: each class, and nothing, (K + 1, D).
        place: Of image tokens: each place, (places, D).
        front: Of segmentation tokens: the pointed object lies in front of what is here, its opposite: behind, (1, D).
    """

    pointed: Tensor
    shown: Tensor
    place: Tensor
    front: Tensor

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        counts = {"pointed": len(OBJECTS) + 1, "shown": len(OBJECTS) + 1, "place": len(PLACES), "front": 1}
        for name, count in counts.items():
            self.register_buffer(name, CODE_STD * torch.randn(count, width, generator=generator))

    def region_tokens(self, shares: Tensor, signs: Tensor) -> Tensor:
        """What segmentation tokens of a pointed object should say, (B, T, D).

        Args:
            shares: `pointed_shares`, (B, K + 1, h, w).
            signs: `Meetings.signs`, (B, h, w).
        """
        return ideal_tokens(self.pointed, shares) + front_tokens(self.front, signs)

    def region_loss(self, tokens: Tensor, shares: Tensor, signs: Tensor) -> Tensor:
        """How far segmentation tokens of a pointed object (B, T, D) are from what they should say."""
        said = token_loss(tokens, self.pointed, shares, front_tokens(self.front, signs))
        return said + FRONT_WEIGHT * front_loss(tokens - ideal_tokens(self.pointed, shares), self.front, signs)


def pointed_shares(masks: Tensor, classes: Tensor, side: int) -> Tensor:
    """How much of each cell one object covers, the last class nothing: masks (B, H, W) to (B, K + 1, side, side)."""
    share = functional.adaptive_avg_pool2d(masks.float().unsqueeze(1), side)[:, 0]
    shares = share.new_zeros(len(share), len(OBJECTS) + 1, side, side)
    shares[torch.arange(len(share), device=share.device), classes] = share
    shares[:, -1] = 1 - share
    return shares


def class_shares(everything: Tensor, grid: tuple[int, int] | int) -> Tensor:
    """How much of each cell each class covers, (B, K + 1, rows, columns), the last class nothing; classes (B, H, W)."""
    rows, columns = (grid, grid) if isinstance(grid, int) else grid
    count, height, width = everything.shape
    cell_row = torch.arange(height, device=everything.device) * rows // height
    cell_column = torch.arange(width, device=everything.device) * columns // width
    cell = cell_row[:, None] * columns + cell_column  # (H, W)
    classes = len(OBJECTS) + 1
    image = torch.arange(count, device=everything.device).view(-1, 1, 1)
    flat = ((image * rows * columns + cell) * classes + everything).flatten()
    counts = torch.zeros(count * rows * columns * classes, device=everything.device)
    counts.scatter_add_(0, flat, counts.new_ones(()).expand_as(flat))  # unlike bincount it never waits for a GPU
    shares = counts.view(count, rows, columns, classes)
    return (shares / shares.sum(3, keepdim=True)).permute(0, 3, 1, 2)


def ideal_tokens(codes: Tensor, shares: Tensor) -> Tensor:
    """Tokens that say what each cell shows, louder the more: codes (K + 1, D), shares (B, K + 1, h, w) to (B, T, D)."""
    return shares.flatten(2).transpose(1, 2).sqrt() @ codes


def front_tokens(code: Tensor, signs: Tensor) -> Tensor:
    """What ideal tokens say of front and back: the code (1, D) and `Meetings.signs` (B, h, w) to (B, T, D)."""
    return (signs / FULL).clamp(-1, 1).flatten(1).unsqueeze(2) * code


def front_loss(tokens: Tensor, code: Tensor, signs: Tensor) -> Tensor:
    """Cross-entropy of "in front" or "behind" in the cells where that is a question.

    Args:
        tokens: (B, T, D).
        code: (1, D).
        signs: Share of each cell that lies behind the pointed object, less that in front of it, (B, h, w).
    """
    flat = signs.flatten(1)
    logits = (tokens @ code[0]) / LOUDNESS
    entropy = functional.binary_cross_entropy_with_logits(logits, (flat > 0).float(), reduction="none")
    weight = (flat.abs() / FULL).clamp(max=1)
    return (entropy * weight).sum() / weight.sum().clamp(min=1)


def token_loss(tokens: Tensor, codes: Tensor, shares: Tensor, base: Tensor | float = 0.0) -> Tensor:
    """How far tokens are from the ideal ones: the code each is nearest to, and a little the distance itself.

    Distance alone is satisfied with saying "nothing" everywhere, because most cells show nothing.

    Args:
        tokens: (B, T, D).
        codes: Of the classes, the last of them nothing, (K + 1, D).
        shares: Of each cell that each class covers, (B, K + 1, rows, columns).
        base: What ideal tokens hold besides, (B, 1, D) or (B, T, D).
    """
    logits = (tokens - base) @ codes.T / LOUDNESS
    named = cell_loss(logits.transpose(1, 2).unflatten(2, shares.shape[2:]), shares)
    ideal = ideal_tokens(codes, shares) + base
    return named + 0.5 * functional.mse_loss(tokens, ideal) / ideal.var()


def cell_loss(logits: Tensor, shares: Tensor) -> Tensor:
    """Cross-entropy of every cell with the classes that cover it, mean over objects' cells and, lightly, empty ones.

    Args:
        logits: (B, K + 1, h, w), the last class nothing.
        shares: How much of each cell each class covers, (B, K + 1, h, w), a sum of 1 over the classes.
    """
    weight = 1 - (1 - NOTHING_WEIGHT) * shares[:, -1]  # (B, h, w)
    entropy = -(shares * functional.log_softmax(logits, dim=1)).sum(1)
    return (entropy * weight).sum() / weight.sum()
