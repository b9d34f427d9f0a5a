"""The app's OpenAPI as it is true: FastAPI's without the 422 that is never sent, with the API key if there is one."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

_UNUSED = ("HTTPValidationError", "ValidationError")


def describe(app: FastAPI, *, is_keyed: bool) -> None:
    """Makes `/openapi.json` say what the app does.

    Args:
        app: With all of its routes.
        is_keyed: Whether requests need an API key.
    """
    written = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        said = written()
        for methods in said["paths"].values():
            for route in methods.values():
                _correct(route, is_keyed=is_keyed)
        for name in _UNUSED:
            said["components"]["schemas"].pop(name, None)
        if is_keyed:
            said["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        return said

    app.openapi = openapi  # type: ignore[method-assign]


def _correct(route: dict[str, Any], *, is_keyed: bool) -> None:
    answers = route["responses"] = dict(sorted(route["responses"].items()))
    answers.pop("422", None)
    if is_keyed and "401" in answers:
        route["security"] = [{"key": []}]
    for answer in answers.values():
        for example in answer.get("content", {}).get("application/json", {}).get("examples", {}).values():
            error = example["value"].get("error", {})  # FastAPI drops what is null
            example["value"]["error"] = {"message": None, "type": None, "param": None, "code": None} | error
