import pytest
import torch
from torch import Tensor

from virtue.model import VirtueProcessor
from virtue.training.feed import Feed
from virtue.training.pairs import Batch, Batches, everywhere

CPU = torch.device("cpu")
STEPS = 7


def square(step: int) -> dict[str, Tensor]:
    return {"step": torch.tensor(step), "square": torch.tensor(step**2)}


def asked(start: int, workers: int) -> list[tuple[int, int]]:
    """What comes when the steps from `start` to the last are asked for in order."""
    feed = Feed(square, STEPS, CPU, workers)
    batches = [feed(step) for step in range(start, STEPS)]
    return [(int(batch["step"]), int(batch["square"])) for batch in batches]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", [0, 4])
def test_each_step_gets_its_own_batch_wherever_a_run_goes_on(start: int, workers: int) -> None:
    assert asked(start, workers) == [(step, step**2) for step in range(start, STEPS)]


def test_nothing_is_drawn_before_it_is_asked_for() -> None:
    drawn: list[int] = []

    def draw(step: int) -> Tensor:
        drawn.append(step)
        return torch.tensor(step)

    feed = Feed(draw, STEPS, CPU, workers=0)
    assert drawn == []
    feed(3)
    assert drawn == [3]


def test_a_step_out_of_order_is_refused() -> None:
    feed = Feed(square, STEPS, CPU, workers=0)
    feed(2)
    for step in (2, 4):
        with pytest.raises(ValueError, match=f"step 3 is next, not {step}"):
            feed(step)
    assert int(feed(3)["step"]) == 3


def test_batches_come_on_the_device() -> None:
    batch = Feed(square, STEPS, torch.device("meta"), workers=0)(0)
    assert {tensor.device.type for tensor in batch.values()} == {"meta"}


def tensors(batch: Batch) -> list[Tensor]:
    found: list[Tensor] = []
    everywhere(batch, lambda tensor: found.append(tensor) or tensor)
    return found


def test_workers_draw_the_same_whole_batches(processor: VirtueProcessor) -> None:
    here, there = (Feed(Batches(processor, 2, 2, 2, seed=0), STEPS, CPU, workers) for workers in (0, 2))
    for step in (5, 6):  # of two sizes
        mine, theirs = here(step), there(step)
        assert mine.grid == theirs.grid
        assert len(tensors(mine)) > 20
        assert all(torch.equal(a, b) for a, b in zip(tensors(mine), tensors(theirs), strict=True))
