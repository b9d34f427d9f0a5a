from dataclasses import replace

import numpy as np
import pytest

from tests.curation.made import region
from virtue.curation.corners import corners
from virtue.curation.samples import KINDS, Distractor, Elements, Sample
from virtue.curation.wording import balance, wording, wording_of_captions

WORDS = {kind: [f"{kind}{number}" for number in range(60)] for kind in KINDS}


def drawn(number: int, rng: np.random.Generator, false: str = "") -> Sample:
    """A sample of random words; `false` is put before the swapped words of all distractors."""
    own = {kind: [str(word) for word in rng.choice(WORDS[kind], 4, replace=False)] for kind in KINDS}
    truth = Elements(**{kind: own[kind][0] for kind in KINDS})
    said = [(kind, replace(truth, **{kind: f"{false}{word}"})) for kind in KINDS for word in own[kind][1:]]
    distractors = tuple(Distractor(kind, elements, elements.caption()) for kind, elements in said)
    return Sample(region(number), truth, truth.caption(), distractors, "test")


@pytest.fixture(scope="module")
def fair() -> list[Sample]:
    rng = np.random.default_rng(0)
    return [drawn(number, rng) for number in range(150)]


def test_single_swaps_show_the_truth_in_their_middle(fair: list[Sample]) -> None:
    found = wording(fair)
    assert (found.samples, found.chance) == (150, pytest.approx(0.1))
    assert found.noise == pytest.approx(2 * (0.1 * 0.9 / 150) ** 0.5)
    assert found.commonest == 1
    assert found.rate is not None and found.rate > 0.95
    assert found.alone is not None and found.alone < 0.1 + 1.5 * found.noise  # words give nothing away
    assert found.surest == ()


def test_corners_do_not(fair: list[Sample]) -> None:
    found = wording([corners(sample) for sample in fair], design="corners")
    assert found.chance == 1 / 8
    assert found.rate is not None and found.rate < found.chance + 1.5 * found.noise
    assert found.commonest is not None and found.commonest < found.chance + 1.5 * found.noise
    assert len(found.surest) <= 5  # half the noise


def test_telltale_words_are_found_and_their_samples_written_again(fair: list[Sample]) -> None:
    rng = np.random.default_rng(1)
    telling = [drawn(1000 + number, rng, false="fake ") for number in range(75)]
    found = wording([*fair[:75], *telling])
    assert found.alone is not None and found.alone > 0.4
    assert len(found.surest) == int(np.ceil((found.alone - found.chance - found.noise) * 150 / 0.9))
    keep, again = balance([*fair[:75], *telling])
    assert {sample.region.id for sample in again} == set(found.surest)
    assert len(keep) + len(again) == 150
    assert sum(sample in telling for sample in again) > 0.8 * len(again)


def test_captions_alone_can_be_measured() -> None:
    lists = [["k l m", "x l m", "k y m", "k l z"], ["k l m", "d e f", "g h i"]] * 10
    found = wording_of_captions(lists, [str(number) for number in range(20)])
    assert found.chance == pytest.approx((1 / 4 + 1 / 3) / 2)
    assert found.commonest == pytest.approx((1 + 1 / 3) / 2)  # nothing is shared in every other list
    assert found.surest == ()


def test_one_image_teaches_nothing() -> None:
    found = wording_of_captions([["k l", "m n"]] * 4, ["one"] * 4)
    assert (found.rate, found.alone, found.commonest) == (None, None, 0.5)


def test_what_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="no captions whose wording could be measured"):
        wording([])
    with pytest.raises(ValueError, match="'single' or 'corners', not 'double'"):
        wording([], design="double")  # type: ignore[arg-type]
