"""Floor 4: an HTTP server that embeds, segments and searches, in OpenAI's form, and the page to point and search.

Requests become jobs in one bounded queue; one thread holds the model, takes what waits and answers. `create_app` makes
the app, `serve` runs it until it is told to stop. Both bring torch along, so they are read when asked for: what
is wrong with the settings is said at once.
"""

import importlib
from typing import TYPE_CHECKING

from virtue.server.settings import Settings

if TYPE_CHECKING:
    from virtue.server.app import create_app
    from virtue.server.serving import serve

__all__ = ["Settings", "create_app", "serve"]

_HOME = {"create_app": "virtue.server.app", "serve": "virtue.server.serving"}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'virtue.server' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
