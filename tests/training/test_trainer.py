"""What a step of a training computes, and what stops a run."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.tiny_pairs import TinyPairs
from tests.training.tiny_runs import (
    Faulty,
    agree,
    learner,
    tiny_trainer,
    watched,
)
from virtue.data.pairs import RowError
from virtue.items import Item
from virtue.training.adaptation import compute_again
from virtue.training.loss import info_nce, same_answers
from virtue.training.saving import TEMPERATURE, TRAINED
from virtue.training.settings import AdapterSettings, ChunkSettings, LossSettings
from virtue.training.step import StepRows
from virtue.training.towers import Towers


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    _, seen = watched(tmp_path, 8, per_device_train_batch_size=12)  # the same pairs in every step
    losses = seen.of("loss")
    assert losses[-1] < 0.6 * losses[0]
    assert seen.of("learning_rate")[-1] < seen.of("learning_rate")[0]


def test_a_step_is_the_loss_of_its_embeddings(tmp_path: Path) -> None:
    trainer, seen = watched(tmp_path, learning_rate=0.0)
    batch = trainer.collator([trainer.train_dataset[position] for position in range(6)])
    model, processor = learner()
    rows = StepRows(model.train(), processor, batch, Towers(model, batch.images))
    queries, targets = (rows.embed(side, range(len(rows.sides[side]))) for side in (0, 1))
    same = same_answers(batch.queries.keys, batch.targets.keys, batch.positives)
    expected = info_nce(queries, targets, 0.1, positives=batch.positives, symmetric=True, same=same)
    assert seen.of("loss") == [pytest.approx(expected.item(), abs=1e-6)]
    expected.backward()
    learning = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    found = {name: gradient for name, gradient in seen.gradients[0].items() if name != "log_temperature"}
    agree(found, learning, 1e-6)


@pytest.mark.parametrize(
    "chunks",
    [
        ChunkSettings(cached=False),
        ChunkSettings(queries=1, targets=1, pictures=1, keep="host", keep_bytes=0),
        ChunkSettings(tokens=60, first_pass=3),
    ],
    ids=["plain", "one by one", "by tokens"],
)
def test_how_a_batch_is_cut_changes_nothing(tmp_path: Path, chunks: ChunkSettings) -> None:
    _, expected = watched(tmp_path)
    _, found = watched(tmp_path, chunks=chunks)
    assert found.of("loss") == [pytest.approx(expected.of("loss")[0], abs=1e-6)]
    agree(found.gradients[0], expected.gradients[0], 2e-6)
    assert "log_temperature" in found.gradients[0]


def test_activations_may_be_computed_again(tmp_path: Path) -> None:
    dropout = AdapterSettings(rank=2, alpha=4, dropout=0.3)
    _, expected = watched(tmp_path, model=learner(adapter=dropout))
    model, processor = learner(adapter=dropout)
    compute_again(model)
    assert model.vlm.language_model.layers[0].gradient_checkpointing
    runs = []
    model.vlm.language_model.layers[0].mlp.register_forward_pre_hook(lambda *_: runs.append(torch.is_grad_enabled()))
    _, found = watched(tmp_path, model=(model, processor))
    assert runs.count(True) == 2 * runs.count(False)  # first pass, second pass, and once more for the backward pass
    assert found.of("loss") == expected.of("loss")
    agree(found.gradients[0], expected.gradients[0], 1e-6)


def test_bfloat16_computes_roughly_the_same(tmp_path: Path) -> None:
    _, expected = watched(tmp_path)
    trainer, found = watched(tmp_path, bf16=True)
    assert found.of("loss")[0] == pytest.approx(expected.of("loss")[0], rel=0.1)
    assert found.of("loss") != expected.of("loss")
    gradients = {name: gradient for name, gradient in found.gradients[0].items() if "connector.mlp" in name}
    assert gradients
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32
        one, other = gradient.flatten(), expected.gradients[0][name].flatten()
        assert torch.cosine_similarity(one, other, dim=0) > 0.98, name
    assert {p.dtype for p in trainer.model.parameters() if p.requires_grad} == {torch.float32}


def test_the_temperature_learns_from_each_step_alone(tmp_path: Path) -> None:
    # Nothing moves and every step sees the same pairs, so every step has the same gradient.
    _, seen = watched(tmp_path, 3, learning_rate=0.0, per_device_train_batch_size=12)
    gradients = [each["log_temperature"].item() for each in seen.gradients]
    assert abs(gradients[0]) > 0.1
    assert gradients == [pytest.approx(gradients[0], rel=1e-4)] * 3


def test_the_temperature_moves_and_is_kept(tmp_path: Path) -> None:
    trainer, _ = watched(tmp_path, 2, save_strategy="steps", save_steps=2)
    learnt = trainer.log_temperature.item()
    assert learnt != pytest.approx(math.log(0.1), abs=1e-4)
    assert load_file(tmp_path / "checkpoint-2" / TRAINED)[TEMPERATURE].item() == learnt
    again = tiny_trainer(tmp_path, 2)
    assert again.temperature.item() == pytest.approx(0.1)
    again.train(resume_from_checkpoint=True)
    assert again.log_temperature.item() == learnt


def test_the_temperature_stays_where_it_is_unless_it_learns(tmp_path: Path) -> None:
    trainer, seen = watched(tmp_path, 2, loss=LossSettings(temperature=0.1))
    assert trainer.temperature.item() == pytest.approx(0.1)
    assert "log_temperature" not in seen.gradients[0]


# What stops a run


def test_the_row_of_a_number_that_is_none_is_named(tmp_path: Path) -> None:
    model, processor = learner()
    marked = processor.tokenizer("~")["input_ids"][0]
    with torch.no_grad():
        model.get_input_embeddings().weight[marked, 0] = float("inf")
    trainer = tiny_trainer(tmp_path, model=(model, processor), pairs=Marked())
    with pytest.raises(
        FloatingPointError, match=r"^Step 1 has embeddings that are not finite: target of tiny row 5\. "
    ):
        trainer.train()


class Marked(TinyPairs):
    """The answer of row 5 has a sign of its own; twelve rows."""

    def __getitem__(self, row: int) -> Any:
        pair = super().__getitem__(row)
        return replace(pair, positives=(Item(text="here ~"),)) if row == 5 else pair


def test_a_loss_that_is_no_number_stops(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, loss=LossSettings(temperature=1e-40))
    with pytest.raises(
        FloatingPointError, match=r"^The loss of step 1 is .* although every embedding is finite: raise"
    ):
        trainer.train()


def test_what_cannot_be_read_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer, seen = watched(tmp_path, 2, pairs=Faulty(broken=(0, 4)), trainer={"max_skipped": 2})
    assert trainer.skipped == 2
    assert len(seen.of("loss")) == 2
    assert {row.message for row in caplog.records if "skipped" in row.message} == {
        f"skipped: tiny row {row}: its picture is broken." for row in (0, 4)
    }


def test_too_many_rows_that_cannot_be_read_stop_a_run(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, 9, pairs=Faulty(broken=(0, 4)), trainer={"max_skipped": 3})
    with pytest.raises(
        ValueError,
        match=r"^4 rows could not be read, more than the 3 that are let pass \(data\.max_skipped\)\. The last: tiny",
    ):
        trainer.train()
    assert trainer.state.global_step == 3  # two in every second step


def test_a_batch_of_nothing_stops_a_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Not one row of a batch could be read"):
        tiny_trainer(tmp_path, pairs=Faulty(broken=range(12))).train()


def test_a_row_that_does_not_follow_its_format_stops_a_run(tmp_path: Path) -> None:
    with pytest.raises(RowError, match=r"^tiny row 4, field box: is no box\.$"):
        tiny_trainer(tmp_path, pairs=Faulty(wrong=(4,))).train()


def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Give the number of steps \(max_steps\)"):
        tiny_trainer(tmp_path, -1)
    model, processor = learner()
    with pytest.raises(ValueError, match="Nothing of the model learns"):
        tiny_trainer(tmp_path, model=(model.requires_grad_(False), processor))
    drops = learner(adapter=AdapterSettings(rank=2, alpha=4, dropout=0.1))
    with pytest.raises(ValueError, match=r"first_pass is greater than 1 while the model drops out"):
        tiny_trainer(tmp_path, model=drops, chunks=ChunkSettings(first_pass=2))
    with pytest.raises(ValueError, match="Make the batch larger"):
        tiny_trainer(tmp_path, gradient_accumulation_steps=2)


def test_gradients_that_are_not_finite_stop_a_run_before_they_spoil_the_weights(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, 2)
    weight = trainer.model.connector.conv.weight
    before = weight.detach().clone()
    weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(FloatingPointError, match=r"gradients of step 1 are not finite \(embeddings and loss are\)"):
        trainer.train()
    assert torch.equal(weight, before)


@pytest.mark.parametrize(("setting", "sentence"), [({"fp16": True}, "leave fp16 and deepspeed off")])
def test_what_would_train_wrongly_is_refused(tmp_path: Path, setting: dict[str, bool], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        tiny_trainer(tmp_path, **setting)
    with pytest.raises(ValueError, match=r"A temperature that learns starts between 0\.001 and 1\."):
        tiny_trainer(tmp_path, loss=LossSettings(temperature=3.0, learn_temperature=True))
