from pathlib import Path

import pytest
from transformers import AutoConfig, Qwen2VLConfig, Sam2Config

from tests.tiny import BACKBONES, sam_config, tiny_config, vlm_config
from virtue.model import VirtueConfig


@pytest.mark.parametrize("backbone", BACKBONES)
def test_all_fields_survive_a_folder(backbone: str, tmp_path: Path) -> None:
    own = {"points_per_side": 2, "connector_depth": 3, "trained_on": "Coloured blocks."}
    settings = VirtueConfig.as_released() | own
    config = tiny_config(backbone, **settings)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, VirtueConfig)
    assert loaded.to_dict() | {"_name_or_path": ""} == config.to_dict()
    for key, value in settings.items():
        assert getattr(loaded, key) == value
    assert type(loaded.vlm_config) is type(config.vlm_config)
    assert loaded.vlm_config.text_config.rope_parameters["mrope_section"] == [2, 3, 3]
    assert loaded.sam_config.vision_config.backbone_config.window_size_per_stage == [4, 2, 4, 4]


def test_a_model_without_segmentation_stream(tmp_path: Path) -> None:
    tiny_config(sam=False).save_pretrained(tmp_path)
    config = VirtueConfig.from_pretrained(tmp_path)
    assert config.sam_config is None
    assert config.segmentation_side == 0


def test_sizes_of_the_published_model() -> None:
    vlm = Qwen2VLConfig(text_config={"hidden_size": 1536}, image_token_id=151655)
    config = VirtueConfig(vlm_config=vlm, sam_config=Sam2Config())
    assert (config.sam_image_size, config.sam_map_side, config.segmentation_side) == (1024, 64, 16)
    assert (config.hidden_size, config.image_token_id) == (1536, 151655)


def test_defaults_are_not_those_of_the_released_code() -> None:
    config = tiny_config()
    assert all(getattr(config, name) != value for name, value in VirtueConfig.as_released().items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"position_rule": "mrope"}, 'position_rule is "image_frame" or "released", not \'mrope\''),
        ({"points_per_side": 0}, "points_per_side is at least 1, not 0"),
        ({"connector_stride": 0}, "connector_stride is at least 1, not 0"),
        ({"connector_depth": 0}, "connector_depth is at least 1, not 0"),
        ({"template": "llava"}, "template is one of released, vlm2vec, virtue, not 'llava'"),
        ({"vlm_config": {"hidden_size": 8}}, "needs a `model_type`"),
        ({"vlm_config": {"model_type": "bert"}}, "vlm_config is a qwen2_vl, qwen2_5_vl or qwen3_vl, not a bert"),
        ({"sam_config": vlm_config()}, "sam_config is a sam2, not a qwen2_vl"),
    ],
)
def test_settings_that_no_model_has_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VirtueConfig(**({"vlm_config": vlm_config(), "sam_config": sam_config()} | settings))
