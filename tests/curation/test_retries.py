from pathlib import Path

import pytest

from tests.curation.made import region, sample
from virtue.curation.samples import Problem
from virtue.curation.store import Curation


@pytest.fixture
def run(tmp_path: Path):
    with Curation(tmp_path / "run", make=True) as curation:
        yield curation


def test_what_was_dropped_for_a_reason_that_passed_is_new_again(run: Curation) -> None:
    run.add_regions([region(number) for number in range(3)])
    run.drop("made/0", "missing image", "It is gone.", [[Problem("synonym", "It is one.")]])
    run.drop("made/1", "synonym", "It is one.", [[Problem("synonym", "It is one.")]])
    assert run.reopen("missing image") == 1
    assert run.states() == {"made": {"new": 2, "dropped": 1}}
    assert [name for name, *_ in run.drops()] == ["made/1"] and run.problems() == {"synonym": 2}
    assert run.past("made/0") == (1, [Problem("synonym", "It is one.")])  # what the next attempt is told
    assert run.past("made/2") == (0, [])
    assert run.reopen("missing image") == 0
    assert run.tries("made/0") == 0


def test_what_is_asked_afresh_is_counted(run: Curation) -> None:
    run.add_regions([region(0), region(1)])
    for times in (1, 2):
        run.drop("made/0", "refused", "No.")
        assert run.reopen("refused", afresh=True) == 1
        assert (run.tries("made/0"), run.tries("made/1")) == (times, 0)


def test_attempts_go_on_counting_where_a_region_is_taken_up_again(run: Curation) -> None:
    run.add_regions([region(0)])
    first, second = Problem("synonym", "first", 2), Problem("length", "second")
    run.drop("made/0", "length", "", [[first], [second]])
    run.reopen("length")
    run.drop("made/0", "picked", "", [[first, second]])
    assert run.past("made/0") == (3, [first, second])
    assert run.problems() == {"synonym": 2, "length": 2}


def test_a_sample_stays_until_there_is_a_better_one(run: Curation) -> None:
    run.add_regions(map(region, range(3)))
    for number in range(3):
        run.put_sample(sample(region(number)))
    run.ask_rewrites({f"made/{number}": f"Number {number}." for number in (1, 0)})
    assert sorted(run.rewrites()) == [("made/0", "Number 0."), ("made/1", "Number 1.")]
    other, why = sample(region(0), attempts=2), [[Problem("wording", "Number 0.")]]
    assert run.end_rewrite("made/0", other, why) and run.sample("made/0") == other
    assert not run.end_rewrite("made/1", None, why) and run.sample("made/1") == sample(region(1))
    assert run.rewrites() == [] and run.problems() == {"wording": 2}


def test_what_people_looked_at_is_not_replaced(run: Curation) -> None:
    run.add_regions(map(region, range(4)))
    for number in range(4):
        run.put_sample(sample(region(number)))
    run.ask_rewrites({f"made/{number}": "Why." for number in range(4)})
    run.decide("made/0", "ann", "accept")
    run.lease("made/1", "bob", 60)
    run.lease("made/2", "bob", -1)
    run.undo(run.decide("made/3", "ann", "edit", captions=["a", "b"]).number)
    assert run.looked_at() == {"made/0", "made/1"}
    replaced = [run.end_rewrite(f"made/{number}", sample(region(number), attempts=2)) for number in range(4)]
    assert replaced == [False, False, True, True]
    assert [run.sample(f"made/{number}").attempts for number in range(4)] == [1, 1, 2, 2]
