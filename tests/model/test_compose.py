"""A new model out of a pretrained vision-language model and a pretrained SAM-2, both tiny and saved by transformers."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForImageTextToText, Sam2Model

from tests.tiny import BACKBONES, WIDTH, picture, sam_config, tiny_config, tiny_processor, vlm_config
from virtue.model import VirtueConfig, VirtueModel
from virtue.model.checkpoints import CheckpointError, compose
from virtue.prompts import Box
from virtue.templates import IMAGE_TOKEN


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sam")
    Sam2Model(sam_config()).save_pretrained(folder)
    return folder


def save_vlm(backbone: str, folder: Path) -> dict[str, Tensor]:
    """A vision-language model as its makers publish it, with a head for words; its tensors by transformers' names."""
    model = AutoModelForImageTextToText.from_config(vlm_config(backbone))
    model.save_pretrained(folder)
    processor = tiny_processor(tiny_config(backbone))
    processor.image_processor.save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)
    return model.model.state_dict()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_goes_with_a_sam(backbone: str, sam: Path, tmp_path: Path) -> None:
    tensors = save_vlm(backbone, tmp_path)
    model, processor = compose(tmp_path, sam)
    state = model.state_dict()
    assert all(torch.equal(state[f"vlm.{key}"], tensor) for key, tensor in tensors.items())
    neck = "vision_encoder.neck.convs.0.weight"
    assert torch.equal(state[f"sam.{neck}"], load_file(sam / "model.safetensors")[neck])
    with torch.no_grad():
        embedding = model(**processor([f"{IMAGE_TOKEN}a dog"], [picture()], [Box(5, 6, 50, 40)])).embeddings
    assert embedding.shape == (1, WIDTH)
    assert embedding.norm().item() == pytest.approx(1, abs=1e-5)


def test_the_settings_are_right_and_not_the_released_ones(sam: Path, tmp_path: Path) -> None:
    save_vlm("qwen2_vl", tmp_path)
    config = compose(tmp_path, sam, dtype="bfloat16")[0].config
    default = VirtueConfig()
    assert {key: getattr(config, key) for key in VirtueConfig.as_released()} == {
        key: getattr(default, key) for key in VirtueConfig.as_released()
    }
    assert config.dtype == torch.bfloat16


def test_the_seed_decides_the_connector_and_it_is_saved(sam: Path, tmp_path: Path) -> None:
    save_vlm("qwen2_vl", tmp_path / "vlm")
    kernels = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model = compose(tmp_path / "vlm", sam)[0]
        kernels.append(model.connector.conv.weight)
    assert torch.equal(kernels[0], kernels[1])
    assert not torch.equal(kernels[0], kernels[2])
    model.save_pretrained(tmp_path / "ours")
    assert torch.equal(VirtueModel.from_pretrained(tmp_path / "ours").connector.conv.weight, kernels[2])


def test_tensors_under_the_older_flat_names_are_read(sam: Path, tmp_path: Path) -> None:
    tensors = save_vlm("qwen2_vl", tmp_path)
    flat = {
        key.replace("language_model.", "model.") if key.startswith("language_model.") else key: tensor.clone()
        for key, tensor in tensors.items()
    }
    assert {key.split(".")[0] for key in flat} == {"model", "visual"}
    save_file(flat, tmp_path / "model.safetensors")
    state = compose(tmp_path, sam)[0].state_dict()
    assert all(torch.equal(state[f"vlm.{key}"], tensor) for key, tensor in tensors.items())


def test_a_sam_is_no_vision_language_model(sam: Path) -> None:
    with pytest.raises(CheckpointError, match="is of a 'sam2' model; the layout holds one of qwen2_vl"):
        compose(sam, sam)


def test_without_a_sam_there_is_no_segmentation_stream(tmp_path: Path) -> None:
    tensors = save_vlm("qwen2_vl", tmp_path)
    model, processor = compose(tmp_path, None, template="vlm2vec")
    assert (model.sam, model.connector, model.config.sam_config) == (None, None, None)
    assert model.config.template == processor.config.template == "vlm2vec"
    assert model.state_dict().keys() == {f"vlm.{key}" for key in tensors}
    inputs = processor([f"{IMAGE_TOKEN} a dog\n", "a dog"], [picture(), None])
    assert "sam_pixel_values" not in inputs
    with torch.no_grad():
        assert model(**inputs).embeddings.shape == (2, WIDTH)
    model.save_pretrained(tmp_path / "ours")
    assert VirtueModel.from_pretrained(tmp_path / "ours").sam is None


def test_other_settings_are_fields_of_the_configuration(sam: Path, tmp_path: Path) -> None:
    save_vlm("qwen2_vl", tmp_path)
    model, _ = compose(tmp_path, sam, template="released", points_per_side=2, connector_stride=2, connector_depth=3)
    assert (model.config.template, model.config.points_per_side, model.config.segmentation_side) == ("released", 2, 2)
    assert model.connector.conv.weight.shape[-1] == 2
    assert [name for name, _ in model.connector.mlp.named_children()] == ["0", "1", "2", "3", "4"]
