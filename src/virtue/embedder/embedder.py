"""`Embedder`: texts, pictures, both, with or without a visual prompt, to vectors.

    embedder = Embedder.from_pretrained("nano")
    embedder.encode(["a dog on a beach", Item(image="street.jpg", prompt=Box(40, 60, 210, 330))])  # (2, D)
    view = embedder.open("street.jpg")  # read and encoded once, then asked many things

How `encode` works: texts are tokenised and computed in batches of like length. Items with a picture are grouped by it,
so that each distinct picture is read and encoded once; threads read ahead, and a picture's features live until its last
row is done, so memory does not grow with the corpus. Names and meaning are those of sentence-transformers.

Letters: N items, D dimensions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from virtue.embedder.batching import cost_batches, halving, progress_bar
from virtue.embedder.fingerprint import fingerprint
from virtue.embedder.image_view import ImageView
from virtue.embedder.linear_layers import use_onednn
from virtue.embedder.loading import load
from virtue.embedder.quantization import (
    Precision,
    check_count,
    check_precision,
    check_truncation,
    quantize_embeddings,
    truncate,
)
from virtue.embedder.rows import RowEncoder
from virtue.images import ImageSource, image_key, is_image_source, open_image
from virtue.items import Item, as_item
from virtue.model import VirtueModel, VirtueProcessor
from virtue.reading import ahead

logger = logging.getLogger(__name__)

PIXEL_BUDGET = {"cpu": 11 * 2**17, "mps": 8 * 1024**2, "cuda": 32 * 1024**2}
"""Pixels that the image towers take at once, by device, counted as the towers see them.

