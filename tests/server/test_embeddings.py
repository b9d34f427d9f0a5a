"""Embeddings over HTTP are `Embedder.encode`'s; what is refused is refused in OpenAI's form."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

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


def data_url() -> str:
    out = io.BytesIO()
    picture().save(out, "PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


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
        content = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "visual_prompt", "points": [[30, 20, 1]]},
            {"type": "text", "text": "wet"},
        ]
        answer = client.post("/v1/embeddings", json={"messages": [{"role": "user", "content": content}]}).json()
        np.testing.assert_allclose(answer["data"][0]["embedding"], wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": []}, 400, "input"),
        ({"input": [1, 2]}, 400, "input"),
        ({"input": "a", "dimensions": 33}, 400, "dimensions"),
        ({"input": "a", "model": "other"}, 404, "model"),
    ],
)
def test_what_is_wrong_is_said(client: TestClient, body: dict[str, object], status: int, param: str) -> None:
    answer = client.post("/v1/embeddings", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


def test_a_key_is_asked_for(embedder: Embedder) -> None:
    with TestClient(create_app(embedder, settings=Settings(api_key=KEY)), base_url="http://127.0.0.1") as client:
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/models", headers={"Authorization": f"Bearer {KEY}"}).status_code in (200, 503)
