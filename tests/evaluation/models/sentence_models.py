"""Sentence-transformers models made in the test: a tiny BERT and CLIP with random weights, and one that counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.base.modules.input_module import InputModule
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

WORDS = ["[PAD]", "[UNK]", "<s>", "</s>", "a", "red", "dog", "cat", "find", "query:", "street.jpg"]
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


def tokenizer() -> PreTrainedTokenizerFast:
    """One token for each word."""
    words = models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    own = Tokenizer(words)
    own.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=own, model_max_length=16, **special)


def bert(folder: Path) -> SentenceTransformer:
    """A model of text whose queries begin with "query: "."""
    config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, **SMALL)
    BertModel(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    transformer = Transformer(str(folder))
    pooling = Pooling(transformer.get_embedding_dimension())
    return SentenceTransformer(modules=[transformer, pooling], device="cpu", prompts={"query": "query: "})


def clip(folder: Path) -> SentenceTransformer:
    """A model of text and of pictures, each alone."""
    text = {"vocab_size": len(WORDS), "max_position_embeddings": 16, "eos_token_id": 3, "bos_token_id": 2} | SMALL
    vision = {"image_size": 16, "patch_size": 8} | SMALL
    images = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(folder)
    CLIPProcessor(images, tokenizer()).save_pretrained(folder)
    return SentenceTransformer(modules=[Transformer(str(folder))], device="cpu")


class Counting(InputModule):
    """Embeds as red of the first pixel, channels, letters of the text, letters of the sentence-transformers prompt."""

    modalities = ("text", "image", ("image", "text"))

    def preprocess(self, inputs: list[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Tensor]:
        assert len({tuple(value) if isinstance(value, dict) else type(value) for value in inputs}) == 1
        rows = []
        for value in inputs:
            parts = value if isinstance(value, dict) else {"image": value}
            picture = parts.get("image")
            colour = (0, 0) if picture is None else (picture.getpixel((0, 0))[0], len(picture.getbands()))
            rows.append([*colour, len(parts.get("text", "")), len(prompt or "")])
        return {"rows": torch.tensor(rows, dtype=torch.float32)}

    def forward(self, features: dict[str, Tensor], **kwargs: Any) -> dict[str, Tensor]:
        return {"sentence_embedding": features["rows"]}

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None: ...

    @classmethod
    def load(cls, *args: Any, **kwargs: Any) -> Counting:
        return cls()

    @property
    def tokenizer(self) -> None:
        return None


def counting() -> SentenceTransformer:
    """A model of texts, pictures, and both at once, whose embeddings can be read."""
    return SentenceTransformer(modules=[Counting()], device="cpu", prompts={"query": "query: "})
