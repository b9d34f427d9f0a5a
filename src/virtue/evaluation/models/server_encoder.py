"""A server that speaks OpenAI's `POST /v1/embeddings` as an encoder.

Texts go as lists in `input`. An item with a picture is a request of its own in the form that vLLM takes: `messages`
with one user message, whose content is the picture as a data URL (PNG, so no pixel changes), then the text. The visual
prompt is a content part of type "visual_prompt" that this project's own server reads and others do not know, so it is
sent only to a server that is said to understand it. An item's instruction stands before its text, after it a space.

A few requests are in flight at a time. What may pass (429, 5xx, a connection that breaks or takes too long) is asked
again, later each time, and not before the server's `Retry-After` has passed. Redirects are not followed: the API key
would go along.

Letters: N items, D dimensions.
"""

from __future__ import annotations

import base64
import binascii
import email.utils
import hashlib
import http.client
import io
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import IO, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from virtue.images import open_image
from virtue.items import Item
from virtue.prompts import VisualPrompt, as_visual_prompt

FIRST_WAIT = 1.0
"""Seconds before a request is made again; doubled each time."""

LONGEST_WAIT = 60.0
"""Seconds at most between two tries, even if the server asks for more."""

_REFUSED = (400, 413, 422)
"""What a server answers because of what it was given."""

Vectors = NDArray[np.float32]


class ServerError(RuntimeError):
    """A server that cannot be reached, refuses to serve, or answers what makes no sense."""


