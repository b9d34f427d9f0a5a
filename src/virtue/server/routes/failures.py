"""What routes answer instead of a result, as the OpenAPI says it: which statuses, when, and with which words.

An example is what the server really says, with its limits as they are by default.
"""

from __future__ import annotations

import json
from typing import Any

from virtue.server.errors import ApiError, invalid
from virtue.server.jobs import late
from virtue.server.schemas import ErrorAnswer

Answers = dict[int | str, dict[str, Any]]

_WHEN = {
    400: "The request cannot be right; the message says what would be.",
    401: "The server has an API key, and the request another or none.",
    403: "The request comes from another site, or under a name that is not this machine's.",
    404: "What the request names is not here.",
    408: "The body took too long to arrive.",
    413: "The body, or the picture in it, is too large.",
    415: "The body is of a content type that is not read here.",
    429: "Too much waits or is being read; come back after Retry-After seconds.",
    500: "The server failed; its log says where.",
    503: "The model is being loaded, too many are connected, or the server is stopping.",
    504: "The request's time is up.",
}
_HEADERS = {
    401: {"WWW-Authenticate": {"description": "How to send the key.", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}},
    503: {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}},
}

WRONG_SITE = ApiError(
    403, "This request comes from another site; only this server's own page may send any.", code="foreign_origin"
)
WRONG_KEY = ApiError(
    401, "The API key is missing or another; send it as Authorization: Bearer KEY.", code="invalid_api_key"
)
FAILED = ApiError(500, "The server failed at this request; its log says where.", code="internal")
LATE = late()
LOADING = ApiError(503, "The model is being loaded; try again soon.", code="loading", retry_after=2)
OUT_OF_RANGE = invalid(
    "The request is malformed at size: input should be greater than or equal to 1.", "size", "invalid_request"
)
OTHER_MODEL = ApiError(404, "The model 'other' is not served here; 'nano' is.", param="model", code="model_not_found")
NOT_OPEN = ApiError(
    404,
    "No picture img_0123 is open; open it, perhaps again, with POST /v1/images.",
    param="image",
    code="image_not_open",
)
NOT_THERE = ApiError(404, "The index holds no picture 'a.jpg'.", param="path", code="not_in_index")

STOPPING = ApiError(503, "The server is stopping; ask another one.", code="stopping", retry_after=5)

PRIVATE = (WRONG_KEY, WRONG_SITE, FAILED, STOPPING)
"""Of everything that wants the API key."""

SENT = (
    ApiError(408, "The body of the request took too long to arrive.", code="slow_body"),
    ApiError(413, "A request has 32,000,000 bytes at most.", code="body_too_large"),
    ApiError(429, "The server is reading as much as it can; try again in 1 s.", code="intake_full", retry_after=1),
)
"""Of everything that has a body."""

JSON_ONLY = ApiError(
    415,
    "The content type text/plain is not read here; a request is JSON: send Content-Type: application/json.",
    code="wrong_content_type",
)

ASKED = (
    *SENT,
    ApiError(
        429, "4,096 embeddings and masks are waiting already; try again in 9 s.", code="queue_full", retry_after=9
    ),
    ApiError(
        429, "Other requests hold as much memory as there is; try again in 9 s.", code="memory_full", retry_after=9
    ),
    LOADING,
    LATE,
)
"""Of everything that the model is asked."""


def no_index() -> ApiError:
    """The error of a server without an index."""
    return ApiError(404, "This server has no index; start it with --index.", code="no_index")


def failures(*errors: ApiError) -> Answers:
    """The `responses` of a route that may answer these errors."""
    answers: Answers = {}
    for error in errors:
        status = error.status
        if status not in answers:
            answers[status] = {
                "model": ErrorAnswer,
                "description": _WHEN[status],
                "content": {"application/json": {"examples": {}}},
            }
            if status in _HEADERS:
                answers[status]["headers"] = _HEADERS[status]
        examples = answers[status]["content"]["application/json"]["examples"]
        examples[error.code or "invalid"] = {"value": json.loads(bytes(error.response().body))}
    return answers


def picture_answer(description: str) -> dict[str, Any]:
    """The 200 of a route that answers a picture."""
    return {"description": description, "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}
