"""What learns and what is frozen, adapters in and out, and what a training leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.model.test_compose import save_vlm
from tests.tiny import picture, tiny_config, tiny_model, tiny_processor
from tests.training.tiny_runs import learner
from virtue.embedder import Embedder
from virtue.items import Item
from virtue.model import VirtueModel
from virtue.model.adapters import add_adapter, load_adapter, merge_layers, save_adapter
from virtue.prompts import Box
from virtue.training.adaptation import export, parameter_counts, prepare, start
from virtue.training.settings import AdapterSettings, ModelSettings

ITEMS = [
    "a dog",
    Item(image=picture(), text="what"),
    Item(image=picture(), prompt=Box(4, 6, 40, 30)),
]
LORA = AdapterSettings(rank=2, alpha=4, dropout=0.0, dora=False)
DORA = AdapterSettings(rank=2, alpha=4, dropout=0.0, dora=True)


def embeddings(model: VirtueModel) -> Tensor:
    training = model.training
    vectors = torch.from_numpy(Embedder(model, tiny_processor(model.config)).encode(ITEMS))
    model.train(training)
    return vectors


def learning(model: VirtueModel) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def adapted(layer: int, target: str, *, dora: bool) -> set[str]:
    block = "mlp" if target == "down_proj" else "self_attn"
    parts = ["lora_A.default", "lora_B.default", *(["lora_magnitude_vector.default"] if dora else [])]
    return {f"vlm.language_model.layers.{layer}.{block}.{target}.{part}.weight" for part in parts}


CONNECTOR = {f"connector.{name}" for name, _ in tiny_model().connector.named_parameters()}


@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_and_the_connector_learn(dora: bool) -> None:
    model = tiny_model().to(torch.bfloat16)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prepare(model, "adapter", AdapterSettings(dora=dora, targets=("q_proj", "down_proj")))
    layers = [adapted(layer, target, dora=dora) for layer in range(3) for target in ("q_proj", "down_proj")]
    assert learning(model) == CONNECTOR.union(*layers)
    kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert {kinds[name] for name in learning(model)} == {torch.float32}
    assert {kinds[name] for name in kinds.keys() - learning(model)} == {torch.bfloat16}
    q_proj = model.vlm.language_model.layers[0].self_attn.q_proj
    assert q_proj.lora_A.default.weight.shape[0] == 8
    assert q_proj.scaling == {"default": 8.0}  # alpha 64 of rank 8
    assert q_proj.lora_dropout.default.p == 0.1
    after = {name.replace(".base_layer", ""): tensor for name, tensor in model.state_dict().items()}
    assert all(torch.equal(after[name].to(tensor.dtype), tensor) for name, tensor in before.items())


def test_the_connector_alone_learns() -> None:
    model = tiny_model().to(torch.bfloat16)
    prepare(model, "connector")
    assert learning(model) == CONNECTOR
    assert {parameter.dtype for parameter in model.connector.parameters()} == {torch.float32}
    assert model.vlm.dtype == torch.bfloat16


def test_the_whole_vlm_learns_and_sam_does_not() -> None:
    model = tiny_model().to(torch.bfloat16)
    prepare(model, "full")
    assert learning(model) == {name for name, _ in model.named_parameters() if not name.startswith("sam.")}
    assert {parameter.dtype for parameter in model.vlm.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in model.sam.parameters()} == {torch.bfloat16}


def test_the_defaults_are_the_papers() -> None:
    model = tiny_model()
    prepare(model)
    targets = ("q_proj", "k_proj", "v_proj", "o_proj", "down_proj")
    layers = [adapted(layer, target, dora=True) for layer in range(3) for target in targets]
    assert learning(model) == CONNECTOR.union(*layers)


def test_parameters_are_counted() -> None:
    model = tiny_model()
    prepare(model, "adapter", LORA)
    counts = parameter_counts(model)
    assert list(counts) == ["SAM-2", "connector", "vision tower", "language model"]
    assert counts["SAM-2"][1] == counts["vision tower"][1] == 0
    assert counts["connector"][0] == counts["connector"][1] > 0
    # Rank 2 on q, o (32 x 32), k, v (16 x 32) and down (32 x 48) of three layers: rank times in plus out.
    assert counts["language model"][1] == 3 * 2 * (2 * (32 + 32) + 2 * (32 + 16) + (48 + 32))
    assert sum(all_ for all_, _ in counts.values()) == sum(p.numel() for p in model.parameters())
    plain = tiny_model(tiny_config(sam=False))
    assert list(parameter_counts(plain)) == ["vision tower", "language model"]


@pytest.mark.parametrize("settings", [LORA, DORA], ids=["lora", "dora"])
def test_a_new_adapter_changes_no_embedding(settings: AdapterSettings) -> None:
    before, model = embeddings(tiny_model()), tiny_model()
    prepare(model, "adapter", settings)
    after = embeddings(model)
    assert torch.equal(after, before) or (settings.dora and (after - before).abs().max() < 1e-6)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="What learns is one of adapter, connector, full, not 'all'"):
        prepare(tiny_model(), "all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has no connector to train: train an adapter"):
        prepare(tiny_model(tiny_config(sam=False)), "connector")
    with pytest.raises(ValueError, match=r"has no layer 'c_attn' to adapt; it has down_proj, gate_proj, k_proj"):
        prepare(tiny_model(), "adapter", AdapterSettings(targets=("q_proj", "c_attn")))
    for wrong in ({"rank": 0}, {"dropout": 1.0}):
        with pytest.raises(ValueError, match=r"a rank of 1 or more and a dropout in \[0, 1\)"):
            prepare(tiny_model(), "adapter", AdapterSettings(**wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("settings", [LORA, DORA], ids=["lora", "dora"])
def test_an_adapter_comes_back(tmp_path: Path, settings: AdapterSettings, merge: bool) -> None:
    model, _ = learner(adapter=settings)
    with torch.no_grad():
        model.connector.mlp[0].weight.add_(0.1)
    expected = embeddings(model)
    save_adapter(model, tmp_path, "some/base")
    again = tiny_model()
    assert (embeddings(again) - expected).abs().max() > 1e-3
    load_adapter(again, tmp_path, merge=merge)
    if merge:
        assert again.state_dict().keys() == tiny_model().state_dict().keys()
        assert torch.allclose(embeddings(again), expected, atol=1e-5)
    else:
        assert torch.equal(embeddings(again), expected)
        assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "some/base"


def test_an_adapter_can_be_trained_further(tmp_path: Path) -> None:
    model, _ = learner()
    save_adapter(model, tmp_path, "some/base")
    again = tiny_model().requires_grad_(False)
    load_adapter(again, tmp_path, trainable=True)
    assert learning(again) == {name for name in learning(model) if ".lora_" in name}


def test_merging_leaves_a_plain_model() -> None:
    model, _ = learner(adapter=DORA)
    expected = embeddings(model)
    merge_layers(model)
    assert model.state_dict().keys() == tiny_model().state_dict().keys()
    assert torch.allclose(embeddings(model), expected, atol=1e-5)
    add_adapter(model, rank=2, alpha=4, dropout=0.0, dora=False, targets=("q_proj",))  # and takes another one
    assert torch.allclose(embeddings(model), expected, atol=1e-5)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    model = tiny_model().to(torch.bfloat16)  # the same numbers in both precisions
    model.save_pretrained(folder)
    tiny_processor(model.config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_exported_can_be_loaded(base: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    model, processor = start(ModelSettings(start=str(base), dtype=str(dtype).removeprefix("torch.")))  # type: ignore[arg-type]
    assert model.dtype == dtype
    prepare(model, "adapter", DORA)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "magnitude" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    expected = embeddings(model) if dtype == torch.float32 else None
    export(model, processor, tmp_path, str(base), dtype)
    whole = Embedder.from_pretrained(tmp_path / "model", device="cpu", dtype=dtype)
    parts = Embedder.from_pretrained(base, adapter=tmp_path / "adapter", device="cpu", dtype=dtype)
    assert whole.model.dtype == dtype
    assert whole.model.state_dict().keys() == parts.model.state_dict().keys()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(parts.model.state_dict()[name], tensor), name
    if expected is not None:
        assert torch.allclose(torch.from_numpy(whole.encode(ITEMS)), expected, atol=1e-5)


@pytest.mark.parametrize("part", ["connector", "full"])
def test_a_model_without_an_adapter_is_exported_whole(base: Path, tmp_path: Path, part: str) -> None:
    model, processor = start(ModelSettings(start=str(base), dtype="float32"))
    prepare(model, part)  # type: ignore[arg-type]
    with torch.no_grad():
        model.connector.mlp[0].weight.add_(0.1)
    expected = embeddings(model)
    export(model, processor, tmp_path, str(base), torch.float32)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert torch.equal(torch.from_numpy(Embedder.from_pretrained(tmp_path / "model").encode(ITEMS)), expected)


def test_a_new_model_starts_from_the_seed(tmp_path: Path) -> None:
    from transformers import Sam2Model

    from tests.tiny import sam_config

    save_vlm("qwen2_vl", tmp_path / "vlm")
    Sam2Model(sam_config()).save_pretrained(tmp_path / "sam")
    settings = ModelSettings(start=str(tmp_path / "vlm"), sam=str(tmp_path / "sam"), fresh=True, dtype="float32")
    one, again, other = (start(settings, seed)[0].connector.conv.weight for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    plain, _ = start(ModelSettings(start=str(tmp_path / "vlm"), sam=None, fresh=True, template="vlm2vec"))
    assert plain.sam is None and plain.connector is None
    assert plain.config.template == "vlm2vec"
    assert plain.dtype == torch.bfloat16
