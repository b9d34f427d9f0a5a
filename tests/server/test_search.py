"""A search over HTTP finds what `Index.search` finds, for every form of query; ranking is the same similarity."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import numpy as np
import pytest

from tests.server.hostile import encoded
from tests.server.live import running
from tests.tiny import picture, tiny_embedder
from virtue.embedder import Embedder
from virtue.index import Hit, Index, RegionSettings, build
from virtue.items import Item
from virtue.prompts import Box, Mask, Point
from virtue.server import create_app
from virtue.server.errors import ApiError
from virtue.server.routes import search as routes
from virtue.server.service import SEARCHERS

EVERY_MASK = RegionSettings(grid=3, min_quality=0.0, min_area=0.0, max_area=1.0)
"""A random model doubts all that it sees."""

ASKED = picture(seed=9)
URL = f"data:image/png;base64,{base64.b64encode(encoded(ASKED)).decode()}"
THING = np.zeros((60, 80), dtype=bool)
THING[10:30, 20:50] = True
RLE = Mask(THING).to_rle()

QUERIES: dict[str, tuple[dict[str, Any], Item]] = {
    "words": ({"text": "a dog"}, Item(text="a dog")),
    "instruction": ({"text": "a dog", "instruction": "Find it."}, Item(text="a dog", instruction="Find it.")),
    "picture": ({"image": URL}, Item(image=ASKED)),
    "picture and words": ({"image": URL, "text": "wet"}, Item(image=ASKED, text="wet")),
    "points": (
        {"image": URL, "points": [[30, 20, 1], [5, 5, 0], [31, 21]]},
        Item(image=ASKED, prompt=Point(30, 20) + Point(5, 5, include=False) + Point(31, 21)),
    ),
    "box": ({"image": URL, "box": [20, 10, 50, 30]}, Item(image=ASKED, prompt=Box(20, 10, 50, 30))),
    "mask": ({"image": URL, "mask": RLE}, Item(image=ASKED, prompt=Mask(THING))),
    "everything": (
        {"image": URL, "mask": RLE, "box": [20, 10, 50, 30], "points": [[30, 20, 1]], "text": "wet"},
        Item(image=ASKED, prompt=Point(30, 20) + Box(20, 10, 50, 30) + Mask(THING), text="wet"),
    ),
}


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return tiny_embedder()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Index:
    """Four images, one of them in a folder, and what a random model takes for objects in them."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "inner").mkdir()
    for seed in range(3):
        picture(seed=seed).save(folder / f"{seed}.png")
    picture(160, 90, seed=3).save(folder / "inner" / "a&b.png")
    index = Index.create(folder, embedder, regions=EVERY_MASK)
    build(index, embedder)
    return index


@pytest.fixture(scope="module")
def server(embedder: Embedder, index: Index) -> Iterator[httpx2.Client]:
    with running(create_app(embedder, index)) as url, httpx2.Client(base_url=url, timeout=30) as client:
        yield client


def search(server: httpx2.Client, query: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    answer = server.post("/v1/search", json={"query": query, **more})
    assert answer.status_code == 200, answer.text
    hits: list[dict[str, Any]] = answer.json()["data"]
    return hits


def assert_hits(found: list[dict[str, Any]], index: Index, vector: Any, **more: Any) -> None:
    """The hits are the library's, field by field."""
    wanted = index.search(vector, **more)
    assert [hit["path"] for hit in found] == [hit.path for hit in wanted]
    for hit, other in zip(found, wanted, strict=True):
        assert hit["similarity"] == pytest.approx(other.similarity, abs=1e-5)
        assert (hit["kind"], hit["width"], hit["height"]) == (other.kind, other.width, other.height)
        assert hit["box"] == (None if other.box is None else list(other.box))
        assert hit["mask"] == other.rle
        assert (hit["outline"] is None) == (other.rle is None)


@pytest.mark.parametrize("name", QUERIES)
def test_a_search_is_that_of_the_library(server: httpx2.Client, embedder: Embedder, index: Index, name: str) -> None:
    query, item = QUERIES[name]
    assert_hits(search(server, query), index, embedder.encode(item), top_k=20)


def test_an_open_picture_is_searched_with_like_one_that_is_sent(server: httpx2.Client) -> None:
    handle = server.post("/v1/images", json={"image": URL}).json()["id"]
    for name in ("picture", "points", "box", "mask", "everything"):
        query = QUERIES[name][0]
        opened, sent = (search(server, query | {"image": image}) for image in (handle, URL))
        assert [hit["path"] for hit in opened] == [hit["path"] for hit in sent]
        similarities = [[hit["similarity"] for hit in hits] for hits in (opened, sent)]
        np.testing.assert_allclose(*similarities, atol=1e-5)


@pytest.mark.parametrize("top_k", [1, 3, 1000])
def test_so_many_hits_at_most(server: httpx2.Client, embedder: Embedder, index: Index, top_k: int) -> None:
    found = search(server, {"text": "a dog"}, top_k=top_k)
    assert len(found) == min(top_k, len(index))
    assert_hits(found, index, embedder.encode("a dog"), top_k=top_k)


@pytest.mark.parametrize("top_k", [0, -1, 1001, 2.5, "3"])
def test_other_numbers_of_hits_are_refused(server: httpx2.Client, top_k: Any) -> None:
    answer = server.post("/v1/search", json={"query": {"text": "a dog"}, "top_k": top_k})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "top_k")


