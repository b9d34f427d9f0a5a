"""Images and names that mean harm, through every route that takes one: refused in a sentence, and nothing else is read.

The server really listens, so that what crashes it is seen, and it answers from a tiny model and an index of two images.
"""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from PIL import Image

from tests.server import hostile
from tests.server.live import running
from tests.tiny import picture, tiny_embedder
from virtue import remote
from virtue.index import Index, build
from virtue.server import Settings, create_app

SECRET = (250, 3, 7)
"""The colour of a picture that nobody may see."""

POINT = [[1, 1, 1]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An indexed folder, and beside its images what was never indexed: files, links, and a neighbour with a secret."""
    root = tmp_path_factory.mktemp("hostile")
    images = root / "images"
    (images / "inner").mkdir(parents=True)
    picture(seed=1).save(images / "one.png")
    picture(seed=2).save(images / "inner" / "two.png")
    embedder = tiny_embedder()
    build(Index.create(images, embedder), embedder)
    secret = Image.new("RGB", (40, 30), SECRET)
    secret.save(root / "secret.png")
    secret.save(images / "later.png")
    secret.save(images / ".virtue" / "hidden.png")
    (images / "link.png").symlink_to(root / "secret.png")
    (images / "out").symlink_to(root)
    return images


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[httpx2.Client]:
    """A client of a server with that index, which fetches no URLs."""
    with running(create_app(tiny_embedder(), Index.open(folder / ".virtue"))) as url:
        with httpx2.Client(base_url=url, timeout=30) as client:
            yield client


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def messages(*content: dict[str, Any]) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": list(content)}]}


def requests_with(image: str) -> list[tuple[str, dict[str, Any]]]:
    """A request to every route that takes an image in JSON."""
    return [
        ("/v1/images", {"image": image}),
        ("/v1/embeddings", messages({"type": "image_url", "image_url": {"url": image}})),
        ("/v1/mask", {"image": image, "points": POINT}),
        ("/v1/search", {"query": {"image": image}}),
        ("/v1/rank", {"query": {"image": image, "points": POINT}, "candidates": ["a dog"]}),
    ]


def assert_refused(answer: httpx2.Response, *statuses: int) -> str:
    """One of the statuses, OpenAI's form, one sentence that shows nothing of the inside; gives the sentence."""
    assert answer.status_code in (statuses or (400, 413, 415)), (answer.status_code, answer.text)
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    message: str = error["message"]
    assert message.endswith((".", "?")) and "\n" not in message and len(message) < 4000
    assert "Traceback" not in message and "site-packages" not in message
    return message


def assert_well(server: httpx2.Client) -> None:
    """The server still embeds."""
    answer = server.post("/v1/embeddings", json={"model": "tiny", "input": "a dog"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("name", hostile.refused())
def test_what_is_no_picture_is_refused_by_every_route(server: httpx2.Client, name: str) -> None:
    data = hostile.refused()[name]
    for kind in ("image/png", "image/jpeg"):
        assert_refused(server.post("/v1/images", files={"file": ("a.png", data, kind)}))
        assert_refused(server.post("/v1/images", content=data, headers={"Content-Type": kind}))
    for path, body in requests_with(data_url(data)):
        assert_refused(server.post(path, json=body))
    assert_well(server)


@pytest.mark.parametrize("name", hostile.harmless())
def test_what_is_hidden_in_a_picture_does_not_come_back(server: httpx2.Client, name: str) -> None:
    data = hostile.harmless()[name]
    answer = server.post("/v1/images", files={"file": ("<b>.svg", data, "image/svg+xml")})
    if answer.status_code == 415:  # said to be what it is not
        answer = server.post("/v1/images", files={"file": ("<b>.png", data, "image/png")})
    handle = answer.json()["id"]
    shown = server.get(f"/v1/images/{handle}")
    assert shown.headers["content-type"] == "image/jpeg"
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert hostile.SCRIPT.encode() not in shown.content and b"PK\x03\x04" not in shown.content
    image = Image.open(io.BytesIO(shown.content))
    assert image.size == (64, 64)
    assert not image.getexif()


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 701), (5000, 3)])
def test_pictures_of_odd_shapes_are_answered_or_refused(server: httpx2.Client, size: tuple[int, int]) -> None:
    data = hostile.encoded(Image.new("RGB", size, "red"))
    for path, body in requests_with(data_url(data)):
        body = {key: [[0.5, 0.5, 1]] if key == "points" else value for key, value in body.items()}
        answer = server.post(path, json=body)
        if answer.status_code != 200:
            assert_refused(answer)
    assert_well(server)


