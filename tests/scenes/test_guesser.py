from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from virtue.scenes.guesser import Guesser, commonest_words_accuracy
from virtue.scenes.region_captions import RegionSample, region_caption
from virtue.scenes.renderer import Scene

Samples = list[RegionSample]


@pytest.fixture(scope="module")
def learnt(train_scenes: list[Scene], samples_of: Callable[[list[Scene]], Samples]) -> Samples:
    samples = samples_of(train_scenes)
    assert len(samples) >= 2000
    return samples[:2000]


@pytest.fixture(scope="module")
def asked(test_scenes: list[Scene], samples_of: Callable[[list[Scene]], Samples]) -> Samples:
    return samples_of(test_scenes)


def single_swaps(sample: RegionSample, rng: np.random.Generator) -> RegionSample:
    """Nine distractors made the naive way, each by one random swap of the true caption."""
    truth, swaps = sample.elements, []
    for slot, size in (("object", 160), ("relation", 6), ("place", 14)):
        others = [value for value in rng.permutation(size).tolist() if value not in (getattr(truth, slot), truth.other)]
        swaps += [replace(truth, **{slot: value}) for value in others[:3]]
    texts = tuple(region_caption(elements) for elements in swaps)
    return replace(sample, distractors=texts, distractor_elements=tuple(swaps))


def test_the_captions_cannot_be_guessed_without_the_picture(learnt: Samples, asked: Samples) -> None:
    """One in eight is 12.5 %; the standard error over some 1,300 samples is 0.9 points."""
    assert Guesser().fit(learnt).accuracy(asked) < 0.16
    assert commonest_words_accuracy(asked) < 0.16


def test_nor_by_one_who_learned_from_the_test_scenes(asked: Samples) -> None:
    half = len(asked) // 2
    assert Guesser().fit(asked[:half]).accuracy(asked[half:]) < 0.18


def test_the_guesser_is_no_fool(learnt: Samples, rng: np.random.Generator) -> None:
    naive = [single_swaps(sample, rng) for sample in learnt[:600]]
    assert commonest_words_accuracy(naive) == 1
    assert Guesser().fit(naive[:400]).accuracy(naive[400:]) > 0.95
