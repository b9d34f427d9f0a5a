"""The page in a real browser: every gesture, with the request it sends and the result it shows, at two sizes."""

import time

import pytest

pytest.importorskip("selenium", reason="the browser is driven by selenium")
pytest.importorskip("fastapi", reason="the page is served by fastapi")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.server.browser.driving import CHROMIUM, DRIVER, Browser, made_index, served
from virtue.embedder import Embedder
from virtue.evaluation.scenes import interior_point
from virtue.server.settings import Settings

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver: Debian's packages chromium and chromium-driver"
)
PICTURE = "scene-1329.png"
KEY = "a-key-of-this-test"


@pytest.fixture(scope="module")
def nano():
    return Embedder.from_pretrained("nano", device="cpu")


@pytest.fixture(scope="module")
def indexed(nano, tmp_path_factory):
    return made_index(tmp_path_factory.mktemp("pictures"), nano)


@pytest.fixture(scope="module")
def address(nano, indexed):
    with served(nano, indexed[0]) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    own = Browser()
    yield own
    own.driver.quit()


@pytest.fixture(params=[(1280, 800), (390, 844)], ids=["desktop", "phone"])
def page(request, browser, address):
    """The page with the first picture open."""
    browser.resize(*request.param)
    browser.open(address, f"#image={PICTURE}")
    browser.opened()
    browser.errors()
    browser.forget()
    yield browser
    assert browser.errors() == []


def thing(indexed):
    """A place on the largest thing of the picture."""
    shown = max(indexed[1][PICTURE].objects, key=lambda own: own.mask.sum())
    point = interior_point(shown.mask)
    return point.x, point.y


def near(found, expected, slack=3.0):
    return all(abs(one - other) <= slack for one, other in zip(found, expected, strict=True))


