"""What a malformed request hears: where it is at fault, as the request has it, and what there is instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.tiny import tiny_embedder
from virtue.server import create_app


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(tiny_embedder()), base_url="http://127.0.0.1") as client:
        yield client


def message(*content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(content)}]}


@pytest.mark.parametrize(
    ("path", "body", "param", "there_are"),
    [
        ("embeddings", {"input": "a", "inputs": "b"}, "inputs", "input, messages, encoding_format"),
        ("embeddings", message({"type": "text", "text": "a", "b": 1}), "messages.0.content.0.b", "type, text."),
        ("search", {"query": {"text": "a", "top_k": 4}}, "query.top_k", "points, box, mask, text, image, instruction."),
        ("images", {"path": "a.png"}, "path", "image, index_path."),
        ("mask", {"image": "img_0", "mask": {"size": [1, 1], "count": "1"}}, "mask.count", "size, counts."),
        ("search", {"x" * 1000: 1}, "x" * 80, "query, top_k, filter, kind."),
    ],
)
def test_a_field_that_there_is_not_is_named_beside_those_there_are(
    client: TestClient, path: str, body: dict[str, Any], param: str, there_are: str
) -> None:
    answer = client.post(f"/v1/{path}", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, "unknown_field")
    assert error["message"].startswith(f"There is no field {param}; there are ")
    assert there_are in error["message"]


@pytest.mark.parametrize(
    ("path", "body", "param", "fault"),
    [
        ("search", {}, "query", "field required"),
        ("embeddings", message({"type": "video"}), "messages.0.content.0", "'text', 'image_url', 'visual_prompt'"),
        ("embeddings", message({"points": [[1, 2]]}), "messages.0.content.0", "it has no type."),
        (
            "embeddings",
            message({"type": "text", "text": "a"}, {"type": "visual_prompt", "points": [[1]]}),
            "messages.0.content.1.points.0",
            "at least 2 items",
        ),
        ("embeddings", {"messages": [{"role": "user", "content": 3}]}, "messages.0.content", "a valid string"),
        ("mask", {"image": "img_0", "mask": {"size": [1, 1], "counts": [0.5]}}, "mask.counts.0", "a valid integer"),
        ("images", {"image": 3}, "image", "input should be a valid string"),
    ],
)
def test_the_place_of_a_fault_is_as_the_request_has_it(
    client: TestClient, path: str, body: dict[str, Any], param: str, fault: str
) -> None:
    answer = client.post(f"/v1/{path}", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, "invalid_request")
    assert error["message"].startswith(f"The request is malformed at {param}: ")
    assert fault in error["message"]


@pytest.mark.parametrize("path", ["embeddings", "images"])
@pytest.mark.parametrize(("body", "code"), [(b"{", "invalid_json"), (b'{"\\ud800": 1}', "unknown_field")], ids="ab")
def test_what_is_no_text_at_all(client: TestClient, path: str, body: bytes, code: str) -> None:
    answer = client.post(f"/v1/{path}", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in (code, "invalid_json")