def test_kind_and_filter(server: httpx2.Client, embedder: Embedder, index: Index) -> None:
    vector = embedder.encode("a dog")
    images = search(server, {"text": "a dog"}, kind="image")
    assert {hit["kind"] for hit in images} == {"image"} and len(images) == 4
    regions = search(server, {"text": "a dog"}, kind="region", top_k=1000)
    assert {hit["kind"] for hit in regions} == {"region"} and len(regions) == len(index) - 4
    wide = search(server, {"text": "a dog"}, filter="width > 100 OR path = '1.png'", kind="image")
    assert {hit["path"] for hit in wide} == {"inner/a&b.png", "1.png"}
    assert_hits(wide, index, vector, filter="kind = 'image' AND (width > 100 OR path = '1.png')")


def test_hits_say_where_their_pictures_are(server: httpx2.Client) -> None:
    for hit in search(server, {"text": "a dog"}, kind="image"):
        assert not hit["path"].startswith("/") and ".." not in hit["path"]
        shown = server.get(hit["image"])
        assert (shown.status_code, shown.headers["content-type"]) == (200, "image/jpeg")


def test_a_gallery_lists_the_images(server: httpx2.Client) -> None:
    listed = server.get("/v1/gallery", params={"offset": 1, "limit": 2}).json()
    assert (listed["total"], listed["offset"]) == (4, 1)
    assert [one["path"] for one in listed["data"]] == ["1.png", "2.png"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({}, "query"),
        ({"text": " "}, "query"),
        ({"text": "a dog", "points": [[1, 1]]}, "query.image"),
        ({"image": URL, "points": [[500, 1]]}, "query.points"),
        ({"image": URL, "points": [[1, 1, 0]]}, "query.points"),
        ({"image": URL, "box": [5, 5, 1, 1]}, "query.box"),
        ({"image": URL, "mask": {"size": [6, 8], "counts": [0, 48]}}, "query.mask"),
        ({"image": "img_0", "points": [[1, 1]]}, "query.image"),
    ],
)
def test_queries_that_make_no_sense(server: httpx2.Client, query: dict[str, Any], param: str) -> None:
    answer = server.post("/v1/search", json={"query": query})
    assert (answer.status_code, answer.json()["error"]["param"]) == (404 if "img_0" in str(query) else 400, param)


def test_a_ranking_is_the_similarity_with_and_without_the_visual_prompt(
    server: httpx2.Client, embedder: Embedder
) -> None:
    texts = ["a dog", "a cat", "a dog", "rain"]
    body = {"query": {"image": URL, "points": [[30, 20, 1]]}, "candidates": texts}
    rows = server.post("/v1/rank", json=body).json()["data"]
    candidates = embedder.encode(texts)
    for field, prompt in (("similarity", Point(30, 20)), ("similarity_without", None)):
        wanted = candidates @ embedder.encode(Item(image=ASKED, prompt=prompt))
        np.testing.assert_allclose([row[field] for row in rows], wanted, atol=1e-5)
    assert [row["text"] for row in rows] == texts


def test_without_an_index_there_is_nothing_to_search(embedder: Embedder) -> None:
    with running(create_app(embedder)) as url, httpx2.Client(base_url=url, timeout=30) as client:
        answers = [
            client.post("/v1/search", json={"query": {"text": "a dog"}}),
            client.get("/v1/gallery"),
            client.get("/v1/gallery/image", params={"path": "a.png"}),
            client.post("/v1/images", json={"index_path": "a.png"}),
        ]
        for answer in answers:
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_index")
            assert answer.json()["error"]["message"] == "This server has no index; start it with --index."


def test_long_searches_hold_up_nobody_else(server: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Semaphore(0), threading.Event()

    def slow(hit: Hit) -> dict[str, Any]:
        begun.release()
        assert go.wait(30)
        return made(hit)

    made = routes._hit
    monkeypatch.setattr(routes, "_hit", slow)
    with ThreadPoolExecutor(4) as pool:
        searches = [pool.submit(search, server, {"text": "a dog"}) for _ in range(4)]
        for _ in range(SEARCHERS):
            assert begun.acquire(timeout=30)
        try:
            assert server.post("/v1/embeddings", json={"input": "a dog"}).status_code == 200
            assert server.post("/v1/mask", json={"image": URL, "box": [0, 0, 80, 60]}).status_code == 200
            assert not any(one.done() for one in searches)
        finally:
            go.set()
        assert all(one.result() for one in searches)


def test_a_search_ends_when_its_time_is_up(embedder: Embedder, index: Index) -> None:
    with pytest.raises(ApiError, match="took longer"):
        routes._hits(index, embedder.encode("a dog"), 20, None, time.monotonic() - 1)
