"""The ways that are compared answer the same questions alike, and ours embeds nothing on the way."""

from argparse import Namespace
from pathlib import Path

from eval import WAYS, Clock, write


def test_all_ways_find_the_same(tmp_path: Path) -> None:
    options = Namespace(tasks=2, queries=20, candidates=30, dimension=16, folder=tmp_path)
    write(tmp_path, options)
    found = [[round(hit, 6) for hit in way(options, Clock())] for way in WAYS.values()]
    assert found[0] == found[1] == found[2]
    assert all(0 < hit < 1 for hit in found[0])
