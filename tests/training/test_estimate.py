"""What a recipe needs: figures that a reader can compute, and those of torch's own counter over a real step."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.tiny import WIDTH, picture, tiny_config, tiny_model, tiny_processor
from virtue.data.collator import PairBatch, PairCollator
from virtue.data.pairs import Pair
from virtue.items import Item
from virtue.model import VirtueConfig
from virtue.training.adaptation import compute_again, prepare
from virtue.training.dry_run import META, cost
from virtue.training.estimate import A100, H100, RTX_4090, Card, Estimate, Load, blank_model, estimate
from virtue.training.grad_cache import grad_cache
from virtue.training.loss import info_nce
from virtue.training.settings import AdapterSettings, ChunkSettings, ModelSettings, Recipe, RunSettings
from virtue.training.step import SIDES, StepRows
from virtue.training.towers import Towers

RECIPE = Recipe(
    "",
    "",
    model=ModelSettings(dtype="float32"),
    adapter=AdapterSettings(rank=2, alpha=4, dropout=0.0, dora=False),
    chunks=ChunkSettings(queries=2, targets=4),
    run=RunSettings(steps=10, batch=4, bf16=False, checkpointing=False),
)
LOAD = Load(image_tokens=6, text_tokens=20, pictures=4, queries=(4, 0), targets=(0, 4))
ADAPTED = {"q": (32, 32), "k": (32, 16), "v": (32, 16), "o": (32, 32), "down": (48, 32)}  # inputs, outputs


@cache
def figures(**changes: Any) -> Estimate:
    """The estimate of RECIPE with some fields of its sections changed, as section_name=value."""
    recipe = RECIPE
    for key, value in changes.items():
        section, _, name = key.partition("_")
        recipe = replace(recipe, **{section: replace(getattr(recipe, section), **{name: value})})
    return estimate(tiny_config(), recipe, LOAD)


def test_a_linear_layer_forwards_and_backwards() -> None:
    layer = nn.Linear(30, 50, bias=False, device=META)
    layer.weight.grad = torch.empty_like(layer.weight)
    rows = torch.empty(20, 30, device=META)
    with torch.no_grad():
        assert cost(lambda: layer(rows), layer).flops == 2 * 20 * 30 * 50
    frozen = layer.requires_grad_(False)
    inputs = rows.clone().requires_grad_()

    def step() -> None:
        made = frozen(inputs)
        torch.autograd.backward(made, torch.empty_like(made))

    assert cost(step, layer).flops == 2 * (2 * 20 * 30 * 50)  # forwards, and the gradient of the inputs alone


def test_peak_memory_is_what_is_alive_at_once() -> None:
    layers = nn.Sequential(nn.Linear(10, 100, bias=False), nn.Linear(100, 5, bias=False)).to(META)
    rows = torch.empty(8, 10, device=META)
    with torch.no_grad():
        assert cost(lambda: layers(rows), layers).peak == 4 * (8 * 100 + 8 * 5)
        assert cost(lambda: [layers(rows), layers(rows)], layers).peak == 4 * (8 * 5 + 8 * 100 + 8 * 5)


def test_attention_keeps_no_square_of_the_tokens() -> None:
    heads = torch.empty(1, 4, 1000, 16, device=META)
    found = cost(lambda: nn.functional.scaled_dot_product_attention(heads, heads, heads), nn.Identity())
    assert found.flops == 2 * (2 * 4 * 1000 * 1000 * 16)
    assert found.peak < 4 * 1000 * 1000


def test_parameters_and_memory_by_hand() -> None:
    found, config = figures(), tiny_config()
    layers = config.get_text_config().num_hidden_layers
    lora = layers * sum(2 * (inputs + outputs) for inputs, outputs in ADAPTED.values())
    connector = (16 * 16 * 2 * 2 + 16) + (16 * 16 + 16) + (16 * WIDTH + WIDTH)
    assert found.learning == lora + connector
    assert found.trained == 16 * (lora + connector)
    whole = sum(parameter.numel() for parameter in tiny_model(config).parameters())
    assert found.parameters == whole + lora
    assert found.weights == 4 * (whole - connector)
    other = figures(model_dtype="bfloat16", run_bf16=True, adapter_dora=True)
    assert other.weights == 2 * (whole - connector)
    assert other.learning == found.learning + layers * sum(outputs for _, outputs in ADAPTED.values())
    assert found.features == 4 * 4 * (6 * WIDTH + 16 * 4 * 4)  # float32: image tokens, and SAM-2's map
    assert found.pixels == 4 * (4 * (6 * 4 * 3 * 2 * 14 * 14 + 3 * 64 * 64) + 3 * 8)  # patches, SAM-2's, the grid
    assert found.embeddings == 2 * 8 * WIDTH * 4


def test_the_language_model_by_hand() -> None:
    """A step of texts: layers of W wide and F deep, K wide keys."""
    tokens, rows, width, deep, keys, layers = 20, 8, 32, 48, 16, 3
    load = replace(LOAD, pictures=0, queries=(0, 4), targets=(0, 4))
    found = estimate(tiny_config(), replace(RECIPE, adapter=replace(RECIPE.adapter, rank=1)), load)
    linear = 2 * rows * tokens * layers * (2 * width * width + 2 * width * keys + 3 * width * deep)
    attention = rows * layers * 4 * tokens * tokens * width
    lora = 2 * rows * tokens * layers * sum(inputs + outputs for inputs, outputs in ADAPTED.values())
    rotation = 2 * 3 * rows * 8 * tokens  # M-RoPE takes its angles by a product
    assert found.first_flops == pytest.approx(linear + attention + lora + rotation, rel=1e-3)
    assert found.tower_flops == found.features == found.pixels == found.towers == 0


def test_operations_are_those_of_a_real_step() -> None:
    """But for the loss, and for attention's backward pass, which takes five products on a GPU and four here."""
    batch, model, processor = uniform_batch(), tiny_model(), tiny_processor(tiny_config())
    prepare(model, "adapter", RECIPE.adapter)
    compute_again(model)
    towers = Towers(model.train(), batch.images)
    rows = StepRows(model, processor, batch, towers)
    chunks = [RECIPE.chunks.chunks(name, rows.lengths(side)) for side, name in enumerate(SIDES)]
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        grad_cache(rows.embed, lambda sides: info_nce(sides[0], sides[1], 0.1), chunks)
    lengths = {len(ids) for ids in batch.queries.ids}, {len(ids) for ids in batch.targets.ids}
    assert lengths == ({26}, {20})  # as LOAD has it
    assert figures(run_checkpointing=True).flops == pytest.approx(counter.get_total_flops(), rel=0.02)