On a CPU eight pictures of `nano`'s: what is computed of more does not stay in its caches.
"""
TEXTS_AT_ONCE = 4096

Placed = tuple[int, Item]


@dataclass(frozen=True)
class _Picture:
    """A picture that was read ahead, and the items that want it."""

    items: list[Placed]
    size: tuple[int, int]
    inputs: dict[str, Tensor]

    @property
    def pixels(self) -> int:
        return (
            sum(self.inputs[name].numel() for name in ("pixel_values", "sam_pixel_values") if name in self.inputs) // 3
        )


class Embedder:
    """A model and its processor, ready to embed.

    Args:
        model: The model, on the device it shall run on.
        processor: Its processor.
        name: What `from_pretrained` loads it by; an index remembers it.
        truncate_dim: Keep only so many dimensions of every embedding.

    Raises:
        ValueError: If the model has fewer than `truncate_dim` dimensions.
    """

    def __init__(
        self, model: VirtueModel, processor: VirtueProcessor, *, name: str = "custom", truncate_dim: int | None = None
    ) -> None:
        self.width = model.config.hidden_size
        check_truncation(truncate_dim, self.width)
        self.model = model.eval()
        use_onednn(self.model)
        self.processor = processor
        self.name = name
        self.truncate_dim = truncate_dim
        self.rows = RowEncoder(self.model, processor)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "nano",
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        attn_implementation: str | None = None,
        truncate_dim: int | None = None,
        revision: str | None = None,
        adapter: str | Path | None = None,
        sam: str | Path | None = None,
        sam_config: dict[str, Any] | str | Path | None = None,
    ) -> Self:
        """Load an embedder.

        Args:
            name: "nano", the model inside the package; a folder or Hub id of a checkpoint, in this project's layout or
                in the authors' (`Sony/VIRTUE-2B-SCaR`).
            device: Where it runs; by default the first of cuda, mps and cpu that there is.
            dtype: Of its weights; by default bfloat16 on cuda when the checkpoint says so, else float32.
            attn_implementation: Of the attention, such as "sdpa"; by default transformers' choice.
            truncate_dim: Keep only so many dimensions of every embedding.
            revision: Branch, tag or commit of `name` on the Hub.
            adapter: A LoRA or DoRA adapter to merge into the weights, folder or Hub id.
            sam: SAM-2 weights for a checkpoint in the authors' layout, which does not hold them.
            sam_config: Meta's hyper-parameters (a dictionary, a YAML or JSON file) of a `.pt` that is no public size.

        Raises:
            ValueError: If there is no such model or device, or a file does not fit; the message says which.
        """
        model, processor = load(
            name,
            device=device,
            dtype=dtype,
            attn_implementation=attn_implementation,
            revision=revision,
            adapter=adapter,
            sam=sam,
            sam_config=sam_config,
        )
        known = str(Path(name).resolve()) if Path(name).is_dir() else str(name)
        return cls(model, processor, name=known, truncate_dim=truncate_dim)

    @property
    def dimension(self) -> int:
        """D, after `truncate_dim`."""
        return self.truncate_dim or self.width

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        device: torch.device = self.model.device
        return device

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of configuration and weights, computed once."""
        return fingerprint(self.model, self.processor)

    def encode(
        self,
        inputs: object,
        *,
        instruction: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        precision: Precision = "float32",
        ranges: ArrayLike | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        truncate_dim: int | None = None,
        normalize_embeddings: bool = True,
    ) -> Any:
        """Embed texts, pictures and items.

        Args:
            inputs: One input or an iterable of them: a str (always text), an image as a `Path`, PIL image, array,
                tensor or bytes, an `Item`, or a dict with an item's fields.
            instruction: What the embeddings are for, for items that do not say so themselves.
            batch_size: Rows of a batch at most; long rows make smaller batches.
            show_progress_bar: Show one; None shows it when logging is at INFO or DEBUG.
            precision: "float32", or fewer bits as `quantize_embeddings` describes.
            ranges: For "int8" and "uint8", each dimension's lowest and highest value, (2, D).
            convert_to_numpy: Return an array; False gives a list of tensors.
            convert_to_tensor: Return a tensor on the model's device instead.
            truncate_dim: Keep only so many dimensions; by default the embedder's `truncate_dim`.
            normalize_embeddings: Make truncated rows unit length again; whole rows always are.

        Returns:
            Embeddings in the inputs' order, (N, D); (D,) for one input.

        Raises:
            ValueError: If an input cannot be embedded, or an argument makes no sense.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is at least 1, not {batch_size}.")
        check_truncation(truncate_dim, self.width)
        check_precision(precision, ranges, truncate_dim or self.dimension)
        single = _is_single(inputs)
        items = [_with_instruction(item, instruction) for item in _items([inputs] if single else _many(inputs))]
        check_count(precision, ranges, len(items))
        shown = logger.isEnabledFor(logging.INFO) if show_progress_bar is None else show_progress_bar
        embeddings = self._encode(items, batch_size, shown)
        kept = self.truncated(embeddings, truncate_dim, normalize=normalize_embeddings)
        result = quantize_embeddings(kept, precision, ranges)
        return _converted(result[0] if single else result, convert_to_numpy, self.device if convert_to_tensor else None)

    encode_query = (
        encode  # queries and documents are written alike; both names are there for callers that tell them apart
    )
    encode_document = encode

    def similarity(self, a: ArrayLike | Tensor, b: ArrayLike | Tensor) -> Tensor:
        """Cosine similarity of each of `a`, (N, D) or (D,), to each of `b`, (M, D) or (D,): (N, M) float32.

        Raises:
            ValueError: If the two differ in dimensions.
        """
        left, right = _unit_rows(a), _unit_rows(b)
        if left.shape[1] != right.shape[1]:
            raise ValueError(f"Embeddings of {left.shape[1]} and of {right.shape[1]} dimensions cannot be compared.")
        return left @ right.T

    def similarity_pairwise(self, a: ArrayLike | Tensor, b: ArrayLike | Tensor) -> Tensor:
        """Cosine similarity of each of `a` to its partner in `b`, both (N, D) or (D,): (N,) float32.

        Raises:
            ValueError: If the two differ in shape.
        """
        left, right = _unit_rows(a), _unit_rows(b)
        if left.shape != right.shape:
            raise ValueError(f"Pairs need as many of both, got {tuple(left.shape)} and {tuple(right.shape)}.")
        return (left * right).sum(1)

    def open(self, image: ImageSource) -> ImageView:
        """Read and encode a picture once, to ask many things of it.

        Raises:
            ImageError: If the picture cannot be read.
        """
        return ImageView(self, open_image(image))

    def truncated(
        self, embeddings: NDArray[np.float32], truncate_dim: int | None = None, *, normalize: bool = True
    ) -> NDArray[np.float32]:
        """Whole embeddings (N, width) cut to `truncate_dim`, or to the embedder's own."""
        return truncate(embeddings, truncate_dim or self.truncate_dim, normalize=normalize)

    def _encode(self, items: Sequence[Item], batch_size: int, show_progress_bar: bool) -> NDArray[np.float32]:
        """Whole unit embeddings of items, (N, width)."""
        out = np.empty((len(items), self.width), dtype=np.float32)
        texts = [(place, item) for place, item in enumerate(items) if item.image is None]
        groups: dict[Hashable, list[Placed]] = {}
        for place, item in enumerate(items):
            if item.image is not None:
                groups.setdefault(image_key(item.image), []).append((place, item))
        with progress_bar(len(items), show_progress_bar) as advance, torch.inference_mode():
            for start in range(0, len(texts), TEXTS_AT_ONCE):
                rows = self.rows.text_rows(texts[start : start + TEXTS_AT_ONCE])
                self.rows.embed(rows, None, out, batch_size, advance)
            self._encode_pictures(groups.values(), out, batch_size, advance)
        return out

    def _encode_pictures(
        self,
        groups: Iterable[list[Placed]],
        out: NDArray[np.float32],
        batch_size: int,
        advance: Callable[[int], None],
    ) -> None:
        """Embed items with a picture, given by picture, a few pictures at a time."""

        def compute(pictures: Sequence[_Picture]) -> None:
            features = self.rows.features([picture.inputs for picture in pictures])
            rows = [
                row
                for number, picture in enumerate(pictures)
                for row in self.rows.image_rows(
                    picture.items, number, picture.size, len(features.visual[number]), numbered=len(out) > 1
                )
            ]
            self.rows.embed(rows, features, out, batch_size, advance)

        budget = PIXEL_BUDGET.get(self.device.type, PIXEL_BUDGET["cpu"])
        pictures = ahead(self._read, groups, depth=min(batch_size, 16))
        for batch in cost_batches(pictures, lambda picture: (1, picture.pixels), (batch_size, budget)):
            halving(compute, batch)

    def _read(self, items: list[Placed]) -> _Picture:
        """Open a picture and make the model's inputs of it; runs in a thread."""
        source = items[0][1].image
        assert source is not None
        image = open_image(source)
        return _Picture(items, image.size, self.processor.image_inputs([image]))


