from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from virtue import cli
from virtue.items import Item
from virtue.model import VirtueModel, VirtueProcessor
from virtue.prompts import Box
from virtue.training import nano
from virtue.training.architecture import nano_model
from virtue.training.contrastive import Learner
from virtue.training.loop import Schedule, make_optimizers
from virtue.training.nano import PLANS, keep_to
from virtue.training.runs import Run

STAGES = {"segmenter": 2, "reader": 2, "tower": 1, "contrastive": 2}  # steps of the smoke plan


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the smallest plan, made by the command."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(nano, "TOKENIZER_SCENES", 4)
        patched.setattr(nano, "TEXTS", 8)
        command = (
            f"train nano --plan smoke --set images=2 --set segmenter_images=1 --processes 1 --device cpu --to {folder}"
        )
        result = CliRunner().invoke(cli.app, command.split(), prog_name="virtue")
    assert result.exit_code == 0, result.output
    assert [line.split()[:2] for line in result.stderr.splitlines() if "/" in line][-1] == ["contrastive", "2/2"]
    return folder


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_runs_to_its_end(finished: Path, stage: str) -> None:
    state = Run(finished / stage).load()
    assert state is not None
    assert state["step"] == STAGES[stage]
    assert len((finished / stage / "log.jsonl").read_text().splitlines()) == STAGES[stage]


def test_the_last_stage_starts_from_the_three_before_it(finished: Path) -> None:
    states = {stage: Run(finished / stage).load()["module"] for stage in STAGES}
    last = states["contrastive"]
    frozen = {name: tensor for name, tensor in states["segmenter"].items() if name.startswith("sam.")}
    assert frozen
    assert all(torch.equal(last[f"model.{name}"], tensor) for name, tensor in frozen.items())
    table = "heads.codes.pointed"
    assert torch.equal(last[table], states["reader"][table])
    assert torch.equal(last[table], states["segmenter"]["codes.pointed"])
    for name in ("model.vlm.language_model.norm.weight", "model.connector.mlp.0.weight"):
        assert not torch.equal(last[name], states["reader"][name])


def test_the_exported_checkpoint_embeds(finished: Path) -> None:
    model = VirtueModel.from_pretrained(finished / "model")
    processor = VirtueProcessor.from_pretrained(finished / "model")
    assert model.dtype == torch.float16
    picture = Image.new("RGB", (64, 48), "red")
    texts = [processor.render(Item(image=picture)), processor.render(Item(text="a dog"))]
    inputs = processor(text=texts, images=[picture, None], prompts=[Box(4, 4, 40, 30), None])
    with torch.no_grad():
        rows = model.float().eval()(**inputs).embeddings
    assert rows.shape == (2, 192)
    assert torch.allclose(rows.norm(dim=1), torch.ones(2))


def test_the_exported_weights_are_the_trained_ones(finished: Path) -> None:
    trained = Run(finished / "contrastive").load()["module"]
    exported = VirtueModel.from_pretrained(finished / "model").state_dict()
    kept = {name.removeprefix("model."): tensor for name, tensor in trained.items() if name.startswith("model.")}
    assert exported.keys() == kept.keys()
    assert all(torch.equal(tensor, kept[name].half()) for name, tensor in exported.items())


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_draws_with_its_workers_and_saves_as_its_plan_says(
    finished: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    asked: dict[str, int] = {}

    def train(module: nn.Module, losses: Any, schedule: Schedule, *_: Any, **__: Any) -> None:
        asked["save"] = schedule.save_every

    monkeypatch.setattr(nano, "train", train)
    monkeypatch.setattr(nano, "Feed", lambda draw, steps, device, workers: asked.update(steps=steps, workers=workers))
    getattr(nano, f"train_{stage}")(finished, replace(PLANS["smoke"], save_every=7), torch.device("cpu"), workers=3)
    assert asked == {"save": 7, "steps": STAGES[stage], "workers": 3}


def test_muon_leaves_tables_and_heads_to_adamw() -> None:
    learner = Learner(nano_model(0), 0)
    adamw, muon = make_optimizers(learner, Schedule(1, 0.1))
    names = {id(parameter): name for name, parameter in learner.named_parameters()}
    theirs = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    others = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert {"model.vlm.language_model.layers.0.mlp.up_proj.weight", "model.connector.mlp.0.weight"} <= theirs
    assert {"model.vlm.language_model.embed_tokens.weight", "heads.object.weight", "heads.related.weight"} <= others
    assert not any(name.startswith(("heads.", "model.sam.")) for name in theirs)


def test_the_tokenizer_is_learnt_once(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unexpected() -> None:
        raise AssertionError("learnt again")

    monkeypatch.setattr(nano, "_texts", unexpected)
    assert len(nano.read_processor(finished).tokenizer) > 256


def test_a_stage_is_not_started_without_those_before_it(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "segmenter").symlink_to(finished / "segmenter")
    with pytest.raises(FileNotFoundError, match=r"reader holds no checkpoint: train that stage first"):
        nano.train_contrastive(tmp_path, nano.PLANS["smoke"], torch.device("cpu"))


def test_an_unfinished_run_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="contrastive holds no checkpoint: run the recipe to its last stage"):
        nano.export(tmp_path, tmp_path / "model")


def gradients(*values: list[float] | None) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.zeros(2)) for _ in values]
    for parameter, value in zip(parameters, values, strict=True):
        parameter.grad = None if value is None else torch.tensor(value)
    return parameters


def test_gradients_are_averaged_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_reduce(flat: Tensor) -> None:
        flat += torch.tensor([1.0, 2.0, 3.0, 4.0])  # the other process's gradients

    monkeypatch.setattr(nano, "distributed", SimpleNamespace(all_reduce=all_reduce, get_world_size=lambda: 2))
    parameters = gradients([3.0, 0.0], [5.0, 4.0])
    nano._average(parameters)
    assert [parameter.grad.tolist() for parameter in parameters] == [[2.0, 1.0], [4.0, 4.0]]


def _averaged(rank: int, meeting: str, results: str) -> None:
    nano.join_processes(rank, 2, Path(meeting))
    parameters = gradients([3.0 * rank, 1.0], [4.0, 2.0 * rank])
    nano._average(parameters)
    torch.save([parameter.grad for parameter in parameters], f"{results}/{rank}.pt")
    nano.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_average_their_gradients(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_averaged, (str(tmp_path / "meeting"), str(tmp_path)), nprocs=2)
    for rank in range(2):
        grads = torch.load(tmp_path / f"{rank}.pt")
        assert [grad.tolist() for grad in grads] == [[1.5, 1.0], [4.0, 1.0]]


def test_a_folder_keeps_to_the_plan_it_was_begun_with(tmp_path: Path) -> None:
    keep_to(PLANS["smoke"], tmp_path / "run")
    keep_to(PLANS["smoke"], tmp_path / "run")
    with pytest.raises(ValueError, match=r"a run with images = 4, not 16: go on with its own plan"):
        keep_to(PLANS["cpu"], tmp_path / "run")
