from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from virtue.training.muon import BatchedMuon, orthogonalized

SHAPES = [(6, 4), (4, 6), (6, 4), (5, 5), (6, 4)]
SETTINGS = {"lr": 0.05, "weight_decay": 0.1, "momentum": 0.9, "adjust_lr_fn": "match_rms_adamw"}


def matrices() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape)) for shape in SHAPES]


def steps(count: int) -> Iterator[list[Tensor | None]]:
    """Gradients; the third matrix has none in the first step, the fourth never one."""
    generator = torch.Generator().manual_seed(1)
    for step in range(count):
        grads = [torch.randn(shape, generator=generator) for shape in SHAPES]
        yield [None if i == 3 or (step == 0 and i == 2) else grad for i, grad in enumerate(grads)]


def fit(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], count: int) -> None:
    for grads in steps(count):
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        optimizer.step()


@pytest.mark.parametrize("nesterov", [True, False])
def test_steps_are_those_of_muon(nesterov: bool) -> None:
    ours, theirs = matrices(), matrices()
    fit(BatchedMuon(ours, nesterov=nesterov, **SETTINGS), ours, 4)
    fit(torch.optim.Muon(theirs, nesterov=nesterov, **SETTINGS), theirs, 4)
    for own, other, start in zip(ours, theirs, matrices(), strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=2e-3)  # bfloat16 may round otherwise elsewhere
        assert torch.equal(own, start) == (start.shape == (5, 5))  # what has no gradient stays


def test_a_run_of_muon_is_gone_on_with() -> None:
    ours, theirs = matrices(), matrices()
    begun, going_on = torch.optim.Muon(theirs, **SETTINGS), BatchedMuon(ours, **SETTINGS)
    fit(begun, theirs, 2)
    with torch.no_grad():
        for own, other in zip(ours, theirs, strict=True):
            own.copy_(other)
    going_on.load_state_dict(deepcopy(begun.state_dict()))
    fit(begun, theirs, 2)
    fit(going_on, ours, 2)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=2e-3)


def test_a_step_gives_the_closures_loss() -> None:
    parameters = matrices()
    assert BatchedMuon(parameters, **SETTINGS).step(lambda: 0.5) == 0.5


@pytest.mark.parametrize("shape", [(3, 8, 4), (3, 4, 8), (2, 5, 5)])
def test_orthogonal_matrices_have_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    singular = torch.linalg.svdvals(orthogonalized(torch.randn(shape), (3.4445, -4.775, 2.0315), 5, 1e-7).float())
    assert ((singular > 0.5) & (singular < 1.3)).all()


def test_a_matrix_does_not_see_its_neighbours() -> None:
    both = 100 * torch.randn(2, 6, 4)
    coefficients, alone = (3.4445, -4.775, 2.0315), both[:1].clone()
    assert torch.equal(orthogonalized(both, coefficients, 5, 1e-7)[0], orthogonalized(alone, coefficients, 5, 1e-7)[0])
    assert torch.equal(orthogonalized(torch.zeros(1, 3, 3), coefficients, 5, 1e-7), torch.zeros(1, 3, 3).bfloat16())


def test_other_sizes_of_change_are_refused() -> None:
    with pytest.raises(ValueError, match="match_rms_adamw"):
        BatchedMuon(matrices(), lr=0.05, adjust_lr_fn="original")
