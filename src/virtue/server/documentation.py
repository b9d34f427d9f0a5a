"""The documentation of the routes as one page without scripts, written from the app's own OpenAPI."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

Schema = Mapping[str, Any]


def documentation(openapi: Schema) -> str:
    """The page.

    Args:
        openapi: What `/openapi.json` says.
    """
    routes = [(path, method, route) for path, methods in openapi["paths"].items() for method, route in methods.items()]
    listed = "".join(f'<li><a href="#{_anchor(*route[:2])}">{_name(*route[:2])}</a></li>' for route in routes)
    sections = "".join(_section(path, method, route, openapi) for path, method, route in routes)
    title = escape(f"{openapi['info']['title']} {openapi['info']['version']}")
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}: API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="stylesheet" href="/docs.css"></head><body><main><h1>{title}</h1>'
        f"<p>{escape(openapi['info'].get('description', ''))} Coordinates are pixels of the picture after its EXIF "
        'turn. For programs: <a href="/openapi.json">/openapi.json</a>.</p>'
        f"<nav><ul>{listed}</ul></nav>{sections}</main></body></html>"
    )


def _section(path: str, method: str, route: Schema, openapi: Schema) -> str:
    fields = [*_parameters(route), *_fields(route, openapi)]
    table = "".join(
        f"<tr><th scope='row'><code>{escape(name)}</code></th><td>{escape(what)}</td></tr>" for name, what in fields
    )
    examples = "".join(
        f"<h3>{escape(title)}</h3><pre tabindex='0'>{escape(command)}</pre>"
        for title, command in _examples(path, method, route)
    )
    return (
        f'<section id="{_anchor(path, method)}"><h2>{_name(path, method)}</h2><p>{escape(route.get("summary", ""))}. '
        f"{escape(route.get('description', ''))}</p>{f'<table>{table}</table>' if table else ''}{examples}</section>"
    )


def _name(path: str, method: str) -> str:
    return f"<code>{method.upper()} {escape(path)}</code>"


def _anchor(path: str, method: str) -> str:
    return escape(f"{method}{path}".replace("/", "-").replace("{", "").replace("}", ""))


def _parameters(route: Schema) -> Iterator[tuple[str, str]]:
    for parameter in route.get("parameters", []):
        if parameter["in"] != "header":
            yield parameter["name"], parameter.get("description") or parameter["schema"].get("description", "")


def _fields(route: Schema, openapi: Schema) -> Iterator[tuple[str, str]]:
    schema = route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if "$ref" in schema:
        schema = openapi["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        yield name, f"{field.get('description', '')}{' Required.' if name in required else ''}".strip()


def _examples(path: str, method: str, route: Schema) -> Iterator[tuple[str, str]]:
    """Titles and curl commands."""
    address = f"http://127.0.0.1:8000{path.replace('{id}', 'ID')}"
    content = route.get("requestBody", {}).get("content", {})
    for example in content.get("application/json", {}).get("examples", {}).values():
        body = shlex.quote(json.dumps(example["value"]))
        yield example["summary"], f"curl {address} \\\n  -H 'Content-Type: application/json' \\\n  -d {body}"
    if "multipart/form-data" in content:
        yield "A file", f"curl {address} -F file=@street.jpg"
        yield "The bytes of a file", f"curl {address} -H 'Content-Type: image/jpeg' --data-binary @street.jpg"
    if not content:
        needed = [one["name"] for one in route.get("parameters", []) if one["in"] == "query" and one.get("required")]
        query = f"?{'&'.join(f'{name}=street.jpg' for name in needed)}" if needed else ""
        flag = "" if method == "get" else f"-X {method.upper()} "
        yield "Example", f"curl {flag}{shlex.quote(address + query)}"
