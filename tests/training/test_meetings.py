from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from virtue.scenes.renderer import Relation, Scene, SceneObject, render
from virtue.training.meetings import CELLS, MARGIN, Meetings

SIDE = 64  # pixels, four to a cell
Box = tuple[int, int, int, int]


def scene(relations: list[Relation], *boxes: Box) -> Scene:
    """A picture of filled boxes, all of each to be seen; which lies in front is told."""
    things = []
    for i, (left, top, right, bottom) in enumerate(boxes):
        mask = np.zeros((SIDE, SIDE), dtype=bool)
        mask[top:bottom, left:right] = True
        things.append(SceneObject(f"thing {i}", (left, top, right, bottom), mask, i))
    return Scene(np.zeros((SIDE, SIDE, 3), dtype=np.uint8), tuple(things), "", 0, "train", tuple(relations), ())


# The first two overlap in the columns 24 to 28 and the rows 28 to 32.
LEFT, RIGHT, AWAY = (0, 0, 28, 32), (24, 28, 64, 64), (40, 0, 64, 20)
BOTH = scene([(0, "behind", 1), (1, "in front of", 0), (0, "left of", 2), (1, "below", 2)], LEFT, RIGHT, AWAY)


def cells(columns: tuple[int, int], rows: tuple[int, int]) -> torch.Tensor:
    """A map with the cells of these pixels full."""
    filled = torch.zeros(CELLS, CELLS)
    filled[rows[0] // 4 : rows[1] // 4, columns[0] // 4 : columns[1] // 4] = 1
    return filled


def test_a_meeting_is_what_both_show_where_their_boxes_overlap() -> None:
    meetings = Meetings.of([(BOTH, 0), (BOTH, 1), (BOTH, 2)])
    assert MARGIN == 8  # so they meet in the columns 16 to 36 and the rows 20 to 40
    left, right = cells((16, 28), (20, 32)), cells((24, 36), (28, 40))
    assert meetings.rows.tolist() == [0, 1]
    assert meetings.in_front.tolist() == [False, True]
    assert torch.equal(meetings.ours, torch.stack([left, right]))
    assert torch.equal(meetings.theirs, torch.stack([right, left]))


def test_a_margin_ends_at_the_pictures_edge() -> None:
    corner = scene([(1, "in front of", 0)], (0, 0, 8, 8), (4, 0, 12, 8))
    meeting = Meetings.of([(corner, 1)])
    assert torch.equal(meeting.ours[0], cells((4, 12), (0, 8)))
    assert torch.equal(meeting.theirs[0], cells((0, 8), (0, 8)))


def test_cells_hold_the_share_that_is_covered() -> None:
    small = scene([(0, "behind", 1)], (8, 8, 10, 12), (9, 9, 12, 10))  # 2 x 4 and 3 x 1 of the 16 pixels of a cell
    meeting = Meetings.of([(small, 0)])
    assert (float(meeting.ours[0, 2, 2]), float(meeting.theirs[0, 2, 2])) == (8 / 16, 3 / 16)
    assert (float(meeting.ours.sum()), float(meeting.theirs.sum())) == (8 / 16, 3 / 16)


def test_signs_say_what_lies_behind_less_what_lies_in_front() -> None:
    theirs = torch.zeros(3, CELLS, CELLS)
    theirs[0, :8, :8] = 1  # the upper left quarter
    theirs[1, :8, :] = 0.5
    theirs[2, 8:, 8:] = 0.25
    meetings = Meetings(torch.tensor([1, 1, 2]), torch.zeros_like(theirs), theirs, torch.tensor([True, False, False]))
    assert meetings.signs(count=4, side=2).tolist() == [
        [[0, 0], [0, 0]],
        [[0.5, -0.5], [0, 0]],
        [[0, 0], [0, -0.25]],
        [[0, 0], [0, 0]],
    ]


def test_features_are_pooled_over_the_other_and_over_their_own() -> None:
    ours, theirs = torch.zeros(2, CELLS, CELLS), torch.zeros(2, CELLS, CELLS)
    ours[0, :8, :8] = 1
    theirs[0, :8, 8:], theirs[0, 8:, 8:] = 1, 0.5
    ours[1, 8:, :8] = 1  # the second meeting's other shows nothing here
    meetings = Meetings(torch.tensor([1, 0]), ours, theirs, torch.tensor([True, True]))
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]], [[[5.0, 6.0], [7.0, 9.0]]]])  # two rows, one channel
    assert torch.allclose(meetings.pooled(features), torch.tensor([[(6 + 9 / 2) / 1.5, 5.0], [0.0, 3.0]]))


def test_rows_that_meet_nothing_have_no_meetings() -> None:
    none = Meetings.of([(BOTH, 2)])
    assert none.ours.shape == none.theirs.shape == (0, CELLS, CELLS)
    assert none.rows.dtype == torch.int64
    assert none.in_front.dtype == torch.bool
    assert none.pooled(torch.randn(1, 5, 4, 4)).shape == (0, 10)
    assert torch.equal(none.signs(1, 4), torch.zeros(1, 4, 4))


@pytest.fixture(scope="module")
def crowded() -> list[Scene]:
    return [render(seed, "train", 96, 64, near=1.0) for seed in range(12)]


def test_meetings_of_drawn_scenes_are_their_relations(crowded: list[Scene]) -> None:
    things = [(drawn, i) for drawn in crowded for i in range(len(drawn.objects))]
    meetings = Meetings.of(things)
    expected = [
        (row, relation == "in front of")
        for row, (drawn, number) in enumerate(things)
        for i, relation, _ in drawn.relations
        if i == number and relation in ("in front of", "behind")
    ]
    assert list(zip(meetings.rows.tolist(), meetings.in_front.tolist(), strict=True)) == expected
    assert sum(meetings.in_front.tolist()) * 2 == len(expected) > 10  # each is there from both sides


def test_meetings_of_drawn_scenes_show_no_more_than_their_masks(crowded: list[Scene]) -> None:
    things = [(drawn, i) for drawn in crowded for i in range(len(drawn.objects))]
    meetings = Meetings.of(things)
    masks = torch.from_numpy(np.stack([drawn.objects[i].mask for drawn, i in things])).float()
    shares = functional.adaptive_avg_pool2d(masks, CELLS)[meetings.rows]
    assert (meetings.ours <= shares + 1e-6).all()
    assert (meetings.ours + meetings.theirs <= 1 + 1e-6).all()
    assert (meetings.theirs.sum((1, 2)) > 0).all()


def test_what_lies_in_front_is_turned_with_the_relations() -> None:
    turned = replace(BOTH, relations=((0, "in front of", 1), (1, "behind", 0)))
    before, after = (Meetings.of([(each, 0), (each, 1)]) for each in (BOTH, turned))
    assert torch.equal(after.in_front, ~before.in_front)
    assert torch.equal(after.signs(2, 4), -before.signs(2, 4))
