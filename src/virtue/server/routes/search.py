"""`/v1/search` and `/v1/rank`: what looks like this, and what is this?"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Body
from numpy.typing import NDArray

from virtue.index import Hit, Index
from virtue.masks import outline_of_rle
from virtue.server.errors import ApiError, invalid
from virtue.server.files import image_address
from virtue.server.filters import check_filter
from virtue.server.jobs import late
from virtue.server.routes.examples import RANK, SEARCH
from virtue.server.routes.failures import ASKED, JSON_ONLY, NOT_OPEN, PRIVATE, failures, no_index
from virtue.server.schemas import RankAnswer, RankRequest, SearchAnswer, SearchRequest
from virtue.server.service import Deadline, ServiceOf
from virtue.server.work import EmbedAsk

LONGEST_REASON = 400
"""Characters of what is wrong with a filter, beyond which it is not repeated."""

router = APIRouter(tags=["search"])


@router.post(
    "/v1/search",
    response_model=SearchAnswer,
    responses=failures(
        *PRIVATE,
        *ASKED,
        JSON_ONLY,
        no_index(),
        NOT_OPEN,
        invalid("A query needs words or a picture; give query.text or query.image.", "query"),
    ),
    summary="Search the index",
)
async def search(
    body: Annotated[SearchRequest, Body(openapi_examples=SEARCH)], service: ServiceOf, deadline: Deadline
) -> dict[str, Any]:
    """The images and regions most similar to words, to a picture, or to what is meant in one; the best first."""
    if service.index is None:
        raise no_index()
    condition = _condition(body)
    ask = await service.query(body.query, deadline)
    (embedded,) = await service.answers([ask], deadline)
    data = await service.searching(
        _hits, service.index, embedded.vector, body.top_k, condition, deadline, deadline=deadline
    )
    service.memory.hold(sum(_weight(hit) for hit in data))
    return {"data": data}


def _condition(body: SearchRequest) -> str | None:
    """What hits have to meet, in SQL; a filter that cannot be right is refused before anything is computed."""
    kind = None if body.kind is None else f"kind = '{body.kind}'"
    given = None if body.filter is None or not body.filter.strip() else body.filter
    if given is not None:
        try:
            check_filter(given)
        except ValueError as error:
            raise _no_filter(str(error)) from error
    return f"{kind} AND ({given})" if kind and given else kind or given


def _hits(
    index: Index, vector: NDArray[Any], top_k: int, condition: str | None, deadline: float
) -> list[dict[str, Any]]:
    try:
        hits = index.search(vector, top_k=top_k, filter=condition)
    except ValueError as error:
        sentence = " ".join(str(error).split())
        if len(sentence) > LONGEST_REASON:
            sentence = "The filter is not understood; it is a condition in SQL, such as width >= 800."
        raise _no_filter(sentence) from error
    found = []
    for hit in hits:
        if time.monotonic() > deadline:  # nobody waits any longer
            raise late()
        found.append(_hit(hit))
    return found


def _no_filter(sentence: str) -> ApiError:
    return invalid(sentence, "filter", "invalid_filter")


def _hit(hit: Hit) -> dict[str, Any]:
    return {
        "path": hit.path,
        "kind": hit.kind,
        "similarity": hit.similarity,
        "box": None if hit.box is None else list(hit.box),
        "mask": hit.rle,
        "outline": None if hit.rle is None else outline_of_rle(hit.rle),
        "width": hit.width,
        "height": hit.height,
        "image": image_address(hit.path),
    }


def _weight(hit: dict[str, Any]) -> int:
    """Bytes of what can be long in a hit."""
    return len(hit["outline"] or "") + len(hit["mask"]["counts"] if hit["mask"] else "")


@router.post(
    "/v1/rank",
    response_model=RankAnswer,
    responses=failures(
        *PRIVATE,
        *ASKED,
        JSON_ONLY,
        NOT_OPEN,
        invalid("A candidate has at least one letter.", "candidates", "empty_input"),
    ),
    summary="What is this?",
)
async def rank(
    body: Annotated[RankRequest, Body(openapi_examples=RANK)], service: ServiceOf, deadline: Deadline
) -> dict[str, Any]:
    """How similar each candidate is to what is meant in a picture, and to the picture without the visual prompt."""
    if len(body.candidates) > service.settings.max_inputs:
        raise invalid(f"There are {service.settings.max_inputs:,} candidates at most.", "candidates")
    for text in body.candidates:
        service.check_text(text, "candidates")
        if not text.strip():
            raise invalid("A candidate has at least one letter.", "candidates", "empty_input")
    ask = await service.query(body.query, deadline)
    texts = list(dict.fromkeys(body.candidates))
    asks = [ask, replace(ask, prompt=None), *(EmbedAsk(text=text) for text in texts)]
    embedded = await service.answers(asks, deadline)
    hinted, plain, *others = (one.vector for one in embedded)
    found = {text: (float(hinted @ other), float(plain @ other)) for text, other in zip(texts, others, strict=True)}
    return {
        "data": [
            {"text": text, "similarity": found[text][0], "similarity_without": found[text][1]}
            for text in body.candidates
        ]
    }
