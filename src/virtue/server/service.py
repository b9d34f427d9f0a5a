"""What the routes share: the model behind its queue, the open pictures, the index, and how pictures are read.

Pictures are decoded in a few threads of their own, and fetched in others, so neither stops the event loop; what is
quick goes to others again, so that it does not wait for them and with it the pictures that are decoded already.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import Depends, Request

from virtue import remote
from virtue.images import ImageError, open_image
from virtue.prompts import Box, Mask, Point, VisualPrompt, as_visual_prompt
from virtue.server.errors import ApiError, invalid
from virtue.server.files import IndexFiles
from virtue.server.jobs import Worker, late
from virtue.server.memory import Memory
from virtue.server.metrics import Metrics
from virtue.server.opened import PREFIX, Opened, OpenImages, picture_id
from virtue.server.schemas import Prompt, Query
from virtue.server.settings import Settings
from virtue.server.work import Ask, EmbedAsk, MaskAsk, OpenAsk, Work

if TYPE_CHECKING:
    from virtue.embedder import Embedder
    from virtue.index import Index

FETCHERS = 4
"""Pictures that are fetched from URLs at a time."""

HELPERS = 2
"""Threads for what takes too long for the event loop and less than decoding a picture."""

SEARCHERS = 2
"""Threads that search: many hits take longer than what the helpers do."""

LAST_BATCH = 10.0
"""Seconds for which a batch is waited for that nobody waits for any longer."""

NUMBER_BYTES = 24
"""What a number of an embedding takes as it is written."""

T = TypeVar("T")


class Service:
    """A model that is served.

    Args:
        load: Loads the model; called in the model's thread.
        index: The index that is searched.
        settings: What is allowed.
        name: What the model is called; by default as it calls itself.
    """

    def __init__(
        self, load: Callable[[], Embedder], index: Index | None, settings: Settings, name: str | None = None
    ) -> None:
        self.settings, self.index = settings, index
        self.files = None if index is None else IndexFiles(index)
        self.metrics = Metrics()
        self.opened = OpenImages(settings.opened_bytes, self.metrics)
        self.worker = Worker(
            lambda asks: self.work.compute(asks),
            prepare=self._prepare,
            metrics=self.metrics,
            queue_rows=settings.queue_rows,
            batch_rows=settings.batch_rows,
            wait=settings.wait,
        )
        self.memory = Memory(settings.queue_bytes, self.worker.retry_after)
        self._load, self._name = load, name
        self._work: Work | None = None
        self._is_stopping = False
        self._decoders = ThreadPoolExecutor(settings.decoders, thread_name_prefix="virtue-decode")
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="virtue-fetch")
        self._helpers = ThreadPoolExecutor(HELPERS, thread_name_prefix="virtue-aside")
        self._searchers = ThreadPoolExecutor(SEARCHERS, thread_name_prefix="virtue-search")
        self._add_gauges()

    def _prepare(self) -> None:
        embedder = self._load()
        if self.index is not None:
            self.index.check(embedder)
        self._work = Work(embedder)

    def _add_gauges(self) -> None:
        gauge = self.metrics.gauge
        gauge("virtue_queue_rows", "Embeddings and masks that wait or are worked on.", lambda: self.worker.rows)
        gauge("virtue_queue_bytes", "Memory that requests hold.", lambda: self.memory.nbytes)
        gauge("virtue_opened_images", "Open pictures.", lambda: len(self.opened))
        gauge("virtue_opened_bytes", "Memory of open pictures.", lambda: self.opened.nbytes)

    @property
    def work(self) -> Work:
        """The model at work.

        Raises:
            ApiError: 503 if it is still being loaded.
        """
        if self._work is None:
            raise ApiError(503, "The model is being loaded; try again soon.", code="loading", retry_after=2)
        return self._work

    @property
    def embedder(self) -> Embedder:
        """The model."""
        return self.work.embedder

    @property
    def model_name(self) -> str:
        """What requests call the model; a folder goes by its own name, without where it is."""
        return self._name or Path(self.embedder.name).name

    @property
    def state(self) -> str:
        """Whether it is "loading", "ready", "stopping" or "failed"."""
        return "stopping" if self._is_stopping else self.worker.state

    def start(self) -> None:
        """Starts to load the model."""
        self.worker.start()

    def stop(self) -> None:
        """Says that no more requests are taken; those that were are still answered."""
        self._is_stopping = True

    def close(self) -> None:
        """Ends the threads; by now everything is answered, or was given up."""
        self.stop()
        self.worker.stop()
        self.worker.join(LAST_BATCH)
        for pool in (self._decoders, self._fetchers, self._helpers, self._searchers):
            pool.shutdown(wait=True, cancel_futures=True)

    def check_model(self, name: str | None) -> None:
        """Refuses requests for another model.

        Raises:
            ApiError: 404 if it is another.
        """
        if name is not None and name != self.model_name:
            raise ApiError(
                404,
                f"The model {name[:80]!r} is not served here; {self.model_name!r} is.",
                param="model",
                code="model_not_found",
            )

    async def aside(self, function: Callable[..., T], *args: Any, deadline: float) -> T:
        """What a function gives that takes too long for the event loop, computed in a thread.

        Raises:
            ApiError: 504 if the deadline passes.
        """
        return await self._in(self._helpers, function, *args, deadline=deadline)

    async def searching(self, function: Callable[..., T], *args: Any, deadline: float) -> T:
        """What a function gives that searches the index, computed in one of the few threads for that.

        Raises:
            ApiError: 504 if the deadline passes.
        """
        return await self._in(self._searchers, function, *args, deadline=deadline)

    async def decoding(self, function: Callable[..., T], *args: Any, deadline: float) -> T:
        """What a function gives that decodes or encodes a picture, computed in one of the few threads for that.

        Raises:
            ApiError: 504 if the deadline passes.
        """
        return await self._in(self._decoders, function, *args, deadline=deadline)

    async def _in(self, pool: ThreadPoolExecutor, function: Callable[..., T], *args: Any, deadline: float) -> T:
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.get_running_loop().run_in_executor(pool, function, *args)
        except TimeoutError:
            raise late() from None

    # Pictures

    async def picture(self, source: str, param: str, deadline: float) -> Opened:
        """The picture that a request names: by id, as a data URL, or where that is allowed as a URL.

        Raises:
            ApiError: If there is none, or it cannot be read.
        """
        handle = source.removeprefix("virtue:")
        if handle.startswith(PREFIX):
            return self.opened.get(handle, param)
        scheme = source[:8].lower()
        if scheme.startswith("data:"):
            return await self.decoded(source, param, deadline)
        if not scheme.startswith(("http://", "https://")):
            raise invalid(
                f"{param} is the id of an open picture or a data URL, not {source[:40]!r}.", param, "no_image"
            )
        if not self.settings.allow_urls:
            raise invalid(
                f"{param} is a URL, and this server fetches none: send the picture as a data URL, or start the server "
                "with --allow-urls.",
                param,
                "urls_not_allowed",
            )
        fetched = await self._fetched(source, param, deadline)
        self.memory.hold(len(fetched))
        return await self.decoded(fetched, param, deadline)

    async def _fetched(self, url: str, param: str, deadline: float) -> bytes:
        settings = self.settings
        seconds = max(0.1, min(settings.url_timeout, deadline - time.monotonic()))
        try:
            return await self._in(
                self._fetchers,
                lambda: remote.fetch(url, max_bytes=settings.max_body, timeout=seconds),
                deadline=deadline,
            )
        except ImageError as error:
            raise invalid(str(error), param, "url_not_fetched") from error

    async def decoded(self, source: str | bytes | Path, param: str | None, deadline: float) -> Opened:
        """The picture in a data URL, in bytes, or in a file of the index.

        Raises:
            ApiError: If it is none, or requests hold too much already.
        """
        try:
            loose = await self.decoding(self._decode, source, deadline=deadline)
        except ImageError as error:
            raise invalid(str(error), param, "invalid_image") from error
        known = self.opened.find(loose.id)
        if known is None:
            self.memory.hold(loose.nbytes)
        return known or loose

    def _decode(self, source: str | bytes | Path) -> Opened:
        image = open_image(source, max_pixels=self.settings.max_pixels)
        image.load()
        return Opened(picture_id(image), image)

    async def open(self, picture: Opened, deadline: float) -> Opened:
        """Keeps a picture open, with what the model computes of it."""
        opened = self.opened.add(picture)
        with self.opened.using(opened):
            if opened.view is None:
                await self.worker.ask([OpenAsk(opened)], deadline=deadline)
        if opened.nbytes > self.opened.budget:
            raise ApiError(
                413, f"The open picture takes {opened.nbytes:,} bytes, more than the {self.opened.budget:,} there are.",
                code="picture_too_large",
            )  # fmt: skip
        return opened

    async def visual_prompt(self, given: Prompt, picture: Opened, place: str, deadline: float) -> VisualPrompt | None:
        """The visual prompt of a request, known to fit its picture; None if there is none.

        Args:
            given: The request.
            picture: The picture.
            place: What stands before the fields' names in errors, such as "query.".
            deadline: When to give up.

        Raises:
            ApiError: If it makes no sense.
        """
        if given.points is None and given.box is None and given.mask is None:
            return None
        if self.embedder.model.sam is None and not self._in_words(given):
            raise invalid("This model has no segmentation stream, so it takes no visual prompts.", f"{place}points")
        try:
            if given.mask is None:
                return _prompt(given, picture.size)
            return await self.aside(_prompt, given, picture.size, deadline=deadline)
        except ValueError as error:
            named = next(name for name in ("mask", "box", "points") if getattr(given, name) is not None)
            raise invalid(str(error), f"{place}{named}", "invalid_visual_prompt") from error

    def _in_words(self, given: Prompt) -> bool:
        template = self.embedder.processor.config.template
        is_box = given.box is not None and given.points is None and given.mask is None
        return is_box if template == "vlm2vec" else template == "released" and given.mask is None

    # Embeddings

    async def query(self, query: Query, deadline: float) -> EmbedAsk:
        """A query as the model is asked it.

        Raises:
            ApiError: If it makes no sense.
        """
        self.check_text(query.text, "query.text")
        self.check_text(query.instruction, "query.instruction")
        if query.image is None:
            if query.points is not None or query.box is not None or query.mask is not None:
                raise invalid(
                    "A visual prompt needs the picture it points into; give it as query.image.", "query.image"
                )
            if query.text is None or not query.text.strip():
                raise invalid("A query needs words or a picture; give query.text or query.image.", "query")
            return EmbedAsk(text=query.text, instruction=query.instruction)
        picture = await self.picture(query.image, "query.image", deadline)
        prompt = await self.visual_prompt(query, picture, "query.", deadline)
        return EmbedAsk(query.text or None, picture, prompt, query.instruction)

    def check_text(self, text: str | None, param: str) -> None:
        """Refuses texts that no model reads.

        Raises:
            ApiError: If it is too long, or holds what is no text.
        """
        if text is None:
            return
        if len(text) > self.settings.max_text:
            raise invalid(f"A text has {self.settings.max_text:,} characters at most, not {len(text):,}.", param,
                          "text_too_long")  # fmt: skip
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise invalid(
                f"{param} holds half of a surrogate pair, which is no character.", param, "invalid_text"
            ) from error
        if "<|image_pad|>" in text:
            raise invalid("A text may not hold '<|image_pad|>'; send the picture beside it.", param, "invalid_text")

    async def answers(self, asks: Sequence[Ask], deadline: float) -> list[Any]:
        """What the model answers.

        Raises:
            ApiError: If it takes no more, is too late, or an ask makes no sense.
        """
        pictures = {ask.picture.id: ask.picture for ask in asks if ask.picture is not None}
        self.memory.hold(sum(self._weight(ask) for ask in asks))
        for picture in pictures.values():
            picture.users += 1
        try:
            return await self.worker.ask(asks, deadline=deadline)
        except ValueError as error:
            raise invalid(str(error)) from error
        finally:
            for picture in pictures.values():
                picture.users -= 1
            self.opened.make_room()

    def _weight(self, ask: Ask) -> int:
        """Bytes that an ask and its answer hold, beside the picture."""
        if isinstance(ask, OpenAsk):
            return 0
        given = 0 if ask.prompt is None or ask.prompt.mask is None else ask.prompt.mask.array.nbytes
        if isinstance(ask, MaskAsk):
            width, height = ask.picture.size
            return given + min(width * height, (ask.longest or max(width, height)) ** 2)
        return given + 4 * len(ask.text or "") + NUMBER_BYTES * self.embedder.dimension


def _prompt(given: Prompt, size: tuple[int, int]) -> VisualPrompt:
    points = []
    for number, (x, y, *label) in enumerate(given.points or []):
        if label and label[0] not in (0, 1):
            raise ValueError(f"The label of point {number} is 1 on the thing or 0 beside it, not {label[0]:g}.")
        points.append(Point(x, y, include=not label or label[0] == 1))
    mask = None
    if given.mask is not None:
        if given.mask.size != [size[1], size[0]]:
            height, width = given.mask.size
            raise ValueError(f"The mask is {width} x {height} but the image is {size[0]} x {size[1]} (width first).")
        mask = Mask.from_rle(given.mask.model_dump())
    box = None if given.box is None else Box(*given.box)
    return as_visual_prompt(VisualPrompt(tuple(points), box, mask), *size)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _deadline(request: Request) -> float:
    deadline: float = request.state.deadline
    return deadline


ServiceOf = Annotated[Service, Depends(_service)]
Deadline = Annotated[float, Depends(_deadline)]
