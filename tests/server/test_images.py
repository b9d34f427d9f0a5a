"""Pictures are opened in every form, shown upright and closed, and make room for others; the same has the same id."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.server.hostile import encoded
from tests.server.live import running
from tests.tiny import picture, tiny_embedder
from virtue.images import open_image
from virtue.index import Index, build
from virtue.masks import bounding_box
from virtue.prompts import Mask, Point
from virtue.server import Settings, create_app
from virtue.server.opened import picture_id

PICTURE = encoded(picture())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the picture, in one of its own."""
    folder = tmp_path_factory.mktemp("opened")
    (folder / "inner").mkdir()
    picture().save(folder / "inner" / "a b.png")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[httpx2.Client]:
    embedder = tiny_embedder()
    index = Index.create(folder, embedder)
    build(index, embedder)
    with running(create_app(embedder, index)) as url, httpx2.Client(base_url=url, timeout=30) as client:
        yield client


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def opened(client: httpx2.Client, data: bytes) -> dict[str, object]:
    answer = client.post("/v1/images", files={"file": ("a.png", data)})
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


def metric(client: httpx2.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def test_the_same_picture_has_the_same_id_however_it_is_sent(server: httpx2.Client) -> None:
    again = encoded(picture(), "BMP")
    answers = [
        server.post("/v1/images", files={"file": ("a.png", PICTURE, "image/png")}),
        server.post("/v1/images", content=PICTURE, headers={"Content-Type": "image/png"}),
        server.post("/v1/images", content=again, headers={"Content-Type": "image/anything"}),
        server.post("/v1/images", json={"image": data_url(PICTURE)}),
        server.post("/v1/images", json={"image": data_url(again, "application/octet-stream")}),
        server.post("/v1/images", json={"index_path": "inner/a b.png"}),
    ]
    answers.append(server.post("/v1/images", json={"image": answers[0].json()["id"]}))
    wanted = {
        "id": picture_id(picture()),
        "object": "image",
        "width": 80,
        "height": 60,
        "bytes": tiny_embedder().open(picture()).nbytes,
        "expires_in": None,
    }
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, wanted)] * len(answers)
    assert opened(server, encoded(picture(seed=1)))["id"] != wanted["id"]


def test_a_picture_is_opened_upright(server: httpx2.Client) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned clockwise by a quarter
    found = opened(server, encoded(picture(), "PNG", exif=turned))
    assert (found["width"], found["height"]) == (60, 80)
    shown = Image.open(io.BytesIO(server.get(f"/v1/images/{found['id']}").content))
    assert shown.size == (60, 80)
    wanted = np.asarray(picture().transpose(Image.Transpose.ROTATE_270), dtype=int)
    assert np.abs(np.asarray(shown, dtype=int) - wanted).mean() < 8  # as JPEG has it


def with_alpha() -> Image.Image:
    image = picture().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


