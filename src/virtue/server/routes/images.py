"""`/v1/images` and `/v1/mask`: opens pictures, shows them, closes them, and previews what is meant in one."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Body, Query, Request, Response
from numpy.typing import NDArray
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from virtue.masks import bounding_box, outline, to_rle
from virtue.server.errors import ApiError, invalid, malformed
from virtue.server.files import MAX_SIDE, jpeg
from virtue.server.opened import Opened
from virtue.server.routes.examples import MASK, OPEN
from virtue.server.routes.failures import (
    ASKED,
    JSON_ONLY,
    LATE,
    NOT_OPEN,
    NOT_THERE,
    OUT_OF_RANGE,
    PRIVATE,
    SENT,
    failures,
    no_index,
    picture_answer,
)
from virtue.server.schemas import Deleted, MaskAnswer, MaskRequest, OpenImage, OpenRequest
from virtue.server.service import Deadline, Service, ServiceOf
from virtue.server.work import MaskAsk

router = APIRouter(tags=["images"])

_OPEN_FAILURES = failures(
    *PRIVATE,
    *ASKED,
    ApiError(
        415,
        "The content type text/plain is not read here; a picture is sent as multipart/form-data, as JSON, or by itself "
        "with its image/... type.",
        code="wrong_content_type",
    ),
    NOT_OPEN,
    NOT_THERE,
    no_index(),
    invalid("Give either image, a data URL, or index_path, a picture of the index.", "image"),
)

Size = Annotated[int, Query(ge=1, le=MAX_SIDE, description="Pixels of the longer side, at most.")]

_OPEN_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": OpenRequest.model_json_schema(), "examples": OPEN},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.post(
    "/v1/images",
    response_model=OpenImage,
    openapi_extra=_OPEN_BODY,
    responses=_OPEN_FAILURES,
    summary="Open a picture",
)
async def open_picture(request: Request, service: ServiceOf, deadline: Deadline) -> OpenImage:
    """Reads and encodes a picture once, so that each question about it is answered fast.

    The same picture gets the same id, however it is sent. It stays open until memory is needed for others.
    """
    picture = await _sent(request, service, deadline)
    opened = await service.open(picture, deadline)
    width, height = opened.size
    return OpenImage(id=opened.id, width=width, height=height, bytes=opened.nbytes)


async def _sent(request: Request, service: Service, deadline: float) -> Opened:
    """The picture that a request sends, in one of three ways."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return await _named(await request.body(), service, deadline)
    if kind == "multipart/form-data":
        return await service.decoded(await _file(request), "file", deadline)
    data = await request.body()
    if not data:
        raise invalid("The body is empty; it should be the bytes of a picture.", code="invalid_image")
    return await service.decoded(data, None, deadline)


async def _file(request: Request) -> bytes:
    async with request.form(max_files=1, max_fields=8) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise invalid("The form has no file called file; send it as in curl -F file=@street.jpg.", "file")
        return await file.read()


async def _named(body: bytes, service: Service, deadline: float) -> Opened:
    try:
        named = OpenRequest.model_validate_json(body)
    except ValidationError as error:
        raise malformed(error.errors()) from error
    if (named.image is None) == (named.index_path is None):
        raise invalid("Give either image, a data URL, or index_path, a picture of the index.", "image")
    if named.image is not None:
        return await service.picture(named.image, "image", deadline)
    assert named.index_path is not None
    if service.files is None:
        raise no_index()
    file = await service.aside(service.files.find, named.index_path, "index_path", deadline=deadline)
    return await service.decoded(file, "index_path", deadline)


@router.get(
    "/v1/images/{id}",
    response_class=Response,
    responses={200: picture_answer("The picture."), **failures(*PRIVATE, LATE, NOT_OPEN, OUT_OF_RANGE)},
    summary="Show an open picture",
)
async def shown(id: str, service: ServiceOf, deadline: Deadline, size: Size = MAX_SIDE) -> Response:
    """The picture as JPEG."""
    opened = service.opened.get(id, "id")
    data = await service.decoding(jpeg, opened.image, size, deadline=deadline)
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


@router.delete(
    "/v1/images/{id}",
    response_model=Deleted,
    responses=failures(*PRIVATE, *SENT, NOT_OPEN),
    summary="Close an open picture",
)
async def closed(id: str, service: ServiceOf) -> Deleted:
    """Forgets the picture."""
    service.opened.remove(id)
    return Deleted(id=id)


@router.post(
    "/v1/mask",
    response_model=MaskAnswer,
    responses=failures(
        *PRIVATE, *ASKED, JSON_ONLY, NOT_OPEN, invalid("Say what is meant; give points, box or mask.", "points")
    ),
    summary="Preview what is meant",
)
async def mask(
    body: Annotated[MaskRequest, Body(openapi_examples=MASK)], service: ServiceOf, deadline: Deadline
) -> dict[str, Any]:
    """The mask of what the model sees at points, a box or a mask.

    A picture that is sent as a data URL is opened by it, so the next preview is fast.
    """
    if service.embedder.model.sam is None:
        raise invalid("This model has no segmentation stream, so it draws no masks.", "image", "no_masks")
    picture = await service.picture(body.image, "image", deadline)
    prompt = await service.visual_prompt(body, picture, "", deadline)
    if prompt is None:
        raise invalid("Say what is meant; give points, box or mask.", "points")
    picture = service.opened.add(picture)
    (masked,) = await service.answers([MaskAsk(picture, prompt, body.size)], deadline)
    return await service.aside(_drawn, masked.mask, masked.quality, deadline=deadline)


def _drawn(found: NDArray[np.bool_], quality: float) -> dict[str, Any]:
    box = list(bounding_box(found)) if found.any() else None
    return {"mask": to_rle(found), "quality": quality, "box": box, "outline": outline(found)}