PLACES = [
    "../secret.png",
    "../../../../../../etc/passwd",
    "inner/../../secret.png",
    "./one.png/../../secret.png",
    "..%2fsecret.png",
    "%2e%2e/secret.png",
    "..\\secret.png",
    "....//secret.png",
    "link.png",
    "out/secret.png",
    "later.png",
    ".virtue/hidden.png",
    ".virtue",
    "inner",
    "",
    ".",
    "/",
    "one.png\0.jpg",
    "one.png/",
    "file:///etc/passwd",
    "C:\\one.png",
    "~/one.png",
    "' OR '1'='1",
    "one.png' OR path LIKE '%",
    "\U0001f415" * 5000,
    "\ud800",
]


@pytest.mark.parametrize("place", [*PLACES, "ABSOLUTE"], ids=range(len(PLACES) + 1))
def test_only_images_of_the_index_are_read(server: httpx2.Client, folder: Path, place: str) -> None:
    if place == "ABSOLUTE":
        place = str(folder.parent / "secret.png")
    try:
        quoted = quote(place)
    except UnicodeEncodeError:
        quoted = "%ed%a0%80"  # what is no Unicode, as bytes
    for path in (f"/v1/gallery/image?path={quoted}", f"/v1/gallery/image?path={quoted}&size=64"):
        assert_refused(server.get(path), 400, 404)
    body = _json({"index_path": place})
    answer = server.post("/v1/images", content=body, headers={"Content-Type": "application/json"})
    assert_refused(answer, 400, 404)


@pytest.mark.parametrize("place", ["one.png", "inner/two.png"])
def test_images_of_the_index_are_read(server: httpx2.Client, place: str) -> None:
    shown = server.get("/v1/gallery/image", params={"path": place})
    assert shown.status_code == 200
    assert Image.open(io.BytesIO(shown.content)).size == (80, 60)
    assert server.post("/v1/images", json={"index_path": place}).status_code == 200


@pytest.mark.parametrize("kind", ["absolute", "relative", "file", "handle", "handle with a path"])
def test_no_file_of_the_server_is_an_image(server: httpx2.Client, folder: Path, kind: str) -> None:
    secret = folder.parent / "secret.png"
    image = {
        "absolute": str(secret),
        "relative": "one.png",
        "file": secret.as_uri(),
        "handle": "virtue:../../secret.png",
        "handle with a path": f"virtue:{secret}",
    }[kind]
    for path, body in requests_with(image):
        message = assert_refused(server.post(path, json=body), 400, 404)
        assert "does not exist" not in message and "is a folder" not in message  # nor is it told what there is


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/..%2fapp.py"])
def test_the_page_is_all_that_is_served_of_the_package(server: httpx2.Client, path: str) -> None:
    answer = server.get(path)
    assert answer.status_code in (400, 404)
    assert "import" not in answer.text and "root:" not in answer.text


@pytest.mark.parametrize(
    "condition",
    [
        "1=1; DROP TABLE items",
        "path = (SELECT 1)",
        "no_such_column = 1",
        "read_csv('/etc/passwd')",
        "path LIKE",
        "'" * 999,
        "(" * 5000,
        "\0",
        "kind = 'image' OR " * 2000 + "1=1",
        "+".join(["1"] * 990) + ">0",  # ended the process
        "=".join(["1"] * 990),
        "NOT " * 490 + "TRUE",
        "length(repeat(path, 1000000)) > 0",  # a panic in Rust
        "lpad('a', 2000000000)='a'",
        "+".join(["width"] * 330) + ">0",  # took a quarter of a minute
    ],
    ids=range(15),
)
def test_filters_that_make_no_sense_are_refused(server: httpx2.Client, condition: str) -> None:
    answer = server.post("/v1/search", json={"query": {"text": "a dog"}, "filter": condition})
    assert_refused(answer)
    assert_well(server)


def test_a_filter_does_not_undo_the_kind(server: httpx2.Client) -> None:
    body = {"query": {"text": "a dog"}, "filter": "1=1) OR (1=1", "kind": "region"}
    answer = server.post("/v1/search", json=body)
    if answer.status_code == 200:
        assert answer.json()["data"] == []
    else:
        assert_refused(answer)


