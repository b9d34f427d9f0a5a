"""Floor 4: an HTTP server that embeds, segments and searches, in OpenAI's form, and the page to point and search.

Requests become jobs in one bounded queue; one thread holds the model, takes what waits and answers. `create_app` makes
the app, `serve` runs it until it is told to stop.
"""

from virtue.server.app import create_app
from virtue.server.serving import serve
from virtue.server.settings import Settings

__all__ = ["Settings", "create_app", "serve"]
