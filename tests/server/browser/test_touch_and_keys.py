"""The page without a mouse: fingers on a phone, and the keyboard alone."""

import time

import pytest

pytest.importorskip("selenium", reason="the browser is driven by selenium")
pytest.importorskip("fastapi", reason="the page is served by fastapi")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.server.browser.driving import PICTURE, near, needs_browser, thing

pytestmark = needs_browser
LONG = 0.6  # seconds of a long press


@pytest.fixture
def phone(browser, address):
    """The page with a picture open on a phone, whose screen is touched."""
    browser.touched(True)
    browser.resize(390, 844)
    browser.open(address, f"#image={PICTURE}")
    browser.opened()
    browser.errors()
    browser.forget()
    yield browser
    browser.touched(False)
    assert browser.errors() == []


def touch(browser, *places, rest: float = 0) -> None:
    """A finger goes from one place on the screen to the others, after a rest on the first."""

    def send(kind, *points):
        points = [{"x": x, "y": y} for x, y in points]
        browser.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    send("touchStart", places[0])
    time.sleep(rest)
    for place in places[1:]:
        send("touchMove", place)
    send("touchEnd")


def test_a_tap_takes_and_a_long_press_excludes(phone, indexed):
    x, y = thing(indexed)
    touch(phone, phone.screen(x, y))
    taken = phone.request("/v1/search", lambda body: "points" in body["query"])
    phone.until(lambda: "long press" in phone.text("#hint"))
    assert near(taken["body"]["query"]["points"][0], (x, y, 1))
    phone.until(lambda: phone.find("#marks .include") and phone.find("#hits .region"))
    touch(phone, phone.screen(20, 30), rest=LONG)
    sent = phone.request("/v1/search", lambda body: len(body["query"].get("points", ())) == 2)
    assert near(sent["body"]["query"]["points"][1], (20, 30, 0))
    assert len(phone.all("#marks .exclude")) == 1


def test_a_finger_scrolls_over_the_picture(phone):
    x, y = phone.screen(128, 128)
    before = phone.run("return scrollY")
    touch(phone, *((x, y - 20 * step) for step in range(12)))
    phone.until(lambda: phone.run("return scrollY") > before)
    assert phone.all("#marks .spot, #marks .box") == []


def test_a_finger_draws_a_box_and_paints(phone):
    phone.click("button[data-tool=box]")
    touch(phone, phone.screen(40, 50), phone.screen(120, 130), phone.screen(200, 210))
    sent = phone.request("/v1/search", lambda body: "box" in body["query"])
    assert near(sent["body"]["query"]["box"], (40, 50, 200, 210))
    phone.click("button[data-tool=paint]")
    touch(phone, phone.screen(80, 120), phone.screen(120, 120), phone.screen(160, 120))
    sent = phone.request("/v1/search", lambda body: "mask" in body["query"])
    assert sent["body"]["query"]["mask"]["size"] == [256, 256]
    assert sent["status"] == 200


def tab_to(browser, selector: str) -> None:
    """Presses Tab until something has the focus."""
    for _ in range(60):
        browser.press(Keys.TAB)
        if browser.run("return document.activeElement.matches(arguments[0])", selector):
            return
    raise AssertionError(f"Tab does not lead to {selector}.")


def test_the_keyboard_alone_leads_from_the_gallery_to_results(sized, address):
    sized.open(address)
    sized.until(lambda: sized.all("#pictures .is-loaded"))
    tab_to(sized, f"#pictures [data-path='{PICTURE}']")
    sized.press(Keys.ENTER)
    sized.opened()
    assert sized.run("return document.activeElement.id") == "frame"
    sized.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ENTER)
    taken = sized.request("/v1/search", lambda body: "points" in body["query"])["body"]["query"]["points"]
    sized.until(lambda: len(sized.all("#marks .include")) == 1)
    sized.press(Keys.ARROW_LEFT)
    ActionChains(sized.driver, 0).key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()
    sent = sized.request("/v1/search", lambda body: len(body["query"].get("points", ())) == 2)
    assert [point[2] for point in sent["body"]["query"]["points"]] == [1, 0]
    assert sent["body"]["query"]["points"][0] == taken[0]
    sized.until(lambda: sized.find("#hits .region") and sized.find("#hits[aria-busy=false]"))
    found = sized.find("#hits .card").get_attribute("data-path")
    tab_to(sized, "#hits .card")
    sized.forget()
    sized.press(Keys.ENTER)
    assert sized.request("/v1/images")["body"] == {"index_path": found}
    sized.opened()


def test_the_keyboard_draws_boxes_and_goes_back(page):
    page.run("frame.focus()")
    page.press("b", Keys.ARROW_RIGHT, Keys.ENTER, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    page.request("/v1/search", lambda body: "box" in body["query"])
    page.until(lambda: page.find("#hits .region") and page.find("#hits[aria-busy=false]"))
    page.press("u")
    page.until(lambda: not page.all("#marks .box"))
    page.press("b", Keys.ARROW_RIGHT, Keys.ENTER, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ENTER)
    page.until(lambda: page.find("#hits .region") and page.find("#hits[aria-busy=false]"))
    page.forget()
    page.run("document.querySelector('#hits .card').click()")
    page.request("/v1/images")
    page.request("/v1/search", lambda body: "box" in body["query"])
    page.driver.back()
    page.until(lambda: f"image={PICTURE}" in page.run("return location.hash"))
    page.opened()
