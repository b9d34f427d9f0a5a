"""From a recipe and a folder to a model: the data's shares, what a folder remembers, and whole runs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from tests.data.files import write_lines
from tests.tiny import tiny_config, tiny_model, tiny_processor
from tests.training.tiny_runs import Seen, together
from virtue.embedder import Embedder
from virtue.items import Item
from virtue.prompts import Box
from virtue.training import running
from virtue.training import trainer as trainer_module
from virtue.training.forgetting import Anchor
from virtue.training.recipes import RECIPES, changed
from virtue.training.running import held_out_pairs, keep_to, make_mixture, prepare_run, run, training_arguments
from virtue.training.saving import TRAINED
from virtue.training.settings import DataSettings, ForgettingSettings, Recipe, RunSettings

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "white": (240, 240, 240)}
PLACES = {"left": (4, 10), "right": (44, 10)}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint to start from."""
    folder = tmp_path_factory.mktemp("start")
    model = tiny_model(tiny_config())
    model.save_pretrained(folder)
    tiny_processor(model.config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of two coloured blocks each, and pairs that ask for one of them by box, mask or words."""
    folder = tmp_path_factory.mktemp("data")
    rows: list[dict[str, Any]] = []
    for left in COLOURS:
        for right in COLOURS:
            if left == right:
                continue
            pixels = np.zeros((60, 80, 3), dtype=np.uint8)
            for colour, (x, y) in zip((left, right), PLACES.values(), strict=True):
                pixels[y : y + 40, x : x + 32] = COLOURS[colour]
            name = f"{left}-{right}.png"
            Image.fromarray(pixels).save(folder / name)
            x, y = PLACES["left"]
            box = [x, y, x + 32, y + 40]
            region = (
                {"box": box}
                if len(rows) % 2
                else {"mask": [[box[0], box[1], box[2], box[1], *box[2:], box[0], box[3]]]}
            )
            others = [colour for colour in COLOURS if colour != left]
            rows.append({"query": {"image": name} | region, "positive": left, "negatives": others})
            rows.append({"query": f"{left} beside {right}", "positive": {"image": name}})
    write_lines(folder / "pairs.jsonl", rows)
    write_lines(folder / "regions.jsonl", [row for row in rows if "negatives" in row])
    write_lines(folder / "earlier.jsonl", [{"query": f"word {i}", "positive": f"answer {i}"} for i in range(10)])
    return folder


def recipe(start: Path, data: Path, /, **sections: dict[str, Any]) -> Recipe:
    base = changed(
        RECIPES["own-pairs"],
        [
            f"model.start={start}",
            f"data.sources=[{{'kind': 'pairs', 'path': '{data / 'pairs.jsonl'}'}}]",
            "run.steps=4",
            "run.batch=6",
            "run.save_every=2",
            "run.evaluate_every=2",
            "run.log_every=1",
            "run.tensorboard=false",
            "adapter.rank=2",
            "adapter.alpha=4",
        ],
    )
    for section, fields in sections.items():
        base = replace(base, **{section: replace(getattr(base, section), **fields)})
    return base


def texts(folder: Path, name: str, count: int) -> dict[str, Any]:
    path = folder / f"{name}.jsonl"
    write_lines(path, [{"query": f"{name} {i}", "positive": "yes"} for i in range(count)])
    return {"kind": "pairs", "path": str(path)}


def drawn(data: DataSettings, count: int) -> Counter[str]:
    mixture = make_mixture(data, seed=0)
    return Counter(str(mixture[position].query.text).split()[0] for position in range(count))


def test_sources_mix_by_size_or_weight(tmp_path: Path) -> None:
    a, b = texts(tmp_path, "a", 30), texts(tmp_path, "b", 10)
    assert drawn(DataSettings(sources=(a, b)), 40) == {"a": 30, "b": 10}
    assert drawn(DataSettings(sources=(a | {"cap": 5}, b)), 15) == {"a": 5, "b": 10}
    assert drawn(DataSettings(sources=(a | {"weight": 1}, b | {"weight": 3})), 40) == {"a": 10, "b": 30}


def test_replayed_sources_take_their_share(tmp_path: Path) -> None:
    a, b, old, older = (
        texts(tmp_path, name, size) for name, size in {"a": 30, "b": 10, "old": 40, "older": 20}.items()
    )
    half = DataSettings(sources=(a, b), replay=(old, older), replay_share=0.4)
    # 100 rows: 60 of the new by size, 3 to 1, and 40 of the old, 2 to 1.
    assert drawn(half, 100) == {"a": 45, "b": 15, "old": 27, "older": 13}
    weighted = replace(half, replay=(old | {"weight": 1}, older | {"weight": 1}))
    assert drawn(weighted, 100) == {"a": 45, "b": 15, "old": 20, "older": 20}


@pytest.mark.parametrize(
    ("replayed", "share", "message"),
    [
        (0, 0.5, r"Replay needs sources \(data\.replay\) and a share between 0 and 1 .*, not 0 and 0\.5"),
        (1, 0.0, r"not 1 and 0\.0"),
        (1, 1.0, r"not 1 and 1\.0"),
    ],
)
def test_replay_needs_both_sources_and_a_share(tmp_path: Path, replayed: int, share: float, message: str) -> None:
    a, old = texts(tmp_path, "a", 3), texts(tmp_path, "old", 3)
    with pytest.raises(ValueError, match=message):
        make_mixture(DataSettings(sources=(a,), replay=(old,) * replayed, replay_share=share), 0)


def test_a_training_needs_data(start: Path) -> None:
    with pytest.raises(ValueError, match="give at least one source"):
        prepare_run(Recipe("A test.", "nowhere"))


def test_a_folder_keeps_to_its_recipe(tmp_path: Path) -> None:
    one = RECIPES["own-pairs"]
    keep_to(one, tmp_path / "run")
    keep_to(one, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["recipe.json"]
    assert json.loads((tmp_path / "run/recipe.json").read_text())["run"]["steps"] == one.run.steps
    other = changed(one, ["run.learning_rate=0.5"])
    with pytest.raises(ValueError, match=r"holds a run with run\.learning_rate = 0\.001, not 0\.5: go on with its own"):
        keep_to(other, tmp_path / "run")
    keep_to(changed(one, ["loss.dimensions=(8, 4)"]), tmp_path / "cut")
    keep_to(changed(one, ["loss.dimensions=[8, 4]"]), tmp_path / "cut")  # a list and a tuple are written alike


def test_amounts_reach_the_trainer(tmp_path: Path) -> None:
    settings = RunSettings(steps=7, batch=3, learning_rate=0.5, warmup=2, schedule="cosine", weight_decay=0.1, clip=2.0)
    settings = replace(
        settings, save_every=3, keep=3, evaluate_every=6, log_every=9, tensorboard=False, seed=5, bf16=False
    )
    asked = replace(
        Recipe("A test.", "nowhere"), run=settings, data=DataSettings(workers=3, held_out={"kind": "scenes"})
    )
    found = training_arguments(asked, tmp_path, "cpu")
    assert (found.max_steps, found.per_device_train_batch_size, found.learning_rate) == (7, 3, 0.5)
    assert (found.warmup_steps, found.lr_scheduler_type, found.weight_decay, found.max_grad_norm) == (
        2,
        "cosine",
        0.1,
        2,
    )
    assert (found.save_steps, found.save_total_limit, found.eval_steps, found.logging_steps) == (3, 3, 6, 9)
    assert (found.metric_for_best_model, found.greater_is_better, found.seed) == ("hit_at_1", True, 5)
    assert (found.dataloader_num_workers, found.report_to, found.bf16, found.use_cpu) == (3, [], False, True)


def colours_right(embedder: Embedder, data: Path) -> float:
    """Share of pictures whose left block is told by its box."""
    words = embedder.encode(list(COLOURS))
    right = []
    for path in sorted(data.glob("*.png")):
        query = embedder.encode(Item(image=path, prompt=Box(4, 10, 36, 50)))
        right.append(list(COLOURS)[int((words @ query).argmax())] == path.stem.split("-")[0])
    return sum(right) / len(right)


def test_own_pairs_from_file_to_model(start: Path, data: Path, tmp_path: Path) -> None:
    asked = recipe(start, data, run={"steps": 30, "batch": 12, "learning_rate": 5e-3, "save_every": 20, "warmup": 3})
    seen = Seen()
    prepared = prepare_run(asked)
    assert len(prepared.mixture) == 24
    run(prepared, tmp_path, "cpu", [seen])
    losses = seen.of("loss")
    assert len(losses) == 30
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    untrained, trained = Embedder.from_pretrained(start), Embedder.from_pretrained(tmp_path / "model")
    assert colours_right(trained, data) > max(0.6, colours_right(untrained, data))
    parts = Embedder.from_pretrained(start, adapter=tmp_path / "adapter")
    assert np.allclose(parts.encode("red"), trained.encode("red"), atol=1e-6)


def test_a_run_goes_on_where_it_was(start: Path, data: Path, tmp_path: Path) -> None:
    held_out = {"kind": "pairs", "path": str(data / "pairs.jsonl")}
    asked = recipe(start, data, data={"held_out": held_out, "held_out_rows": 5})
    whole, first, again, after = Seen(), Dies(3), Seen(), Seen()
    run(prepare_run(asked), tmp_path / "whole", "cpu", [whole])
    with pytest.raises(KeyboardInterrupt):
        run(prepare_run(asked), tmp_path / "cut", "cpu", [first])
    assert not (tmp_path / "cut/model").exists()
    run(prepare_run(asked), tmp_path / "cut", "cpu", [again])
    assert first.of("loss") == whole.of("loss")[:3]
    assert again.of("loss") == whole.of("loss")[2:]
    assert len(whole.of("eval_hit_at_1")) == 2
    weights = "model/model.safetensors"
    assert (tmp_path / "cut" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()
    (tmp_path / "cut" / weights).unlink()  # as if it had been killed while writing its model
    run(prepare_run(asked), tmp_path / "cut", "cpu", [after])
    assert after.of("loss") == []
    assert (tmp_path / "cut" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()
    with pytest.raises(ValueError, match=r"holds a run with run\.batch = 6, not 5"):
        run(prepare_run(changed(asked, ["run.batch=5"])), tmp_path / "cut", "cpu")


def test_the_best_checkpoint_is_the_model(
    start: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = iter([0.9, 0.2])

    def scripted(queries: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        return torch.full((len(queries),), next(shares)), torch.zeros(len(queries))

    monkeypatch.setattr(trainer_module, "own_ranks", scripted)
    held_out = {"kind": "pairs", "path": str(data / "pairs.jsonl")}
    run(prepare_run(recipe(start, data, data={"held_out": held_out, "held_out_rows": 5})), tmp_path, "cpu")
    name = "connector.conv.weight"
    found = load_file(tmp_path / "model/model.safetensors")[name]
    second, last = (load_file(tmp_path / f"checkpoint-{step}" / TRAINED)[name] for step in (2, 4))
    assert torch.equal(found, second)
    assert not torch.equal(second, last)


class Dies(Seen):
    """Stops a run after a step as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        super().on_log(args, state, control, logs, **others)
        if "loss" in logs and state.global_step == self.step:
            raise KeyboardInterrupt


def test_what_matters_is_measured_once(
    start: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = {"kind": "pairs", "path": str(data / "earlier.jsonl")}
    asked = recipe(
        start, data, data={"replay": (earlier,), "replay_share": 0.25}, forgetting={"strength": 10.0, "batches": 2}
    )
    batches: list[int] = []
    measure = running.ContrastiveTrainer.gradients

    def counted(trainer: Any, count: int) -> Any:
        batches.append(count)
        assert {trainer.mixture[p].query.text.split()[0] for p in range(10)} == {"word"}  # of the earlier data alone
        return measure(trainer, count)

    monkeypatch.setattr(running.ContrastiveTrainer, "gradients", counted)
    seen = Seen()
    with pytest.raises(KeyboardInterrupt):
        run(prepare_run(asked), tmp_path, "cpu", [Dies(3)])
    written = (tmp_path / "anchor.safetensors").read_bytes()
    run(prepare_run(asked), tmp_path, "cpu", [seen])
    assert batches == [2]
    assert (tmp_path / "anchor.safetensors").read_bytes() == written
    anchor, fresh = Anchor.load(tmp_path / "anchor.safetensors", 1.0), prepare_run(asked).model
    learning = {name: p for name, p in fresh.named_parameters() if p.requires_grad}
    assert anchor.weights.keys() == learning.keys()
    assert all(torch.equal(anchor.weights[name], p) for name, p in learning.items())
    assert len(seen.of("loss")) == 2


def test_what_matters_cannot_be_measured_without_data(start: Path, data: Path, tmp_path: Path) -> None:
    asked = replace(recipe(start, data), forgetting=ForgettingSettings(strength=1.0))
    with pytest.raises(ValueError, match=r"measured on the earlier data: name it \(data\.replay\)"):
        run(prepare_run(asked), tmp_path, "cpu")


def test_processes_run_what_one_runs(start: Path, data: Path, tmp_path: Path) -> None:
    earlier = {"kind": "pairs", "path": str(data / "earlier.jsonl")}
    held_out = {"kind": "pairs", "path": str(data / "regions.jsonl")}
    sources = {"replay": (earlier,), "replay_share": 0.25, "held_out": held_out, "held_out_rows": 5}
    asked = recipe(start, data, data=sources, forgetting={"strength": 10.0, "batches": 2}, run={"batch": 3, "steps": 3})
    together(run_in_process, tmp_path, asked)
    seen = Seen()
    run(prepare_run(changed(asked, ["run.batch=6"])), tmp_path / "one", "cpu", [seen])
    for rank in (0, 1):
        found = json.loads((tmp_path / f"seen-{rank}").read_text())
        for name in ("loss", "eval_hit_at_1", "eval_loss"):
            expected = [logs[name] for logs in found if name in logs]
            assert expected == pytest.approx(seen.of(name), abs=1e-4), name
    one, two = (load_file(folder / "model/model.safetensors") for folder in (tmp_path / "one", tmp_path / "two"))
    assert one.keys() == two.keys()
    assert all(torch.allclose(tensor, two[name], atol=1e-4) for name, tensor in one.items())


def run_in_process(rank: int, folder: Path, asked: Recipe) -> None:
    seen = Seen()
    run(prepare_run(asked), folder / "two", "cpu", [seen])
    (folder / f"seen-{rank}").write_text(json.dumps(seen.logs))


def test_what_changes_no_weight_may_be_set_anew(tmp_path: Path) -> None:
    recipe = RECIPES["own-pairs"]
    keep_to(recipe, tmp_path)
    keep_to(changed(recipe, ["chunks.queries=2", "data.max_skipped=500", "run.save_every=7"]), tmp_path)
    assert json.loads((tmp_path / "recipe.json").read_text())["chunks"]["queries"] == 2
    with pytest.raises(ValueError, match=r"holds a run with run\.batch = 32, not 16: go on with its own settings"):
        keep_to(changed(recipe, ["run.batch=16"]), tmp_path)
    begun = json.loads((tmp_path / "recipe.json").read_text()) | {"processes": 4}
    (tmp_path / "recipe.json").write_text(json.dumps(begun))
    with pytest.raises(ValueError, match="holds a run with processes = 4, not 1"):
        keep_to(recipe, tmp_path)


def test_a_share_of_the_data_is_held_out_of_training() -> None:
    sources = tuple({"kind": "scenes", "count": 10, "start": start, "size": [64, 64]} for start in (0, 100))
    data = DataSettings(sources=sources, held_out_share=0.2)
    mixture, held_out = make_mixture(data, 0), held_out_pairs(data, 0)
    assert held_out is not None
    assert (len(mixture), len(held_out)) == (16, 4)
    trained = {mixture[position].where for position in range(16)}
    assert len(trained | {held_out[row].where for row in range(4)}) == 20
    assert len(held_out_pairs(replace(data, held_out_rows=3), 0) or ()) == 3
    assert held_out_pairs(replace(data, held_out_share=0.0), 0) is None
    with pytest.raises(ValueError, match="not both"):
        held_out_pairs(replace(data, held_out=sources[0]), 0)


def test_the_best_checkpoint_has_to_be_written(tmp_path: Path) -> None:
    recipe = changed(RECIPES["own-pairs"], ["data.held_out_share=0.1", "run.evaluate_every=50", "run.save_every=100"])
    with pytest.raises(ValueError, match=r"run\.evaluate_every \(50\) has to be a multiple of run\.save_every \(100\)"):
        training_arguments(recipe, tmp_path, "cpu")
    with pytest.raises(ValueError, match="There is no device 'cuda:7' to train on here"):
        training_arguments(RECIPES["own-pairs"], tmp_path, "cuda:7")


def test_replay_does_not_hide_that_only_some_sources_have_a_weight() -> None:
    own = ({"kind": "scenes", "count": 5, "weight": 2}, {"kind": "scenes", "count": 5})
    data = DataSettings(sources=own, replay=({"kind": "scenes", "count": 5},), replay_share=0.5)
    with pytest.raises(ValueError, match="weight"):
        make_mixture(data, 0)
