"""Elastic weight consolidation of a linear model, by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.training.tiny_runs import tiny_trainer, watched
from virtue.training.forgetting import Anchor


def linear() -> nn.Linear:
    """One weight of two numbers that learns, 1 and 2; the bias is frozen."""
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0]]))
    model.bias.requires_grad_(False)
    return model


def gradients(model: nn.Linear, *inputs: list[float]) -> Iterator[Tensor]:
    """The output's gradient with respect to the weight is the input."""
    for row in inputs:
        value = model(torch.tensor(row)).sum()
        value.backward()
        yield value


def measured(model: nn.Linear, strength: float = 1.0) -> Anchor:
    return Anchor.measure(model, gradients(model, [1.0, 0.0], [3.0, 2.0]), strength)


def test_importance_is_the_mean_square_of_gradients_scaled_to_mean_one() -> None:
    model = linear()
    anchor = measured(model)
    # Squares are 1, 0 and 9, 4: sums 10 and 4, whose mean is 7.
    assert anchor.importance.keys() == anchor.weights.keys() == {"weight"}
    assert anchor.importance["weight"].flatten().tolist() == pytest.approx([10 / 7, 4 / 7])
    assert anchor.weights["weight"].tolist() == [[1.0, 2.0]]
    assert model.weight.grad is None


def test_gradients_of_before_do_not_count() -> None:
    model = linear()
    model.weight.grad = torch.tensor([[100.0, 100.0]])
    assert measured(model).importance["weight"].flatten().tolist() == pytest.approx([10 / 7, 4 / 7])


def test_the_mean_is_one_over_all_parameters() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))

    def batches() -> Iterator[Tensor]:
        for seed in range(3):
            value = model(torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))).square().sum()
            value.backward()
            yield value

    importance = Anchor.measure(model, batches(), 1.0).importance
    assert importance.keys() == dict(model.named_parameters()).keys()
    assert torch.cat([each.flatten() for each in importance.values()]).mean().item() == pytest.approx(1)


@pytest.mark.parametrize("before", [None, [[5.0, 7.0]]])
def test_the_pull_is_strength_times_importance_times_distance(before: list[list[float]] | None) -> None:
    model = linear()
    anchor = measured(model, strength=3.0)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, 0.0]]))  # moved by 1 and -2
    model.weight.grad = None if before is None else torch.tensor(before)
    penalty = anchor.pull(model)
    force = torch.tensor([[3 * 10 / 7, 3 * 4 / 7 * -2]])
    assert penalty.item() == pytest.approx(3 / 2 * (10 / 7 + 4 / 7 * 4))
    assert model.weight.grad is not None and model.bias.grad is None
    assert torch.allclose(model.weight.grad, force + (0 if before is None else torch.tensor(before)))


def test_the_pull_is_the_gradient_of_the_penalty() -> None:
    model = linear()
    anchor = measured(model, strength=0.7)
    with torch.no_grad():
        model.weight.add_(torch.tensor([[0.3, -0.4]]))
    away = model.weight - anchor.weights["weight"]
    penalty = 0.7 / 2 * (anchor.importance["weight"] * away.square()).sum()
    (expected,) = torch.autograd.grad(penalty, [model.weight])
    assert anchor.pull(model).item() == pytest.approx(penalty.item())
    assert torch.allclose(model.weight.grad, expected)  # type: ignore[arg-type]


def test_nothing_pulls_at_the_anchor() -> None:
    model = linear()
    assert measured(model).pull(model).item() == 0
    assert model.weight.grad is not None and not model.weight.grad.any()


def test_an_anchor_is_saved_whole(tmp_path: Path) -> None:
    anchor = measured(linear(), strength=2.0)
    anchor.save(tmp_path / "anchor.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["anchor.safetensors"]
    loaded = Anchor.load(tmp_path / "anchor.safetensors", 5.0)
    assert loaded.strength == 5.0
    for ours, theirs in ((loaded.weights, anchor.weights), (loaded.importance, anchor.importance)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_data_that_say_nothing_are_refused() -> None:
    model = linear()
    for inputs in ([], [[0.0, 0.0]]):
        with pytest.raises(ValueError, match="The earlier data gives no gradient, so it says nothing of what must"):
            Anchor.measure(model, gradients(model, *inputs), 1.0)


def test_a_trainer_is_pulled_back(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path)
    start = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    anchor = Anchor.measure(trainer.model, trainer.gradients(2), 1e4)
    assert all(torch.equal(p, start[name]) for name, p in trainer.model.named_parameters())
    free, pulled = (watched(tmp_path, 6, trainer={"anchor": held}) for held in (None, anchor))

    def distance(model: nn.Module) -> float:
        moved = [(p - start[name]).square().sum() for name, p in model.named_parameters() if p.requires_grad]
        return float(torch.stack(moved).sum().detach().sqrt())

    assert 0 < distance(pulled[0].model) < 0.7 * distance(free[0].model)
    assert pulled[1].of("loss")[0] == pytest.approx(free[1].of("loss")[0])  # the penalty starts at nothing
    assert pulled[1].of("loss")[1] > free[1].of("loss")[1]