PROMPTS: list[dict[str, Any]] = [
    {"points": []},
    {"points": [[1, 1]] * 100_000},
    {"points": [[1, 1, 2]]},
    {"points": [[1, 1, 0]]},  # only excludes
    {"points": [["1", None, {}]]},
    {"points": [[1e308, 1e308, 1]]},
    {"points": [[-1, -1, 1]]},
    {"points": [[float("nan"), 1, 1]]},
    {"points": [[float("inf"), 1, 1]]},
    {"box": [0, 0, 0, 0]},
    {"box": [50, 50, 10, 10]},
    {"box": [0, 0, 1e9, 1e9]},
    {"box": [0, 0, 10]},
    {"mask": {"size": [60, 80], "counts": ""}},
    {"mask": {"size": [60, 80], "counts": "o" * 1000}},
    {"mask": {"size": [60, 80], "counts": "\x00\xff\u20ac"}},
    {"mask": {"size": [60, 80], "counts": [4800]}},
    {"mask": {"size": [60, 80], "counts": [-1, 4801]}},
    {"mask": {"size": [60, 80], "counts": [10**30, -(10**30), 4800]}},
    {"mask": {"size": [2**31, 2**31], "counts": [2**62]}},
    {"mask": {"size": [-1, -1], "counts": [1]}},
    {"mask": {"size": [10_000, 10_000], "counts": [0, 10**8]}},
    {"mask": {"size": "big", "counts": None}},
    {"mask": "one.png"},
]


@pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
def test_visual_prompts_that_fit_nothing_are_refused(server: httpx2.Client, prompt: dict[str, Any]) -> None:
    url = data_url(hostile.encoded(picture()))
    image = {"type": "image_url", "image_url": {"url": url}}
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/embeddings", messages(image, {"type": "visual_prompt", **prompt})),
        ("/v1/mask", {"image": url, **prompt}),
        ("/v1/search", {"query": {"image": url, **prompt}}),
        ("/v1/rank", {"query": {"image": url, **prompt}, "candidates": ["a dog"]}),
    ]
    for path, body in bodies:
        if prompt == {"points": []} and path in ("/v1/search", "/v1/rank"):
            continue  # no points are no visual prompt there
        answer = server.post(path, content=_json(body), headers={"Content-Type": "application/json"})
        assert_refused(answer)
    assert_well(server)


# URLs


class Neighbour(BaseHTTPRequestHandler):
    """A server in the same network, which counts who comes: a picture at `/picture`, a redirect at `/to?URL`."""

    visits: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.visits.append(self.path)
        path, _, target = self.path.partition("?")
        body = hostile.encoded(picture()) if path == "/picture" else b""
        self.send_response(302 if path == "/to" else 200)
        self.send_header("Content-Length", str(len(body)))
        if path == "/to":
            self.send_header("Location", target)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def neighbour() -> Iterator[int]:
    """The port of a neighbour nobody has visited."""
    Neighbour.visits.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Neighbour) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        yield listening.server_port
        listening.shutdown()
        thread.join()


@pytest.fixture
def fetching() -> Iterator[httpx2.Client]:
    """A client of a server that fetches URLs."""
    with (
        running(create_app(tiny_embedder(), settings=Settings(allow_urls=True))) as url,
        httpx2.Client(base_url=url, timeout=30) as client,
    ):
        yield client


def test_urls_are_not_fetched_unless_allowed(server: httpx2.Client, neighbour: int) -> None:
    for url in (f"http://127.0.0.1:{neighbour}/picture", f"HTTP://localhost:{neighbour}/picture"):
        for path, body in requests_with(url):
            assert "fetches none" in assert_refused(server.post(path, json=body))
    assert Neighbour.visits == []


HOSTS = ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "u:p@127.0.0.1"]


@pytest.mark.parametrize("host", HOSTS)
def test_urls_do_not_reach_into_the_own_network(fetching: httpx2.Client, neighbour: int, host: str) -> None:
    for path, body in requests_with(f"http://{host}:{neighbour}/picture"):
        if path != "/v1/search":  # there is no index here
            assert_refused(fetching.post(path, json=body))
    assert Neighbour.visits == []


@pytest.mark.parametrize("url", ["ftp://example.org/a.png", "gopher://127.0.0.1/", "http://", "http:///a", "//a/b.png"])
def test_other_urls_are_refused(fetching: httpx2.Client, url: str) -> None:
    assert_refused(fetching.post("/v1/images", json={"image": url}), 400, 404)


def test_redirects_do_not_lead_into_the_own_network(
    fetching: httpx2.Client, neighbour: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_is_public", lambda address: address == "127.0.0.1")
    base = f"http://127.0.0.1:{neighbour}"
    assert fetching.post("/v1/images", json={"image": f"{base}/picture"}).status_code == 200
    for target in (
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        f"{base}/to?/to",
    ):
        assert_refused(fetching.post("/v1/images", json={"image": f"{base}/to?{target}"}))


def _json(value: object) -> bytes:
    import json

    return json.dumps(value).encode()  # with NaN and lone surrogates, which a client of this library would not send
