"""The page with other servers: a larger gallery, little memory, no index, a key."""

import os
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

pytest.importorskip("selenium", reason="the browser is driven by selenium")
pytest.importorskip("fastapi", reason="the page is served by fastapi")

from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.server.browser.driving import PICTURE, needs_browser, served, thing
from virtue.index import Index, build
from virtue.server.settings import Settings

pytestmark = needs_browser
KEY = "a-key-of-this-test"
COUNT = 60


@pytest.fixture(scope="module")
def gallery(nano, tmp_path_factory):
    """The address of a server with more pictures than the gallery asks for at once."""
    folder = tmp_path_factory.mktemp("gallery")
    for number in range(COUNT):
        Image.new("RGB", (64, 64), (4 * number, 90, 255 - 4 * number)).save(folder / f"colour-{number:02d}.png")
    index = Index.create(folder, nano)
    build(index, nano, batch_size=20)
    with served(nano, index) as address:
        yield address


def status(address: str) -> int:
    try:
        with urllib.request.urlopen(address) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_the_gallery_reads_on_as_its_end_comes_into_sight(sized, gallery):
    sized.open(gallery)
    sized.until(lambda: sized.all("#pictures .is-loaded"))
    (first,) = sized.requests("/v1/gallery?")
    shown = len(first["answer"]["data"])
    assert len(sized.all("#pictures li")) == shown < COUNT
    sized.run("scrollTo(0, document.body.scrollHeight)")
    second = sized.request(f"/v1/gallery?offset={shown}")
    sized.until(lambda: len(sized.all("#pictures li")) == COUNT)
    sized.run("scrollTo(0, document.body.scrollHeight)")
    paths = sized.run("return [...document.querySelectorAll('#pictures .card')].map((card) => card.dataset.path)")
    assert paths == [one["path"] for answer in (first, second) for one in answer["answer"]["data"]]
    assert len(set(paths)) == COUNT
    last = sized.all("#pictures .card")[-1]
    sized.until(lambda: sized.run("return arguments[0].querySelector('.is-loaded')", last))
    last.click()
    sized.opened()
    assert len(sized.requests("/v1/gallery?")) == 2


def test_a_large_screen_is_filled(browser, gallery):
    browser.resize(2560, 1440)
    browser.open(gallery)
    browser.until(lambda: len(browser.all("#pictures li")) == COUNT)


@pytest.mark.parametrize("own", [False, True], ids=["of the index", "own"])
def test_a_picture_that_was_let_go_of_is_opened_again(sized, nano, indexed, own):
    file = indexed[0].root / PICTURE
    room = int(1.5 * nano.open(file).nbytes)
    with served(nano, indexed[0], Settings(opened_bytes=room)) as address:
        sized.open(address, "" if own else f"#image={PICTURE}")
        if own:
            sized.find("#file").send_keys(str(file))
        sized.opened()
        sized.until(lambda: sized.find("#hits[aria-busy=false] .card"))
        handle = sized.request("/v1/images")["answer"]["id"]
        ActionChains(sized.driver, 0).move_to_element(sized.find("#home")).perform()  # no hover asks for it meanwhile
        for other in ("scene-1513.png", "scene-2447.png"):
            request = urllib.request.Request(f"{address}/v1/images", (indexed[0].root / other).read_bytes())
            request.add_header("Content-Type", "image/png")
            urllib.request.urlopen(request).close()
        assert status(f"{address}/v1/images/{handle}") == 404
        sized.go(*thing(indexed)).click().perform()
        sized.until(lambda: sized.find("#marks .edge.over") and sized.find("#hits .region"))
        sized.until(lambda: sized.request("/v1/mask")["status"] == sized.request("/v1/search")["status"] == 200)
        assert sized.request("/v1/search")["body"]["query"]["image"] == handle
        assert not sized.find("#trouble").is_displayed()
    assert all("404" in message for message in sized.errors())


def test_without_an_index_own_pictures_are_pointed_at(sized, nano, indexed):
    with served(nano) as address:
        sized.open(address)
        assert sized.find("#gallery-empty").is_displayed()
        assert not sized.find("#tries").is_displayed()
        sized.find("#file").send_keys(str(indexed[0].root / PICTURE))
        sized.until(lambda: "scene" in sized.find("#image").get_attribute("alt"))
        sized.opened()
        sized.go(*thing(indexed)).click().perform()
        assert sized.request("/v1/mask", lambda body: len(body["points"]) == 1)["status"] == 200
        sized.until(lambda: sized.find("#marks .edge.over"))
        assert "nothing to search" in sized.text("#nothing")
        assert sized.find("#nothing").is_displayed()
        assert sized.requests("/v1/search") == []
        sized.click("#mode-name")
        assert sized.request("/v1/rank", lambda body: "points" in body["query"])["status"] == 200
        sized.until(lambda: sized.all("#rank-rows td"))
    assert all("/v1/gallery" in message and "404" in message for message in sized.errors())


def test_when_the_server_is_gone_only_the_sentence_that_says_so_stays(sized, nano, indexed):
    with served(nano, indexed[0]) as address:
        sized.open(address, f"#image={PICTURE}")
        sized.opened()
        sized.go(*thing(indexed)).click().perform()
        sized.until(lambda: sized.find("#marks .edge.over") and sized.find("#hits .region"))
        sized.until(lambda: "sure" in sized.text("#hint"))
    sized.go(20, 30).click().perform()
    sized.until(lambda: sized.find("#trouble").is_displayed())
    assert "does not answer" in sized.text("#trouble-text")
    sized.until(lambda: not sized.all("#marks .edge, #marks .dim") and not sized.all("#hits li"))
    sized.until(lambda: sized.find("#hits[aria-busy=false]") and "sure" not in sized.text("#hint"))
    assert len(sized.all("#marks .spot")) == 2  # what a person did stays
    assert not sized.find("#nothing").is_displayed()
    sized.click("#mode-name")
    sized.until(lambda: sized.find("#trouble").is_displayed() and not sized.find("#ranks").is_displayed())
    assert all("ERR_CONNECTION_REFUSED" in message for message in sized.errors())


def test_the_key_is_asked_for_once(sized, nano, indexed):
    with served(nano, indexed[0], Settings(api_key=KEY)) as address:
        sized.driver.get("about:blank")
        sized.driver.get(address)
        sized.until(lambda: sized.find("#key-dialog").is_displayed())
        sized.find("#key").send_keys("not-the-right-key" + Keys.ENTER)
        sized.until(lambda: sized.find("#key-wrong").is_displayed())
        sized.find("#key").send_keys(KEY + Keys.ENTER)
        sized.until(lambda: sized.all("#pictures .is-loaded"))
        sized.errors()  # each refusal is one
        sized.driver.refresh()
        sized.until(lambda: sized.all("#pictures .is-loaded"))
        sized.opens(PICTURE)
        sized.go(*thing(indexed)).click().perform()
        sized.until(lambda: sized.find("#hits .region") and sized.all("#hits .is-loaded"))
        assert not sized.find("#key-dialog").is_displayed()
        sized.click("#code")
        env = {**os.environ, "VIRTUE_API_KEY": KEY}
        code = sized.text("#code-text")
        assert KEY not in code
        done = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, env=env, timeout=60)
        first = sized.find("#hits .card").get_attribute("data-path")
        assert done.stdout.splitlines()[0].endswith(first), done.stderr
