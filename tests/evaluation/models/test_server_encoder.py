"""A server as an encoder, against a real one on this machine."""

from __future__ import annotations

import datetime
import email.utils
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.models.embeddings_server import Server, failure, picture_of, serving
from virtue import Box, Item, Mask, Point
from virtue.evaluation.models import server_encoder
from virtue.evaluation.models.server_encoder import ServerEncoder, ServerError

PICTURE = Image.new("RGB", (8, 6), (200, 10, 10))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving() as running:
        yield running


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that are waited between tries, in no time."""
    seen: list[float] = []

    def note(stop: threading.Event, seconds: float) -> bool:
        seen.append(seconds)
        return stop.is_set()

    monkeypatch.setattr(server_encoder, "_waited", note)
    return seen


def texts(*words: str) -> list[Item]:
    return [Item(text=word) for word in words]


# What is asked and answered


def test_texts_are_asked_in_lists_and_answered_in_order(server: Server) -> None:
    encoder = ServerEncoder(server.url, "m")
    rows = encoder.encode_query(texts("a", "bb", "ccc", "dddd", "eeeee"), batch_size=2)
    assert rows.dtype == np.float32
    assert rows.tolist() == [[1, 0.5], [2, 0.5], [3, 0.5], [4, 0.5], [5, 0.5]]
    assert sorted(body["input"] for body in server.bodies) == [["a", "bb"], ["ccc", "dddd"], ["eeeee"]]
    assert {path for path, _, _ in server.requests} == {"/v1/embeddings"}
    assert server.bodies[0] | {"input": None} == {"model": "m", "encoding_format": "base64", "input": None}
    assert encoder.encode_document(texts("a")).tolist() == [[1, 0.5]]


def test_lists_of_numbers_are_read_too(server: Server) -> None:
    server.form = "float"
    assert ServerEncoder(server.url, "m").encode_query(texts("a", "bb")).tolist() == [[1, 0.5], [2, 0.5]]


def test_an_instruction_stands_before_the_text_and_dimensions_are_asked_for(server: Server) -> None:
    ServerEncoder(server.url, "m", dimensions=2).encode_query([Item(text="a dog", instruction="Find:")])
    assert server.bodies[0]["input"] == ["Find: a dog"]
    assert server.bodies[0]["dimensions"] == 2


def test_a_picture_is_a_message_of_its_own(server: Server) -> None:
    items = [*texts("a"), Item(image=PICTURE), *texts("bb"), Item(image=PICTURE, text="dog", instruction="Find the")]
    rows = ServerEncoder(server.url, "m", in_flight=1).encode_query(items)
    assert rows[:, 0].tolist() == [1, 1, 2, 2]  # letters of a text, content parts of a message
    assert server.bodies[0]["input"] == ["a", "bb"]
    (alone,), (both,) = (body["messages"] for body in server.bodies[1:])
    assert alone["role"] == "user" and [part["type"] for part in alone["content"]] == ["image_url"]
    assert both["content"][1] == {"type": "text", "text": "Find the dog"}
    assert picture_of(both["content"][0]).getpixel((7, 5)) == (200, 10, 10)


def test_a_lying_picture_is_sent_upright(server: Server, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    PICTURE.save(tmp_path / "lying.png", exif=exif)
    ServerEncoder(server.url, "m").encode_query([Item(image=tmp_path / "lying.png")])
    sent = picture_of(server.bodies[0]["messages"][0]["content"][0])
    assert sent.size == (6, 8) and not sent.getexif()


def test_visual_prompts_go_only_to_a_server_that_reads_them(server: Server) -> None:
    mask = Mask(np.eye(6, 8, dtype=bool))
    prompt = Point(1, 2) + Point(3, 4, include=False) + Box(0, 1, 5, 6) + mask
    items = [Item(image=PICTURE, text="dog", prompt=prompt)]
    with pytest.raises(ValueError, match="not said to read visual prompts: choose a strategy"):
        ServerEncoder(server.url, "m").encode_query(items)
    assert not server.requests
    ServerEncoder(server.url, "m", visual_prompts=True).encode_query(items)
    content = server.bodies[0]["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "visual_prompt", "text"]
    part = content[1]
    assert part["points"] == [[1, 2, 1], [3, 4, 0]] and part["box"] == [0, 1, 5, 6]
    assert Mask.from_rle(part["mask"]) == mask


def test_a_visual_prompt_outside_its_picture_is_not_sent(server: Server) -> None:
    encoder = ServerEncoder(server.url, "m", visual_prompts=True)
    with pytest.raises(ValueError, match="outside the image of 8 x 6"):
        encoder.encode_query([Item(image=PICTURE, prompt=Point(9, 1))])
    assert not server.requests


def test_the_key_is_the_argument_or_of_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    ServerEncoder(server.url, "m").encode_query(texts("a"))
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    ServerEncoder(server.url, "m").encode_query(texts("a"))
    ServerEncoder(server.url, "m", api_key="given\n").encode_query(texts("a"))
    sent = [headers.get("authorization") for _, headers, _ in server.requests]
    assert sent == [None, "Bearer from-environment", "Bearer given"]


def test_so_many_requests_are_in_flight_and_no_more(server: Server) -> None:
    server.gathering = threading.Barrier(3)  # each waits for two others, so three have to come at once
    ServerEncoder(server.url, "m", in_flight=3).encode_query(texts(*"abcdefghi"), batch_size=1)
    assert server.most == 3 and len(server.requests) == 9


def test_nothing_asked_is_nothing_answered(server: Server) -> None:
    assert ServerEncoder(server.url, "m").encode_query([]).shape == (0, 0)
    assert not server.requests


# What may pass


def test_a_busy_server_is_asked_again_later_each_time(server: Server, waits: list[float]) -> None:
    server.answers = [failure(429, "slow down"), failure(503), failure(500), failure(502)]
    assert ServerEncoder(server.url, "m").encode_query(texts("a")).tolist() == [[1, 0.5]]
    assert waits == [1, 2, 4, 8]


def test_a_server_that_says_when_is_not_asked_earlier(server: Server, waits: list[float]) -> None:
    soon = email.utils.format_datetime(
        datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=20), usegmt=True
    )
    asked = ["7", "0.25", soon, "86400", "nan", "tomorrow"]
    server.answers = [failure(429, **{"Retry-After": value}) for value in asked]
    ServerEncoder(server.url, "m", retries=6).encode_query(texts("a"))
    assert [waits[0], waits[1], *waits[3:]] == [7, 2, 60, 16, 32]
    assert 15 < waits[2] <= 20


def test_a_server_that_stays_busy_stops_the_run_with_its_words(server: Server, waits: list[float]) -> None:
    server.answers = [failure(429, "You have\n used it up.")] * 3
    with pytest.raises(ServerError, match=r"^The server answered 429 Too Many Requests: You have used it up\.$"):
        ServerEncoder(server.url, "m", retries=2).encode_query(texts("a"))
    assert len(waits) == 2 and len(server.requests) == 3


def test_one_failure_lets_the_others_go(server: Server) -> None:
    server.gathering = threading.Barrier(2)
    server.answers = [failure(401, "No."), failure(503, **{"Retry-After": "60"})]
    with pytest.raises(ServerError):  # at once, and not after a minute
        ServerEncoder(server.url, "m", in_flight=2).encode_query(texts("a", "b"), batch_size=1)


def test_a_server_that_is_not_there_or_silent(waits: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with pytest.raises(ServerError, match=f"^{url} cannot be reached: .*timed out"):
            ServerEncoder(url, "m", timeout=0.05, retries=1).encode_query(texts("a"))
    with pytest.raises(ServerError, match=f"^{url} cannot be reached: .*refused"):
        ServerEncoder(url, "m", retries=1).encode_query(texts("a"))
    assert waits == [1, 1]


def test_an_answer_that_breaks_off_is_asked_for_again(server: Server, waits: list[float]) -> None:
    server.answers = [(200, {"Content-Length": "1000", "Connection": "close"}, b'{"data": [')]
    assert ServerEncoder(server.url, "m", timeout=0.2).encode_query(texts("a")).tolist() == [[1, 0.5]]
    assert waits == [1]


# What does not pass


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (failure(400, "Too long."), ValueError, "The server answered 400 Bad Request: Too long."),
        ((422, {}, b'{"detail": [{"msg": "no"}]}'), ValueError, r'422 .*: \[{"msg": "no"}\]'),
        (failure(401, "Wrong key."), ServerError, "401 Unauthorized: Wrong key."),
        ((404, {}, b"<html>\n not   here</html>"), ServerError, "404 Not Found: <html> not here</html>"),
        ((404, {}, b'{"message": "no model m"}'), ServerError, "404 Not Found: no model m"),
        ((404, {}, b""), ServerError, r"404 Not Found\.$"),
        ((307, {"Location": "http://elsewhere.example/"}, b""), ServerError, "307 Temporary Redirect"),
        ((302, {"Location": "http://elsewhere.example/"}, b""), ServerError, "302 Found"),
    ],
)
def test_a_refusal_is_said_in_the_servers_words(
    server: Server, answer: tuple[int, dict[str, str], bytes], kind: type[Exception], message: str
) -> None:
    server.answers = [answer]
    with pytest.raises(kind, match=message):
        ServerEncoder(server.url, "m").encode_query(texts("a"))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("nonsense", "is no list of embeddings: nonsense"),
        ({"error": "asleep"}, "is no list of embeddings: .*asleep"),
        ({"data": []}, "0 for 2 inputs"),
        ({"data": [{"index": 0, "embedding": [1]}]}, "1 for 2 inputs"),
        ({"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [2]}]}, "each index once"),
        ({"data": [{"index": 0, "embedding": [1]}, {"index": 2, "embedding": [2]}]}, "each index once"),
        ({"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1, 2]}]}, "1, 2 dimensions"),
        ({"data": [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}]}, "0 dimensions"),
        ({"data": [{"index": 0, "embedding": "?"}, {"index": 1, "embedding": "?"}]}, "no list of embeddings"),
        ({"data": [{"index": 0, "embedding": "AAA="}, {"index": 1, "embedding": "AAA="}]}, "no list of embeddings"),
        ({"data": [{"index": 0, "embedding": [[1]]}, {"index": 1, "embedding": [[1]]}]}, "no list of embeddings"),
        ({"data": [{"index": 0, "embedding": ["a"]}, {"index": 1, "embedding": None}]}, "no list of embeddings"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(server: Server, body: object, message: str) -> None:
    server.answers = [(200, {}, body.encode() if isinstance(body, str) else json.dumps(body).encode())]
    with pytest.raises(ServerError, match=message):
        ServerEncoder(server.url, "m").encode_query(texts("a", "bb"))


def test_answers_of_different_lengths_are_refused(server: Server) -> None:
    server.vector = lambda asked: [1.0] * len(asked)
    with pytest.raises(ServerError, match=r"embeddings of 1 and of 3 dimensions"):
        ServerEncoder(server.url, "m").encode_query(texts("a", "ccc"), batch_size=1)


# Names


def test_name_and_fingerprint_tell_address_model_and_dimensions() -> None:
    encoder = ServerEncoder("http://127.0.0.1:8000/v1/", "m", api_key="secret")
    assert encoder.name == "http://127.0.0.1:8000/v1#m"
    same = ServerEncoder("http://127.0.0.1:8000/v1/embeddings", "m", api_key="another", in_flight=2)
    assert same.fingerprint == encoder.fingerprint
    others = [("http://127.0.0.1:8001/v1", "m", None), (encoder.base_url, "n", None), (encoder.base_url, "m", 8)]
    fingerprints = {ServerEncoder(url, model, dimensions=width).fingerprint for url, model, width in others}
    assert len(fingerprints | {encoder.fingerprint}) == 4
    assert "secret" not in repr(encoder)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host/v1", "http://", "http://host/v1?key=1"])
def test_an_address_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="of the form http://host:8000/v1"):
        ServerEncoder(url, "m")


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="holds a user name or password") as raised:
        ServerEncoder("http://me:secret@host/v1", "m")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("options", [{"in_flight": 0}, {"timeout": 0}, {"retries": -1}, {"dimensions": 0}])
def test_numbers_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ServerEncoder("http://host/v1", "m", **options)  # type: ignore[arg-type]
