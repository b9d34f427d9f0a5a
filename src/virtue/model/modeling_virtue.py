"""`VirtueModel`: text, a picture, or both, with an optional visual prompt, to one unit vector.

    prompt ─► SAM-2 prompt encoder ┐
    image  ─► SAM-2 image encoder ─┴► two-way transformer ─► connector ─► H_s (S tokens)
    image  ─► the VLM's vision tower and merger ─► H_v (image tokens)
    text   ─► token embeddings ─► H_t
    [H_s; H_v; H_t] ─► language model ─► final-norm hidden state of the last token ─► L2 norm ─► embedding (D)

The model runs in three steps, so that what does not depend on the visual prompt is computed once per picture:
`encode_images`, `segmentation_tokens`, `embed`. `forward` is the three in a row. No logits, no KV cache, no kept hidden
states.

Letters: B rows (items), N pictures, R rows with a picture, T token slots, S segmentation tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, Sam2Config
from transformers.utils import ModelOutput

from virtue.model.configuration_virtue import VirtueConfig
from virtue.model.features import ImageFeatures
from virtue.model.patch_projection import PatchProjection
from virtue.model.positions import POSITION_RULES
from virtue.model.segmentation import (
    Connector,
    SamPrompts,
    build_sam,
    decode_masks,
    encode_sam_image,
    encode_sam_map,
    segmentation_features,
)


@dataclass
class VirtueOutput(ModelOutput):
    """What `VirtueModel` returns: `embeddings`, unit rows, (B, D) float32."""

    embeddings: Tensor


class VirtueModel(PreTrainedModel):
    """A VLM and a SAM-2 joined by the connector.

    `vlm` is any of `transformers`' Qwen2-VL, Qwen2.5-VL and Qwen3-VL base models, `sam` any `Sam2Model` or None.
    """

    config_class = VirtueConfig
    config: VirtueConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: VirtueConfig) -> None:
        super().__init__(config)
        self.vlm = AutoModel.from_config(config.vlm_config)
        self.vlm.visual.patch_embed.proj = PatchProjection.of(self.vlm.visual.patch_embed.proj)
        self.sam = None
        self.connector = None
        if config.sam_config is not None:
            assert isinstance(config.sam_config, Sam2Config)
            self.sam = build_sam(config.sam_config)
            channels = config.sam_config.mask_decoder_config.hidden_size
            self.connector = Connector(channels, config.connector_stride, config.hidden_size, config.connector_depth)
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint in this project's layout as any `PreTrainedModel` does, but whole or not at all.

        Raises:
            ValueError: If a tensor is missing, where transformers would start it at random, or the folder holds an
                adapter.
        """
        name = pretrained_model_name_or_path
        wanted = kwargs.pop("output_loading_info", False)
        model, info = super().from_pretrained(name, *args, output_loading_info=True, **kwargs)
        if getattr(model, "_hf_peft_config_loaded", False):  # without DoRA's magnitudes, and without the check below
            raise ValueError(
                f"{name} holds an adapter: load its model, then the adapter with "
                "virtue.model.checkpoints.load_adapter, or both with Embedder.from_pretrained(model, adapter=...)."
            )
        if info["missing_keys"]:
            raise ValueError(
                f"{name} lacks {len(info['missing_keys'])} of the model's tensors, such as "
                f"{min(info['missing_keys'])}: complete the download or save the model again."
            )
        return (model, info) if wanted else model

    def get_input_embeddings(self) -> nn.Module:
        """The token embeddings of the language model."""
        embeddings: nn.Module = self.vlm.get_input_embeddings()
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embeddings of the language model."""
        self.vlm.set_input_embeddings(value)

    def encode_images(
        self,
        pixel_values: Tensor,
        image_grid_thw: Tensor,
        sam_pixel_values: Tensor | None = None,
        *,
        sam_features: Tensor | None = None,
        previews: bool = False,
    ) -> ImageFeatures:
        """Compute everything of N pictures that no visual prompt or text changes.

        Args:
            pixel_values: Patches of all pictures after the VLM's normalisation, (patches, channels * patch volume).
            image_grid_thw: Time, rows and columns of each picture's patches, (N, 3).
            sam_pixel_values: The pictures as SAM-2 takes them, (N, 3, size, size); needed with a segmentation stream.
            sam_features: SAM-2's maps of the pictures where they are known, (N, C, h, w), instead of the former.
            previews: Keep SAM-2's finer maps too, which `masks` needs.

        Raises:
            ValueError: If the segmentation stream lacks its pictures.
        """
        output = self.vlm.get_image_features(pixel_values, image_grid_thw, return_dict=True)
        merge = self.vlm.visual.spatial_merge_size
        grids = tuple((int(rows) // merge, int(columns) // merge) for _, rows, columns in image_grid_thw.tolist())
        layers = getattr(output, "deepstack_features", None) or ()
        deepstack = tuple(zip(*layers, strict=True)) if layers else ()
        if self.sam is None or sam_features is not None:
            return ImageFeatures(tuple(output.pooler_output), grids, deepstack, sam_features)
        if sam_pixel_values is None:
            raise ValueError(
                "This model has a segmentation stream: give `sam_pixel_values`, which its processor makes."
            )
        with torch.no_grad():  # SAM-2 is frozen in every training of the paper
            if previews:
                segmentation, fine, middle = encode_sam_image(self.sam, sam_pixel_values)
                return ImageFeatures(tuple(output.pooler_output), grids, deepstack, segmentation, fine, middle)
            segmentation = encode_sam_map(self.sam, sam_pixel_values)
        return ImageFeatures(tuple(output.pooler_output), grids, deepstack, segmentation)

    def segmentation_tokens(self, images: ImageFeatures, image_index: Tensor, prompts: SamPrompts) -> Tensor:
        """H_s of R rows.

        Args:
            images: Features of N pictures.
            image_index: Each row's picture, (R,) int64.
            prompts: Each row's visual prompt.

        Returns:
            Segmentation tokens, (R, S, D).

        Raises:
            ValueError: If the model has no segmentation stream.
        """
        if self.sam is None or self.connector is None or images.segmentation is None:
            raise ValueError("This model has no segmentation stream, so it takes no visual prompts.")
        with torch.no_grad():
            features = segmentation_features(self.sam, images.segmentation[image_index], prompts)
        tokens: Tensor = self.connector(features)
        return tokens

    def masks(self, images: ImageFeatures, image_index: Tensor, prompts: SamPrompts) -> tuple[Tensor, Tensor]:
        """SAM-2's mask for each row's visual prompt: logits (R, 4h, 4w) over its square frame, predicted IoU (R,).

        Raises:
            ValueError: If the model has no segmentation stream or `images` was made without previews.
        """
        if self.sam is None:
            raise ValueError("This model has no segmentation stream, so it draws no masks.")
        if images.segmentation is None or images.fine is None or images.middle is None:
            raise ValueError("Encode the pictures with `previews=True` before asking for masks.")
        with torch.no_grad():
            return decode_masks(
                self.sam,
                images.segmentation[image_index],
                images.fine[image_index],
                images.middle[image_index],
                prompts,
            )

    def embed(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        images: ImageFeatures | None = None,
        image_index: Tensor | None = None,
        segmentation: Tensor | None = None,
    ) -> Tensor:
        """Run the language model over [H_s; H_v; H_t] and take the last real token.

        Args:
            input_ids: Token ids with an image token for each of a picture's H_v, (B, T).
            attention_mask: 1 for real tokens, padding on either side, (B, T).
            images: Features of the pictures that rows refer to; None when no row has one.
            image_index: Each row's picture or -1, (B,).
            segmentation: H_s of the rows with a picture, in row order, (R, S, D); None without a segmentation stream.

        Returns:
            Unit embeddings, (B, D) float32.

        Raises:
            ValueError: If rows refer to pictures that are not there, or texts hold other numbers of image tokens.
        """
        mask = attention_mask.bool()
        image_tokens = (input_ids == self.config.image_token_id) & mask
        hidden = self.get_input_embeddings()(input_ids)  # (B, T, D)
        index = image_index.tolist() if image_index is not None else [-1] * len(input_ids)
        rows = [row for row, image in enumerate(index) if image >= 0]
        extra: dict[str, Any] = {}
        prefix = 0
        if rows:
            if images is None:
                raise ValueError("`image_index` refers to pictures: give their `images` too.")
            hidden = _place(hidden, image_tokens, torch.cat([images.visual[index[row]] for row in rows]))
            if segmentation is not None:
                prefix = segmentation.shape[1]
                hidden, mask = _prepend(hidden, mask, segmentation, rows)
            if images.deepstack:
                extra = self._deepstack(images, [index[row] for row in rows], image_tokens, prefix)
        positions = self._positions(attention_mask.bool(), image_tokens, images, index, prefix)
        output = self.vlm.language_model(
            inputs_embeds=hidden, attention_mask=mask.long(), position_ids=positions, use_cache=False, **extra
        )
        slots = torch.arange(mask.shape[1], device=mask.device)
        last = (mask * slots).argmax(1)
        pooled = output.last_hidden_state[torch.arange(len(last), device=last.device), last]
        return nn.functional.normalize(pooled.float(), dim=-1)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        sam_pixel_values: Tensor | None = None,
        image_index: Tensor | None = None,
        prompt_points: Tensor | None = None,
        prompt_labels: Tensor | None = None,
        prompt_masks: Tensor | None = None,
        prompt_has_mask: Tensor | None = None,
        images: ImageFeatures | None = None,
        sam_features: Tensor | None = None,
    ) -> VirtueOutput:
        """Embed a batch made by `VirtueProcessor`.

        Args:
            input_ids: (B, T).
            attention_mask: (B, T).
            pixel_values: Patches of N pictures.
            image_grid_thw: (N, 3).
            sam_pixel_values: (N, 3, size, size).
            image_index: Each row's picture or -1, (B,).
            prompt_points: Visual prompts of the rows with a picture, XY in SAM-2's frame, (R, P, 2).
            prompt_labels: (R, P).
            prompt_masks: Mask prompts, (R, 1, 4h, 4w).
            prompt_has_mask: (R,).
            images: Features of the N pictures where `encode_images` has been asked before, instead of their pixels.
            sam_features: SAM-2's maps of the pictures where they are known, instead of `sam_pixel_values`.

        Returns:
            `embeddings`, (B, D) float32.

        Raises:
            ValueError: If what belongs to the pictures is there in part only.
        """
        segmentation = None
        if pixel_values is not None:
            if image_grid_thw is None:
                raise ValueError("Pictures need `image_grid_thw` beside `pixel_values`.")
            images = self.encode_images(pixel_values, image_grid_thw, sam_pixel_values, sam_features=sam_features)
        if images is not None:
            if image_index is None:
                raise ValueError("Pictures need `image_index`, which says whose they are.")
            if self.sam is not None:
                if prompt_points is None or prompt_labels is None:
                    raise ValueError("This model has a segmentation stream: give `prompt_points` and `prompt_labels`.")
                prompts = SamPrompts(prompt_points, prompt_labels, prompt_masks, prompt_has_mask)
                segmentation = self.segmentation_tokens(images, image_index[image_index >= 0], prompts)
        return VirtueOutput(embeddings=self.embed(input_ids, attention_mask, images, image_index, segmentation))

    def _positions(
        self, mask: Tensor, image_tokens: Tensor, images: ImageFeatures | None, index: list[int], prefix: int
    ) -> Tensor:
        """Position ids of every slot, (3, B, prefix + T); empty slots are masked, so any number will do."""
        rule = POSITION_RULES[self.config.position_rule]
        side = self.config.segmentation_side if prefix else 0
        text = nn.functional.pad(mask.cumsum(1) - 1, (prefix, 0)).clamp(min=0).float()  # (B, prefix + T)
        positions = text.repeat(3, 1, 1)
        for row, image in enumerate(index):
            if image >= 0 and images is not None:
                own = nn.functional.pad(mask[row], (prefix, 0), value=True)
                positions[:, row, own] = rule(image_tokens[row][mask[row]], images.grids[image], side)
        return positions

    def _deepstack(self, images: ImageFeatures, index: list[int], image_tokens: Tensor, prefix: int) -> dict[str, Any]:
        layers = range(len(images.deepstack[0]))
        where = nn.functional.pad(image_tokens, (prefix, 0))
        return {
            "visual_pos_masks": where,
            "deepstack_visual_embeds": [torch.cat([images.deepstack[i][layer] for i in index]) for layer in layers],
        }


def _place(hidden: Tensor, image_tokens: Tensor, visual: Tensor) -> Tensor:
    """Put H_v where the image tokens are."""
    if int(image_tokens.sum()) != len(visual):
        raise ValueError(
            f"The texts hold {int(image_tokens.sum())} image tokens but the pictures have {len(visual)}: "
            "make texts and pictures with the same VirtueProcessor call."
        )
    return hidden.masked_scatter(image_tokens.unsqueeze(-1), visual.to(hidden.dtype))


def _prepend(hidden: Tensor, mask: Tensor, segmentation: Tensor, rows: list[int]) -> tuple[Tensor, Tensor]:
    """Put H_s in front of the rows that have a picture; rows of text get as many slots that nobody sees."""
    batch, count = len(hidden), segmentation.shape[1]
    where = torch.tensor(rows, device=hidden.device)
    front = hidden.new_zeros(batch, count, hidden.shape[-1]).index_copy(0, where, segmentation.to(hidden.dtype))
    seen = mask.new_zeros(batch, count).index_fill(0, where, True)
    return torch.cat([front, hidden], dim=1), torch.cat([seen, mask], dim=1)
