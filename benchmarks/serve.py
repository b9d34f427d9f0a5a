"""The server under load, and what an open image saves, over HTTP: `python benchmarks/serve.py [SECTION ...]`.

load      64 clients at once for five minutes, each asking for texts, images, visual prompts on open images, masks and
          searches at random: how long each takes, what fails (nothing may, but for "come back later", 429), and whether
          the server's memory stays flat
nano      the second and later visual prompts on an image against the first, which the image has to be opened for; and
          the preview of a mask on a phone's photograph, as the page asks for it while the pointer moves
released  the same at SAM-2.1 base-plus and the widths of Qwen2-VL-2B: random weights, few layers

All traffic stays on this machine's loopback address. In `load` the server is a process of its own, started as a user
starts it; in the others it runs in this one. It ends with exit code 1 if a bar is missed.
"""

import argparse
import base64
import contextlib
import http.client
import io
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch
from embed import noise
from shapes import WORDS, released
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from virtue.commands.samples import write_samples
from virtue.embedder import Embedder
from virtue.index import Index, RegionSettings, build
from virtue.model import VirtueModel, VirtueProcessor
from virtue.training.architecture import VOCABULARY, nano_tokenizer

OPEN_IMAGES = 16  # that the clients ask about in turn
MEMORY_BAR = 1.1  # times the memory at the end may be that at the start
TIMES_BAR = 5  # a later prompt is faster than the first, at least
PHOTOGRAPH = (1280, 960)
LARGE = (4000, 3000)  # a phone's photograph
PREVIEW = 1024  # pixels of the page's previews
PREVIEW_BAR = 100  # ms in which one has to be there
PATIENCE = 600  # seconds that an answer may take: the released shapes are slow on a busy machine
LAYERS, BLOCKS = 2, 2  # of the language model's 28 and the vision tower's 32


