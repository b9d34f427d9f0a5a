"""Embeddings over HTTP are `Embedder.encode`'s; what is refused is refused in OpenAI's form."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.tiny import picture, tiny_embedder
from virtue.embedder import Embedder
from virtue.items import Item
from virtue.prompts import Point
from virtue.server import Settings, create_app

KEY = "a-key-of-some-length"


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return tiny_embedder()


@pytest.fixture(scope="module")
def client(embedder: Embedder) -> Iterator[TestClient]:
    with TestClient(create_app(embedder), base_url="http://127.0.0.1") as client:
        while client.get("/health").status_code != 200:
            pass
        yield client


def data_url(width: int = 80, height: int = 60) -> str:
    out = io.BytesIO()
    picture(width, height).save(out, "PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def message(*content: dict[str, Any]) -> list[dict[str, Any]]:
    """The `messages` of a request with these parts."""
    return [{"role": "user", "content": list(content)}]


PICTURE = {"type": "image_url", "image_url": {"url": data_url()}}


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_texts_are_embedded_as_the_embedder_does(client: TestClient, embedder: Embedder, encoding: str) -> None:
    texts = ["a dog", "a cat on a mat", "rain"]
    answer = client.post("/v1/embeddings", json={"input": texts, "encoding_format": encoding, "dimensions": 8}).json()
    rows = [row["embedding"] for row in answer["data"]]
    if encoding == "base64":
        rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in rows]
    np.testing.assert_allclose(rows, embedder.encode(texts, truncate_dim=8), atol=1e-6)


def test_a_thing_in_a_picture_is_the_same_sent_along_and_opened(client: TestClient, embedder: Embedder) -> None:
    wanted = embedder.encode(Item(text="wet", image=picture(), prompt=Point(30, 20)))
    handle = client.post("/v1/images", json={"image": data_url()}).json()["id"]
    for url in (data_url(), f"virtue:{handle}"):
        content = message(
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "visual_prompt", "points": [[30, 20, 1]]},
            {"type": "text", "text": "wet"},
        )
        answer = client.post("/v1/embeddings", json={"messages": content}).json()
        np.testing.assert_allclose(answer["data"][0]["embedding"], wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": []}, 400, "input"),
        ({"input": "a", "messages": message(PICTURE)}, 400, "input"),
        ({}, 400, "input"),
        ({"input": ""}, 400, "input"),
        ({"input": "a", "dimensions": 33}, 400, "dimensions"),
        ({"input": "a", "model": "other"}, 404, "model"),
    ],
)
def test_what_is_wrong_is_said(client: TestClient, body: dict[str, object], status: int, param: str) -> None:
    answer = client.post("/v1/embeddings", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


@pytest.mark.parametrize("given", [{}, {"input": None}, {"input": ""}, {"input": []}], ids=str)
def test_an_empty_input_beside_messages_is_none(
    client: TestClient, embedder: Embedder, given: dict[str, object]
) -> None:
    answer = client.post("/v1/embeddings", json={**given, "messages": message(PICTURE)}).json()
    np.testing.assert_allclose(answer["data"][0]["embedding"], embedder.encode(Item(image=picture())), atol=1e-6)


@pytest.mark.parametrize("given", [[1, 2], [[1, 2], [3]]], ids=str)
def test_token_ids_are_refused_with_a_way_out(client: TestClient, given: list[object]) -> None:
    error = client.post("/v1/embeddings", json={"input": given}).json()["error"]
    assert (error["code"], error["param"]) == ("token_ids", "input")
    assert "check_embedding_ctx_length=False" in error["message"]


# The tiny model's tokens are letters, and an end token follows. A picture of 80 x 60 is read at 84 x 56 and has a token
# for each 28 x 28 of it, so 6; its segmentation tokens are 4. A text is cut to 64 tokens.
LENGTHS: list[tuple[dict[str, Any], int]] = [
    ({"input": "a dog"}, 5 + 1),
    ({"input": ["a dog", "rain"]}, 5 + 1 + 4 + 1),
    ({"input": "a dog", "instruction": "Find it:"}, 8 + 1 + 5 + 1),
    ({"input": "x" * 100}, 64),
    ({"messages": message(PICTURE)}, 4 + 6 + 1),
    ({"messages": message(PICTURE, {"type": "text", "text": "wet"})}, 4 + 6 + 3 + 1),
    ({"messages": message(PICTURE, {"type": "visual_prompt", "points": [[30, 20], [5, 5, 0]]})}, 4 + 6 + 1),
    ({"messages": message({"type": "text", "text": "wet"}, {"type": "text", "text": "dog"})}, 3 + 1 + 3 + 1),
]


@pytest.mark.parametrize(("body", "tokens"), LENGTHS, ids=range(len(LENGTHS)))
def test_usage_is_the_length_of_what_the_language_model_reads(
    client: TestClient, embedder: Embedder, body: dict[str, Any], tokens: int
) -> None:
    usage, read = asked(client, embedder, body)
    assert usage == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert read == tokens


@pytest.mark.parametrize("size", [(1, 1), (27, 300), (600, 2), (29, 31)])
def test_so_it_is_for_pictures_of_odd_shapes(client: TestClient, embedder: Embedder, size: tuple[int, int]) -> None:
    part = {"type": "image_url", "image_url": {"url": data_url(*size)}}
    usage, read = asked(client, embedder, {"messages": message(part)})
    assert usage["prompt_tokens"] == read


def asked(client: TestClient, embedder: Embedder, body: dict[str, Any]) -> tuple[dict[str, int], int]:
    """The usage that a request is told, and how many tokens the language model has read meanwhile."""
    read = []
    hook = embedder.model.vlm.language_model.register_forward_pre_hook(
        lambda _, args, given: read.append(int(given["attention_mask"].sum())), with_kwargs=True
    )
    try:
        return client.post("/v1/embeddings", json=body).json()["usage"], sum(read)
    finally:
        hook.remove()


def test_a_key_is_asked_for(embedder: Embedder) -> None:
    with TestClient(create_app(embedder, settings=Settings(api_key=KEY)), base_url="http://127.0.0.1") as client:
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/models", headers={"Authorization": f"Bearer {KEY}"}).status_code in (200, 503)