def test_hover_shows_a_mask_within_a_tenth_of_a_second(page, indexed):
    x, y = thing(indexed)
    for step in range(12):
        page.go(x + step, y + step).perform()
        time.sleep(0.06)
    page.until(lambda: page.find("#marks .preview"))
    times = page.run("return performance.getEntriesByName('virtue:hover').map((mark) => mark.detail.milliseconds)")
    assert sorted(times)[len(times) // 2] < 100
    assert page.all("#marks .spot") == []


def test_click_takes_and_shift_and_right_click_exclude(page, indexed):
    x, y = thing(indexed)
    page.go(x, y).click().perform()
    mask = page.request("/v1/mask", lambda body: len(body["points"]) == 1)
    assert near(
        page.request("/v1/search", lambda body: "points" in body["query"])["body"]["query"]["points"][0][:2], (x, y)
    )
    assert mask["status"] == 200
    page.until(lambda: page.find("#marks .edge.over") and page.find("#hits .region"))
    assert page.find("[data-kind=region]").get_attribute("aria-pressed") == "true"
    page.go(20, 20).key_down(Keys.SHIFT).click().key_up(Keys.SHIFT).perform()
    page.go(230, 20).context_click().perform()
    sent = page.request("/v1/search", lambda body: len(body["query"].get("points", ())) == 3)
    assert [point[2] for point in sent["body"]["query"]["points"]] == [1, 0, 0]
    assert len(page.all("#marks .exclude")) == 2
    page.click("#undo")
    page.until(lambda: len(page.all("#marks .spot")) == 2)
    page.click("#clear")
    page.until(lambda: not page.all("#marks .spot") and not page.find("#clear").is_enabled())


def test_drag_draws_a_box(page):
    page.go(40, 50).click_and_hold().perform()
    page.go(200, 210).release().perform()
    sent = page.request("/v1/search", lambda body: "box" in body["query"])
    assert near(sent["body"]["query"]["box"], (40, 50, 200, 210))
    assert page.find("#marks .box.over")


def test_a_mask_is_painted_and_erased(page):
    page.click("button[data-tool=paint]")
    page.go(80, 120).click_and_hold().perform()
    page.go(160, 120).release().perform()
    mask = page.request("/v1/search", lambda body: "mask" in body["query"])["body"]["query"]["mask"]
    assert mask["size"] == [256, 256]
    page.forget()
    page.click("button[data-tool=erase]")
    page.run("brush.value = 25; brush.dispatchEvent(new Event('input'))")
    page.go(70, 120).click_and_hold().perform()
    page.go(170, 120).release().perform()
    page.request("/v1/search", lambda body: "mask" not in body["query"])  # nothing is left of it


def test_touch_takes_and_a_long_press_excludes(page, indexed):
    page.run("frame.scrollIntoView({block: 'center'})")
    x, y = thing(indexed)

    def touch(kind, place):
        page.run(
            "const [kind, [x, y]] = arguments; const at = frame.getBoundingClientRect();"
            "frame.dispatchEvent(new PointerEvent(kind, { pointerType: 'touch', pointerId: 7, bubbles: true, button: 0,"
            " clientX: at.left + x / 256 * at.width, clientY: at.top + y / 256 * at.height }))",
            kind,
            place,
        )

    touch("pointerdown", (x, y))
    touch("pointerup", (x, y))
    page.until(lambda: page.find("#marks .include"))
    touch("pointerdown", (20, 20))
    page.until(lambda: page.find("#marks .exclude"))
    touch("pointerup", (20, 20))
    sent = page.request("/v1/search", lambda body: len(body["query"].get("points", ())) == 2)
    assert [point[2] for point in sent["body"]["query"]["points"]] == [1, 0]


def test_the_keyboard_points_and_a_result_is_gone_on_from(page):
    page.run("frame.focus()")
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ENTER)
    page.request("/v1/search", lambda body: "points" in body["query"])
    page.press("u")
    page.until(lambda: not page.all("#marks .spot"))
    page.press("b", Keys.ENTER, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    page.request("/v1/search", lambda body: "box" in body["query"])
    page.until(lambda: page.find("#hits .region") and page.find("#hits[aria-busy=false]"))
    page.forget()
    page.run("document.querySelector('#hits .card').click()")
    page.request("/v1/images")
    page.request("/v1/search", lambda body: "box" in body["query"])
    page.driver.back()
    page.until(lambda: f"image={PICTURE}" in page.run("return location.hash"))
    page.opened()


def test_words_go_with_the_picture_and_alone(page):
    page.find("#words").send_keys("in the snow")
    sent = page.request("/v1/search", lambda body: body["query"].get("text") == "in the snow")
    assert sent["body"]["query"]["image"].startswith("img_")
    page.click("#home")
    page.until(lambda: page.find("#gallery").is_displayed())
    page.find("#words").send_keys("a dog on a beach")
    sent = page.request("/v1/search", lambda body: body["query"] == {"text": "a dog on a beach"})
    assert sent["answer"]["data"][0]["path"] == PICTURE
    page.until(lambda: PICTURE in page.find("#hits .card").get_attribute("aria-label"))


def test_what_is_this_ranks_captions_with_and_without_the_hint(page, indexed, tmp_path):
    page.click("#mode-name")
    file = tmp_path / "captions.txt"
    file.write_text("a dog on a beach\na rocket in outer space\n")
    page.find("#captions-file").send_keys(str(file))
    sent = page.request("/v1/rank", lambda body: len(body["candidates"]) == 2)
    assert sent["answer"]["data"][0]["similarity"] > sent["answer"]["data"][1]["similarity"]
    page.until(lambda: page.text("#rank-rows th").startswith("a dog on a beach"))
    page.go(*thing(indexed)).click().perform()
    page.request("/v1/rank", lambda body: "points" in body["query"] and len(body["candidates"]) == 2)
    page.until(lambda: "hint" in page.text("#verdict") and len(page.all("#rank-rows td")) == 4)


def test_an_own_picture_is_opened_and_stays_out_of_the_link(page, indexed):
    page.find("#file").send_keys(str(indexed[0].root / "scene-2447.png"))
    assert page.request("/v1/images")["answer"]["width"] == 256
    page.opened()
    page.until(lambda: page.find("#hits .card"))
    page.click("#share")
    assert "Your own picture" in page.text("#link-note")
    assert page.find("#link").get_property("value").endswith("/#")


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_is_dropped_and_pasted(page, kind):
    page.run(
        "const kind = arguments[0];"
        "fetch('/v1/gallery/image?path=scene-1513.png').then((answer) => answer.blob()).then((blob) => {"
        "  const data = new DataTransfer(); data.items.add(new File([blob], 'own.jpg', { type: 'image/jpeg' }));"
        "  const options = { bubbles: true, dataTransfer: data, clipboardData: data };"
        "  const Kind = kind === 'drop' ? DragEvent : ClipboardEvent;"
        "  document.dispatchEvent(new Kind(kind, options)); })",
        kind,
    )
    page.request("/v1/images")
    page.until(lambda: "own.jpg" in page.find("#image").get_attribute("alt"))
    page.opened()


def test_a_link_asks_the_same_and_the_code_names_it(page, address, indexed):
    page.go(*thing(indexed)).click().perform()
    points = page.request("/v1/search", lambda body: "points" in body["query"])["body"]["query"]["points"]
    page.click("#share")
    link = page.find("#link").get_property("value")
    page.open(address, link.partition("/#")[2] and "#" + link.partition("#")[2])
    again = page.request("/v1/search", lambda body: "points" in body["query"])
    assert again["body"]["query"]["points"] == points
    page.opened()
    page.click("#code")
    assert f'"index_path": "{PICTURE}"' in page.text("#code-text")
    page.click("[data-code=curl]")
    assert page.text("#code-text").count("curl ") == 2
    page.press(Keys.ESCAPE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page, indexed, scheme):
    axe = pytest.importorskip("axe_core_python.base", reason="axe comes with axe-core-python").AXE_SCRIPT
    page.colours(scheme)
    page.go(*thing(indexed)).click().perform()
    page.until(lambda: page.find("#hits .region"))
    time.sleep(0.4)  # what fades in is faint at first
    assert page.violations(axe) == []
    page.click("#mode-name")
    page.until(lambda: page.all("#rank-rows td"))
    assert page.violations(axe) == []
    page.click("#help")
    assert page.violations(axe) == []
    page.press(Keys.ESCAPE)
    page.click("#home")
    page.click("#mode-find")
    page.until(lambda: page.all("#pictures .is-loaded"))
    time.sleep(0.4)
    assert page.violations(axe) == []


def test_nothing_is_wider_than_a_phone(browser, address):
    browser.resize(390, 844)
    for fragment in ("", f"#image={PICTURE}", f"#image={PICTURE}&mode=name"):
        browser.open(address, fragment)
        assert browser.run("return document.documentElement.scrollWidth") <= 390


def test_the_key_is_asked_for_once(browser, nano, indexed):
    with served(nano, indexed[0], Settings(api_key=KEY)) as address:
        browser.resize(1280, 800)
        browser.driver.get(address)
        browser.until(lambda: browser.find("#key-dialog").is_displayed())
        browser.find("#key").send_keys(KEY + Keys.ENTER)
        browser.until(lambda: browser.all("#pictures .is-loaded"))
        assert not browser.find("#key-dialog").is_displayed()
        browser.driver.refresh()
        browser.until(lambda: browser.all("#pictures .is-loaded"))
        assert not browser.find("#key-dialog").is_displayed()


def test_an_error_is_a_sentence(page):
    page.until(lambda: page.find("#hits .card"))
    page.find("#file").send_keys(__file__)
    page.until(lambda: page.find("#trouble").is_displayed())
    assert "is no picture" in page.text("#trouble-text")
    ActionChains(page.driver).move_to_element(page.find("#trouble-close")).click().perform()
    assert not page.find("#trouble").is_displayed()
