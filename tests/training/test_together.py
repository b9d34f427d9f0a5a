"""Several processes train what one trains on all their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.training.tiny_pairs import tiny_batch, tiny_mixture
from tests.training.tiny_runs import (
    CUT,
    Faulty,
    agree,
    learner,
    save_result,
    together,
    train_together,
    watched,
)
from virtue.training.gathering import sum_gradients
from virtue.training.grad_cache import grad_cache
from virtue.training.loss import info_nce, same_answers
from virtue.training.saving import TRAINED
from virtue.training.sharding import shard as shard_weights
from virtue.training.step import Everybody, StepRows
from virtue.training.towers import Towers

RAGGED = {
    "equal": (),
    "ragged": (4, 9, 11),
    "one process has none": (5, 7, 11),
}
"""Which rows cannot be read; `test_ranks_of_these_tests` says who reads them."""


def test_a_sharded_batch_has_the_gradients_of_the_whole(tmp_path: Path) -> None:
    model, processor = learner()
    batch = tiny_batch(processor, range(7))
    expected_loss = gradients_of(model.train(), processor, batch)
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    together(shard, tmp_path, [[0, 1, 2, 3, 4], [5, 6]])
    for rank in (0, 1):
        found = load_file(tmp_path / f"rank-{rank}.safetensors")
        assert found.pop("loss").item() == pytest.approx(expected_loss.item(), abs=1e-6)
        agree(found, expected, 1e-6)


def shard(rank: int, folder: Path, rows: list[list[int]]) -> None:
    torch.distributed.init_process_group("gloo")
    model, processor = learner()
    loss = gradients_of(model.train(), processor, tiny_batch(processor, rows[rank]))
    learning = [p for p in model.parameters() if p.requires_grad]
    sum_gradients(learning)
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    save_file(found | {"loss": loss}, folder / f"rank-{rank}.safetensors")


def gradients_of(model: Any, processor: Any, batch: Any) -> Tensor:
    rows = StepRows(model, processor, batch, Towers(model, batch.images))

    def loss(sides: Any) -> Tensor:
        all_ = Everybody.gather(sides[0], sides[1], batch)
        same = same_answers(all_.query_keys, all_.target_keys, all_.positives)
        return info_nce(all_.queries, all_.targets, 0.1, positives=all_.positives, symmetric=True, same=same)

    return grad_cache(
        rows.embed, loss, [CUT.chunks(name, rows.lengths(side)) for side, name in enumerate(("queries", "targets"))]
    )


@pytest.mark.parametrize(("kind", "cached"), [*((kind, True) for kind in RAGGED), ("one process has none", False)])
def test_processes_train_what_one_trains(tmp_path: Path, kind: str, cached: bool) -> None:
    broken = RAGGED[kind]
    trainer, seen = watched(tmp_path / "one", 2, pairs=Faulty(broken=broken))
    save_result(tmp_path / "one.safetensors", trainer, seen)
    expected = load_file(tmp_path / "one.safetensors")
    together(train_together, tmp_path, 2, broken, cached)
    for rank in (0, 1):
        found = load_file(tmp_path / f"rank-{rank}.safetensors")
        assert found["skipped"] == expected["skipped"] == len(broken)
        agree(select(found, "losses"), select(expected, "losses"), 2e-6)
        agree(select(found, "gradient."), select(expected, "gradient."), 2e-6)
        agree(select(found, "weight."), select(expected, "weight."), 1e-5)


@pytest.mark.parametrize("kind", ["ragged", "one process has none"])
def test_a_sharded_model_is_trained_as_a_whole_one(tmp_path: Path, kind: str) -> None:
    """Chunks differ in number between the processes, and a layer has to be gathered by both."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    together(train_together, whole, 2, RAGGED[kind])
    together(train_together, parts, 2, RAGGED[kind], True, True)
    for rank in (0, 1):
        expected, found = (load_file(folder / f"rank-{rank}.safetensors") for folder in (whole, parts))
        agree(select(found, "losses"), select(expected, "losses"), 1e-6)
        agree(select(found, "gradient."), select(expected, "gradient."), 1e-6)
        agree(select(found, "weight."), select(expected, "weight."), 1e-6)
    assert (parts / "run" / "checkpoint-2" / TRAINED).is_file()


def test_only_frozen_weights_are_sharded() -> None:
    with pytest.raises(ValueError, match="Only frozen weights are spread over processes"):
        shard_weights(learner("full")[0])


def select(tensors: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name.startswith(start)}


def test_ranks_of_these_tests() -> None:
    mixture = tiny_mixture()
    rows = [{int(mixture[p].where.split()[-1]) for p in mixture.batches(0, 3, rank, 2)} for rank in (0, 1)]
    left = {kind: [len(own - set(broken)) for own in rows] for kind, broken in RAGGED.items()}
    assert left == {"equal": [3, 3], "ragged": [1, 2], "one process has none": [3, 0]}
