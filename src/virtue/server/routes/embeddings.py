"""`POST /v1/embeddings`: OpenAI's form for texts, and the multimodal form with a picture and a visual prompt."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Body, Response
from numpy.typing import NDArray

from virtue.embedder.quantization import truncate
from virtue.server.errors import ApiError, invalid
from virtue.server.routes.examples import EMBEDDINGS
from virtue.server.routes.failures import ASKED, JSON_ONLY, NOT_OPEN, OTHER_MODEL, PRIVATE, failures
from virtue.server.schemas import EmbeddingsAnswer, EmbeddingsRequest, ImagePart, Message, PromptPart, TextPart
from virtue.server.service import Deadline, Service, ServiceOf
from virtue.server.work import EmbedAsk, Embedded

router = APIRouter(tags=["embeddings"])

_FAILURES = failures(
    *PRIVATE,
    *ASKED,
    JSON_ONLY,
    NOT_OPEN,
    OTHER_MODEL,
    invalid("input 0 is empty; a text has at least one letter.", "input", "empty_input"),
)


@router.post(
    "/v1/embeddings",
    response_model=EmbeddingsAnswer,
    responses=_FAILURES,
    summary="Embed texts, or a picture and what is meant",
)
async def embeddings(
    body: Annotated[EmbeddingsRequest, Body(openapi_examples=EMBEDDINGS)], service: ServiceOf, deadline: Deadline
) -> Response:
    """Embeddings, as unit vectors.

    Texts go as `input`. A picture goes as `messages`: one user message whose content holds the picture, perhaps a
    visual prompt, and perhaps words; OpenAI's clients send an empty `input` beside it.
    """
    service.check_model(body.model)
    _check_dimensions(body.dimensions, service)
    service.check_text(body.instruction, "instruction")
    asks = await _asks(body, service, deadline)
    embedded = await service.answers(asks, deadline)
    written = await service.aside(
        _written, embedded, body.encoding_format or "float", body.dimensions, service.model_name, deadline=deadline
    )
    return Response(written, media_type="application/json")


def _check_dimensions(dimensions: int | None, service: Service) -> None:
    most = service.embedder.dimension
    if dimensions is not None and not 1 <= dimensions <= most:
        raise invalid(
            f"dimensions is between 1 and the model's {most}, not {dimensions}.", "dimensions", "invalid_dimensions"
        )


async def _asks(body: EmbeddingsRequest, service: Service, deadline: float) -> list[EmbedAsk]:
    is_empty = body.input in (None, "", [])  # what clients send that must send something
    if (body.messages is None and body.input is None) or (body.messages is not None and not is_empty):
        raise invalid("A request has either input, for texts, or messages, for a picture.", "input")
    if body.messages is None:
        texts = _texts(body.input, service)
        return [EmbedAsk(text=text, instruction=body.instruction) for text in texts]
    if len(body.messages) != 1:
        raise invalid(f"messages holds one user message, not {len(body.messages)}.", "messages")
    return [await _message_ask(body.messages[0], body.instruction, service, deadline)]


def _texts(given: object, service: Service) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise invalid("input is a text or a list of texts, at least one.", "input")
    if len(texts) > service.settings.max_inputs:
        raise invalid(f"input holds {service.settings.max_inputs:,} texts at most, not {len(texts):,}.", "input")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise _not_a_text(number, text)
        if not text.strip():
            raise invalid(f"input {number} is empty; a text has at least one letter.", "input", "empty_input")
        service.check_text(text, "input")
    return texts


def _not_a_text(number: int, given: object) -> ApiError:
    if isinstance(given, int) or (isinstance(given, list) and given and isinstance(given[0], int)):
        return invalid(
            "input holds token ids, which mean something to another model's tokenizer only; send the texts themselves "
            "(LangChain does with check_embedding_ctx_length=False).",
            "input",
            "token_ids",
        )
    kind = "a list" if isinstance(given, list) else "an object" if isinstance(given, dict) else "none"
    return invalid(f"input {number} is {kind}, and only texts are read; a picture goes as messages.", "input")


async def _message_ask(message: Message, instruction: str | None, service: Service, deadline: float) -> EmbedAsk:
    content = [TextPart(type="text", text=message.content)] if isinstance(message.content, str) else message.content
    words = " ".join(part.text for part in content if isinstance(part, TextPart))
    images = [part for part in content if isinstance(part, ImagePart)]
    prompts = [part for part in content if isinstance(part, PromptPart)]
    service.check_text(words, "messages")
    if len(images) > 1 or len(prompts) > 1:
        raise invalid("A message holds one picture and one visual prompt at most.", "messages")
    if not images:
        if prompts:
            raise invalid("A visual prompt needs a picture; add an image_url part.", "messages")
        if not words.strip():
            raise invalid("A message holds a picture, words, or both.", "messages", "empty_input")
        return EmbedAsk(text=words, instruction=instruction)
    picture = await service.picture(images[0].image_url.url, "messages", deadline)
    prompt = await service.visual_prompt(prompts[0], picture, "messages.", deadline) if prompts else None
    return EmbedAsk(words or None, picture, prompt, instruction)


def _written(embedded: Sequence[Embedded], encoding: str, dimensions: int | None, model: str) -> bytes:
    """The answer; row by row, so that other threads get their turn."""
    tokens = sum(one.tokens for one in embedded)
    vectors = truncate(np.stack([one.vector for one in embedded]), dimensions, normalize=True)
    rows = ",".join(_rows(vectors, encoding))
    usage = json.dumps({"prompt_tokens": tokens, "total_tokens": tokens})
    return f'{{"object":"list","data":[{rows}],"model":{json.dumps(model)},"usage":{usage}}}'.encode()


def _rows(vectors: NDArray[np.float32], encoding: str) -> Iterator[str]:
    for number, vector in enumerate(vectors):
        if not np.isfinite(vector).all():
            raise ApiError(500, "The model gave no finite embedding.", code="not_finite")
        row = (
            json.dumps(base64.b64encode(vector.astype("<f4").tobytes()).decode())
            if encoding == "base64"
            else json.dumps(vector.tolist())
        )
        yield f'{{"object":"embedding","index":{number},"embedding":{row}}}'