FORMATS = {
    "PNG": PICTURE,
    "JPEG": encoded(picture(), "JPEG"),
    "WebP": encoded(picture(), "WEBP"),
    "GIF": encoded(picture(), "GIF"),
    "TIFF": encoded(picture(), "TIFF"),
    "16 bits": encoded(Image.fromarray(np.linspace(0, 65535, 4800).astype(np.uint16).reshape(60, 80))),
    "CMYK": encoded(picture().convert("CMYK"), "JPEG"),
    "palette": encoded(picture().convert("P")),
    "transparent palette": encoded(picture().convert("P"), transparency=3),
    "alpha": encoded(with_alpha()),
    "grey": encoded(picture().convert("L")),
    "black and white": encoded(picture().convert("1")),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats(server: httpx2.Client, name: str) -> None:
    found = opened(server, FORMATS[name])
    assert found["id"] == picture_id(open_image(FORMATS[name]))
    assert (found["width"], found["height"]) == (80, 60)


def test_of_a_gif_the_first_frame_is_opened(server: httpx2.Client) -> None:
    frames = [Image.new("RGB", (80, 60), colour) for colour in ("red", "blue")]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert opened(server, moving)["id"] == opened(server, encoded(frames[0]))["id"]


@pytest.mark.parametrize(("size", "shown"), [("", (80, 60)), ("?size=40", (40, 30)), ("?size=3000", (80, 60))])
def test_a_picture_is_shown_as_small_as_asked(server: httpx2.Client, size: str, shown: tuple[int, int]) -> None:
    handle = opened(server, PICTURE)["id"]
    answer = server.get(f"/v1/images/{handle}{size}")
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == shown


def test_a_picture_is_closed(server: httpx2.Client) -> None:
    handle = opened(server, encoded(picture(seed=5)))["id"]
    count = metric(server, "virtue_opened_images")
    assert server.delete(f"/v1/images/{handle}").json() == {"id": handle, "object": "image", "deleted": True}
    assert metric(server, "virtue_opened_images") == count - 1
    for answer in (
        server.get(f"/v1/images/{handle}"),
        server.delete(f"/v1/images/{handle}"),
        server.post("/v1/mask", json={"image": handle, "points": [[1, 1]]}),
        server.post("/v1/embeddings", json=message(f"virtue:{handle}")),
    ):
        error = answer.json()["error"]
        assert (answer.status_code, error["type"], error["code"]) == (404, "not_found_error", "image_not_open")
        assert error["message"] == f"No picture {handle} is open; open it, perhaps again, with POST /v1/images."


def message(url: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}


def test_a_mask_opens_what_is_sent_along(server: httpx2.Client) -> None:
    data = encoded(picture(seed=6))
    asked = {"points": [[30, 20, 1], [5, 5, 0]]}
    answer = server.post("/v1/mask", json={"image": data_url(data)} | asked).json()
    (wanted,), (quality,) = tiny_embedder().open(picture(seed=6)).masks([Point(30, 20) + Point(5, 5, include=False)])
    assert (Mask.from_rle(answer["mask"]).array == wanted).all()
    assert answer["quality"] == pytest.approx(float(quality), abs=1e-5)
    assert answer["box"] == list(bounding_box(wanted))
    assert server.post("/v1/mask", json={"image": picture_id(picture(seed=6))} | asked).json() == answer


@pytest.mark.parametrize(("size", "wanted"), [(40, (30, 40)), (1, (1, 1)), (80, (60, 80)), (5000, (60, 80))])
def test_a_mask_may_be_small(server: httpx2.Client, size: int, wanted: tuple[int, int]) -> None:
    asked = {"image": data_url(encoded(picture(seed=6))), "box": [0, 0, 80, 60]}
    small, whole = (server.post("/v1/mask", json=asked | more).json() for more in ({"size": size}, {}))
    assert small["mask"]["size"] == list(wanted)
    assert small["quality"] == pytest.approx(whole["quality"], abs=1e-5)
    if wanted == (60, 80):
        assert small == whole
    if wanted == (30, 40):
        halved = Mask.from_rle(whole["mask"]).array.reshape(30, 2, 40, 2).mean((1, 3))
        found = Mask.from_rle(small["mask"]).array
        assert 0.1 < found.mean() < 0.9
        assert (found == (halved >= 0.5)).mean() > 0.9
        assert small["box"] == list(bounding_box(found))


@pytest.mark.parametrize("size", [0, -1, 2.5, "40"])
def test_other_sizes_of_masks_are_refused(server: httpx2.Client, size: object) -> None:
    asked = {"image": data_url(encoded(picture(seed=6))), "points": [[30, 20]], "size": size}
    answer = server.post("/v1/mask", json=asked)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "size")


def test_the_picture_that_was_not_used_for_longest_makes_room() -> None:
    embedder = tiny_embedder()
    room = 2 * embedder.open(picture()).nbytes
    with (
        running(create_app(embedder, settings=Settings(opened_bytes=room))) as url,
        httpx2.Client(base_url=url, timeout=30) as client,
    ):
        first, second = (opened(client, encoded(picture(seed=seed)))["id"] for seed in (1, 2))
        assert client.get(f"/v1/images/{first}").status_code == 200  # used, so the second is now the oldest
        third = opened(client, encoded(picture(seed=3)))["id"]
        found = [client.get(f"/v1/images/{handle}").status_code for handle in (first, second, third)]
        assert found == [200, 404, 200]
        assert metric(client, "virtue_evictions_total") == 1
        assert metric(client, "virtue_opened_bytes") == room
        error = client.post("/v1/mask", json={"image": second, "points": [[1, 1]]}).json()["error"]
        assert error["message"] == f"No picture {second} is open; open it, perhaps again, with POST /v1/images."
        large = client.post("/v1/images", files={"file": encoded(picture(400, 300))})
        assert (large.status_code, large.json()["error"]["code"]) == (413, "picture_too_large")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "image"),
        ({"image": "img_0", "index_path": "a"}, "image"),
        ({"image": "street.jpg"}, "image"),
        ({"image": "data:image/png;base64,!!!"}, "image"),
        ({"image": 3}, "image"),
        ({"picture": "x"}, "picture"),
    ],
)
def test_what_opens_nothing_is_refused(server: httpx2.Client, body: dict[str, object], param: str) -> None:
    answer = server.post("/v1/images", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_form_without_the_file_says_how_to_send_it(server: httpx2.Client) -> None:
    answer = server.post("/v1/images", files={"picture": PICTURE})
    assert "curl -F file=@" in answer.json()["error"]["message"]
    assert answer.status_code == 400


def test_a_form_that_is_none_is_refused_in_a_sentence(server: httpx2.Client) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    field = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'
    for form, words in ((field * 20, "Too many fields"), (b"--x\r\nA" * 9, "multipart")):
        answer = server.post("/v1/images", content=form, headers=headers)
        message = answer.json()["error"]["message"]
        assert answer.status_code == 400
        assert words in message and message.endswith(".") and not message.endswith("..")
