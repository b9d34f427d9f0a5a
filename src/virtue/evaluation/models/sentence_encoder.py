"""Every sentence-transformers model as an encoder: of text, CLIP-like, multimodal.

What an item becomes: its text a str, its picture an upright RGB image, both together one input where the model reads
both at once. CLIP-like models read each alone; for them `fuse="sum"` adds the unit embeddings of the two, which is the
score fusion of UniIR (arXiv 2311.17136). An item's instruction, and a space, is what sentence-transformers calls the
prompt, and takes the place of the prompt that the model has of its own for queries or documents.

Items of one kind and one instruction are embedded together, so a batch never mixes texts and pictures, which many
models cannot embed in one batch.

Letters: N items, D dimensions.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sentence_transformers import SentenceTransformer

from virtue.evaluation.ranking import unit
from virtue.images import load_image, open_image
from virtue.items import Item
from virtue.model.quiet import no_progress_bars
from virtue.reading import ahead

Fuse = Literal["sum"]
Kind = Literal["text", "image", "both"]

_INCIDENTAL = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures")
_LIVE = ("padding_side", "truncation_side", "model_max_length", "special_tokens_map")


class SentenceEncoder:
    """A sentence-transformers model, ready to be measured.

    Args:
        model: The model, on the device it shall run on.
        name: What a report calls it.
        fuse: "sum" embeds a picture with words as the sum of two unit embeddings, where the model reads each alone.
            None refuses such items.
        alpha: Hand on a picture's alpha channel, as the strategy "alpha" draws it, to a model that reads one. Any other
            model would show what is transparent, so by default it becomes white.

    Raises:
        ValueError: If `fuse` is neither None nor "sum".
    """

    def __init__(
        self, model: SentenceTransformer, *, name: str = "custom", fuse: Fuse | None = None, alpha: bool = False
    ) -> None:
        if fuse not in (None, "sum"):
            raise ValueError(f'fuse is None or "sum", not {fuse!r}.')
        self.model = model.eval()
        self.name = name
        self.fuse = fuse
        self.alpha = alpha

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        device: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        truncate_dim: int | None = None,
        dtype: str | None = None,
        fuse: Fuse | None = None,
        alpha: bool = False,
    ) -> Self:
        """Load a model.

        Args:
            name: A folder or Hub id.
            device: Where it runs; by default sentence-transformers' choice.
            revision: Branch, tag or commit on the Hub.
            trust_remote_code: Run the code that a checkpoint brings along. It can do whatever you can.
            truncate_dim: Keep only so many dimensions.
            dtype: Of its weights, such as "bfloat16"; by default transformers' choice.
            fuse: As for the class.
            alpha: As for the class.

        Raises:
            ValueError: If there is no such model, or it cannot be loaded.
        """
        try:
            with no_progress_bars():
                model = SentenceTransformer(
                    str(name),
                    device=device,
                    revision=revision,
                    trust_remote_code=trust_remote_code,
                    truncate_dim=truncate_dim,
                    model_kwargs={} if dtype is None else {"dtype": dtype},
                )
        except Exception as error:  # a checkpoint brings settings, and maybe code, of its own
            said = " ".join(str(error).split())
            raise ValueError(f"sentence-transformers cannot load {name}: {said}") from error
        known = str(Path(name).resolve()) if Path(name).is_dir() else str(name)
        return cls(model, name=known, fuse=fuse, alpha=alpha)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of weights, settings and tokenizer, computed once.

        A model that was loaded in another precision counts as another: its embeddings are others.
        """
        digest = hashlib.blake2b(digest_size=16)
        digest.update(json.dumps(_settings(self.model), sort_keys=True, default=str).encode())
        digest.update(f"{self.fuse} {self.alpha}".encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        for module in self.model:
            _add_processor(digest, getattr(module, "processor", None) or getattr(module, "tokenizer", None))
        return digest.hexdigest()

    def encode_query(self, items: Sequence[Item], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Embeddings of what is looked for, (N, D).

        Raises:
            ValueError: If an item has a visual prompt, or a picture, or text and picture, and the model reads no such.
        """
        return self._encode(items, self.model.encode_query, batch_size)

    def encode_document(self, items: Sequence[Item], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Embeddings of what is found, (N, D).

        Raises:
            ValueError: As `encode_query`.
        """
        return self._encode(items, self.model.encode_document, batch_size)

    def _encode(self, items: Sequence[Item], encode: Callable[..., Any], batch_size: int) -> NDArray[np.float32]:
        groups: dict[tuple[Kind, str | None], list[int]] = {}
        for place, item in enumerate(items):
            groups.setdefault((self._kind(item), item.instruction), []).append(place)
        out: NDArray[np.float32] | None = None
        for (kind, instruction), places in groups.items():
            for chunk in _chunks(places, len(places) if kind == "text" else batch_size):
                rows = self._embed([items[place] for place in chunk], kind, instruction, encode, batch_size)
                if out is None:
                    out = np.empty((len(items), rows.shape[1]), dtype=np.float32)
                out[chunk] = rows
        return np.empty((0, 0), dtype=np.float32) if out is None else out

    def _kind(self, item: Item) -> Kind:
        """What is to be read of an item.

        Raises:
            ValueError: If the model cannot read it.
        """
        if item.prompt is not None:
            raise ValueError(
                "A sentence-transformers model takes no visual prompts: choose a strategy such as box-in-text, crop or "
                "none."
            )
        if item.image is None:
            return "text"
        if not self.model.supports("image"):
            raise ValueError("This model reads text and no pictures: take one that reads pictures too.")
        if not item.text and (self._reads_both or not item.instruction):
            return "image"
        if not self.fuse and not self._reads_both:
            raise ValueError(
                'This model reads a picture or a text, not both at once: with fuse="sum" the embeddings of the two are '
                "added."
            )
        return "both"

    @property
    def _reads_both(self) -> bool:
        return bool(self.model.supports(("image", "text")))

    def _embed(
        self, items: Sequence[Item], kind: Kind, instruction: str | None, encode: Callable[..., Any], batch_size: int
    ) -> NDArray[np.float32]:
        """Embeddings of items of one kind and one instruction, (N, D)."""

        def rows(inputs: list[Any], prompt: str | None) -> NDArray[np.float32]:
            embeddings = encode(
                inputs, prompt=prompt, batch_size=batch_size, show_progress_bar=False, convert_to_tensor=True
            )
            values: NDArray[np.float32] = embeddings.float().cpu().numpy()
            return values

        prompt = f"{instruction} " if instruction else None
        texts = [self._text(item.text or "") for item in items]
        if kind == "text":
            return rows(texts, prompt)
        pictures = list(ahead(self._picture, items, depth=min(len(items), 16)))
        if kind == "image":
            return rows(pictures, prompt)
        if self._reads_both:
            both = [{"image": picture, "text": item.text} for picture, item in zip(pictures, items, strict=True)]
            return rows(both, prompt)
        return (unit(rows(pictures, None)) + unit(rows(texts, prompt))).astype(np.float32)

    def _text(self, text: str) -> Any:
        # Where pictures are read too, a bare str that looks like a path or an address would be opened as one.
        return {"text": text} if self.model.supports("image") else text

    def _picture(self, item: Item) -> Image.Image:
        assert item.image is not None
        if self.alpha:
            picture = load_image(item.image)
            if picture.mode == "RGBA":
                return picture
        return open_image(item.image)


def _chunks(places: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _settings(model: SentenceTransformer) -> dict[str, Any]:
    """What of a model's settings matters to its embeddings."""
    return {
        "modules": [(type(module).__name__, _module_settings(module)) for module in model],
        "config": None if model.config is None else _settled(model.config.to_dict()),
        "prompts": model.prompts,
        "default_prompt_name": model.default_prompt_name,
        "max_seq_length": model.max_seq_length,
        "truncate_dim": model.truncate_dim,
    }


def _module_settings(module: Any) -> Any:
    return _settled(module.get_config_dict()) if hasattr(module, "get_config_dict") else None


def _settled(value: Any) -> Any:
    """A configuration without what is incidental, at any depth, its keys as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): _settled(own) for key, own in value.items() if key not in _INCIDENTAL}
    return [_settled(own) for own in value] if isinstance(value, list | tuple) else value


def _add_processor(digest: Any, processor: Any) -> None:
    """Adds to a digest what a tokenizer or processor saves of itself, without what it remembers of its last use."""
    tokenizer = getattr(processor, "tokenizer", processor)
    live = {name: getattr(tokenizer, name, None) for name in _LIVE}
    digest.update(json.dumps(live, sort_keys=True, default=str).encode())
    if hasattr(processor, "save_pretrained"):
        with tempfile.TemporaryDirectory() as folder:
            processor.save_pretrained(folder)
            for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
                if path.name == "tokenizer.json":
                    digest.update(_tokenizer(path.read_text(encoding="utf-8")))
                elif path.name != "tokenizer_config.json":
                    digest.update(path.name.encode() + path.read_bytes())
    elif hasattr(processor, "to_str"):  # a tokenizer of the tokenizers library
        digest.update(_tokenizer(processor.to_str()))


def _tokenizer(text: str) -> bytes:
    """A tokenizer's file without how the last batch was padded and cut."""
    kept = {key: value for key, value in json.loads(text).items() if key not in ("padding", "truncation")}
    return json.dumps(kept).encode()
