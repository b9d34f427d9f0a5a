"""`/v1/gallery`: the pictures of the index."""

from __future__ import annotations

import hashlib
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from virtue.images import ImageError
from virtue.server.errors import ApiError
from virtue.server.files import MAX_SIDE, image_address, jpeg_of_file
from virtue.server.routes.images import Size, no_index
from virtue.server.schemas import Gallery
from virtue.server.service import Deadline, ServiceOf

router = APIRouter(tags=["gallery"])


@router.get("/v1/gallery", response_model=Gallery, summary="List the index's pictures")
async def gallery(
    service: ServiceOf,
    deadline: Deadline,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Some of the pictures, in the order of their paths, and how many there are in all."""
    if service.files is None:
        raise no_index()
    files = await service.aside(service.files.listed, deadline=deadline)
    page = islice(files.items(), offset, offset + limit)
    data = [{"path": path, "bytes": size, "image": image_address(path)} for path, (_, size) in page]
    return {"total": len(files), "offset": offset, "data": data}


@router.get("/v1/gallery/image", response_class=Response, summary="Show a picture of the index")
async def image(
    path: Annotated[str, Query(max_length=4096)],
    service: ServiceOf,
    deadline: Deadline,
    size: Size = MAX_SIDE,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The picture as JPEG. Only files that the index holds are shown."""
    if service.files is None:
        raise no_index()
    file = await service.aside(service.files.find, path, "path", deadline=deadline)
    changed = (await service.aside(service.files.listed, deadline=deadline)).get(path)
    tag = f'"{hashlib.blake2b(repr((path, changed, size)).encode("utf-8", "replace"), digest_size=12).hexdigest()}"'
    headers = {"Cache-Control": "private, max-age=60", "ETag": tag}
    if if_none_match == tag:
        return Response(status_code=304, headers=headers)
    try:
        data = await service.aside(jpeg_of_file, file, size, service.settings.max_pixels, deadline=deadline)
    except ImageError as error:
        raise ApiError(404, f"The picture cannot be shown: {path[:200]} is damaged or too large.", param="path",
                       code="unreadable_image") from error  # fmt: skip
    return Response(data, media_type="image/jpeg", headers=headers)
