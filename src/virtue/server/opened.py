"""Open pictures: kept by what they show, until memory is needed for others.

Only the event loop calls these; the model's thread fills in the view of a picture that it was given.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PIL import Image

from virtue.server.errors import ApiError
from virtue.server.metrics import Metrics

if TYPE_CHECKING:
    from virtue.embedder import ImageView

PREFIX = "img_"


@dataclass(eq=False)
class Opened:
    """A picture.

    Attributes:
        id: Digest of its pixels: the same picture has the same id, however it was sent.
        image: RGB, upright.
        keeps: Whether the model shall keep what it has computed of it.
        view: That, once it was computed.
        users: How many requests are at work on it.
        nbytes: Memory that it holds.
    """

    id: str
    image: Image.Image = field(repr=False)
    keeps: bool = False
    view: ImageView | None = field(default=None, repr=False)
    users: int = 0
    nbytes: int = 0

    def __post_init__(self) -> None:
        """Counts the pixels."""
        self.nbytes = 3 * self.image.width * self.image.height

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, height = self.image.size
        return width, height

    def viewed(self, view: ImageView) -> ImageView:
        """Keeps what the model has computed."""
        self.view, self.nbytes = view, view.nbytes
        return view


class OpenImages:
    """The pictures that are open, least recently used first.

    Args:
        budget: Bytes for all of them together.
        metrics: Told of those that go.
    """

    def __init__(self, budget: int, metrics: Metrics) -> None:
        self.budget, self._metrics = budget, metrics
        self._opened: OrderedDict[str, Opened] = OrderedDict()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._opened)

    @property
    def nbytes(self) -> int:
        """Memory that they hold."""
        return sum(opened.nbytes for opened in list(self._opened.values()))

    def find(self, handle: str) -> Opened | None:
        """An open picture, if it is one; it counts as used."""
        opened = self._opened.get(handle)
        if opened is not None:
            self._opened.move_to_end(handle)
        return opened

    def get(self, handle: str, param: str | None = None) -> Opened:
        """An open picture.

        Raises:
            ApiError: 404 if it is not open, or no longer.
        """
        opened = self.find(handle)
        if opened is None:
            raise ApiError(
                404,
                f"No picture {handle[:80]} is open; open it, perhaps again, with POST /v1/images.",
                param=param,
                code="image_not_open",
            )
        return opened

    def add(self, opened: Opened) -> Opened:
        """Keeps a picture, or gives the one that is the same and open already."""
        known = self.find(opened.id)
        if known is not None:
            return known
        opened.keeps = True
        self._opened[opened.id] = opened
        return opened

    def remove(self, handle: str) -> None:
        """Forgets a picture.

        Raises:
            ApiError: 404 if it is not open.
        """
        del self._opened[self.get(handle, "id").id]

    @contextmanager
    def using(self, opened: Opened) -> Iterator[Opened]:
        """Keeps a picture from going while a request is at work on it; then makes room, if need be."""
        opened.users += 1
        try:
            yield opened
        finally:
            opened.users -= 1
            self.make_room()

    def make_room(self) -> None:
        """Forgets those that were not used for longest and are not in use, until the rest fits."""
        excess = self.nbytes - self.budget
        for opened in list(self._opened.values()):
            if excess <= 0:
                return
            if opened.users == 0:
                excess -= opened.nbytes
                del self._opened[opened.id]
                self._metrics.evictions.inc()


def picture_id(image: Image.Image) -> str:
    """The id of an RGB picture."""
    digest = hashlib.blake2b(f"{image.width} {image.height} ".encode(), digest_size=12)
    digest.update(image.tobytes())
    return PREFIX + digest.hexdigest()