def uniform_batch() -> PairBatch:
    """Four pairs as LOAD has them."""
    processor = tiny_processor(tiny_config())

    def filled(item: Item) -> Item:
        used = len(processor.token_ids([processor.render(item)], [6 if item.image else 0])[0])
        return replace(item, text="?" * (1 + 20 + (6 if item.image else 0) - used))

    asked = [filled(Item(text="?", image=picture(seed=seed))) for seed in range(4)]
    return PairCollator(processor)([Pair(item, (filled(Item(text="?")),)) for item in asked])


def test_what_saves_memory_saves_it() -> None:
    plain, other = figures(), figures(run_checkpointing=True)
    assert other.chunk < plain.chunk
    assert other.second_flops > plain.second_flops
    host = figures(chunks_keep="host")
    assert host.device_bytes == plain.device_bytes - plain.features
    assert host.host_bytes == plain.host_bytes + plain.features
    assert plain.host_bytes == (1 + 2) * plain.pixels  # two workers hold a batch each
    whole = figures(chunks_cached=False)
    assert whole.chunk > plain.chunk
    assert whole.first_flops == 0
    nothing = figures(chunks_keep_bytes=0)
    assert nothing.features == 0
    assert nothing.tower_flops == 2 * plain.tower_flops


def test_layers_left_out_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config().to_dict()
    config["vlm_config"]["text_config"] |= {"num_hidden_layers": 5, "layer_types": ["full_attention"] * 5}
    recipe = replace(RECIPE, run=replace(RECIPE.run, checkpointing=True))
    load = replace(LOAD, pictures=0, queries=(0, 1), targets=(0, 1))
    found = estimate(VirtueConfig.from_dict(config), recipe, load)
    monkeypatch.setattr("virtue.training.estimate.FEW_LAYERS", 5)
    assert estimate(VirtueConfig.from_dict(config), recipe, load) == found


def test_other_backbones() -> None:
    found = estimate(tiny_config("qwen3_vl"), replace(RECIPE, run=replace(RECIPE.run, bf16=True)), LOAD)
    assert min(found.tower_flops, found.first_flops, found.chunk, found.features) > 0


def test_a_vision_tower_that_learns_runs_in_both_passes() -> None:
    plain, full = figures(), figures(model_part="full")
    assert full.tower_flops < plain.tower_flops  # SAM-2 alone
    assert full.first_flops > plain.first_flops
    assert full.learning > 10 * plain.learning
    assert full.features == 4 * 4 * 16 * 4 * 4


def test_hours_by_hand() -> None:
    found = replace(figures(), steps=1000, half=True, tower_flops=10**15, first_flops=10**15, second_flops=16 * 10**14)
    card = Card("a card", 2**30, bf16=1e14, float32=1e13)
    assert found.hours(card, utilisation=0.5) == pytest.approx(1000 * 3.6e15 / 5e13 / 3600)
    assert found.hours(card, cards=8) == pytest.approx(found.hours(card) / 8)
    assert replace(found, half=False).hours(card) == pytest.approx(10 * found.hours(card))
    assert found.hours(RTX_4090) > found.hours(A100) > found.hours(H100)


def test_a_blank_model_holds_nothing() -> None:
    model = blank_model(tiny_config(), RECIPE)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in model.parameters())


def test_a_step_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="4 rows with a picture cannot be about 5 pictures"):
        replace(LOAD, pictures=5)
    with pytest.raises(ValueError, match="no negative numbers"):
        replace(LOAD, targets=(0, -1))
