"""Adapters with settings of their own for some modules give what PEFT gives; what cannot be read is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.tiny import picture, tiny_model, tiny_processor
from virtue.items import Item
from virtue.model import VirtueModel
from virtue.model.checkpoints import CheckpointError, load_adapter
from virtue.prompts import Box

# PEFT asks transformers for a property of an older name, and takes its own biases for torn matrices.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing.:FutureWarning", "ignore:.*LoRA tensor.s. have invalid shape"
)

TARGETS = r".*language_model.*\.(q_proj|v_proj)"


def embed(model: Any) -> Tensor:
    processor = tiny_processor(tiny_model().config)
    items = [Item(image=picture(), prompt=Box(4, 4, 40, 30)), Item(text="a dog")]
    inputs = processor(
        text=[processor.render(item) for item in items],
        images=[item.image for item in items],
        prompts=[item.prompt for item in items],
    )
    with torch.no_grad():
        embeddings: Tensor = model(**inputs).embeddings
    return embeddings


def trained(folder: Path, **settings: Any) -> Tensor:
    """Saves an adapter of random weights as PEFT does; gives the embeddings it makes."""
    model = get_peft_model(tiny_model(), LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, **settings)).eval()
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3, generator=generator)
    model.save_pretrained(folder)
    return embed(model)


def in_the_authors_words(folder: Path) -> None:
    """Renames the adapter's modules as the authors' model names them, in its tensors and in its patterns."""
    state = load_file(folder / "adapter_model.safetensors")
    renamed = {key.replace("vlm.language_model.", "model."): tensor for key, tensor in state.items()}
    save_file(renamed, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    path = folder / "adapter_config.json"
    path.write_text(path.read_text().replace("vlm.language_model.", "model."))


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"alpha_pattern": {"layers.0.self_attn.q_proj": 32, "v_proj": 1}},
        {"rank_pattern": {r"layers\.[12]\.self_attn\.v_proj": 2}, "alpha_pattern": {"layers.1.self_attn.v_proj": 64}},
        {"lora_bias": True},
    ],
    ids=["plain", "alphas", "ranks", "bias"],
)
def test_an_adapter_gives_what_peft_gives(tmp_path: Path, settings: dict[str, Any], merge: bool) -> None:
    expected = trained(tmp_path, **settings)
    model: VirtueModel = tiny_model()
    assert not torch.allclose(embed(model), expected, atol=1e-3)
    load_adapter(model, tmp_path, merge=merge)
    assert torch.allclose(embed(model), expected, atol=1e-5)


def test_patterns_may_name_the_authors_modules(tmp_path: Path) -> None:
    expected = trained(tmp_path, alpha_pattern={"^vlm.language_model.layers.0.self_attn.q_proj": 32})
    in_the_authors_words(tmp_path)
    model = tiny_model()
    load_adapter(model, tmp_path)
    assert torch.allclose(embed(model), expected, atol=1e-5)


@pytest.mark.parametrize("pattern", [{"(": 8}, ["q_proj"]])
def test_a_pattern_that_is_none_is_refused(tmp_path: Path, pattern: object) -> None:
    trained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rank_pattern": pattern}))
    with pytest.raises(CheckpointError, match=r"adapter_config\.json has a setting that PEFT does not accept"):
        load_adapter(tiny_model(), tmp_path)


def test_an_adapter_is_not_taken_for_a_model(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "base")
    trained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(tmp_path / "base")}))
    with pytest.raises(ValueError, match="adapter holds an adapter: load its model, then"):
        VirtueModel.from_pretrained(tmp_path / "adapter")


@pytest.mark.parametrize(
    ("setting", "value"), [("bias", "lora_only"), ("modules_to_save", ["connector"]), ("init_lora_weights", "pissa")]
)
def test_what_changes_more_than_the_adapted_layers_is_refused(tmp_path: Path, setting: str, value: object) -> None:
    trained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {setting: value}))
    with pytest.raises(CheckpointError, match=f"adapter_config.json has {setting} = .*load the whole model"):
        load_adapter(tiny_model(), tmp_path)
