"""The `openai` client works as it is: texts, things in pictures, the model, and errors as its own exceptions."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from tests.server.hostile import encoded
from tests.server.live import running
from tests.tiny import picture, tiny_embedder
from virtue.embedder import Embedder
from virtue.items import Item
from virtue.prompts import Box, Mask, Point
from virtue.server import Settings, create_app
from virtue.server.work import Work

openai = pytest.importorskip("openai")

KEY = "a-key-of-some-length"
URL = f"data:image/png;base64,{base64.b64encode(encoded(picture())).decode()}"
THING = np.zeros((60, 80), dtype=bool)
THING[10:30, 20:50] = True


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return tiny_embedder()


@pytest.fixture(scope="module")
def address(embedder: Embedder) -> Iterator[str]:
    with running(create_app(embedder, settings=Settings(api_key=KEY, queue_rows=4))) as url:
        yield f"{url}/v1"


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Any]:
    """A client that tries once."""
    with openai.OpenAI(base_url=address, api_key=KEY, max_retries=0) as client:
        yield client


def vectors(answer: Any) -> list[list[float]]:
    assert [one.index for one in answer.data] == list(range(len(answer.data)))
    return [one.embedding for one in answer.data]


def test_texts(client: Any, embedder: Embedder) -> None:
    texts = ["a dog", "a cat on a mat", "rain"]
    answer = client.embeddings.create(model="tiny", input=texts)  # asks for base64, and decodes it
    np.testing.assert_allclose(vectors(answer), embedder.encode(texts), atol=1e-6)
    assert answer.model == "tiny"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
    one = client.embeddings.create(model="tiny", input="a dog", encoding_format="float", user="me")
    np.testing.assert_allclose(vectors(one), [embedder.encode("a dog")], atol=1e-6)


@pytest.mark.parametrize("encoding", [None, "float"])
def test_dimensions(client: Any, embedder: Embedder, encoding: str | None) -> None:
    more = {} if encoding is None else {"encoding_format": encoding}
    answer = client.embeddings.create(model="tiny", input="a dog", dimensions=8, **more)
    np.testing.assert_allclose(vectors(answer), [embedder.encode("a dog", truncate_dim=8)], atol=1e-6)


def test_base64_that_was_asked_for_is_left_as_it_is(client: Any, embedder: Embedder) -> None:
    (row,) = vectors(client.embeddings.create(model="tiny", input="a dog", encoding_format="base64"))
    found = np.frombuffer(base64.b64decode(str(row)), "<f4")
    np.testing.assert_allclose(found, embedder.encode("a dog"), atol=1e-6)


THINGS = {
    "points": ({"points": [[30, 20, 1], [5, 5, 0]]}, Point(30, 20) + Point(5, 5, include=False)),
    "box": ({"box": [20, 10, 50, 30]}, Box(20, 10, 50, 30)),
    "mask": ({"mask": Mask(THING).to_rle()}, Mask(THING)),
}


@pytest.mark.parametrize("given", ["", []], ids=["empty text", "empty list"])
@pytest.mark.parametrize("kind", THINGS)
def test_a_thing_in_a_picture_goes_beside_an_empty_input(
    client: Any, embedder: Embedder, kind: str, given: object
) -> None:
    """The client always sends an input; what it is to embed comes as messages, as vLLM takes them."""
    asked, prompt = THINGS[kind]
    content = [
        {"type": "image_url", "image_url": {"url": URL}},
        {"type": "visual_prompt", **asked},
        {"type": "text", "text": "wet"},
    ]
    messages = [{"role": "user", "content": content}]
    answer = client.embeddings.create(model="tiny", input=given, extra_body={"messages": messages})
    wanted = embedder.encode(Item(text="wet", image=picture(), prompt=prompt))
    np.testing.assert_allclose(vectors(answer), [wanted], atol=1e-6)


def test_a_message_of_words_alone(client: Any, embedder: Embedder) -> None:
    body = {"messages": [{"role": "user", "content": "a dog"}]}
    answer = client.embeddings.create(model="tiny", input="", extra_body=body)
    np.testing.assert_allclose(vectors(answer), [embedder.encode("a dog")], atol=1e-6)


def test_an_instruction(client: Any, embedder: Embedder) -> None:
    answer = client.embeddings.create(model="tiny", input="a dog", extra_body={"instruction": "Find it."})
    np.testing.assert_allclose(vectors(answer), [embedder.encode("a dog", instruction="Find it.")], atol=1e-6)


def test_models(client: Any) -> None:
    (model,) = client.models.list()
    assert (model.id, model.object, model.owned_by) == ("tiny", "model", "virtue")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"input": "a", "dimensions": 33}, "dimensions is between 1 and the model's 32, not 33."),
        ({"input": [1, 2, 3]}, "token ids"),
        ({"input": [[1, 2, 3]]}, "token ids"),
        ({"input": ["a dog", ""]}, "input 1 is empty"),
        ({"input": "a", "extra_body": {"messages": [{"role": "user", "content": "b"}]}}, "either input"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "extra_body": {"temperature": 1}}, "temperature"),
    ],
)
def test_what_is_wrong_is_a_bad_request(client: Any, given: dict[str, Any], words: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.embeddings.create(model="tiny", **given)
    assert words in error.value.message
    assert error.value.type == "invalid_request_error"


def test_another_model_is_not_found(client: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="'text-embedding-3-small' is not served here; 'tiny' is") as error:
        client.embeddings.create(model="text-embedding-3-small", input="a dog")
    assert (error.value.code, error.value.param) == ("model_not_found", "model")


def test_another_key_is_an_authentication_error(address: str) -> None:
    with openai.OpenAI(base_url=address, api_key="sk-another-one", max_retries=0) as other:
        for ask in (other.models.list, lambda: other.embeddings.create(model="tiny", input="a" * 1_000_000)):
            with pytest.raises(openai.AuthenticationError, match="The API key is missing or another"):
                ask()


def test_a_full_queue_is_a_rate_limit_error(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    go, begun, compute = threading.Event(), threading.Event(), Work.compute

    def held(work: Work, asks: Sequence[Any]) -> list[Any]:
        begun.set()
        assert go.wait(60)
        return compute(work, asks)

    monkeypatch.setattr(Work, "compute", held)
    first = threading.Thread(target=lambda: client.embeddings.create(model="tiny", input=["a", "b", "c"]))
    first.start()
    try:
        assert begun.wait(30)
        with pytest.raises(openai.RateLimitError, match="3 embeddings and masks are waiting") as error:
            client.embeddings.create(model="tiny", input=["d", "e"])
        assert int(error.value.response.headers["retry-after"]) >= 1
    finally:
        go.set()
        first.join(30)


def test_asynchronous_clients(address: str, embedder: Embedder) -> None:
    import asyncio

    async def ask() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=address, api_key=KEY, max_retries=5) as client:
            return await asyncio.gather(*(client.embeddings.create(model="tiny", input=f"text {n}") for n in range(4)))

    answers = asyncio.run(ask())
    wanted = embedder.encode([f"text {number}" for number in range(4)])
    np.testing.assert_allclose([vectors(answer)[0] for answer in answers], wanted, atol=1e-6)
