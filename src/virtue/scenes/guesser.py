"""A guesser that reads ten captions, never sees the picture, and tries to tell which is true.

It measures how much the wording alone gives away: a benchmark whose captions can be guessed says nothing about looking.
It is meant to be strong. For each caption it knows how often each of its words, pairs of words and near twins occur
among the ten, which pairs are held out of training, whether the opposite is there too, how long the text is, and how
often each word was true in the samples it learned from; a small network scores each caption and a softmax over the ten
is trained to pick the true one.
"""

from collections.abc import Sequence

import numpy as np

from virtue.scenes.region_captions import Elements, RegionSample
from virtue.scenes.vocabulary import (
    OBJECTS,
    PLACES,
    RELATIONS,
    held_out_objects,
    held_out_places,
    opposite,
    relation_id,
)

_SLOTS = (len(OBJECTS), len(RELATIONS), len(PLACES))
_OPPOSITES = np.array([relation_id(opposite(relation)) for relation in RELATIONS])
_HIDDEN, _STEPS, _RATE, _DECAY = 16, 150, 0.02, 1e-3


class Guesser:
    """Learns from samples, then picks one caption of ten."""

    def __init__(self) -> None:
        self._priors = [np.zeros(size) for size in _SLOTS]
        self._mean, self._scale = np.zeros(0), np.ones(0)
        self._weights: list[np.ndarray] = []

    def fit(self, samples: Sequence[RegionSample], seed: int = 0) -> "Guesser":
        """Learns which captions tend to be true.

        Args:
            samples: What to learn from; a few thousand are enough.
            seed: Starts the network.

        Returns:
            Itself.
        """
        words = np.stack([_words(sample) for sample in samples])  # (N, 10, 4)
        for slot, column in enumerate((0, 1, 3)):
            true = np.bincount(words[:, 0, column], minlength=_SLOTS[slot])
            false = np.bincount(words[:, 1:, column].ravel(), minlength=_SLOTS[slot])
            self._priors[slot] = np.log((true + 1) / (false / 9 + 1))
        features = np.stack([self._features(sample) for sample in samples])  # (N, 10, F)
        self._mean, self._scale = features.mean((0, 1)), features.std((0, 1)) + 1e-6
        self._weights = _train((features - self._mean) / self._scale, np.random.default_rng(seed))
        return self

    def accuracy(self, samples: Sequence[RegionSample]) -> float:
        """Share of the samples whose true caption scores above all nine others, in [0, 1]."""
        features = np.stack([self._features(sample) for sample in samples])
        scores, _ = _score((features - self._mean) / self._scale, self._weights)  # (N, 10)
        return float(np.mean(scores[:, 0] > scores[:, 1:].max(axis=1)))

    def _features(self, sample: RegionSample) -> np.ndarray:
        """What is known of each caption, (10, F)."""
        words = _words(sample)
        same = words[:, None] == words[None]  # (10, 10, 4): which words two captions share
        shared = same[..., [0, 1, 3]]
        counts = shared.sum(axis=1)  # (10, 3)
        pairs = np.stack([(shared[..., i] & shared[..., j]).sum(axis=1) for i, j in ((0, 1), (0, 2), (1, 2))], axis=1)
        distance = 3 - shared.sum(axis=2)
        near = np.stack([(distance == d).sum(axis=1) for d in (1, 2, 3)], axis=1)
        things, relations, others, places = words.T
        twin = (relations[None] == _OPPOSITES[relations][:, None]).sum(axis=1)
        held = np.stack([held_out_places()[things, places], held_out_objects()[things, others]], axis=1).astype(float)
        lengths = np.array([len(text) for text in (sample.caption, *sample.distractors)], dtype=float)
        priors = np.stack([self._priors[slot][words[:, c]] for slot, c in enumerate((0, 1, 3))], axis=1)
        return np.concatenate(
            [
                counts,
                pairs,
                near,
                np.eye(len(RELATIONS))[relations],
                np.eye(len(PLACES))[places],
                held,
                held - held.mean(axis=0),
                priors,
                np.stack([twin, lengths, lengths - lengths.mean()], axis=1),
            ],
            axis=1,
        )


def commonest_words_accuracy(samples: Sequence[RegionSample]) -> float:
    """How often the caption whose words are the commonest of the ten is true; a tie counts as an even chance."""
    total = 0.0
    for sample in samples:
        words = _words(sample)[:, [0, 1, 3]]
        typical = (words[:, None] == words[None]).sum(axis=(1, 2))  # (10,)
        best = typical == typical.max()
        total += float(best[0]) / int(best.sum())
    return total / len(samples)


def _words(sample: RegionSample) -> np.ndarray:
    """Ids of object, relation, other object and place of the ten captions, the true one first, (10, 4)."""
    return np.array([_ids(elements) for elements in (sample.elements, *sample.distractor_elements)])


def _ids(elements: Elements) -> tuple[int, int, int, int]:
    return elements.object, elements.relation, elements.other, elements.place


def _score(features: np.ndarray, weights: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Scores (N, 10) and hidden activations (N, 10, hidden) of one tanh layer."""
    hidden = np.tanh(features @ weights[0] + weights[1])
    return hidden @ weights[2], hidden


def _train(features: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Adam on the cross-entropy of the true caption, which is the first of each ten."""
    size = features.shape[-1]
    weights = [rng.normal(0, size**-0.5, (size, _HIDDEN)), np.zeros(_HIDDEN), rng.normal(0, _HIDDEN**-0.5, _HIDDEN)]
    first, second = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    for step in range(1, _STEPS + 1):
        scores, hidden = _score(features, weights)
        wrong = np.exp(scores - scores.max(axis=1, keepdims=True))
        wrong /= wrong.sum(axis=1, keepdims=True)
        wrong[:, 0] -= 1
        wrong /= len(features)
        inner = wrong[..., None] * weights[2] * (1 - hidden**2)  # (N, 10, hidden)
        rows, flat = features.reshape(-1, size), inner.reshape(-1, _HIDDEN)
        gradients = [rows.T @ flat, flat.sum(axis=0), np.tensordot(wrong, hidden, 2)]
        for w, g, m, v in zip(weights, gradients, first, second, strict=True):
            g += _DECAY * w
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            w -= _RATE * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return weights
