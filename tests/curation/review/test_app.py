"""The review server over its API: what it keeps, what it shows to whom, and whom it refuses."""

import io
import json
import signal
import socket
import sqlite3
import subprocess
import sys
from urllib.request import Request, urlopen

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.curation.made import sample
from tests.curation.review.made_run import made_run
from virtue.curation.review import serve
from virtue.curation.review.app import PAGE_FILES, create_app
from virtue.curation.review.queue import Queue
from virtue.curation.samples import Problem

TOKEN = "a-token-of-24-characters"


class Page:
    """What a page does: it asks for the session and sends its headers with everything."""

    def __init__(self, curation, **options):
        share = options.pop("share", 0.0)
        self.curation = curation
        self.client = TestClient(create_app(Queue(curation, share=share), **options), base_url="http://localhost:8765")
        self.session = self.client.get("/api/session").json()
        self.headers = {"X-Virtue-Token": self.session["token"], "X-Virtue-Run": self.session["run"]}
        self.sent = 0

    def get(self, path, **query):
        return self.client.get(path, params=query, headers=self.headers)

    def post(self, path, **body):
        return self.client.post(path, json=body, headers=self.headers)

    def decide(self, region, reviewer, verdict, **more):
        self.sent += 1
        body = {"key": f"key-of-the-page-{self.sent}", "region": region, "reviewer": reviewer, "verdict": verdict}
        return self.post("/api/decide", **(body | more))


@pytest.fixture
def curation(tmp_path):
    return made_run(tmp_path)


@pytest.fixture
def page(curation):
    return Page(curation)


def test_a_run_that_may_not_be_written_to_is_not_reviewed(tmp_path, monkeypatch):
    made_run(tmp_path, 1).close()
    monkeypatch.setattr("virtue.curation.database._may_be_written", lambda file: False)
    with pytest.raises(ValueError, match=r"run may be read here and not written to: change its permissions"):
        serve(tmp_path / "run", port=0)


def test_a_run_that_cannot_be_written_to_any_more_says_so(page):
    (name, *_) = page.curation.sample_ids()

    def refuse(*args, **options):
        raise sqlite3.OperationalError("database or disk is full")

    kept, page.curation.decide = page.curation.decide, refuse
    answer = page.decide(name, "Ann", "accept")
    assert answer.status_code == 503
    assert answer.json()["detail"].endswith("run cannot be written to now: database or disk is full.")
    page.curation.decide = kept
    assert page.decide(name, "Ann", "accept").status_code == 200


def test_a_dealt_sample_has_all_that_is_drawn(page):
    answer = page.post("/api/deal", reviewer="Ann", count=2).json()
    first = answer["items"][0]
    assert [item["id"] for item in answer["items"]] == page.curation.sample_ids()[:2]
    assert first["region"]["box"] == [4, 4, 40, 30]
    assert (first["region"]["width"], first["region"]["height"]) == (64, 48)
    assert [caption["kind"] for caption in first["captions"]] == [
        None, *["object"] * 3, *["relation"] * 3, *["scene"] * 3
    ]  # fmt: skip
    assert first["captions"][4] == {
        "kind": "relation", "text": "dog right of on a beach", "changed": "right of"
    }  # fmt: skip
    assert (first["seen"], first["mine"], first["others"]) == (0, None, [])
    assert answer["progress"] == {
        "samples": 4, "done": 0, "left": 4, "disputed": 0, "mine": 0, "skipped": 0, "per_hour": None
    }  # fmt: skip


def test_a_mask_comes_as_its_outline_and_a_broken_one_as_none(tmp_path):
    rle = {"size": [48, 64], "counts": [0, 1, 48 * 64 - 1]}
    masked = Page(made_run(tmp_path / "a", 1, segmentation=rle)).post("/api/deal", reviewer="Ann").json()
    assert masked["items"][0]["region"]["outline"] == "M0 0H1M0 1H1M0 0V1M1 0V1"
    broken = {"size": [48, 64], "counts": [7]}
    unmasked = Page(made_run(tmp_path / "b", 1, segmentation=broken)).post("/api/deal", reviewer="Ann").json()
    assert unmasked["items"][0]["region"]["outline"] is None


def test_decisions_are_kept_with_their_reasons(page):
    one, two, three, four = page.curation.sample_ids()
    assert page.decide(one, "Ann", "accept").json()["decision"]["verdict"] == "accept"
    page.decide(two, " Ann ", "reject", reason="other", note="too\ndark")
    page.decide(three, "Ann", "reject", reason="wording")
    page.decide(four, "Ann", "skip", reason="wording")
    kept = [(own.region_id, own.reviewer, own.verdict, own.reason) for own in page.curation.decisions()]
    assert kept == [
        (one, "Ann", "accept", ""),
        (two, "Ann", "reject", "other: too dark"),
        (three, "Ann", "reject", "wording"),
        (four, "Ann", "skip", ""),
    ]


