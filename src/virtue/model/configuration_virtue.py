"""`VirtueConfig`: a vision-language model, a SAM-2 beside it, and how the two meet.

Three fields say where a checkpoint follows the authors' released code instead of what was meant. Their defaults are
right; `VirtueConfig.as_released()` holds the values that the released weights were trained with, and the loader of the
released layout sets them. `docs/checkpoints.md` explains each with what it costs.
"""

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from virtue.templates import TEMPLATES

BACKBONES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@strict
class VirtueConfig(PreTrainedConfig):
    """Configuration of a `VirtueModel`.

    Args:
        vlm_config: Configuration of the vision-language model (Qwen2-VL, Qwen2.5-VL or Qwen3-VL).
        sam_config: Configuration of the `Sam2Model`, or None for an embedder without a segmentation stream (VLM2Vec).
        connector_stride: Side, in cells of SAM-2's feature map, of the square that one segmentation token summarises.
        connector_depth: Linear layers of the connector after its convolution.
        points_per_side: An image without a visual prompt gets a grid of this many positive points per side.
        template: Name of the text template the weights were trained on, a key of `virtue.templates.TEMPLATES`.
        position_rule: "image_frame" gives image tokens M-RoPE rows and columns and stands each segmentation token where
            it looks; "released" counts 0 for every segmentation token and S, S + 1, ... for the rest (S segmentation
            tokens), on all three axes.
        double_normalization: Feed SAM-2 the picture the VLM's processor shrank and normalised, normalised once more.
        unscaled_boxes: Read boxes in source pixels as if every image were as large as SAM-2's input.
        trained_on: What the weights were trained on, in a sentence for users.
    """

    model_type = "virtue"
    sub_configs = {"vlm_config": AutoConfig, "sam_config": AutoConfig}  # noqa: RUF012 - the name transformers looks for

    vlm_config: dict[str, Any] | PreTrainedConfig | None = None
    sam_config: dict[str, Any] | PreTrainedConfig | None = None
    connector_stride: int = 4
    connector_depth: int = 2
    points_per_side: int = 3
    template: str = "virtue"
    position_rule: str = "image_frame"
    double_normalization: bool = False
    unscaled_boxes: bool = False
    trained_on: str | None = None
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        """Turn the nested dictionaries of a `config.json` into configurations and check the settings."""
        self.vlm_config = _configuration(self.vlm_config if self.vlm_config is not None else {"model_type": "qwen2_vl"})
        self.sam_config = _configuration(self.sam_config) if self.sam_config is not None else None
        self._check()
        super().__post_init__(**kwargs)

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The fields of a `config.json`, for `from_pretrained`.

        Raises:
            ValueError: If it is of another kind of model, such as the authors' layout.
        """
        fields, rest = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        kind = fields.get("model_type", cls.model_type)
        if kind != cls.model_type:
            raise ValueError(
                f"{pretrained_model_name_or_path} holds a {kind} model, not one in this project's layout: load it with "
                "virtue.Embedder.from_pretrained or virtue.model.checkpoints.load_released, or convert it with "
                "`virtue convert`."
            )
        return fields, rest

    def _check(self) -> None:
        assert isinstance(self.vlm_config, PreTrainedConfig)
        if self.vlm_config.model_type not in BACKBONES:
            raise ValueError(f"vlm_config is a qwen2_vl, qwen2_5_vl or qwen3_vl, not a {self.vlm_config.model_type}.")
        if isinstance(self.sam_config, PreTrainedConfig) and self.sam_config.model_type != "sam2":
            raise ValueError(f"sam_config is a sam2, not a {self.sam_config.model_type}.")
        if self.position_rule not in ("image_frame", "released"):
            raise ValueError(f'position_rule is "image_frame" or "released", not {self.position_rule!r}.')
        if self.template not in TEMPLATES:
            raise ValueError(f"template is one of {', '.join(TEMPLATES)}, not {self.template!r}.")
        for name in ("points_per_side", "connector_stride", "connector_depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, not {getattr(self, name)}.")

    @staticmethod
    def as_released() -> dict[str, Any]:
        """The settings that the authors' weights were trained with, as keyword arguments."""
        return {
            "position_rule": "released",
            "double_normalization": True,
            "unscaled_boxes": True,
            "template": "released",
        }

    @property
    def hidden_size(self) -> int:
        """Width D of the language model, which is the dimension of an embedding."""
        return int(self.get_text_config().hidden_size)

    @property
    def image_token_id(self) -> int:
        """Id of the token that stands in a text for each image token."""
        assert isinstance(self.vlm_config, PreTrainedConfig)
        return int(self.vlm_config.image_token_id)

    @property
    def sam_image_size(self) -> int:
        """Side of SAM-2's square input, pixels."""
        assert isinstance(self.sam_config, PreTrainedConfig)
        size = self.sam_config.prompt_encoder_config.image_size
        return int(size if isinstance(size, int) else size[0])

    @property
    def sam_map_side(self) -> int:
        """Side of SAM-2's feature map that visual prompts meet, cells."""
        assert isinstance(self.sam_config, PreTrainedConfig)
        patch = self.sam_config.prompt_encoder_config.patch_size
        return self.sam_image_size // int(patch if isinstance(patch, int) else patch[0])

    @property
    def segmentation_side(self) -> int:
        """Segmentation tokens per row and per column; 0 without a segmentation stream."""
        return 0 if self.sam_config is None else self.sam_map_side // self.connector_stride

    def get_text_config(self, *args: Any, **kwargs: Any) -> PreTrainedConfig:
        """The language model's configuration, where transformers looks for vocabulary and width."""
        assert isinstance(self.vlm_config, PreTrainedConfig)
        text_config: PreTrainedConfig = self.vlm_config.get_text_config(*args, **kwargs)
        return text_config


def _configuration(value: dict[str, Any] | PreTrainedConfig) -> PreTrainedConfig:
    if isinstance(value, PreTrainedConfig):
        return value
    fields = dict(value)
    if "model_type" not in fields:
        raise ValueError("A nested configuration needs a `model_type`, for example 'qwen2_vl' or 'sam2'.")
    configuration: PreTrainedConfig = AutoConfig.for_model(fields.pop("model_type"), **fields)
    return configuration
