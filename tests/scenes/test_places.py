import numpy as np
import pytest

from virtue.scenes.places import paint
from virtue.scenes.vocabulary import PLACES


@pytest.mark.parametrize("place", PLACES)
def test_a_place_looks_different_with_every_seed(place: str) -> None:
    first, again, other = (np.asarray(paint(place, np.random.default_rng(seed), 64, 48)) for seed in (0, 0, 1))
    assert first.shape == (48, 64, 3)
    assert np.array_equal(first, again)
    assert np.mean(first != other) > 0.3
