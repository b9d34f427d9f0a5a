from dataclasses import replace

import numpy as np
import pytest

from tests.curation.made import region
from virtue.curation.corners import corners
from virtue.curation.samples import KINDS, Distractor, Elements, Sample
from virtue.curation.wording import Wording, centre, wording, wording_of_captions

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


@pytest.fixture(scope="module")
def single(fair: list[Sample]) -> Wording:
    return wording(fair)


def test_the_baseline_of_single_swaps_scores_each_caption_by_itself(fair: list[Sample], single: Wording) -> None:
    found = single
    assert (found.samples, found.chance, found.baseline) == (150, pytest.approx(0.1), found.alone)
    assert found.noise == pytest.approx(2 * (0.1 * 0.9 / 150) ** 0.5)
    assert found.alone is not None and found.alone < 0.1  # the truth has to beat three swaps of each element
    assert found.is_near and found.surest == ()
    alone = wording(fair, beside=False)
    assert (alone.baseline, alone.comparing) == (found.baseline, None)


def test_who_compares_the_ten_finds_the_centre_of_single_swaps(single: Wording) -> None:
    assert single.comparing is not None and single.comparing > 0.95
    assert single.commonest == 1


def test_the_baseline_of_corners_compares_the_ten(fair: list[Sample]) -> None:
    found = wording([corners(sample) for sample in fair], design="corners", beside=False)
    assert (found.chance, found.baseline) == (1 / 8, found.comparing)
    assert found.comparing is not None and found.comparing < found.chance + 1.5 * found.noise
    assert found.commonest < found.chance + 1.5 * found.noise


def test_telltale_words_are_found_and_their_samples_are_the_surest(fair: list[Sample]) -> None:
    rng = np.random.default_rng(1)
    telling = [drawn(1000 + number, rng, false="fake ") for number in range(75)]
    found = wording([*fair[:75], *telling], beside=False)
    assert found.alone is not None and found.alone > 0.4 and not found.is_near
    assert len(found.surest) == int(np.ceil((found.alone - found.chance) * 150 / 0.9))
    names = {sample.region.id for sample in telling}
    assert sum(name in names for name in found.surest) > 0.8 * len(found.surest)
    spared = set(found.surest[:3])
    other = wording([*fair[:75], *telling], beside=False, spare=spared)
    assert (other.spared, len(other.surest), spared & {*other.surest}) == (3, len(found.surest), set())
    assert wording([*fair[:75], *telling], beside=False, spare=names).spared > 0.8 * len(found.surest)


def test_captions_alone_can_be_measured_and_held_to_be_corners() -> None:
    lists = [["k l m", "x l m", "k y m", "k l z"], ["k l m", "d e f", "g h i"]] * 10
    found = wording_of_captions(lists, [str(number) for number in range(20)])
    assert (found.design, found.chance) == ("single", pytest.approx((1 / 4 + 1 / 3) / 2))
    assert found.commonest == pytest.approx((1 + 1 / 3) / 2)  # nothing is shared in every other list
    assert found.surest == ()
    ten = Wording(100, "single", 0.3, 0.2, 0.1, 0.06, 1.0, surest=("a",), spared=2).of("corners")
    assert (ten.baseline, ten.chance, ten.is_near) == (0.2, 1 / 8, False)
    assert (ten.noise, ten.surest, ten.spared) == (pytest.approx(2 * (1 / 8 * 7 / 8 / 100) ** 0.5), (), 0)


def test_the_centre_by_hand() -> None:
    assert centre(["a dog on a beach", "a cat on a beach", "a dog in a beach"]) == 1
    assert centre(["a cat on a beach", "a dog on a beach", "a dog in a beach"]) == 0
    assert centre(["k l", "m n", "o p", "q r"]) == 1 / 4


def test_one_image_teaches_nothing() -> None:
    found = wording_of_captions([["k l", "m n"]] * 4, ["one"] * 4)
    assert (found.baseline, found.alone, found.comparing, found.commonest) == (None, None, None, 0.5)
    assert found.is_near


def test_what_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="no captions whose wording could be measured"):
        wording([])
    with pytest.raises(ValueError, match="'single' or 'corners', not 'double'"):
        wording([], design="double")  # type: ignore[arg-type]
