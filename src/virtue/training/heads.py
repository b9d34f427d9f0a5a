"""Linear questions to embeddings and hidden states, which teach them what to hold and are thrown away afterwards.

Letters: B rows, R region rows, T image tokens, D width, K object classes.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from virtue.scenes.vocabulary import OBJECTS, PLACES, RELATIONS
from virtue.training.codes import IdealCodes

PAIR_WIDTH = 64


class Heads(nn.Module):
    """Questions to an embedding, the same for rows and texts.

    Args:
        width: D.
        seed: Of the run, which the ideal tokens' codes follow from.
    """

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.scale = math.sqrt(width)
        self.object = nn.Linear(width, len(OBJECTS))
        self.place = nn.Linear(width, len(PLACES))
        self.present = nn.Linear(width, len(OBJECTS))
        self.related = nn.Linear(width, len(RELATIONS) * PAIR_WIDTH)
        self.other = nn.Linear(width, PAIR_WIDTH, bias=False)
        self.codes = IdealCodes(width, seed)

    def region_loss(self, embeddings: Tensor, elements: Tensor) -> Tensor:
        """Cross-entropy of object, place, and relation to the other object, where said; (B, D) unit rows and (B, 4)."""
        scaled = embeddings * self.scale
        thing, relation, other, place = elements.unbind(1)
        related = self.pair(scaled)[torch.arange(len(other), device=other.device), :, other.clamp(min=0)]
        return (
            functional.cross_entropy(self.object(scaled), thing)
            + 0.3 * _said(self.place(scaled), place)
            + _said(related, relation)
        )

    def pair(self, hidden: Tensor) -> Tensor:
        """Logits of each relation to each other object, (..., D) to (..., relations, K).

        Bilinear in the state and in the code that ideal image tokens have for the other object, so that what is learnt
        of one object holds for all.
        """
        to_other = self.related(hidden).unflatten(-1, (len(RELATIONS), PAIR_WIDTH))
        logits: Tensor = to_other @ self.other(self.codes.shown[:-1]).T
        return logits

    def pair_loss(self, embeddings: Tensor, related: Tensor) -> Tensor:
        """Which relations to which others are true at all; (R, D) unit rows and (R, relations, K) bool."""
        true = related.flatten(1).float()
        log = functional.log_softmax(self.pair(embeddings * self.scale).flatten(1), dim=1)
        return -(true * log).sum(1).div(true.sum(1).clamp(min=1)).mean()

    def token_loss(self, tokens: Tensor, pairs: Tensor) -> Tensor:
        """Which object stands in which relation, asked of each image token, (R, T, D) and (R, T), -1 for no answer."""
        return _said(self.pair(tokens).flatten(2).flatten(0, 1), pairs.flatten())

    def image_loss(self, embeddings: Tensor, present: Tensor, place: Tensor) -> Tensor:
        """Which objects there are (B, K) and which place (B,), -1 unsaid."""
        scaled = embeddings * self.scale
        share = present.float() / present.sum(1, keepdim=True).clamp(min=1)
        some = present.any(1).float()
        objects = -(share * functional.log_softmax(self.present(scaled), dim=1)).sum(1)
        return (objects * some).sum() / some.sum().clamp(min=1) + 0.3 * _said(self.place(scaled), place)


def _said(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy over the targets that are not -1, 0 if there are none."""
    count = (target >= 0).sum().clamp(min=1)
    return functional.cross_entropy(logits, target, ignore_index=-1, reduction="sum") / count
