import pickle

import pytest

from tests.training.tiny_pairs import TinyPairs
from virtue.data.chosen import Chosen, split


def test_what_is_held_out_is_not_kept_and_nothing_is_lost() -> None:
    source = TinyPairs(12)
    kept, held = split(source, 0.25, seed=3)
    assert len(held) == 3
    assert kept.name == "tiny"
    rows = [int(kept[number].where.split()[-1]) for number in range(len(kept))]
    assert rows == sorted(set(range(12)) - set(held))
    assert split(source, 0.25, seed=3)[1] == held
    assert split(source, 0.25, seed=4)[1] != held


def test_a_share_is_rounded_up_and_leaves_a_row() -> None:
    assert [len(split(TinyPairs(12), share, 0)[1]) for share in (0.001, 0.5, 0.999)] == [1, 6, 11]
    for count, share in ((12, 0.0), (12, 1.0), (1, 0.5)):
        with pytest.raises(ValueError, match=rf"Of tiny \({count} rows\) a share between 0 and 1 can be held out, not"):
            split(TinyPairs(count), share, 0)


def test_rows_of_several_sources() -> None:
    chosen = Chosen([TinyPairs(3), TinyPairs(9)], [(1, 8), (0, 2)])
    assert [pickle.loads(pickle.dumps(chosen))[row].where for row in range(2)] == ["tiny row 8", "tiny row 2"]
    with pytest.raises(IndexError, match="tiny has 2 rows, so none with number 2"):
        chosen[2]
