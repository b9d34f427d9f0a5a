r"""`VirtueProcessor`: pictures, texts and visual prompts to the tensors of `VirtueModel`.

It composes transformers' `Qwen2VLImageProcessorPil` and a tokenizer (their common processor would import torchvision)
and reads everything else from the `VirtueConfig` beside them, so that a checkpoint states each setting once.

    processor = VirtueProcessor.from_pretrained(folder)
    texts = ["<|image_pad|>\nWhat is this?", "a dog"]
    model(**processor(text=texts, images=[picture, None], prompts=[Box(1, 2, 30, 40), None]))

`__call__` does all; `image_inputs`, `prompt_inputs` and `text_inputs` are its three parts, for callers that keep a
picture's features and ask many things of it.

Letters: B rows (items), N pictures, R rows with a picture, T token slots, P points.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, BatchFeature, PreTrainedTokenizerBase, ProcessorMixin
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from virtue.items import Item
from virtue.model.configuration_virtue import VirtueConfig
from virtue.model.segmentation import PADDING_LABEL, SamPrompts
from virtue.prompts import AnyPrompt, VisualPrompt, as_visual_prompt
from virtue.templates import END_TOKEN, IMAGE_TOKEN, TEMPLATES

SAM_MEAN = (0.485, 0.456, 0.406)
SAM_STD = (0.229, 0.224, 0.225)
MASK_LOGIT = 10.0  # what SAM-2 takes as a mask is a map of logits: inside +10, outside -10
LARGEST_RATIO = 200  # beyond it Qwen2-VL's resize gives up; the authors' code takes such a picture as a square
TINY_SIDE = 56


class VirtueProcessor(ProcessorMixin):
    """Image processor, tokenizer and configuration of one checkpoint.

    Args:
        image_processor: Of the vision-language model.
        tokenizer: Of the vision-language model; its `padding_side` is kept, embeddings do not depend on it.
        config: The checkpoint's configuration.
    """

    def __init__(
        self, image_processor: Qwen2VLImageProcessorPil, tokenizer: PreTrainedTokenizerBase, config: VirtueConfig
    ) -> None:
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        self.config = config
        self.chat_template = None

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> VirtueProcessor:
        """Load from a folder or Hub id that holds `config.json`, `preprocessor_config.json` and a tokenizer.

        Args:
            pretrained_model_name_or_path: Folder or Hub id.
            kwargs: What transformers' loaders take from everyone: `revision`, `token`, `cache_dir`, `local_files_only`.
        """
        name = str(pretrained_model_name_or_path)
        kwargs = {key: value for key, value in kwargs.items() if key in _HUB_ARGUMENTS}
        config = VirtueConfig.from_pretrained(name, **kwargs)  # says best what is wrong with another kind of checkpoint
        return cls(
            Qwen2VLImageProcessorPil.from_pretrained(name, **kwargs),
            AutoTokenizer.from_pretrained(name, trust_remote_code=False, **kwargs),
            config,
        )

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """Write the image processor, the tokenizer and the configuration into a folder.

        Args:
            save_directory: The folder, made if need be.
            push_to_hub: Send the three to the Hub as well.
            kwargs: Passed to `push_to_hub` of each part.

        Returns:
            Paths of the tokenizer's files.
        """
        self.image_processor.save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        self.config.save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        files: tuple[str, ...] = self.tokenizer.save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        return list(files)

    def __call__(
        self,
        text: Sequence[str],
        images: Sequence[Image.Image | None] | None = None,
        prompts: Sequence[AnyPrompt | None] | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Tensors of one batch of B rows.

        Args:
            text: Each row's text as the model reads it: with `<|image_pad|>` once where a picture stands, as `render`
                writes it.
            images: Each row's picture (RGB) or None; None for a batch of texts.
            prompts: Each row's visual prompt or None, in source pixels; a picture without one gets the point grid.
            return_tensors: "pt", the only kind there is.

        Returns:
            The arguments of `VirtueModel.forward`.

        Raises:
            ValueError: If the lists differ in length, a visual prompt has no picture or lies outside it, the checkpoint
                takes none, or a text's image tokens do not match its picture.
        """
        if return_tensors != "pt":
            raise ValueError(f'VirtueProcessor returns PyTorch tensors ("pt"), not {return_tensors!r}.')
        pictures = list(images) if images is not None else [None] * len(text)
        visual = list(prompts) if prompts is not None else [None] * len(text)
        if not len(text) == len(pictures) == len(visual):
            raise ValueError(f"Got {len(text)} texts, {len(pictures)} images and {len(visual)} visual prompts.")
        for row, (picture, prompt) in enumerate(zip(pictures, visual, strict=True)):
            if picture is None and prompt is not None:
                raise ValueError(f"Row {row} has a visual prompt but no image.")
        rows = [row for row, picture in enumerate(pictures) if picture is not None]
        if not rows:
            return BatchFeature(self.text_inputs(text, [0] * len(text)))
        given = [picture for picture in pictures if picture is not None]
        data = self.image_inputs(given)
        tokens, index = [0] * len(text), torch.full((len(text),), -1)
        for image, (row, count) in enumerate(zip(rows, self.image_token_counts(data["image_grid_thw"]), strict=True)):
            tokens[row], index[row] = count, image
        data |= self.text_inputs(text, tokens) | {"image_index": index}
        if self.config.sam_config is not None:
            sam = self.prompt_inputs([visual[row] for row in rows], [picture.size for picture in given])
            data |= {"prompt_points": sam.points, "prompt_labels": sam.labels}
            if sam.masks is not None and sam.has_mask is not None:
                data |= {"prompt_masks": sam.masks, "prompt_has_mask": sam.has_mask}
        elif any(prompt is not None for prompt in visual):
            raise ValueError("This checkpoint has no segmentation stream, so it takes no visual prompts but in words.")
        return BatchFeature(data)

    def render(self, item: Item, prompt: VisualPrompt | None = None) -> str:
        """The text of an item in the checkpoint's template.

        Args:
            item: Instruction, text and whether there is a picture.
            prompt: The item's visual prompt, already checked against its picture.

        Raises:
            ValueError: If the item's own words hold the image token.
        """
        words = " ".join(part for part in (item.instruction, item.text) if part)
        if IMAGE_TOKEN in words:
            raise ValueError(f"A text may not hold {IMAGE_TOKEN!r}: give the picture as the item's image instead.")
        return TEMPLATES[self.config.template](words, has_image=item.image is not None, prompt=prompt)

    def image_inputs(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """What `VirtueModel.encode_images` takes for N pictures (RGB, after the EXIF turn).

        Returns:
            `pixel_values` (patches, patch volume), `image_grid_thw` (N, 3) and, with a segmentation stream,
            `sam_pixel_values` (N, 3, size, size).
        """
        shrunk = [self.at_tower_size(image) for image in images]
        patches, grids = zip(*(self._patches(image) for image in shrunk), strict=True)
        data = {"pixel_values": torch.cat(patches), "image_grid_thw": torch.tensor(grids)}
        if self.config.sam_config is not None:
            if self.config.double_normalization:
                data["sam_pixel_values"] = torch.cat([self._twice_normalized(image) for image in shrunk])
            else:
                data["sam_pixel_values"] = torch.cat([self._sam_pixels(image) for image in images])
        return data

    def image_token_counts(self, image_grid_thw: Tensor) -> list[int]:
        """Image tokens of each picture, from its patches (N, 3)."""
        merged = self.image_processor.merge_size**2
        return [count // merged for count in image_grid_thw.prod(1).tolist()]

    def image_tokens(self, width: int, height: int) -> int:
        """Image tokens of a picture of this size, in pixels."""
        read = self._tower_size(width, height)
        return read[0] * read[1] // self._cell**2

    def text_inputs(self, texts: Sequence[str], image_tokens: Sequence[int]) -> dict[str, Tensor]:
        """Token ids of rows, padded on the tokenizer's side.

        Args:
            texts: As `render` writes them.
            image_tokens: How many image tokens each row's picture has, 0 without one.

        Returns:
            `input_ids` and `attention_mask`, (B, T).

        Raises:
            ValueError: If a text does not hold the image token exactly once for its picture.
        """
        return self.pad(self.token_ids(texts, image_tokens))

    def token_ids(self, texts: Sequence[str], image_tokens: Sequence[int]) -> list[list[int]]:
        """Token ids of each row, cut to what the model takes, without padding.

        Args:
            texts: As `render` writes them.
            image_tokens: How many image tokens each row's picture has, 0 without one.

        Raises:
            ValueError: If a text does not hold the image token exactly once for its picture, or is empty.
        """
        for row, (text, count) in enumerate(zip(texts, image_tokens, strict=True)):
            if text.count(IMAGE_TOKEN) != (count > 0):
                raise ValueError(
                    f"Text {row} holds {IMAGE_TOKEN!r} {text.count(IMAGE_TOKEN)} times; it must hold it "
                    f"{'once, where its picture stands' if count else 'nowhere, as it has no picture'}."
                )
        # Without `verbose` it would warn of long texts, which are cut below.
        options = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
        ids = self.tokenizer(list(texts), **options)["input_ids"]
        limit = min(int(self.tokenizer.model_max_length), int(self.config.get_text_config().max_position_embeddings))
        cut = [
            self._truncate(self._expand(row, count), limit + count)
            for row, count in zip(ids, image_tokens, strict=True)
        ]
        if not all(cut):
            raise ValueError(f"Text {[bool(row) for row in cut].index(False)} is empty: there is no token to embed.")
        return cut

    def pad(self, ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Rows of token ids as one batch, padded on the tokenizer's side: `input_ids` and `attention_mask`, (B, T)."""
        longest = max(len(row) for row in ids)
        left = self.tokenizer.padding_side == "left"
        input_ids = np.full((len(ids), longest), self.tokenizer.pad_token_id or 0, dtype=np.int64)
        mask = np.zeros_like(input_ids)
        for row, own in enumerate(ids):
            start = longest - len(own) if left else 0
            input_ids[row, start : start + len(own)] = own
            mask[row, start : start + len(own)] = 1
        return {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(mask)}

    def prompt_inputs(self, prompts: Sequence[AnyPrompt | None], sizes: Sequence[tuple[int, int]]) -> SamPrompts:
        """Visual prompts in SAM-2's frame; None becomes the point grid.

        Args:
            prompts: R visual prompts, source pixels.
            sizes: Width and height of each one's picture.

        Raises:
            ValueError: If a prompt lies outside its picture.
        """
        checked = [
            None if prompt is None else as_visual_prompt(prompt, width, height)
            for prompt, (width, height) in zip(prompts, sizes, strict=True)
        ]
        rows = [self._clicks(prompt, size) for prompt, size in zip(checked, sizes, strict=True)]
        longest = max(len(labels) for _, labels in rows)
        points = torch.zeros(len(rows), longest, 2)
        labels = torch.full((len(rows), longest), PADDING_LABEL)
        for row, (xy, kinds) in enumerate(rows):
            points[row, : len(xy)] = torch.from_numpy(xy)
            labels[row, : len(kinds)] = torch.from_numpy(kinds)
        has_mask = torch.tensor([prompt is not None and prompt.mask is not None for prompt in checked])
        if not has_mask.any():
            return SamPrompts(points, labels)
        side = 4 * self.config.sam_map_side
        masks = torch.zeros(len(rows), 1, side, side)
        for row, prompt in enumerate(checked):
            if prompt is not None and prompt.mask is not None:
                masks[row] = _mask_logits(prompt.mask.array, side)
        return SamPrompts(points, labels, masks, has_mask)

    def _clicks(self, prompt: VisualPrompt | None, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """XY in SAM-2's frame (P, 2) float32 and labels (P,) int64."""
        frame = self.config.sam_image_size
        if prompt is None:
            centres = (np.arange(self.config.points_per_side, dtype=np.float32) + 0.5) * (
                frame / self.config.points_per_side
            )
            grid = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)  # row-major, x fastest
            return grid.astype(np.float32), np.ones(len(grid), dtype=np.int64)
        points, labels = prompt.clicks()
        scaled = points * (frame / np.asarray(size, dtype=np.float32))
        if self.config.unscaled_boxes:
            scaled = np.where((labels >= 2)[:, None], points, scaled)
        return scaled.astype(np.float32), labels

    def at_tower_size(self, image: Image.Image) -> Image.Image:
        """The picture at the size whose patches the vision tower reads."""
        if min(image.size) < self._cell:
            image = image.resize((TINY_SIDE, TINY_SIDE), Image.Resampling.BICUBIC)
        return image.resize(self._tower_size(*image.size), Image.Resampling.BICUBIC)

    @property
    def _cell(self) -> int:
        """Pixels along the side of what becomes one image token."""
        return int(self.image_processor.patch_size * self.image_processor.merge_size)

    def _tower_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height at which a picture of this size is read."""
        if min(width, height) < self._cell:
            width = height = TINY_SIDE
        if max(width, height) / min(width, height) > LARGEST_RATIO:
            width = height = max(width, height)
        size = self.image_processor.size
        new_height, new_width = smart_resize(height, width, self._cell, size["shortest_edge"], size["longest_edge"])
        return new_width, new_height

    def _patches(self, shrunk: Image.Image) -> tuple[Tensor, tuple[int, int, int]]:
        """A picture's normalised patches (rows * columns, patch volume), and its grid: time, rows, columns.

        Equal to calling the image processor, but its arithmetic runs over the 256 values a channel can have.
        """
        processor = self.image_processor
        ramp = np.tile(np.arange(256, dtype=np.uint8), (3, 1))[:, None]  # (3, 1, 256)
        table = processor.normalize(
            processor.rescale(ramp, processor.rescale_factor), processor.image_mean, processor.image_std
        )
        pixels = np.asarray(shrunk)
        values = np.stack([table[channel, 0].astype(np.float32)[pixels[..., channel]] for channel in range(3)])
        flat, rows, columns = processor.patchify(
            values, processor.patch_size, processor.merge_size, processor.temporal_patch_size
        )
        return torch.from_numpy(flat), (1, rows, columns)

    def _sam_pixels(self, image: Image.Image) -> Tensor:
        """(1, 3, size, size): the source picture as SAM-2 was trained to see it, aspect ignored."""
        pixels = torch.from_numpy(np.array(self.at_sam_size(image))).permute(2, 0, 1).unsqueeze(0).float() / 255
        return normalized(pixels, SAM_MEAN, SAM_STD)

    def at_sam_size(self, image: Image.Image) -> Image.Image:
        """The picture at SAM-2's size, aspect ignored."""
        frame = self.config.sam_image_size
        return image if image.size == (frame, frame) else image.resize((frame, frame), Image.Resampling.BILINEAR)

    def _twice_normalized(self, shrunk: Image.Image) -> Tensor:
        """(1, 3, size, size): what the released weights saw, the VLM's normalised picture normalised again."""
        processor = self.image_processor
        frame = self.config.sam_image_size
        pixels = torch.from_numpy(np.array(shrunk)).permute(2, 0, 1).unsqueeze(0).float() / 255
        pixels = normalized(pixels, processor.image_mean, processor.image_std)
        pixels = torch.nn.functional.interpolate(
            pixels, size=(frame, frame), mode="bilinear", align_corners=False, antialias=True
        )
        return normalized(pixels, SAM_MEAN, SAM_STD)

    def _expand(self, ids: list[int], count: int) -> list[int]:
        """A row with its picture's one image token repeated `count` times."""
        if count == 0:
            return ids
        place = ids.index(self.config.image_token_id)
        return [*ids[:place], *ids[place : place + 1] * count, *ids[place + 1 :]]

    def _truncate(self, ids: list[int], limit: int) -> list[int]:
        """Cut an overlong row, keeping a template's end token."""
        if len(ids) <= limit:
            return ids
        end = self.tokenizer.convert_tokens_to_ids(END_TOKEN)
        return [*ids[: limit - 1], end] if ids[-1] == end else ids[:limit]


_HUB_ARGUMENTS = ("revision", "token", "cache_dir", "local_files_only", "force_download", "subfolder")


def normalized(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pixels (N, 3, H, W) less each channel's mean, over its standard deviation."""
    shift, scale = (torch.tensor(each, device=pixels.device).view(1, 3, 1, 1) for each in (mean, std))
    result: Tensor = (pixels - shift) / scale
    return result


def _mask_logits(mask: np.ndarray, side: int) -> Tensor:
    """A bool mask (H, W) as SAM-2's logits (1, side, side), cells that it covers in part in between."""
    share = torch.nn.functional.interpolate(
        torch.from_numpy(mask.astype(np.float32))[None, None], size=(side, side), mode="bilinear", antialias=True
    )
    return ((share * 2 - 1) * MASK_LOGIT)[0]
