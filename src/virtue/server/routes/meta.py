"""What a server says of itself: its model, its health, its numbers, its documentation, and the page."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from virtue.server.curl import Served
from virtue.server.documentation import documentation
from virtue.server.errors import error_response
from virtue.server.metrics import CONTENT_TYPE
from virtue.server.openapi import describe
from virtue.server.routes.failures import FAILED, LOADING, OTHER_MODEL, PRIVATE, WRONG_SITE, failures
from virtue.server.schemas import Health, Model, Models
from virtue.server.service import Service, ServiceOf

router = APIRouter(tags=["server"])


@router.get("/v1/models", response_model=Models, responses=failures(*PRIVATE, LOADING), summary="List the model")
async def models(service: ServiceOf) -> dict[str, Any]:
    """The one model that is served."""
    return {"data": [_model(service)]}


@router.get(
    "/v1/models/{model:path}",
    response_model=Model,
    responses=failures(*PRIVATE, LOADING, OTHER_MODEL),
    summary="Describe the model",
)
async def model(model: str, service: ServiceOf) -> dict[str, Any]:
    """The model of this name, if it is served."""
    service.check_model(model)
    return _model(service)


def _model(service: Service) -> dict[str, Any]:
    embedder = service.embedder
    return {"id": service.model_name, "dimensions": embedder.dimension, "segments": embedder.model.sam is not None}


@router.get(
    "/health",
    response_model=Health,
    responses={
        **failures(WRONG_SITE, FAILED),
        503: {
            "model": Health,
            "description": "No requests are taken.",
            "content": {"application/json": {"example": {"status": "loading"}}},
        },
    },
    summary="Say whether requests are taken",
)
async def health(service: ServiceOf) -> JSONResponse:
    """`ok` with 200; `loading`, `stopping` or `failed` with 503."""
    state = service.state
    said = {"status": "ok" if state == "ready" else state}
    return JSONResponse(said, 200 if state == "ready" else 503)


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "The numbers.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **failures(*PRIVATE),
    },
    summary="Give numbers for Prometheus",
)
async def metrics(service: ServiceOf) -> Response:
    """Requests, latencies, the queue, batches and open pictures, in Prometheus' text form."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def add_page(app: FastAPI) -> None:
    """The page and its files, and the documentation."""
    package = Path(str(files("virtue.server")))
    folder = package / "static"

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request, service: ServiceOf) -> HTMLResponse:
        served = Served(
            str(request.base_url).rstrip("/"), service.settings.api_key is not None, service.index is not None
        )
        return HTMLResponse(documentation(app.openapi(), served))

    @app.get("/docs.css", include_in_schema=False)
    async def style() -> FileResponse:
        return FileResponse(package / "documentation.css", media_type="text/css")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        index = folder / "index.html"
        if not index.is_file():
            return error_response(404, "This server has no page; its routes are listed at /docs.", code="no_page")
        return FileResponse(index, media_type="text/html", headers={"Cache-Control": "no-cache"})

    describe(app, is_keyed=app.state.service.settings.api_key is not None)
    app.mount("/static", StaticFiles(directory=folder, check_dir=False), name="static")
