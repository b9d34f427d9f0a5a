from collections.abc import Callable

import numpy as np
import pytest

from virtue.scenes.captions import caption_rng, region_samples
from virtue.scenes.region_captions import RegionSample
from virtue.scenes.renderer import Scene, scenes

SIDE = 64  # pixels; scenes of this size are drawn fast and obey the same rules


@pytest.fixture(scope="session")
def train_scenes() -> list[Scene]:
    return list(scenes("train", 0, 640, SIDE, SIDE))


@pytest.fixture(scope="session")
def test_scenes() -> list[Scene]:
    return list(scenes("test", 0, 400, SIDE, SIDE))


@pytest.fixture(scope="session")
def samples_of() -> Callable[[list[Scene]], list[RegionSample]]:
    return lambda drawn: [sample for scene in drawn for sample in region_samples(scene, caption_rng(scene))]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
