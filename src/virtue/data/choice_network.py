"""A small network that scores the choices of a list, trained by a softmax over the list to put the right ones first.

Letters: Q lists, N choices of the longest list, F what is known of a choice, H hidden units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

_HIDDEN, _STEPS, _BATCH, _RATE, _DECAY = 16, 200, 2048, 0.02, 1e-3

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ChoiceNetwork:
    """One tanh layer, or none.

    Attributes:
        weights: Into the hidden units (F, H), their offsets (H,), and out of them (H,); without a layer only one, (F,).
    """

    weights: list[Floats]

    @classmethod
    def fit(cls, known: Floats, there: Flags, right: Flags, rng: np.random.Generator, *, layered: bool = True) -> Self:
        """Adam on the cross-entropy of the right choices of each list.

        Args:
            known: What is known of each choice, (Q, N, F); lists are padded to the longest.
            there: Where there is a choice, (Q, N).
            right: Which are right, (Q, N).
            rng: Starts the weights and draws batches.
            layered: Without the layer the score is a weighted sum, to which nothing in the middle of others can be the
                best.
        """
        size = known.shape[-1]
        shapes: list[tuple[tuple[int, ...], float]] = [((size,), 0.0)]
        if layered:
            shapes = [((size, _HIDDEN), size**-0.5), ((_HIDDEN,), 0.0), ((_HIDDEN,), _HIDDEN**-0.5)]
        weights = [rng.normal(0, spread, shape).astype(np.float32) for shape, spread in shapes]
        first, second = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
        for step in range(1, _STEPS + 1):
            batch = rng.choice(len(known), _BATCH, replace=False) if len(known) > _BATCH else slice(None)
            gradients = _gradients(known[batch], there[batch], right[batch], weights)
            for w, g, m, v in zip(weights, gradients, first, second, strict=True):
                g += _DECAY * w
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                w -= _RATE * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        return cls(weights)

    def score(self, known: Floats) -> Floats:
        """A score for each choice, (Q, N), also where there is none."""
        return _score(known, self.weights)[0]


def _score(known: Floats, weights: list[Floats]) -> tuple[Floats, Floats]:
    """Scores (Q, N) and hidden activations (Q, N, H), which are what is known where there is no layer."""
    if len(weights) == 1:
        return known @ weights[0], known
    hidden = np.tanh(known @ weights[0] + weights[1])
    return hidden @ weights[2], hidden


def _gradients(known: Floats, there: Flags, right: Flags, weights: list[Floats]) -> list[Floats]:
    scores, hidden = _score(known, weights)
    scores = np.where(there, scores, -np.inf)
    wrong = np.exp(scores - scores.max(axis=1, keepdims=True))
    wrong /= wrong.sum(axis=1, keepdims=True)
    wrong = (wrong - right / right.sum(axis=1, keepdims=True)).astype(np.float32) / len(known)
    if len(weights) == 1:
        return [np.tensordot(wrong, known, 2)]
    inner = wrong[..., None] * weights[2] * (1 - hidden**2)  # (Q, N, H)
    rows, flat = known.reshape(-1, known.shape[-1]), inner.reshape(-1, _HIDDEN)
    return [rows.T @ flat, flat.sum(axis=0), np.tensordot(wrong, hidden, 2)]