def test_a_decision_is_synced_to_the_disk(page):
    said = []
    page.curation._connection.set_trace_callback(said.append)
    page.decide(page.curation.sample_ids()[0], "Ann", "accept")
    page.curation._connection.set_trace_callback(None)
    insert = next(place for place, words in enumerate(said) if words.startswith("INSERT INTO decisions"))
    assert [words for words in said[:insert] if "synchronous" in words][-1] == "PRAGMA synchronous = FULL"


def test_a_decision_that_is_sent_twice_is_kept_once(page):
    region = page.curation.sample_ids()[0]
    answers = [page.decide(region, "Ann", "accept", key="one-and-the-same-key").json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(page.curation.all_decisions()) == 1


def test_an_edit_is_kept_with_all_captions(page):
    region = page.curation.sample_ids()[0]
    words = ["puppy left of a fence on a beach", *page.curation.sample(region).captions[1:]]
    answer = page.decide(region, "Ann", "edit", captions=[f" {words[0]} ", *words[1:]])
    assert answer.json()["decision"]["captions"] == words
    assert page.get("/api/item", region=region, reviewer="Ann").json()["mine"]["captions"] == words


def test_an_edit_that_changes_nothing_is_an_acceptance(page):
    region = page.curation.sample_ids()[0]
    words = list(page.curation.sample(region).captions)
    assert page.decide(region, "Ann", "edit", captions=words).json()["decision"]["verdict"] == "accept"


def test_an_edit_that_fails_a_check_is_not_kept_and_says_why(curation):
    found = Problem("likeness", "A pup is a dog.", None)
    page = Page(curation, check=lambda new: [found] if new.elements.object == "pup" else [])
    region, words = curation.sample_ids()[0], list(sample(next(curation.regions())).captions)
    answer = page.decide(region, "Ann", "edit", captions=["pup left of a fence on a beach", *words[1:]])
    assert answer.status_code == 422
    assert answer.json()["problems"] == [found.to_json()]
    twice = page.decide(region, "Ann", "edit", captions=[words[1], *words[1:]])
    assert [problem["check"] for problem in twice.json()["problems"]] == ["duplicate"]
    assert curation.all_decisions() == []


def test_who_decides_meanwhile_is_told_and_both_are_kept(page):
    region = page.curation.sample_ids()[0]
    seen = page.post("/api/deal", reviewer="Ann").json()["items"][0]["seen"]
    page.decide(region, "Ben", "reject", reason="ambiguous", seen=seen)
    answer = page.decide(region, "Ann", "accept", seen=seen).json()
    assert [(own["reviewer"], own["verdict"], own["reason"]) for own in answer["meanwhile"]] == [
        ("Ben", "reject", "ambiguous")
    ]
    assert answer["state"] == "disputed"
    assert len(page.curation.decisions(region)) == 2


def test_others_decisions_are_hidden_until_one_has_decided_or_takes_the_third_look(curation):
    page, region = Page(curation, share=1.0), curation.sample_ids()[0]
    page.decide(region, "Ann", "accept")
    assert page.get("/api/item", region=region, reviewer="Ben").json()["others"] == []
    page.decide(region, "Ben", "reject", reason="wording")
    shown = page.get("/api/item", region=region, reviewer="Ben").json()
    assert [own["reviewer"] for own in shown["others"]] == ["Ann"]
    third = page.post("/api/deal", reviewer="Cid", mode="disputed").json()["items"][0]
    assert [own["reviewer"] for own in third["others"]] == ["Ann", "Ben"]
    assert page.decide(region, "Cid", "accept", seen=third["seen"]).json()["state"] == "kept"


def test_undo_takes_back_ones_own_decision_only_and_twice_is_once(page):
    region = page.curation.sample_ids()[0]
    number = page.decide(region, "Ann", "accept").json()["decision"]["number"]
    assert page.post("/api/undo", reviewer="Ben", number=number).status_code == 404
    for _ in range(2):
        answer = page.post("/api/undo", reviewer="Ann", number=number).json()
        assert (answer["item"]["id"], answer["item"]["mine"], answer["progress"]["mine"]) == (region, None, 0)
    assert page.get("/api/mine", reviewer="Ann").json() == {"decisions": []}
    assert page.post("/api/deal", reviewer="Ben").json()["items"][0]["id"] != region  # Ann holds it again


def test_a_page_can_hold_and_leave_what_it_was_dealt(page):
    order = page.curation.sample_ids()
    page.post("/api/deal", reviewer="Ann", count=4)
    assert page.post("/api/deal", reviewer="Ben").json()["items"] == []
    page.post("/api/leave", reviewer="Ann")
    page.post("/api/hold", reviewer="Ann", regions=[order[0], "no/sample"])
    assert page.post("/api/deal", reviewer="Ben").json()["items"][0]["id"] == order[1]


def test_a_server_that_is_started_again_knows_the_page_and_all_decisions(curation):
    first = Page(curation)
    first.decide(curation.sample_ids()[0], "Ann", "accept")
    second = Page(curation)
    assert second.session == first.session
    assert len(second.get("/api/mine", reviewer="Ann").json()["decisions"]) == 1


def test_agreement_is_plain_json(curation):
    page, (one, two, *_) = Page(curation, share=1.0), curation.sample_ids()
    assert page.get("/api/agreement").json()["kappa"]["value"] is None
    for region, verdicts in ((one, ("accept", "accept")), (two, ("reject", "reject"))):
        for reviewer, verdict in zip(("Ann", "Ben"), verdicts, strict=True):
            page.decide(region, reviewer, verdict, reason="wording" if verdict == "reject" else "")
    found = page.get("/api/agreement").json()
    assert (found["kappa"]["value"], found["reasons"]) == (1, {"wording": 2})
    assert found["pairs"][0]["reviewers"] == ["Ann", "Ben"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"region": "made/99"}, 404, "There is no sample made/99."),
        ({"verdict": "maybe"}, 422, "malformed at verdict"),
        ({"reviewer": "  "}, 422, "malformed at reviewer"),
        ({"key": "short"}, 422, "malformed at key"),
        ({"verdict": "reject", "reason": "ugly"}, 422, "A reason is one of not true"),
        ({"verdict": "reject", "reason": "other"}, 422, "needs words of your own"),
        ({"verdict": "edit", "captions": ["one"]}, 422, "The sample has 10 captions, the edit 1."),
        ({"verdict": "edit"}, 422, "The sample has 10 captions, the edit 0."),
        ({"colour": "red"}, 422, "malformed at colour"),
    ],
)
def test_decisions_that_make_no_sense_are_refused_in_a_sentence(page, body, status, message):
    whole = {"key": "x" * 16, "region": page.curation.sample_ids()[0], "reviewer": "Ann", "verdict": "accept"}
    answer = page.post("/api/decide", **(whole | body))
    assert (answer.status_code, message in answer.json()["detail"]) == (status, True), answer.json()
    assert page.curation.all_decisions() == []


