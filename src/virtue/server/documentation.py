"""The documentation of the routes as one page without scripts, written from the app's own OpenAPI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from virtue.server.curl import Served, commands, needs_index

Schema = Mapping[str, Any]


def documentation(openapi: Schema, served: Served) -> str:
    """The page.

    Args:
        openapi: What `/openapi.json` says.
        served: The server that the examples are for.
    """
    routes = [(path, method, route) for path, methods in openapi["paths"].items() for method, route in methods.items()]
    listed = "".join(
        f'<li><a href="#{_anchor(path, method)}">{_name(path, method)}</a> {escape(route["summary"])}</li>'
        for path, method, route in routes
    )
    sections = "".join(_section(path, method, route, openapi, served) for path, method, route in routes)
    title = escape(f"The API of {openapi['info']['title']} {openapi['info']['version']}")
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="/static/icon.svg"><link rel="stylesheet" href="/docs.css"></head>'
        f'<body><main>{_header(title, openapi, served)}<nav aria-label="Routes"><ul>{listed}</ul></nav>{sections}'
        "</main></body></html>"
    )


def _header(title: str, openapi: Schema, served: Served) -> str:
    key = ", once <code>VIRTUE_API_KEY</code> holds the key of the server" if served.is_keyed else ""
    return (
        f"<header><h1>{title}</h1><p>{escape(openapi['info'].get('description', ''))} Coordinates are pixels of the "
        "picture after its EXIF turn; boxes are left, top, right, bottom. Every example runs in a shell as it "
        f"stands{key}.</p><p>OpenAI's clients want <code>{escape(served.address)}/v1</code> as their base URL. "
        'Programs read <a href="/openapi.json">/openapi.json</a>. <a href="/">The page</a> uses all of it.</p></header>'
    )


def _section(path: str, method: str, route: Schema, openapi: Schema, served: Served) -> str:
    paragraphs = "".join(f"<p>{_words(each)}</p>" for each in route.get("description", "").split("\n\n"))
    if needs_index(path, route) and not served.has_index:
        paragraphs += "<p><strong>This server has no index: start it with --index.</strong></p>"
    request = _parameters(route, openapi) + _body(route, openapi)
    examples = "".join(
        f"<h3>{escape(title)}</h3><pre><code>{escape(command)}</code></pre>"
        for title, command in commands(path, method, route, served)
    )
    return (
        f'<section id="{_anchor(path, method)}"><h2><a href="#{_anchor(path, method)}">{_name(path, method)}</a></h2>'
        f"<div><div><p><strong>{escape(route['summary'])}.</strong></p>{paragraphs}"
        f"{f'<h3>Request</h3><ul>{request}</ul>' if request else ''}{_answer(route, openapi)}{_errors(route)}</div>"
        f"<div>{examples}</div></div></section>"
    )


def _name(path: str, method: str) -> str:
    return f"<code><b>{method.upper()}</b> {escape(path)}</code>"


def _anchor(path: str, method: str) -> str:
    return escape(f"{method}{path}".replace("/", "-").replace("{", "").replace("}", ""))


def _words(text: str) -> str:
    """Text with `code` in it."""
    parts = escape(" ".join(text.split())).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


# Requests and answers


def _parameters(route: Schema, openapi: Schema) -> str:
    return "".join(
        _field(one["name"], {"description": one.get("description", "")} | one["schema"], one["required"], openapi)
        for one in route.get("parameters", [])
        if one["in"] != "header"
    )


def _body(route: Schema, openapi: Schema) -> str:
    content = route.get("requestBody", {}).get("content", {})
    fields = _fields(content.get("application/json", {}).get("schema", {}), openapi)
    for kind in content:
        if kind == "multipart/form-data":
            fields += f"<li>or a form with the field <code>file</code>, as {_code(kind)}</li>"
        elif kind != "application/json":
            fields += f"<li>or the bytes of the file, as {_code(kind)}</li>"
    return fields


def _answer(route: Schema, openapi: Schema) -> str:
    answer = route["responses"]["200"].get("content", {})
    lists = "".join(
        _fields(said["schema"], openapi, is_answer=True) if kind == "application/json" else f"<li>{_code(kind)}</li>"
        for kind, said in answer.items()
    )
    return f"<h3>Answer</h3><ul>{lists}</ul>"


def _errors(route: Schema) -> str:
    rows = "".join(
        f"<li><b>{status}</b> {_words(answer['description'])}{_said(answer)}</li>"
        for status, answer in route["responses"].items()
        if status != "200"
    )
    return f"<details><summary>Other answers</summary><ul>{rows}</ul></details>"


def _said(answer: Schema) -> str:
    examples = answer.get("content", {}).get("application/json", {}).get("examples", {})
    errors = [example["value"]["error"] for example in examples.values()]
    return "".join(f"<p>{_code(error['code'] or '')} {escape(error['message'])}</p>" for error in errors)


def _fields(schema: Schema, openapi: Schema, *, is_answer: bool = False) -> str:
    """The fields of an object as items of a list; those of each kind, where it is one of several."""
    kinds = list(_kinds(schema, openapi))
    if len(kinds) > 1:
        return "".join(
            f"<li>{_words(kind.get('description', ''))}<ul>{_fields(kind, openapi)}</ul></li>" for kind in kinds
        )
    return "".join(
        _field(name, field, not is_answer and name in kind.get("required", ()), openapi, is_answer=is_answer)
        for kind in kinds
        for name, field in kind.get("properties", {}).items()
    )


def _field(name: str, field: Schema, is_required: bool, openapi: Schema, *, is_answer: bool = False) -> str:
    inner = _fields(_innermost(field, openapi), openapi, is_answer=is_answer)
    described = field.get("description") or next(_kinds(field, openapi), {}).get("description", "")
    return (
        f"<li>{_code(name)} <i>{escape(_type(field, openapi))}{', required' if is_required else ''}</i> "
        f"{_words(described)}{f'<ul>{inner}</ul>' if inner else ''}</li>"
    )


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _kinds(schema: Schema, openapi: Schema) -> Iterator[Schema]:
    """What a schema may be, null aside."""
    if "$ref" in schema:
        yield from _kinds(openapi["components"]["schemas"][schema["$ref"].rpartition("/")[2]], openapi)
        return
    choices = schema.get("anyOf", schema.get("oneOf"))
    if choices is None:
        if schema and schema.get("type") != "null":
            yield schema
        return
    for choice in choices:
        yield from _kinds(choice, openapi)


def _innermost(schema: Schema, openapi: Schema) -> Schema:
    """What the lists in a schema are of, where that is objects."""
    found = [
        _innermost(kind["items"], openapi) if kind.get("type") == "array" else kind for kind in _kinds(schema, openapi)
    ]
    return {"anyOf": [kind for kind in found if "anyOf" in kind or "properties" in kind]}


def _type(schema: Schema, openapi: Schema) -> str:
    names = dict.fromkeys(_type_of(kind, openapi) for kind in _kinds(schema, openapi))
    default = None if "const" in schema else schema.get("default")
    return " or ".join(names) + (f", {default} by default" if default is not None else "")


def _type_of(kind: Schema, openapi: Schema) -> str:
    if "const" in kind:
        return f'"{kind["const"]}"'
    if "enum" in kind:
        return " or ".join(f'"{value}"' for value in kind["enum"])
    if kind.get("type") == "array":
        return f"list of {_type(kind['items'], openapi)}"
    return str(kind.get("type", "object"))
