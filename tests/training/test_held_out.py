"""How often held-out queries find their own positive, and the checkpoint at which they do so most often."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.tiny_pairs import TinyPairs
from tests.training.tiny_runs import (
    Faulty,
    Questions,
    learner,
    tiny_trainer,
    watched,
)
from virtue.data.collator import PairCollator
from virtue.training import trainer as trainer_module
from virtue.training.held_out import own_ranks
from virtue.training.step import StepRows
from virtue.training.towers import Towers


def test_ranks_by_hand() -> None:
    queries = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    targets = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.8, 0.6], [0.8, 0.6], [0.0, 1.0], [0.0, 1.0]])
    owners = torch.tensor([0, 1, 2, 3, 1, 2, 2])  # query 1 has a nearer negative, 2 two that are tied, 0 and 3 none
    hits, losses = own_ranks(queries, targets, owners, 0.5)
    assert hits.tolist() == [1.0, 0.0, pytest.approx(1 / 3), 0.0]
    missed = math.log(math.exp(1.2) + math.exp(1.6)) - 1.2
    everything = math.log(math.exp(2) + math.exp(1.2) + 2 * math.exp(1.6) + 3)  # queries 0 and 3 meet all targets
    assert losses.tolist() == pytest.approx([everything - 2, missed, math.log(3), everything - 1.6], abs=1e-6)


def test_what_is_no_number_finds_nothing() -> None:
    nothing = torch.full((2, 2), float("nan"))
    assert own_ranks(nothing, nothing, torch.arange(2), 1.0)[0].tolist() == [0.0, 0.0]


def test_a_collapsed_model_is_right_one_time_in_ten(tmp_path: Path) -> None:
    model, processor = learner()
    with torch.no_grad():
        model.vlm.language_model.norm.weight.zero_()  # all embeddings are alike
    trainer = tiny_trainer(tmp_path, model=(model, processor), trainer={"held_out": Questions(7)})
    figures = trainer.evaluate()
    assert figures["eval_hit_at_1"] == pytest.approx(0.1)
    assert figures["eval_loss"] == pytest.approx(math.log(10))


@pytest.mark.parametrize("bf16", [False, True])
def test_figures_are_those_of_asking_one_by_one(tmp_path: Path, bf16: bool) -> None:
    model, processor = learner()
    trainer = tiny_trainer(tmp_path, model=(model, processor), trainer={"held_out": Wrong()}, bf16=bf16)
    figures = trainer.evaluate(metric_key_prefix="test")
    assert trainer.model.training is False
    hits, losses = [], []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for row in range(len(Wrong())):
            batch = PairCollator(processor)([Wrong()[row]])
            rows = StepRows(model.eval(), processor, batch, Towers(model, batch.images))
            query, targets = (rows.embed(side, range(len(rows.sides[side]))) for side in (0, 1))
            with torch.autocast("cpu", enabled=False):
                scores = (targets @ query[0]).tolist()
            hits.append(scores[0] > max(scores[1:]))
            losses.append(math.log(sum(math.exp(score / 0.1) for score in scores)) - scores[0] / 0.1)
    assert 0 < sum(hits) < len(hits)
    assert figures["test_hit_at_1"] == pytest.approx(sum(hits) / len(hits))
    assert figures["test_loss"] == pytest.approx(sum(losses) / len(losses), rel=0.05 if bf16 else 1e-4)


class Wrong(Questions):
    """Half the questions have as hard negatives what the untrained model finds nearer: the query itself."""

    def __getitem__(self, row: int) -> Any:
        pair = super().__getitem__(row)
        return replace(pair, negatives=(*pair.negatives, pair.query)) if row % 2 else pair


def test_what_cannot_be_read_is_left_out_of_an_evaluation(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, trainer={"held_out": Faulty(7, broken=(0, 1, 2, 3, 5))})
    figures, whole = trainer.evaluate(), trainer.evaluate(Kept())
    assert figures == {name: pytest.approx(value) for name, value in whole.items()}


class Kept(TinyPairs):
    """Rows 4 and 6."""

    def __init__(self) -> None:
        super().__init__(2)

    def __getitem__(self, row: int) -> Any:
        return super().__getitem__(4 + 2 * row)


def test_the_best_checkpoint_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter([0.2, 0.8, 0.4, 0.6, 0.8])

    def scripted(queries: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        return torch.full((len(queries),), next(shares)), torch.zeros(len(queries))

    monkeypatch.setattr(trainer_module, "own_ranks", scripted)
    trainer, seen = watched(
        tmp_path,
        5,
        trainer={"held_out": Questions(4)},
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        save_total_limit=2,
        metric_for_best_model="hit_at_1",
        greater_is_better=True,
    )
    assert seen.of("eval_hit_at_1") == pytest.approx([0.2, 0.8, 0.4, 0.6, 0.8])
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-5"]
    assert Path(str(trainer.state.best_model_checkpoint)).name == "checkpoint-2"