# Pictures


def test_a_picture_is_sent_as_jpeg_turned_upright(page, tmp_path):
    region = page.curation.region(page.curation.sample_ids()[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (region.height, region.width), "red").save(tmp_path / "images" / region.image, exif=exif)
    answer = page.get("/api/image", region=region.id)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (region.width, region.height)
        assert not picture.getexif()


@pytest.mark.parametrize("path", ["../secret.png", "a/../../secret.png", "{outside}", "link/secret.png"])
def test_no_file_outside_the_folder_of_images_is_sent(tmp_path, path):
    Image.new("RGB", (64, 48)).save(tmp_path / "secret.png")
    page = Page(made_run(tmp_path / "made", 1, image=path.format(outside=tmp_path / "secret.png")))
    (tmp_path / "made" / "images" / "link").symlink_to(tmp_path)
    answer = page.get("/api/image", region="made/0")
    assert answer.status_code == 404
    assert "leads out of the folder of images" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "There is no image 0.png"), (b"<svg><script>alert(1)</script></svg>", "0.png")],
)
def test_what_is_no_picture_is_not_sent(tmp_path, content, message):
    page, file = Page(made_run(tmp_path, 1)), tmp_path / "images" / "0.png"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    answer = page.get("/api/image", region="made/0")
    assert (answer.status_code, message in answer.json()["detail"]) == (404, True)


def test_pictures_may_be_elsewhere_than_the_run_remembers(curation, tmp_path):
    (tmp_path / "images").rename(tmp_path / "moved")
    assert Page(curation).get("/api/image", region="made/0").status_code == 404
    assert Page(curation, images=tmp_path / "moved").get("/api/image", region="made/0").status_code == 200


# Who is let in


