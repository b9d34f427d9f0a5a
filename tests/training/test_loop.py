import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from virtue.training.loop import MUON, Schedule, make_optimizers, train
from virtue.training.muon import BatchedMuon
from virtue.training.runs import Run

STEPS = Schedule(steps=7, learning_rate=0.1, warmup=2, save_every=2)


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def fit(module: nn.Module, run: Run, schedule: Schedule = STEPS, stop_after: int | None = None) -> None:
    """Trains on data that follow from the step's number; a stop is Ctrl-C after that many steps."""

    def losses(step: int) -> dict[str, Tensor]:
        inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        return {"square": module(inputs).square().mean(), "first": module(inputs)[0, 0]}

    def progress(step: int, steps: int, figures: dict[str, float]) -> None:
        if step == stop_after:
            raise KeyboardInterrupt

    train(module, losses, schedule, run, progress)


def test_the_rate_rises_stays_and_falls() -> None:
    schedule = Schedule(steps=10, learning_rate=2.0, warmup=2, decay=0.5)
    rates = [schedule.rate(step) for step in range(10)]
    assert rates == pytest.approx([1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.6, 1.2, 0.8, 0.4])


def test_the_rate_without_decay_never_falls() -> None:
    schedule = Schedule(steps=4, learning_rate=2.0, warmup=1, decay=0.0)
    assert [schedule.rate(step) for step in range(4)] == [2.0] * 4