class ServerEncoder:
    """A model behind an HTTP server.

    Args:
        base_url: What stands before `/embeddings`, such as "http://127.0.0.1:8000/v1".
        model: The model's name, as the server knows it.
        api_key: Sent as a bearer token; by default what `OPENAI_API_KEY` holds, if anything.
        dimensions: Ask for so many dimensions, of models that can be truncated.
        visual_prompts: Whether the server reads visual prompts; where not, items that have one are refused.
        in_flight: Requests at a time.
        timeout: Seconds that a request may wait for its answer to go on.
        retries: How often a request is made again.

    Raises:
        ValueError: If the address is no http or https URL, or a number is out of range.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        dimensions: int | None = None,
        visual_prompts: bool = False,
        in_flight: int = 4,
        timeout: float = 120.0,
        retries: int = 5,
    ) -> None:
        self.base_url = _checked_url(base_url)
        if not model:
            raise ValueError("A server's model needs a name.")
        if in_flight < 1 or timeout <= 0 or retries < 0 or (dimensions is not None and dimensions < 1):
            raise ValueError(
                "in_flight and dimensions are at least 1, timeout is above 0, and retries are not negative."
            )
        self.model = model
        self.dimensions = dimensions
        self.visual_prompts = visual_prompts
        self.in_flight = in_flight
        self.timeout = timeout
        self.retries = retries
        key = api_key if api_key is not None else os.environ.get("OPENAI_API_KEY", "")
        self._api_key = key.strip()  # a key with a line's end is refused later in words that repeat it
        self._opener = urllib.request.build_opener(_NoRedirects)

    @property
    def name(self) -> str:
        """Address and model, as `load_encoder` takes them."""
        return f"{self.base_url}#{self.model}"

    @property
    def fingerprint(self) -> str:
        """Hex digest of address, model and dimensions: that the weights behind them changed is not seen."""
        what = json.dumps([self.base_url, self.model, self.dimensions])
        return hashlib.blake2b(what.encode(), digest_size=16).hexdigest()

    def encode_query(self, items: Sequence[Item], *, batch_size: int = 32) -> Vectors:
        """Embeddings of items, (N, D); the protocol knows no difference between queries and documents.

        Args:
            items: What is embedded.
            batch_size: Texts of a request.

        Raises:
            ServerError: If the server cannot be reached, fails, or answers what does not fit.
            ValueError: If the server refuses an item (400, 413, 422), an item has a visual prompt and the server reads
                none, or a picture cannot be opened.
        """
        refused = next((item for item in items if item.prompt is not None), None)
        if refused is not None and not self.visual_prompts:
            raise ValueError(
                "The server is not said to read visual prompts: choose a strategy such as box-in-text or crop, or set "
                "visual_prompts=True."
            )
        groups = list(_groups(items, batch_size))
        stop = threading.Event()
        pool = ThreadPoolExecutor(self.in_flight, thread_name_prefix="virtue-server")
        try:
            # A picture is opened by the thread that sends it, so no more are in memory than requests in flight.
            asked = [pool.submit(self._embed, [items[place] for place in group], stop) for group in groups]
            for done in as_completed(asked):
                done.result()  # the first failure ends it, whichever request it is of
        finally:
            stop.set()  # those that wait for their next try need not
            pool.shutdown(cancel_futures=True)
        return self._placed([done.result() for done in asked], groups, len(items))

    encode_document = encode_query

    def _placed(self, answers: Sequence[Vectors], groups: Sequence[Sequence[int]], count: int) -> Vectors:
        widths = {answer.shape[1] for answer in answers}
        if len(widths) > 1:
            raise ServerError(
                f"The server answered embeddings of {' and of '.join(map(str, sorted(widths)))} dimensions."
            )
        out = np.empty((count, widths.pop() if widths else 0), dtype=np.float32)
        for places, answer in zip(groups, answers, strict=True):
            out[places] = answer
        return out

    def _embed(self, items: Sequence[Item], stop: threading.Event) -> Vectors:
        """Embeddings of the items of one request, (N, D)."""
        body: dict[str, Any] = {"model": self.model, "encoding_format": "base64"}
        if self.dimensions is not None:
            body["dimensions"] = self.dimensions
        if items[0].image is None:
            body["input"] = [_words(item) for item in items]
        else:
            body["messages"] = [{"role": "user", "content": _content(items[0])}]
        answer = self._post(json.dumps(body).encode(), stop)
        try:
            return _vectors(answer, len(items))
        except ValueError as error:
            raise ServerError(f"The server answered what is no list of embeddings: {error}") from error

    def _post(self, body: bytes, stop: threading.Event) -> bytes:
        """The body of the answer, asked for again while there is hope."""
        for attempt in range(self.retries + 1):
            try:
                return self._ask(body)
            except _PassingError as error:
                wait = max(FIRST_WAIT * 2**attempt, error.asked_wait)
                if attempt == self.retries or _waited(stop, min(wait, LONGEST_WAIT)):
                    raise ServerError(str(error)) from error
        raise AssertionError("The last attempt returns or raises.")

    def _ask(self, body: bytes) -> bytes:
        """The body of the answer to one request.

        Raises:
            _PassingError: If it failed in a way that may pass.
            ServerError: If it failed in another way.
            ValueError: If the server refuses what the items are.
        """
        headers = {"Content-Type": "application/json", "User-Agent": "virtue"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        request = urllib.request.Request(f"{self.base_url}/embeddings", body, headers)
        try:
            with self._opener.open(request, timeout=self.timeout) as answer:
                whole: bytes = answer.read()
                return whole
        except urllib.error.HTTPError as error:
            with error:
                said = _message(error)
            sentence = f"The server answered {error.code} {error.reason}{f': {said}' if said else '.'}"
            if error.code == 429 or error.code >= 500:
                raise _PassingError(sentence, _retry_after(error.headers.get("Retry-After"))) from error
            raise (ValueError if error.code in _REFUSED else ServerError)(sentence) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise _PassingError(
                f"{self.base_url} cannot be reached: {str(reason) or type(reason).__name__}."
            ) from error


class _PassingError(Exception):
    """A failure after which the same request may succeed, and after how many seconds at the earliest."""

    def __init__(self, sentence: str, asked_wait: float = 0.0) -> None:
        super().__init__(sentence)
        self.asked_wait = asked_wait


def _waited(stop: threading.Event, seconds: float) -> bool:
    """Waits, unless another request fails for good; whether one has."""
    return stop.wait(seconds)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect to be the error that it is."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        """Follows nothing."""


def _checked_url(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"A server's address is of the form http://host:8000/v1, not {base_url}.")
    if "@" in parts.netloc:
        raise ValueError(f"The address of {parts.hostname} holds a user name or password; give an API key instead.")
    return base_url.rstrip("/").removesuffix("/embeddings")


def _groups(items: Sequence[Item], batch_size: int) -> Iterator[list[int]]:
    """Places of the items that share a request: texts together, each picture alone."""
    texts = [place for place, item in enumerate(items) if item.image is None]
    for start in range(0, len(texts), batch_size):
        yield texts[start : start + batch_size]
    yield from ([place] for place, item in enumerate(items) if item.image is not None)


def _words(item: Item) -> str:
    return " ".join(part for part in (item.instruction, item.text) if part)


def _content(item: Item) -> list[dict[str, Any]]:
    """The content parts of an item with a picture."""
    assert item.image is not None
    picture = open_image(item.image)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}}]
    if item.prompt is not None:
        parts.append(_visual_prompt(as_visual_prompt(item.prompt, *picture.size)))
    if words := _words(item):
        parts.append({"type": "text", "text": words})
    return parts


def _visual_prompt(prompt: VisualPrompt) -> dict[str, Any]:
    """A visual prompt as a content part, source pixels."""
    part: dict[str, Any] = {"type": "visual_prompt"}
    if prompt.points:
        part["points"] = [[point.x, point.y, int(point.include)] for point in prompt.points]
    if prompt.box is not None:
        part["box"] = [prompt.box.x1, prompt.box.y1, prompt.box.x2, prompt.box.y2]
    if prompt.mask is not None:
        part["mask"] = prompt.mask.to_rle()
    return part


def _vectors(answer: bytes, count: int) -> Vectors:
    """The embeddings of an answer in the order of what was asked, (N, D).

    Raises:
        ValueError: If there are not as many, or they are no embeddings of one length.
    """
    try:
        entries = json.loads(answer)["data"]
        rows = {int(entry["index"]): _row(entry["embedding"]) for entry in entries}
    except (KeyError, TypeError, ValueError, RecursionError, binascii.Error) as error:
        raise ValueError(_shortened(answer.decode(errors="replace"))) from error
    if len(entries) != count:
        raise ValueError(f"there are {len(entries)} for {count} inputs.")
    if sorted(rows) != list(range(count)):
        raise ValueError(f"it does not have each index once, from 0 to {count - 1}.")
    lengths = {len(row) for row in rows.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"they have {', '.join(map(str, sorted(lengths)))} dimensions.")
    return np.stack([rows[place] for place in range(count)])


def _row(embedding: object) -> Vectors:
    """One embedding, (D,): base64 of little-endian float32, or numbers where a server does not know that form."""
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4").astype(np.float32)
    if not isinstance(embedding, list):
        raise TypeError("An embedding is a list of numbers or base64.")
    row: Vectors = np.array(embedding, dtype=np.float32)
    if row.ndim != 1:
        raise ValueError("An embedding is one list of numbers.")
    return row


def _message(error: urllib.error.HTTPError) -> str:
    """What the server says about an error, in one line."""
    try:
        text = error.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return ""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return _shortened(text)
    # OpenAI: {"error": {"message": ...}}; vLLM: {"message": ...}; FastAPI: {"detail": ...}.
    for key in ("error", "message", "detail"):
        if isinstance(value, Mapping) and key in value:
            value = value[key]
    return _shortened(value if isinstance(value, str) else json.dumps(value))


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:300]}..."


def _retry_after(value: str | None) -> float:
    """Seconds that a server asks to wait, given as such or as a date; 0 where it does not say."""
    try:
        return max(0.0, float(value or 0))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value or "").timestamp() - time.time())
    except ValueError:
        return 0.0