def main() -> None:
    """Runs the sections asked for, all by default."""
    parser = argparse.ArgumentParser(description="The server under load.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=300, help="of load")
    parser.add_argument("--threads", type=int, default=2, help="that torch computes with")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    torch.set_num_threads(options.threads)
    passed = True
    for name in options.sections or SECTIONS:
        print(f"\n{name}", flush=True)
        passed &= SECTIONS[name](options)
    sys.exit(0 if passed else 1)


# Load


def load(options: argparse.Namespace) -> bool:
    """Section `load`."""
    with tempfile.TemporaryDirectory() as folder:
        images = sample_index(Path(folder) / "images")
        with started("--index", str(images), "--device", "cpu", threads=options.threads) as (process, port):
            handles = [open_image(port, noise(320 + 16 * number, 256, number)) for number in range(OPEN_IMAGES)]
            memory = Memory(process)
            clients = [Client(port, number, handles, options.seconds) for number in range(options.clients)]
            for thread in (memory, *clients):
                thread.start()
            for client in clients:
                client.join()
            memory.stop.set()
            memory.join()
    return report(clients, memory, options.seconds)


class Client(threading.Thread):
    """Asks one thing after the other over one connection until its time is up, and notes how each went."""

    def __init__(self, port: int, number: int, handles: list[str], seconds: float) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.random = random.Random(number)
        self.asks = Asks(self.random, handles)
        self.end = time.monotonic() + seconds
        self.seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self.refused: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    def run(self) -> None:
        """Asks until the end."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        while time.monotonic() < self.end:
            kind = self.random.choices(list(KINDS), list(KINDS.values()))[0]
            path, body = getattr(self.asks, kind)()
            begun = time.perf_counter()
            try:
                status, answer, wait = ask(connection, path, body)
            except (OSError, http.client.HTTPException) as error:
                self.failures[f"{kind}: {type(error).__name__}"] += 1
                connection.close()
                continue
            self.note(kind, status, answer, time.perf_counter() - begun)
            time.sleep(min(wait, max(0.0, self.end - time.monotonic())))
        connection.close()

    def note(self, kind: str, status: int, answer: bytes, seconds: float) -> None:
        """Counts an answer."""
        if status == 200:
            self.seconds[kind].append(seconds)
        elif status == 429:
            self.refused[kind] += 1
        else:
            self.failures[f"{kind}: {status} {answer[:200].decode(errors='replace')}"] += 1


class Asks:
    """What a client may ask: for each kind the path and the body of a request.

    Args:
        chance: What is drawn from.
        handles: Images that are open.
    """

    def __init__(self, chance: random.Random, handles: list[str]) -> None:
        self.chance = chance
        self.handles = handles

    def texts(self) -> tuple[str, dict[str, Any]]:
        """One to eight texts."""
        return "/v1/embeddings", {"model": "nano", "input": [self.words() for _ in range(self.chance.randint(1, 8))]}

    def image(self) -> tuple[str, dict[str, Any]]:
        """A picture that the server has never seen."""
        size = self.chance.randrange(128, 512), self.chance.randrange(128, 512)
        picture = noise(*size, seed=self.chance.randrange(2**32))
        return "/v1/embeddings", messages({"type": "image_url", "image_url": {"url": data_url(picture)}})

    def prompt(self) -> tuple[str, dict[str, Any]]:
        """A point on an open image, with words or without."""
        part = {"type": "image_url", "image_url": {"url": f"virtue:{self.chance.choice(self.handles)}"}}
        text = [{"type": "text", "text": self.words()}] if self.chance.random() < 0.5 else []
        return "/v1/embeddings", messages(part, {"type": "visual_prompt", "points": self.points()}, *text)

    def mask(self) -> tuple[str, dict[str, Any]]:
        """The mask at a point of an open image."""
        return "/v1/mask", {"image": self.chance.choice(self.handles), "points": self.points()}

    def search(self) -> tuple[str, dict[str, Any]]:
        """By words, or by a thing in an open image."""
        if self.chance.random() < 0.5:
            return "/v1/search", {"query": {"text": self.words()}, "top_k": 10}
        image = self.chance.choice(self.handles)
        return "/v1/search", {"query": {"image": image, "points": self.points()}, "top_k": 10, "kind": "region"}

    def words(self) -> str:
        """Some words that `nano` knows."""
        return " ".join(self.chance.choices(WORDS, k=self.chance.randint(1, 12)))

    def points(self) -> list[list[float]]:
        """A place that every open image has."""
        return [[self.chance.uniform(0, 320), self.chance.uniform(0, 256), 1]]


KINDS = {"texts": 3, "image": 1, "prompt": 3, "mask": 3, "search": 2}
"""What is asked, and how often against the others."""


class Memory(threading.Thread):
    """The resident memory of a process, once a second until told to stop."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self.process = process
        self.stop = threading.Event()
        self.samples: list[int] = []

    def run(self) -> None:
        """Samples."""
        while not self.stop.wait(1):
            self.samples.append(self.process.memory_info().rss)

    def growth(self) -> tuple[float, float, float]:
        """Memory after a fifth of the time and at its end, bytes, and the one divided by the other."""
        fifth = max(1, len(self.samples) // 5)
        early, late = median(self.samples[fifth : 2 * fifth] or self.samples), median(self.samples[-fifth:])
        return early, late, late / early


def report(clients: list[Client], memory: Memory, seconds: float) -> bool:
    """Prints how it went; whether it went well."""
    failures = sum((client.failures for client in clients), Counter())
    refused = sum((client.refused for client in clients), Counter())
    for kind in KINDS:
        taken = [one for client in clients for one in client.seconds[kind]]
        p50, p95 = (1000 * np.percentile(taken, (50, 95))) if taken else (np.nan, np.nan)
        rate = len(taken) / seconds
        print(f"  {kind:<8}{len(taken):>8,} answered, {rate:6.1f} per second   p50 {p50:7.0f} ms   p95 {p95:7.0f} ms")
    early, late, growth = memory.growth()
    print(f"  429: {refused.total():,}; other failures: {failures.total():,} (bar: 0)")
    print(f"  memory {early / 1e6:,.0f} MB, at the end {late / 1e6:,.0f} MB: {growth:.3f} times (bar: {MEMORY_BAR})")
    for failure, count in failures.most_common(10):
        print(f"    {count:>6,} x {failure}")
    return not failures and growth <= MEMORY_BAR and all(client.seconds["texts"] for client in clients)


def sample_index(folder: Path) -> Path:
    """The demo's sample images, with an index of them and of their objects."""
    write_samples(folder)
    embedder = Embedder.from_pretrained("nano", device="cpu")
    build(Index.create(folder, embedder, regions=RegionSettings(grid=4, min_quality=0.5, keep=6)), embedder)
    return folder


@contextlib.contextmanager
def started(*arguments: str, threads: int) -> Iterator[tuple[psutil.Process, int]]:
    """`virtue serve` in a process of its own, ready to answer; gives the process and its port."""
    port = free_port()
    command = [sys.executable, "-m", "virtue", "serve", "--model", "nano", "--port", str(port), *arguments]
    environment = {**psutil.Process().environ(), "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_until_ready(port, lambda: process.poll() is None)
        yield psutil.Process(process.pid), port
    finally:
        process.terminate()
        process.wait(60)


# One open image


def open_against_first(embedder: Embedder, rounds: int, later: int, bar: float | None) -> bool:
    """What the first visual prompt on an image costs against each later one; whether the bar is met."""
    firsts: dict[str, list[float]] = {"prompt": [], "mask": []}
    laters: dict[str, list[float]] = {"prompt": [], "mask": []}
    with served_here(embedder) as port:
        for number in range(rounds + 1):  # the first warms up
            for kind in firsts:
                timing = timings(port, kind, noise(*PHOTOGRAPH, seed=2 * number + (kind == "mask")), later)
                if number:
                    firsts[kind].append(timing[0])
                    laters[kind].extend(timing[1:])
    met = True
    for kind, taken in firsts.items():
        first, after = median(taken), median(laters[kind])
        met &= bar is None or first >= bar * after
        words = "" if bar is None else f" (bar: {bar})"
        print(
            f"  {kind:<8}first {1000 * first:8.1f} ms, later {1000 * after:7.1f} ms: {first / after:.1f} times{words}"
        )
    return met


def timings(port: int, kind: str, picture: Any, later: int) -> list[float]:
    """Seconds of the first thing asked of a picture, opening it included, and of each later one."""
    url, asks = data_url(picture), Asks(random.Random(0), [])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    taken = []
    for _ in range(later + 1):
        begun = time.perf_counter()
        if not asks.handles:
            asks.handles = [answered(connection, "/v1/images", {"image": url})["id"]]
        answered(connection, *getattr(asks, kind)())
        taken.append(time.perf_counter() - begun)
    connection.close()
    return taken


def nano_views(options: argparse.Namespace) -> bool:
    """Section `nano`."""
    embedder = Embedder.from_pretrained("nano", device="cpu")
    met = open_against_first(embedder, 7, 10, TIMES_BAR)
    return preview_in_time(embedder, 40) and met


def preview_in_time(embedder: Embedder, count: int) -> bool:
    """How long the preview of a mask on a large photograph takes; whether the bar is met."""
    with served_here(embedder) as port:
        asks = Asks(random.Random(0), [open_image(port, noise(*LARGE, seed=0))])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        taken: dict[int | None, list[float]] = {PREVIEW: [], None: []}
        for size, seconds in taken.items():
            for _ in range(count):
                path, body = asks.mask()
                begun = time.perf_counter()
                answered(connection, path, body | {"size": size})
                seconds.append(1000 * (time.perf_counter() - begun))
        connection.close()
    p50, p95 = np.percentile(taken[PREVIEW], (50, 95))
    print(f"  preview of {PREVIEW} pixels on {LARGE[0]} x {LARGE[1]}: p50 {p50:.1f} ms, p95 {p95:.1f} ms "
          f"(bar: {PREVIEW_BAR}); whole masks {median(taken[None]):.1f} ms")  # fmt: skip
    return bool(p95 <= PREVIEW_BAR)


def released_views(options: argparse.Namespace) -> bool:
    """Section `released`."""
    torch.manual_seed(0)
    model = VirtueModel(released(layers=LAYERS, blocks=BLOCKS, vocabulary=VOCABULARY))
    pixels = {"shortest_edge": 4 * 28 * 28, "longest_edge": 1280 * 28 * 28}
    processor = VirtueProcessor(Qwen2VLImageProcessorPil(size=pixels), nano_tokenizer(iter(WORDS)), model.config)
    print(f"  {LAYERS} of 28 layers and {BLOCKS} of 32 blocks of Qwen2-VL-2B, all of SAM-2.1 base-plus")
    return open_against_first(Embedder(model, processor, name="random weights"), 2, 4, None)


@contextlib.contextmanager
def served_here(embedder: Embedder) -> Iterator[int]:
    """The server with this embedder, which it calls "nano" as `Asks` does, in a thread; gives its port."""
    import uvicorn

    from virtue.server import create_app
    from virtue.server.settings import Settings

    port, app = free_port(), create_app(embedder, settings=Settings(deadline=PATIENCE), name="nano")
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until_ready(port, thread.is_alive)
        yield port
    finally:
        server.should_exit = True
        thread.join(60)


# Requests


def ask(connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> tuple[int, bytes, float]:
    """Status and body of an answer, and how many seconds it asks to wait."""
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read(), float(answer.getheader("Retry-After", 0))


def answered(connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> Any:
    """The answer to a request that must succeed."""
    status, answer, _ = ask(connection, path, body)
    if status != 200:
        raise RuntimeError(f"{path} answered {status}: {answer.decode(errors='replace')}")
    return json.loads(answer)


def open_image(port: int, picture: Any) -> str:
    """The handle of a picture that is opened."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    with contextlib.closing(connection):
        handle: str = answered(connection, "/v1/images", {"image": data_url(picture)})["id"]
    return handle


def messages(*content: dict[str, Any]) -> dict[str, Any]:
    """The body of a multimodal request for an embedding."""
    return {"model": "nano", "messages": [{"role": "user", "content": list(content)}]}


def data_url(picture: Any) -> str:
    """A picture as a JPEG in a data URL."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def wait_until_ready(port: int, alive: Callable[[], bool]) -> None:
    """Waits until the server answers that all is well."""
    while alive():
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            with contextlib.closing(connection):
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
        time.sleep(0.1)
    raise RuntimeError("The server ended before it was ready.")


SECTIONS: dict[str, Callable[[argparse.Namespace], bool]] = {
    "load": load,
    "nano": nano_views,
    "released": released_views,
}


if __name__ == "__main__":
    main()