@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        ({"X-Virtue-Token": "wrong"}, 401, "token is missing or another"),
        ({"X-Virtue-Token": ""}, 401, "token is missing or another"),
        ({"X-Virtue-Run": "another"}, 409, "page is of another run"),
        ({"Origin": "https://evil.example"}, 403, "comes from another site"),
        ({"Origin": "null"}, 403, "comes from another site"),
        ({"Origin": "http://localhost:9999"}, 403, "comes from another site"),
        ({"Sec-Fetch-Site": "cross-site"}, 403, "comes from another site"),
        ({"Host": "evil.example:8765"}, 403, "goes by localhost, not by evil.example:8765"),
        ({"Content-Type": "text/plain"}, 415, "A request is JSON"),
    ],
)
def test_requests_of_others_are_refused(page, headers, status, message):
    body = json.dumps({"reviewer": "Ann"})
    sent = page.headers | {"Content-Type": "application/json"} | headers
    answer = page.client.post("/api/deal", content=body, headers=sent)
    assert (answer.status_code, message in answer.json()["detail"]) == (status, True)


@pytest.mark.parametrize("host", ["LOCALHOST:8765", "localhost:"])
def test_the_own_page_is_let_in_however_its_name_is_written(page, host):
    origin = f"http://{host.lower().removesuffix(':')}"
    sent = page.headers | {"Content-Type": "application/json", "Host": host, "Origin": origin}
    assert page.client.post("/api/deal", content=json.dumps({"reviewer": "Ann"}), headers=sent).status_code == 200


def test_large_and_endless_requests_are_refused(page):
    sent = page.headers | {"Content-Type": "application/json"}
    assert page.client.post("/api/deal", content=b"x" * 100_001, headers=sent).status_code == 413
    assert page.client.post("/api/deal", content=iter([b"{}"]), headers=sent).status_code == 411


def test_the_page_asks_for_nothing_from_elsewhere_and_runs_no_other_script(page):
    for name in PAGE_FILES:
        answer = page.client.get("/" if name == "review.html" else f"/static/{name}")
        assert answer.status_code == 200
        assert "://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "innerHTML" not in answer.text
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert page.client.get("/static/../app.py").status_code == 404
    assert page.client.get("/docs").status_code == 404


def test_a_server_with_a_token_tells_it_to_nobody(curation):
    client = TestClient(create_app(Queue(curation), token=TOKEN), base_url="http://review.example")
    assert client.get("/").status_code == 200
    assert client.get("/api/session").status_code == 401
    session = client.get("/api/session", headers={"X-Virtue-Token": TOKEN}).json()
    assert session["token"] is None
    headers = {"X-Virtue-Token": TOKEN, "X-Virtue-Run": session["run"]}
    assert client.get("/api/mine", params={"reviewer": "Ann"}, headers=headers).status_code == 200


# Starting it


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"host": "0.0.0.0"}, ValueError, r"Other machines can reach 0\.0\.0\.0: give a token"),
        ({"host": "0.0.0.0", "token": "short"}, ValueError, "A token has at least 16 characters"),
        ({"images": "nowhere"}, FileNotFoundError, "There is no folder of images nowhere"),
        ({"reviewers_share": 2}, ValueError, "between 0 and 1"),
    ],
)
def test_serving_refuses_in_a_sentence(curation, options, error, message):
    with pytest.raises(error, match=message):
        serve(curation.folder, **{"port": 0, **options})


def test_serving_a_port_that_is_taken_or_no_run_says_so(curation, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=rf"Cannot listen at port {port} of 127\.0\.0\.1"):
            serve(curation.folder, port=port)
    with pytest.raises(FileNotFoundError, match="There is no run in"):
        serve(tmp_path / "nothing")


def test_a_decision_that_was_answered_outlives_a_kill_of_the_server(curation):
    serve_it = (
        "import sys; from virtue.curation.review import serve\n"
        "serve(sys.argv[1], port=0, ready=lambda address: print(address, flush=True))"
    )
    for number, ending in enumerate((signal.SIGKILL, signal.SIGINT)):
        command = [sys.executable, "-c", serve_it, str(curation.folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
            address = server.stdout.readline().strip()
            with urlopen(f"{address}api/session") as answer:
                session = json.load(answer)
            body = {"key": f"key-number-{number}-of-two", "region": f"made/{number}", "reviewer": "Ann"}
            headers = {"X-Virtue-Token": session["token"], "X-Virtue-Run": session["run"]}
            headers["Content-Type"] = "application/json"
            request = Request(f"{address}api/decide", json.dumps(body | {"verdict": "accept"}).encode(), headers)
            with urlopen(request) as answer:
                kept = json.load(answer)["decision"]
            server.send_signal(ending)
            _, said = server.communicate(timeout=30)
        assert (curation.decisions()[-1].region_id, kept["verdict"]) == (body["region"], "accept")
        if ending == signal.SIGINT:
            assert (server.returncode, said) == (0, "")
    assert len(curation.all_decisions()) == 2
