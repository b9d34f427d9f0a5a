"""A run with samples of real pictures, and a review server of it, for tests."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import uvicorn
from PIL import Image, ImageDraw

from tests.curation.made import region, sample
from virtue.curation.decisions import Decision
from virtue.curation.review.app import create_app
from virtue.curation.review.edits import Check
from virtue.curation.review.queue import Queue
from virtue.curation.store import Curation


def made_run(folder: Path, count: int = 4, **changes: object) -> Curation:
    """A run of `count` samples, each of a picture of its own: a red box on blue."""
    (folder / "images").mkdir(parents=True)
    curation = Curation(folder / "run", make=True)
    curation.set_images({"made": folder / "images"})
    regions = [region(number, **changes) for number in range(count)]
    curation.add_regions(regions)
    for own in regions:
        picture = Image.new("RGB", (own.width, own.height), "navy")
        ImageDraw.Draw(picture).rectangle((4, 4, 39, 29), fill="red")
        if Path(own.image).name == own.image:
            picture.save(folder / "images" / own.image)
        curation.put_sample(sample(own))
    return curation


def written_anew(curation: Curation, region_id: str) -> None:
    """Puts other wrong captions into a sample that nobody looks at, as `--try-again wording` does."""
    before = curation.sample(region_id)
    curation.ask_rewrites({region_id: "The words tell."})
    others = tuple(replace(own, text=f"{own.text} at night") for own in before.distractors)
    assert curation.end_rewrite(region_id, replace(before, distractors=others))


def decision(number: int, region_id: str, reviewer: str, verdict: str, **changes: object) -> Decision:
    """A decision; its captions are given for an edit."""
    values: dict[str, object] = {
        "number": number,
        "key": None,
        "region_id": region_id,
        "reviewer": reviewer,
        "verdict": verdict,
        "reason": "",
        "captions": None,
        "made": "2026-01-02T03:04:05+00:00",
        "undone": False,
    }
    return Decision(**(values | changes))  # type: ignore[arg-type]


@contextmanager
def serving(
    curation: Curation, *, port: int = 0, share: float = 0.0, check: Check | None = None
) -> Iterator[tuple[str, int]]:
    """A review server in a thread; gives its address and port."""
    app = create_app(Queue(curation, share=share), check=check)
    with socket.create_server(("127.0.0.1", port)) as listening:
        config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        number = listening.getsockname()[1]
        try:
            yield f"http://127.0.0.1:{number}", number
        finally:
            server.should_exit = True
            thread.join(timeout=20)
