"""Sentence-transformers models as encoders, against what the models themselves say of the same inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer

from tests.evaluation.models import sentence_models
from virtue import Box, Item
from virtue.evaluation.models.sentence_encoder import SentenceEncoder

RED = Image.new("RGB", (20, 20), (200, 10, 10))
GREEN = Image.new("RGB", (20, 20), (10, 200, 10))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    return sentence_models.bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    return sentence_models.clip(tmp_path_factory.mktemp("clip"))


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def close(left: np.ndarray, right: np.ndarray) -> None:
    np.testing.assert_allclose(left, right, atol=1e-6)


# Text


def test_queries_have_the_models_prompt_and_documents_none(bert: SentenceTransformer) -> None:
    encoder = SentenceEncoder(bert)
    items = [Item(text="a dog"), Item(text="a red cat")]
    queries, documents = encoder.encode_query(items), encoder.encode_document(items)
    assert queries.shape == (2, 16) and queries.dtype == np.float32
    close(queries, bert.encode(["query: a dog", "query: a red cat"]))
    close(documents, bert.encode(["a dog", "a red cat"]))


def test_an_instruction_takes_the_place_of_the_models_prompt(bert: SentenceTransformer) -> None:
    items = [Item(text="a cat"), Item(text="a dog", instruction="find"), Item(text="a cat")]
    close(SentenceEncoder(bert).encode_query(items), bert.encode(["query: a cat", "find a dog", "query: a cat"]))


def test_a_model_of_text_refuses_pictures(bert: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match="reads text and no pictures"):
        SentenceEncoder(bert).encode_document([Item(text="a dog"), Item(image=RED)])


def test_visual_prompts_are_refused_with_what_to_do(clip: SentenceTransformer) -> None:
    with pytest.raises(
        ValueError, match="takes no visual prompts: choose a strategy such as box-in-text, crop or none"
    ):
        SentenceEncoder(clip).encode_query([Item(image=RED, prompt=Box(1, 1, 5, 5))])


def test_no_items_are_no_embeddings(bert: SentenceTransformer) -> None:
    assert SentenceEncoder(bert).encode_query([]).shape[0] == 0


# CLIP-like


def test_texts_and_pictures_in_one_call_keep_their_order(clip: SentenceTransformer) -> None:
    items = [Item(image=RED), Item(text="a dog"), Item(image=GREEN), Item(text="a red cat")]
    rows = SentenceEncoder(clip).encode_document(items, batch_size=1)
    close(rows[[0, 2]], clip.encode([RED, GREEN]))
    close(rows[[1, 3]], clip.encode(["a dog", "a red cat"]))


def test_picture_and_text_are_refused_or_summed(clip: SentenceTransformer) -> None:
    items = [Item(image=RED, text="a dog"), Item(image=GREEN, text="a cat")]
    with pytest.raises(ValueError, match="not both at once"):
        SentenceEncoder(clip).encode_query(items)
    summed = SentenceEncoder(clip, fuse="sum").encode_query(items)
    close(summed, unit(clip.encode([RED, GREEN])) + unit(clip.encode(["a dog", "a cat"])))


def test_an_instruction_beside_a_picture_is_words_too(clip: SentenceTransformer) -> None:
    summed = SentenceEncoder(clip, fuse="sum").encode_query([Item(image=RED, instruction="find")])
    close(summed, unit(clip.encode([RED])) + unit(clip.encode(["find"])))


def test_only_sum_is_known() -> None:
    with pytest.raises(ValueError, match='fuse is None or "sum"'):
        SentenceEncoder(sentence_models.counting(), fuse="mean")  # type: ignore[arg-type]


# Multimodal: the counting model gives red, channels, letters of the text, letters of the prompt


def test_picture_and_text_are_one_input_where_the_model_reads_both() -> None:
    items = [Item(image=RED, text="a dog"), Item(text="cat"), Item(image=GREEN)]
    items += [Item(image=RED, instruction="find"), Item(image=RED, text="a dog", instruction="find")]
    encoder = SentenceEncoder(sentence_models.counting())
    rows = [[200, 3, 5, 7], [0, 0, 3, 7], [10, 3, 0, 7], [200, 3, 0, 5], [200, 3, 5, 5]]
    assert encoder.encode_query(items).tolist() == rows
    for row in rows[:3]:
        row[3] = 0  # documents have no prompt of the model's
    assert encoder.encode_document(items).tolist() == rows


def test_a_text_that_looks_like_a_file_stays_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    RED.save("street.jpg")
    rows = SentenceEncoder(sentence_models.counting()).encode_document([Item(text="street.jpg")])
    assert rows.tolist() == [[0, 0, 10, 0]]


def test_alpha_is_white_unless_the_model_reads_it() -> None:
    transparent = RED.copy()
    transparent.putalpha(0)
    items, model = [Item(image=transparent), Item(image=RED)], sentence_models.counting()
    assert SentenceEncoder(model).encode_document(items)[:, :2].tolist() == [[255, 3], [200, 3]]
    rows = SentenceEncoder(model, alpha=True).encode_document(items, batch_size=1)
    assert rows[:, :2].tolist() == [[200, 4], [200, 3]]


def test_a_picture_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ValueError, match=r"missing\.png"):
        SentenceEncoder(sentence_models.counting()).encode_document([Item(image="missing.png")])


# Loading and fingerprints


def test_a_saved_model_is_the_same_model(bert: SentenceTransformer, clip: SentenceTransformer, tmp_path: Path) -> None:
    for name, model, item in (("bert", bert, Item(text="a dog")), ("clip", clip, Item(image=RED))):
        model.encode(["a red dog", "a"])  # a tokenizer remembers how it padded last
        model.save(str(tmp_path / name), create_model_card=False)
        loaded = SentenceEncoder.from_pretrained(tmp_path / name, device="cpu")
        assert loaded.name == str(tmp_path / name)
        assert loaded.fingerprint == SentenceEncoder(model).fingerprint
        close(loaded.encode_query([item]), SentenceEncoder(model).encode_query([item]))


def prompt_changed(model: SentenceTransformer) -> None:
    model.prompts["query"] = "find: "


def weight_changed(model: SentenceTransformer) -> None:
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1


def precision_changed(model: SentenceTransformer) -> None:
    model.half()


def length_changed(model: SentenceTransformer) -> None:
    model.max_seq_length = 8


@pytest.mark.parametrize("change", [prompt_changed, weight_changed, precision_changed, length_changed])
def test_the_fingerprint_changes_with(change: Callable[[SentenceTransformer], None], tmp_path: Path) -> None:
    model = sentence_models.bert(tmp_path)
    before = SentenceEncoder(model).fingerprint
    assert SentenceEncoder(model).fingerprint == before
    change(model)
    assert SentenceEncoder(model).fingerprint != before


def test_fingerprints_tell_how_pictures_are_read(clip: SentenceTransformer) -> None:
    encoders = [SentenceEncoder(clip), SentenceEncoder(clip, fuse="sum"), SentenceEncoder(clip, alpha=True)]
    assert len({encoder.fingerprint for encoder in encoders}) == 3


def test_a_folder_without_a_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"sentence-transformers cannot load {tmp_path}"):
        SentenceEncoder.from_pretrained(tmp_path, device="cpu")
