"""The same embeddings on an accelerator: `pytest -m gpu` on a machine that has one; tiny models, seconds in all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.tiny import picture, tiny_embedder
from virtue import Box, Embedder, Item, Mask, Point

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no accelerator that torch can use"),
]

DEVICE = "cuda"
IMAGE = picture(100, 80)
PROMPTS = [None, Point(30, 20), Box(10, 5, 70, 60), Mask(np.tri(80, 100, dtype=bool))]
INPUTS = [
    "a dog",
    "what is behind the red car?",
    *(Item(image=IMAGE, prompt=prompt, text="this") for prompt in PROMPTS),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    embedder = tiny_embedder()
    embedder.model.save_pretrained(folder)
    embedder.processor.save_pretrained(folder)
    return folder


def load(checkpoint: Path, dtype: str = "float32", attention: str | None = None) -> Embedder:
    return Embedder.from_pretrained(checkpoint, device=DEVICE, dtype=dtype, attn_implementation=attention)


def least_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float((a * b).sum(axis=1).min())


def test_the_accelerator_computes_what_the_processor_does(checkpoint: Path) -> None:
    there, here = load(checkpoint), Embedder.from_pretrained(checkpoint, device="cpu")
    assert least_cosine(there.encode(INPUTS), here.encode(INPUTS)) > 0.999  # it may convolve in TF32
    assert there.fingerprint == here.fingerprint


def test_bfloat16_is_close_to_float32(checkpoint: Path) -> None:
    assert least_cosine(load(checkpoint, "bfloat16").encode(INPUTS), load(checkpoint).encode(INPUTS)) > 0.99


@pytest.mark.parametrize(("dtype", "least"), [("float32", 1 - 1e-5), ("bfloat16", 0.99)])
def test_an_open_image_embeds_as_encode_does(checkpoint: Path, dtype: str, least: float) -> None:
    embedder = load(checkpoint, dtype)
    assert least_cosine(embedder.open(IMAGE).encode(PROMPTS, "this"), embedder.encode(INPUTS[2:])) > least


def test_masks_have_the_size_of_the_picture(checkpoint: Path) -> None:
    masks, quality = load(checkpoint).open(IMAGE).masks(PROMPTS[1:])
    assert masks.shape == (3, 80, 100) and np.isfinite(quality).all()


def test_both_ways_of_attention_agree(checkpoint: Path) -> None:
    ways = [load(checkpoint, attention=attention).encode(INPUTS) for attention in ("sdpa", "eager")]
    np.testing.assert_allclose(*ways, atol=1e-4)
