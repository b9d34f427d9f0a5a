"""Recipes are data, and `changed` changes what it is told and nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any

import pytest

from virtue.data.prompting import checked_kinds
from virtue.training.recipes import RECIPES, changed
from virtue.training.settings import AdapterSettings, DataSettings, ModelSettings, Recipe, RunSettings
from virtue.training.sources import SOURCES

RECIPE = Recipe("A test.", "nowhere")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_can_be_written_down(name: str) -> None:
    recipe = RECIPES[name]
    written = json.loads(json.dumps(asdict(recipe)))
    again = Recipe(
        **{
            field.name: type(value)(**written[field.name]) if is_dataclass(value) else written[field.name]
            for field in fields(recipe)
            for value in [getattr(recipe, field.name)]
        }
    )
    assert json.loads(json.dumps(asdict(again))) == written
    assert recipe.summary.endswith(".")
    assert recipe.source


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_data_that_can_be_opened(name: str) -> None:
    data = RECIPES[name].data
    assert data.sources
    for source in [*data.sources, *data.replay, *([] if data.held_out is None else [data.held_out])]:
        assert source["kind"] in SOURCES
    if data.prompts:
        checked_kinds(data.prompts)


def test_the_numbers_are_those_that_the_recipes_say() -> None:
    recipe = RECIPES["virtue-2b-mmeb"]
    assert (recipe.run.learning_rate, recipe.run.warmup, recipe.run.schedule) == (2e-5, 200, "linear")
    targets = ("q_proj", "k_proj", "v_proj", "o_proj", "down_proj")
    assert recipe.adapter == AdapterSettings(rank=8, alpha=64, dropout=0.1, dora=True, targets=targets)
    assert (recipe.loss.temperature, recipe.run.batch) == (0.02, 64)
    assert RECIPES["vlm2vec-2b"].model.sam is None


CHANGES: list[tuple[str, str, str, Any]] = [
    ("run.steps=500", "run", "steps", 500),
    ("run.learning_rate=1", "run", "learning_rate", 1.0),
    ("run.learning_rate=3e-4", "run", "learning_rate", 3e-4),
    ("run.bf16=False", "run", "bf16", False),
    ("run.bf16=false", "run", "bf16", False),
    ("loss.learn_temperature=true", "loss", "learn_temperature", True),
    ("model.start=Qwen/Qwen2-VL-2B-Instruct", "model", "start", "Qwen/Qwen2-VL-2B-Instruct"),
    ("model.start=5", "model", "start", "5"),
    ("model.start='a b'", "model", "start", "a b"),
    ("model.sam=none", "model", "sam", None),
    ("loss.margin=0.1", "loss", "margin", 0.1),
    ("loss.dimensions=[64, 32]", "loss", "dimensions", (64, 32)),
    ("adapter.targets=('q_proj',)", "adapter", "targets", ("q_proj",)),
    ("chunks.tokens=4096", "chunks", "tokens", 4096),
    (
        "data.sources=[{'kind': 'pairs', 'path': 'a=b.jsonl'}]",
        "data",
        "sources",
        ({"kind": "pairs", "path": "a=b.jsonl"},),
    ),
    ("data.prompts={'box': 1}", "data", "prompts", {"box": 1.0}),
    ("chunks.tokens=None", "chunks", "tokens", None),
    ("model.part=full", "model", "part", "full"),
    ("data.held_out={'kind': 'scenes', 'count': 4}", "data", "held_out", {"kind": "scenes", "count": 4}),
]


@pytest.mark.parametrize(("setting", "section", "name", "value"), CHANGES)
def test_a_setting_changes_one_field(setting: str, section: str, name: str, value: Any) -> None:
    recipe = changed(RECIPE, [setting])
    found = getattr(getattr(recipe, section), name)
    assert found == value
    assert type(found) is type(value)
    assert replace(recipe, **{section: replace(getattr(recipe, section), **{name: None})}) == replace(
        RECIPE, **{section: replace(getattr(RECIPE, section), **{name: None})}
    )


def test_later_settings_come_on_top_and_the_recipe_stays() -> None:
    recipe = changed(RECIPE, ["run.steps=5", "data.workers=0", "run.steps=7"])
    assert (recipe.run.steps, recipe.data.workers) == (7, 0)
    assert RECIPE.run == RunSettings() and RECIPE.data == DataSettings() and RECIPE.model == ModelSettings()
    assert changed(RECIPE, []) == RECIPE


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("run.steps", r"--set run\.steps: write section\.name=value, with a section of model, adapter, loss, chunks"),
        ("steps=5", r"--set steps=5: write section\.name=value"),
        ("optimizer.lr=5", r"write section\.name=value, with a section of model"),
        ("summary.x=5", r"write section\.name=value"),
        ("run.step=5", r"--set run\.step=5: run has no 'step'; it has steps, batch, learning_rate"),
        ("run.steps=many", r"--set run\.steps=many: this is 1000 now, so it takes a value of type int, not 'many'"),
        ("run.steps=1.5", r"this is 1000 now, so it takes .*int, not '1\.5'"),
        ("run.steps=true", r"this is 1000 now, so it takes .*int, not 'true'"),
        ("run.bf16=1", r"this is True now, so it takes .*bool, not '1'"),
        ("run.learning_rate=true", r"so it takes .*float, not 'true'"),
        ("data.prompts=[1]", r"so it takes .*dict, not '\[1\]'"),
        ("data.prompts={'circle': 1}", r"so it takes .*dict, not "),
        ("data.sources=x.jsonl", r"so it takes .*list, not 'x\.jsonl'"),
        ("data.sources=['x.jsonl']", r"so it takes .*list, not "),
        ("loss.dimensions=[64, 'a']", r"so it takes .*list, not "),
        ("run.steps=none", r"this is 1000 now, so it takes a value of type int, not 'none'"),
        ("run.learning_rate=null", r"so it takes a value of type float, not 'null'"),
        ("data.sources=None", r"so it takes a value of type list, not 'None'"),
        ("chunks.tokens=many", r"this is None now, so it takes a value of type int or None, not 'many'"),
        ("loss.margin=true", r"so it takes a value of type float or None, not 'true'"),
        ("model.part=all", r"it takes a value of type 'adapter' or 'connector' or 'full', not 'all'"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed(RECIPE, [setting])
