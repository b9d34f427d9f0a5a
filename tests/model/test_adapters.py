"""Adapters with settings of their own for some modules give what PEFT gives; what cannot be read is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
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
    torch.manual_seed(1)
    model = get_peft_model(tiny_model(), LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, **settings)).eval()
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    return embed(model)


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


@pytest.mark.parametrize(("setting", "value"), [("bias", "lora_only"), ("modules_to_save", ["connector"])])
def test_what_changes_more_than_the_adapted_layers_is_refused(tmp_path: Path, setting: str, value: object) -> None:
    trained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {setting: value}))
    with pytest.raises(CheckpointError, match=f"adapter_config.json has {setting} = .*load the whole model"):
        load_adapter(tiny_model(), tmp_path)
