"""`/v1/gallery`: the pictures of the index."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from virtue.images import ImageError
from virtue.server.errors import ApiError
from virtue.server.files import MAX_SIDE, image_address
from virtue.server.routes.failures import LATE, NOT_THERE, OUT_OF_RANGE, PRIVATE, failures, no_index, picture_answer
from virtue.server.routes.images import Size
from virtue.server.schemas import Gallery
from virtue.server.service import Deadline, ServiceOf

CACHED = "private, max-age=300, stale-while-revalidate=86400"
"""How long a browser shows a picture without asking, and for how long it may show it while it asks."""

router = APIRouter(tags=["gallery"])


@router.get(
    "/v1/gallery",
    response_model=Gallery,
    responses=failures(*PRIVATE, LATE, no_index(), OUT_OF_RANGE),
    summary="List the index's pictures",
)
async def gallery(
    service: ServiceOf,
    deadline: Deadline,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1, description="How many to leave out.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
) -> dict[str, Any]:
    """Some of the pictures, in the order of their paths, and how many there are in all."""
    if service.files is None:
        raise no_index()
    files = await service.aside(service.files.listed, deadline=deadline)
    data = [
        {
            "path": path,
            "bytes": file.nbytes,
            "width": file.width,
            "height": file.height,
            "image": image_address(path),
        }
        for path, file in islice(files.items(), offset, offset + limit)
    ]
    return {"total": len(files), "offset": offset, "data": data}


@router.get(
    "/v1/gallery/image",
    response_class=Response,
    responses={
        200: picture_answer("The picture.") | {"headers": {"ETag": {"schema": {"type": "string"}}}},
        304: {"description": "It is still what If-None-Match names."},
        **failures(*PRIVATE, LATE, no_index(), NOT_THERE, OUT_OF_RANGE),
    },
    summary="Show a picture of the index",
)
async def image(
    path: Annotated[str, Query(max_length=4096, description="As the gallery and the hits of a search have it.")],
    service: ServiceOf,
    deadline: Deadline,
    size: Size = MAX_SIDE,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The picture as JPEG. Only files that the index holds are shown."""
    if service.files is None:
        raise no_index()
    file, tag = await service.aside(service.files.shown, path, size, deadline=deadline)
    headers = {"Cache-Control": CACHED, "ETag": tag}
    if _names(if_none_match or "", tag):
        return Response(status_code=304, headers=headers)
    try:
        data = await service.decoding(
            service.files.thumbnail, file, tag, size, service.settings.max_pixels, deadline=deadline
        )
    except ImageError as error:
        raise ApiError(404, f"The picture cannot be shown: {path[:200]} is damaged or too large.", param="path",
                       code="unreadable_image") from error  # fmt: skip
    return Response(data, media_type="image/jpeg", headers=headers)


def _names(given: str, tag: str) -> bool:
    """Whether an `If-None-Match` names a tag; proxies make tags weak."""
    return given.strip() == "*" or tag in [one.strip().removeprefix("W/") for one in given.split(",")]
