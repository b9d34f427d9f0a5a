"""Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`, the message one sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_CODES = {404: "not_found", 405: "method_not_allowed"}
_KINDS = re.compile(r"\.list\[tagged-union[^.]*(\.\d+)(\.\w+)?|\.(str|list\[\w+\])(?=\.|$)")
"""What pydantic puts into the place of a fault for what may be of several kinds."""

UNKNOWN_FIELD = "unknown_field"
"""The type of a fault whose context has the `field` that there is not, and the names of the `fields` there are."""

LONGEST_NAME = 80
"""Characters of a field's name, beyond which it is not repeated."""


class ApiError(Exception):
    """What a request is answered with instead of a result.

    Args:
        status: Of the answer.
        message: One sentence: what was wrong, and what would be right.
        param: Which part of the request it is about.
        code: The same for programs, in short_snake.
        retry_after: Seconds after which to try again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after = retry_after

    def response(self) -> JSONResponse:
        """The answer."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return error_response(self.status, self.message, self.param, self.code, headers)


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """The error of a request that cannot be right."""
    return ApiError(400, message, param=param, code=code)


def error_response(
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An answer in OpenAI's form."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    error = {"message": " ".join(message.split()), "type": kind, "param": param, "code": code}
    return JSONResponse({"error": error}, status, headers=dict(headers or {}))


def add_handlers(app: FastAPI) -> None:
    """Makes the app answer what it refuses in this form."""
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(RequestValidationError, _on_malformed)
    app.add_exception_handler(HTTPException, _on_http_error)


async def _on_api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return error.response()


async def _on_malformed(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return malformed([{**fault, "loc": fault["loc"][1:]} for fault in error.errors()]).response()


def malformed(faults: Sequence[Mapping[str, Any]]) -> ApiError:
    """One sentence about the fault that is deepest in the request: of what may be of several kinds, the nearest one's.

    Args:
        faults: As pydantic lists them, their places from the body on.
    """
    fault = max(faults, key=lambda one: len(one["loc"]))  # the first of several
    if fault["type"] == "json_invalid":
        return _no_json()
    is_unknown = fault["type"] == UNKNOWN_FIELD
    place = _place([*fault["loc"], fault["ctx"]["field"]] if is_unknown else fault["loc"])
    if is_unknown:
        return invalid(f"There is no field {place}; there are {fault['ctx']['fields']}.", place, "unknown_field")
    where = f"at {place}" if place else "at its start"
    return invalid(f"The request is malformed {where}: {_fault(fault)}.", place or None, "invalid_request")


def _no_json() -> ApiError:
    return invalid(
        "The body is not valid JSON, nests too deeply, or has a number of too many digits.", code="invalid_json"
    )


def _place(loc: Sequence[str | int]) -> str:
    """Where a fault is, as the request has it."""
    return _KINDS.sub(r"\1", "".join(f".{str(part)[:LONGEST_NAME]}" for part in loc))[1:]


def _fault(fault: Mapping[str, Any]) -> str:
    if fault["type"] == "union_tag_not_found":
        return "it has no type"
    if fault["type"] == "union_tag_invalid":
        return f"its type is one of {fault['ctx']['expected_tags']}"
    words = str(fault["msg"]).removeprefix("Value error, ").rstrip(".")
    return words[:1].lower() + words[1:] if words[:2] != words[:2].upper() else words


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:
        return _unread(error).response()
    sentences = {
        404: f"There is nothing at {request.url.path}; the routes are listed at /docs.",
        405: f"{request.method} is no method of {request.url.path}; see /docs.",
    }
    message = sentences.get(error.status_code, f"{error.detail.rstrip('.')}.")
    return error_response(error.status_code, message, None, _CODES.get(error.status_code), error.headers)


def _unread(error: HTTPException) -> ApiError:
    """About a body that FastAPI, which names its cause, does not take for JSON, or Starlette for a form."""
    if isinstance(error.__cause__, ValueError | RecursionError):
        return _no_json()
    fault = error.detail.rstrip(".")
    return invalid(f"The form cannot be read ({fault}); send it as in curl -F file=@street.jpg.", code="invalid_form")