@pytest.mark.parametrize("stop_after", [1, 2, 3, 6, 7])
def test_a_resumed_run_ends_with_the_very_same_weights(tmp_path: Path, stop_after: int) -> None:
    whole = linear()
    fit(whole, Run(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        fit(linear(), Run(tmp_path / "stopped"), stop_after=stop_after)
    (tmp_path / "stopped" / "checkpoint.partial").write_bytes(b"what a kill in the middle of writing leaves")
    resumed = linear()
    fit(resumed, Run(tmp_path / "stopped"))
    assert torch.equal(resumed.weight, whole.weight)
    assert torch.equal(resumed.bias, whole.bias)


def test_a_finished_run_is_not_trained_on(tmp_path: Path) -> None:
    first, second = linear(), linear()
    fit(first, Run(tmp_path))
    log = (tmp_path / "log.jsonl").read_text()
    fit(second, Run(tmp_path))
    assert torch.equal(first.weight, second.weight)
    assert (tmp_path / "log.jsonl").read_text() == log


def test_checkpoints_are_written_now_and_then_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr(Run, "save", lambda self, state: saved.append(state["step"]))
    fit(linear(), Run(tmp_path))
    assert saved == [2, 4, 6, 7]


def test_every_step_is_logged_with_its_terms(tmp_path: Path) -> None:
    fit(linear(), Run(tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6, 7]
    assert all(line.keys() == {"step", "square", "first", "seconds"} for line in lines)


def test_a_loss_that_is_not_finite_stops_with_its_step(tmp_path: Path) -> None:
    module = linear()

    def losses(step: int) -> dict[str, Tensor]:
        return {"loss": module.bias.sum() * (float("nan") if step == 3 else 1.0)}

    with pytest.raises(FloatingPointError, match="loss of step 3 is nan"):
        train(module, losses, STEPS, Run(tmp_path))
    state = Run(tmp_path).load()
    assert state is not None
    assert state["step"] == 2  # the last checkpoint before


def test_terms_of_any_precision_are_summed_and_logged(tmp_path: Path) -> None:
    module = linear()
    train(
        module,
        lambda step: {"half": module.bias.sum().bfloat16() * 0 + 0.5, "whole": module.bias.sum() * 0 + 2},
        Schedule(steps=1, learning_rate=0.1),
        Run(tmp_path),
    )
    figures = json.loads((tmp_path / "log.jsonl").read_text())
    assert (figures["half"], figures["whole"]) == (0.5, 2.0)


def test_only_matrices_decay(tmp_path: Path) -> None:
    module = linear()
    weight, bias = module.weight.detach().clone(), module.bias.detach().clone()
    schedule = Schedule(steps=1, learning_rate=0.5, warmup=1, weight_decay=0.2)
    train(module, lambda step: {"none": 0 * (module.weight.sum() + module.bias.sum())}, schedule, Run(tmp_path))
    assert torch.allclose(module.weight, 0.75 * weight)  # 1 - 0.5 * MUON * 0.2
    assert torch.equal(module.bias, bias)


def test_the_first_step_is_the_rate_against_the_gradients_sign(tmp_path: Path) -> None:
    module = linear()
    bias = module.bias.detach().clone()
    schedule = Schedule(steps=1, learning_rate=0.5, warmup=1)
    train(module, lambda step: {"first": module.bias[0], "second": -3 * module.bias[1]}, schedule, Run(tmp_path))
    assert torch.allclose(module.bias - bias, torch.tensor([-0.5, 0.5]), atol=1e-4)


class Network(nn.Module):
    """A table and a matrix, and a head that questions them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.inner = nn.Embedding(3, 4), nn.Linear(4, 4)
        self.heads = nn.ModuleDict({"class": nn.Linear(4, 3)})

    def forward(self, ids: Tensor) -> Tensor:
        answer: Tensor = self.heads["class"](self.inner(self.table(ids)))
        return answer


def test_muon_takes_the_matrices_inside_and_adamw_the_rest() -> None:
    network = Network()
    adamw, muon = make_optimizers(network, STEPS)
    assert isinstance(muon, BatchedMuon)
    assert [p.shape for group in muon.param_groups for p in group["params"]] == [(4, 4)]
    rest = sum(p.numel() for group in adamw.param_groups for p in group["params"])
    assert rest == sum(p.numel() for p in network.parameters()) - 16


def test_a_step_of_muon_is_orthogonal_and_as_large_as_adamws(tmp_path: Path) -> None:
    module = nn.Linear(8, 8, bias=False)
    before = module.weight.detach().clone()
    target = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    schedule = Schedule(steps=1, learning_rate=0.01, warmup=1, weight_decay=0.0)
    train(module, lambda step: {"along": (module.weight * target).sum()}, schedule, Run(tmp_path))
    singular = torch.linalg.svdvals(before - module.weight)
    size = MUON * 0.01 * 0.2 * 8**0.5  # 0.2 sqrt(8) of an orthogonal matrix is what AdamW's 1 is: 0.2 rms
    assert torch.all((singular > 0.6 * size) & (singular < 1.3 * size))  # five iterations, not many


def test_half_precision_is_for_computing_not_for_weights(tmp_path: Path) -> None:
    module = linear()
    seen: list[torch.dtype] = []

    def losses(step: int) -> dict[str, Tensor]:
        output = module(torch.ones(1, 3))
        seen.append(output.dtype)
        return {"square": output.float().square().mean()}

    train(module, losses, Schedule(1, 0.1, half=True), Run(tmp_path / "half"))
    train(module, losses, Schedule(1, 0.1), Run(tmp_path / "whole"))
    assert seen == [torch.bfloat16, torch.float32]
    assert not torch.equal(module.weight, module.weight.bfloat16().float())


def test_a_checkpoint_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    module = linear()
    Run(tmp_path).save({"module": module.state_dict(), "optimizer": {}, "step": 2})
    with pytest.raises(
        ValueError, match=r"checkpoint\.pt was written by an earlier version: train into another folder"
    ):
        fit(module, Run(tmp_path))


def test_what_is_frozen_stays(tmp_path: Path) -> None:
    module = linear()
    module.bias.requires_grad_(False)
    bias = module.bias.clone()
    fit(module, Run(tmp_path))
    assert torch.equal(module.bias, bias)


def test_gradients_are_averaged_before_the_step(tmp_path: Path) -> None:
    module = linear()
    before = module.weight.detach().clone()

    def no_gradients(parameters: Iterable[nn.Parameter]) -> None:
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)

    schedule = Schedule(steps=1, learning_rate=0.5, warmup=1, weight_decay=0.0)
    train(module, lambda step: {"loss": module.weight.sum()}, schedule, Run(tmp_path), None, no_gradients)
    assert torch.equal(module.weight, before)


def test_a_process_that_does_not_write_leaves_the_folder_empty(tmp_path: Path) -> None:
    module = linear()
    train(module, lambda step: {"loss": module.weight.sum()}, STEPS, Run(tmp_path), writes=False)
    assert list(tmp_path.iterdir()) == []
