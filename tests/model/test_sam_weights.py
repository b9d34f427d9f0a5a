"""SAM-2 weights under their two sets of names, and the settings that no tensor shape tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import Sam2Model

from tests.model.reference_weights import GAUSSIAN_MATRIX, SAM_SETTINGS, sam_tensors
from virtue.model.sam_weights import (
    TRUNKS,
    config_from_meta,
    config_from_shapes,
    config_path,
    from_meta,
    hub_id,
    load_sam,
    read_settings,
    size_name,
)
from virtue.model.weight_files import CheckpointError

FILE = Path("sam2.pt")


def trunk_tensors(width: int, stages: list[int]) -> dict[str, torch.Tensor]:
    """Empty tensors with the names by which a trunk's size is told."""
    prefix = "image_encoder.trunk."
    state = {f"{prefix}patch_embed.proj.weight": torch.empty(width, 3, 7, 7)}
    for block in range(sum(stages)):
        state[f"{prefix}blocks.{block}.norm1.weight"] = torch.empty(0)
    for stage in range(1, len(stages)):
        state[f"{prefix}blocks.{sum(stages[:stage])}.proj.weight"] = torch.empty(0)
    return state


def test_metas_tensors_fill_a_sam2_model_exactly() -> None:
    config, state = from_meta(sam_tensors(), FILE, SAM_SETTINGS)
    with torch.device("meta"):
        wanted = Sam2Model(config).state_dict()
    assert {key: t.shape for key, t in state.items()} == {key: t.shape for key, t in wanted.items()}


def test_renamed_tensors_keep_their_values() -> None:
    _, state = from_meta(sam_tensors(), FILE, SAM_SETTINGS)
    for theirs, ours in [
        ("no_mem_embed", "no_memory_embedding"),
        ("image_encoder.trunk.blocks.1.mlp.layers.0.weight", "vision_encoder.backbone.blocks.1.mlp.proj_in.weight"),
        ("image_encoder.neck.convs.3.conv.bias", "vision_encoder.neck.convs.3.bias"),
        ("sam_mask_decoder.transformer.layers.1.norm4.bias", "mask_decoder.transformer.layers.1.layer_norm4.bias"),
        (
            "sam_mask_decoder.output_hypernetworks_mlps.2.layers.1.weight",
            "mask_decoder.output_hypernetworks_mlps.2.layers.0.weight",
        ),
        ("sam_prompt_encoder.mask_downscaling.4.bias", "prompt_encoder.mask_embed.layer_norm2.bias"),
        (GAUSSIAN_MATRIX, "shared_image_embedding.positional_embedding"),
        (GAUSSIAN_MATRIX, "prompt_encoder.shared_embedding.positional_embedding"),
    ]:
        assert torch.equal(sam_tensors()[theirs], state[ours]), ours
    for label in range(4):
        row = sam_tensors()[f"sam_prompt_encoder.point_embeddings.{label}.weight"][0]
        assert torch.equal(state["prompt_encoder.point_embed.weight"][label], row)


@pytest.mark.parametrize(
    ("name", "width", "stages", "heads", "global_blocks", "windows"),
    [
        ("tiny", 96, [1, 2, 7, 2], [1, 2, 4, 8], [5, 7, 9], [8, 4, 14, 7]),
        ("small", 96, [1, 2, 11, 2], [1, 2, 4, 8], [7, 10, 13], [8, 4, 14, 7]),
        ("base-plus", 112, [2, 3, 16, 3], [2, 4, 8, 16], [12, 16, 20], [8, 4, 14, 7]),
        ("large", 144, [2, 6, 36, 4], [2, 4, 8, 16], [23, 33, 43], [8, 4, 16, 8]),
    ],
)
def test_a_public_size_is_told_by_its_shapes(
    name: str, width: int, stages: list[int], heads: list[int], global_blocks: list[int], windows: list[int]
) -> None:
    config = config_from_shapes(trunk_tensors(width, stages), FILE)
    backbone = config.vision_config.backbone_config
    assert size_name(config) == name
    assert backbone.embed_dim_per_stage == [width, 2 * width, 4 * width, 8 * width]
    assert backbone.num_attention_heads_per_stage == heads
    assert backbone.global_attention_blocks == global_blocks
    assert backbone.window_size_per_stage == windows
    assert config.vision_config.backbone_channel_list == [8 * width, 4 * width, 2 * width, width]
    path = config_path(config)
    assert path is not None and hub_id(path) == f"facebook/sam2.1-hiera-{name}"


def test_the_four_sizes_differ_in_what_tells_them_apart() -> None:
    assert len({(trunk.get("embed_dim"), str(trunk.get("stages"))) for trunk in TRUNKS.values()}) == 4


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (None, "facebook/sam2.1-hiera-base-plus"),
        ("configs/sam2.1/sam2.1_hiera_b+.yaml", "facebook/sam2.1-hiera-base-plus"),
        ("sam2_hiera_l.yaml", "facebook/sam2-hiera-large"),
        ("tiny_sam2.yaml", None),
    ],
)
def test_the_authors_setting_names_a_hub_id(path: str | None, name: str | None) -> None:
    assert hub_id(path) == name


def test_settings_come_as_yaml_as_json_or_as_a_dictionary(tmp_path: Path) -> None:
    content = read_settings(SAM_SETTINGS)
    (tmp_path / "sam2.json").write_text(json.dumps({"hydra_model": content["model"]}))
    configs = [config_from_meta(read_settings(form)) for form in (SAM_SETTINGS, tmp_path / "sam2.json", content)]
    assert configs[0].to_dict() == configs[1].to_dict() == configs[2].to_dict()
    assert configs[0].vision_config.backbone_config.global_attention_blocks == [4]
    assert configs[0].vision_config.backbone_feature_sizes == [[256, 256], [128, 128], [64, 64]]


@pytest.mark.parametrize("model_type", ["sam2", "sam2_video"])
def test_a_folder_of_the_image_or_the_video_model(tmp_path: Path, model_type: str) -> None:
    config, state = from_meta(sam_tensors(), FILE, SAM_SETTINGS)
    fields: dict[str, Any] = config.to_dict() | {"model_type": model_type, "num_maskmem": 7}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    stored = {key: tensor for key, tensor in state.items() if not key.startswith("prompt_encoder.shared_embedding")}
    save_file(stored | {"memory_attention.norm.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    again, found = load_sam(tmp_path)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)
    assert again.to_diff_dict() == config.to_diff_dict()


def test_what_is_no_sam_is_named(tmp_path: Path) -> None:
    torch.save({"model": {"head.weight": torch.zeros(1)}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt is no SAM-2 checkpoint of Meta's: it lacks image_encoder"):
        load_sam(tmp_path / "other.pt")
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    with pytest.raises(CheckpointError, match=r"config\.json is of a 'sam' model"):
        load_sam(tmp_path)
    with pytest.raises(CheckpointError, match=r"absent\.pt is missing"):
        load_sam(tmp_path / "absent.pt")
    with pytest.raises(CheckpointError, match=r"settings belong to a \.pt file"):
        load_sam(tmp_path, SAM_SETTINGS)


def test_a_size_of_ones_own_needs_its_settings(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"none of the public SAM-2 sizes \(width 16, blocks per stage \[1, 2, 3, 2\]\)"
    ):
        from_meta(sam_tensors(), FILE)
    for content, message in [("a: [", "not readable"), ("- 1", "not a list"), ("model: {}", "'image_encoder'")]:
        (tmp_path / "settings.yaml").write_text(content)
        with pytest.raises(CheckpointError, match=message):
            from_meta(sam_tensors(), FILE, tmp_path / "settings.yaml")
