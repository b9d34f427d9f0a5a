"""The app: routes, guard and metrics around one model.

POST /v1/embeddings       texts, or a picture and what is meant in it, as vectors
POST /v1/images           opens a picture; GET shows it, DELETE closes it
POST /v1/mask             previews what is meant
POST /v1/search           searches the index
POST /v1/rank             what is this?
GET  /v1/gallery          the index's pictures
GET  /v1/models           the model
GET  /health, /metrics    for those who run it
GET  /docs, /openapi.json the documentation
GET  /                    the page, and its files under /static
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

import virtue
from virtue.server.errors import add_handlers
from virtue.server.guard import Guard
from virtue.server.metrics import Counted
from virtue.server.routes import embeddings, gallery, images, meta, search
from virtue.server.service import Service
from virtue.server.settings import Settings, check_name

if TYPE_CHECKING:
    from virtue.embedder import Embedder
    from virtue.index import Index


def create_app(
    embedder: Embedder | Callable[[], Embedder],
    index: Index | None = None,
    settings: Settings | None = None,
    *,
    name: str | None = None,
) -> FastAPI:
    """The app; its thread starts with it and is waited for when it ends.

    Args:
        embedder: The model, or what loads it: then the app answers at once, and 503 until the model is there.
        index: What is searched; made with the same model.
        settings: What is allowed.
        name: What requests call the model; by default as it calls itself.

    Raises:
        ValueError: If the name has neither a letter nor a digit.
    """
    check_name(name)
    load = embedder if callable(embedder) else lambda: embedder
    settings = settings or Settings()
    service = Service(load, index, settings, name)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="virtue",
        version=virtue.__version__,
        description="Embeddings of texts, pictures and pointed-at things; masks, search and ranking.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    add_handlers(app)
    app.add_middleware(Guard, settings=settings, is_stopping=lambda: service.state == "stopping")
    app.add_middleware(Counted, metrics=service.metrics)
    for routes in (embeddings, images, search, gallery, meta):
        app.include_router(routes.router)
    meta.add_page(app)
    return app
