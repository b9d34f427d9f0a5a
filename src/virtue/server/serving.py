"""Runs the server: it binds its address, says where it is once the model is loaded, and serves until it is stopped.

SIGTERM and Ctrl-C stop it gracefully: it takes nothing more, answers what it took, and ends. The second one ends the
process at once, whatever its threads are doing.
"""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from virtue.listening import address, listen
from virtue.server.app import create_app
from virtue.server.settings import Settings

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from virtue.embedder import Embedder
    from virtue.index import Index

PORT = 8000
GRACE = 30
"""Seconds that what was taken has until it is given up when the server stops."""

BACKLOG = 128
"""Connections that wait to be taken, and are then taken at once."""


def serve(
    embedder: Embedder | Callable[[], Embedder],
    index: Index | None = None,
    settings: Settings | None = None,
    *,
    name: str | None = None,
    host: str = "127.0.0.1",
    port: int = PORT,
    ready: Callable[[str], object] | None = None,
) -> None:
    """Serves until SIGTERM or Ctrl-C.

    Args:
        embedder: The model, or what loads it.
        index: What is searched.
        settings: What is allowed.
        name: What requests call the model; by default as it calls itself.
        host: Address to listen at. Others than this machine's own need an API key, or `settings.network`.
        port: Port to listen at; 0 takes one that is free.
        ready: Called with the server's address once it takes requests.

    Raises:
        ValueError: If the address cannot be listened at or needs a key, or the index is another model's.
        ModuleNotFoundError: If uvicorn is not installed.
    """
    settings = settings or Settings()
    settings.check_address(host)
    with closing(listen(host, port, BACKLOG)) as listening:
        app = create_app(embedder, index, settings, name=name)
        service = app.state.service
        server = server_of(app)
        watcher = threading.Thread(
            target=_watch, args=(service, server, address(host, listening.getsockname()[1]), ready), daemon=True
        )
        watcher.start()
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
        watcher.join(timeout=1)
    if service.worker.failure is not None:
        raise service.worker.failure


def server_of(app: FastAPI) -> uvicorn.Server:
    """What speaks HTTP for an app.

    Args:
        app: Made by `create_app`.
    """
    import uvicorn

    from virtue.server.connections import KEEP_ALIVE, limited

    service = app.state.service

    class Server(uvicorn.Server):
        """Stops gracefully at the first signal and at once at the second."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if self.should_exit:
                signal.signal(sig, signal.SIG_DFL)
                signal.raise_signal(sig)
            service.stop()
            self.should_exit = True

    return Server(
        uvicorn.Config(
            app,
            http=limited(service.settings.connections),
            ws="none",
            lifespan="on",
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
            log_level="error",  # a line for each malformed request would let anybody fill the disk
            access_log=False,
            server_header=False,
        )
    )


def _watch(service: Any, server: Any, address: str, ready: Callable[[str], object] | None) -> None:
    """Says when the model is loaded, or ends the server when it cannot be."""
    while service.state == "loading" and not server.should_exit:
        time.sleep(0.05)
    if service.state == "failed":
        server.should_exit = True
    elif service.state == "ready":
        gc.collect()
        gc.freeze()  # what is there stays: to look through it all for garbage would stop every request for a second
        if ready is not None:
            ready(address)