def _is_single(inputs: object) -> bool:
    if isinstance(inputs, np.ndarray) and inputs.ndim == 1 and inputs.dtype.kind in "UO":  # a column, as pandas has it
        return False
    return isinstance(inputs, str | Item | Mapping) or is_image_source(inputs)


def _many(inputs: object) -> list[Any]:
    if not isinstance(inputs, Iterable):
        raise ValueError(f"Cannot embed a {type(inputs).__name__}: give a str, an image, an Item, or a list of such.")
    return list(inputs)


def _items(values: Sequence[object]) -> Iterator[Item]:
    """The inputs as items.

    Raises:
        ValueError: If one cannot be embedded; says which.
    """
    for number, value in enumerate(values):
        try:
            yield as_item(value)
        except ValueError as error:
            raise ValueError(f"Input {number}: {error}" if len(values) > 1 else str(error)) from error


def _with_instruction(item: Item, instruction: str | None) -> Item:
    return replace(item, instruction=instruction) if instruction and item.instruction is None else item


def _converted(result: NDArray[Any], to_numpy: bool, device: torch.device | None) -> Any:
    """The result as array, as tensor on a device, or as list of tensors."""
    if device is not None:
        return torch.from_numpy(result).to(device)
    if to_numpy:
        return result
    return torch.from_numpy(result) if result.ndim == 1 else list(torch.from_numpy(result))


def _unit_rows(values: ArrayLike | Tensor) -> Tensor:
    """Rows of unit length on the CPU, (N, D) float32."""
    if isinstance(values, list | tuple) and any(isinstance(value, Tensor) for value in values):
        tensor = torch.stack([torch.as_tensor(value).detach().cpu().float() for value in values])
    else:
        tensor = torch.as_tensor(values if isinstance(values, Tensor) else np.asarray(values, dtype=np.float32))
    tensor = tensor.detach().cpu().float()
    return torch.nn.functional.normalize(tensor.unsqueeze(0) if tensor.ndim == 1 else tensor, dim=-1)
