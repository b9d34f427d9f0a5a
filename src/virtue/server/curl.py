"""The examples of the OpenAPI as commands for a shell that run as they stand, against the server that shows them.

What only the server knows, such as a path in its index, is asked for first.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from virtue.server.routes.examples import SQUARE

_FILE = f"echo {SQUARE.partition(',')[2]} \\\n  | base64 -d > square.png\n"
_INDEX = "/v1/gallery?limit=1"


@dataclass(frozen=True)
class Served:
    """The server that the commands are for.

    Attributes:
        address: Where it is, such as "http://127.0.0.1:8000".
        is_keyed: Whether it wants an API key.
        has_index: Whether it has an index.
    """

    address: str
    is_keyed: bool = False
    has_index: bool = True

    def curl(self, path: str, *options: str) -> str:
        """A command that asks the server; the path and the options are already written for a shell."""
        key = ['-H "Authorization: Bearer $VIRTUE_API_KEY"'] if self.is_keyed else []
        return " \\\n  ".join([f"curl -s {path}", *key, *options])

    def at(self, path: str) -> str:
        """Where a path is, written for a shell."""
        return shlex.quote(self.address + path)

    def first(self, name: str, path: str, *options: str) -> str:
        """A command that keeps the first field of this name in an answer as a variable of the shell."""
        return f'{name}=$({self.curl(self.at(path), *options)} \\\n  | sed \'s/.*"{name}": *"\\([^"]*\\)".*/\\1/\')\n'


def needs_index(path: str, route: Mapping[str, Any]) -> bool:
    """Whether a route is of no use without an index."""
    missing = route["responses"].get("404", {}).get("content", {}).get("application/json", {}).get("examples", {})
    return "no_index" in missing and path != "/v1/images"


def commands(path: str, method: str, route: Mapping[str, Any], served: Served) -> Iterator[tuple[str, str]]:
    """Titles and commands.

    Args:
        path: Of the route.
        method: Of the route.
        route: What the OpenAPI says of it.
        served: The server.
    """
    if needs_index(path, route) and not served.has_index:
        return
    if "requestBody" in route:
        yield from _sent(path, route["requestBody"]["content"], served)
    elif "{id}" in path:
        suffix, option = ("?size=200", "-o square.jpg") if method == "get" else ("", "-X DELETE")
        place = path.replace("{id}", "$id") + suffix
        opening = served.first("id", "/v1/images", *_json(json.dumps({"image": SQUARE})))
        yield "Example", opening + served.curl(_varied(served.address + place), option)
    elif "{model}" in path:
        place = path.replace("{model}", "$id")
        yield "Example", served.first("id", "/v1/models") + served.curl(_varied(served.address + place))
    elif any(one["name"] == "path" for one in route.get("parameters", [])):
        asked = '-G --data-urlencode "path=$path" -d size=640'
        yield "Example", served.first("path", _INDEX) + served.curl(served.at(path), asked, "-o picture.jpg")
    else:
        yield "Example", served.curl(served.at(path))


def _sent(path: str, content: Mapping[str, Any], served: Served) -> Iterator[tuple[str, str]]:
    for example in content["application/json"]["examples"].values():
        value = example["value"]
        if "index_path" not in value:
            yield example["summary"], served.curl(served.at(path), *_json(json.dumps(value)))
        elif served.has_index:
            body = '-d "{\\"index_path\\": \\"$path\\"}"'
            sent = served.curl(served.at(path), _JSON, body)
            yield example["summary"], served.first("path", _INDEX) + sent
    if "multipart/form-data" in content:
        yield "A file", _FILE + served.curl(served.at(path), "-F file=@square.png")
        options = ("-H 'Content-Type: image/png'", "--data-binary @square.png")
        yield "The bytes of a file", _FILE + served.curl(served.at(path), *options)


_JSON = "-H 'Content-Type: application/json'"


def _json(body: str) -> tuple[str, str]:
    return _JSON, f"-d {shlex.quote(body)}"


def _varied(address: str) -> str:
    """An address with a variable in it, for a shell."""
    start, dollar, rest = address.rpartition("$")
    return f'{shlex.quote(start)}"{dollar}{rest}"'
