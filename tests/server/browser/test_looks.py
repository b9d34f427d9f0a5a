"""What shuts people out, and what does not fit."""

import pytest

pytest.importorskip("selenium", reason="the browser is driven by selenium")
pytest.importorskip("fastapi", reason="the page is served by fastapi")

from selenium.webdriver.common.keys import Keys

from tests.server.browser.driving import PICTURE, needs_browser, served, thing
from virtue.server.settings import Settings

pytestmark = needs_browser


def check(page, what: str) -> None:
    """Lets axe look at the page as it is, in both colours."""
    axe = pytest.importorskip("axe_core_python.base", reason="axe comes with axe-core-python").AXE_SCRIPT
    page.colours("light")
    assert page.violations(axe) == [], what
    page.colours("dark")
    assert page.violations(axe, "color-contrast") == [], f"{what} in the dark"  # all else is the same


def test_axe_finds_nothing(page, indexed):
    page.go(*thing(indexed)).click().perform()
    page.until(lambda: page.find("#hits .region") and page.find("#hits .is-loaded"))
    check(page, "results")
    page.click("#mode-name")
    page.until(lambda: page.all("#rank-rows td"))
    check(page, "What is this?")
    page.click("#help")
    check(page, "help")
    page.press(Keys.ESCAPE)
    page.click("#code")
    check(page, "code")
    page.press(Keys.ESCAPE)
    page.click("#share")
    check(page, "the link")
    page.press(Keys.ESCAPE)
    page.find("#file").send_keys(__file__)
    page.until(lambda: page.find("#trouble").is_displayed())
    check(page, "an error")
    page.click("#home")
    page.click("#mode-find")
    page.until(lambda: page.all("#pictures .is-loaded"))
    check(page, "the gallery")


def test_axe_finds_nothing_in_what_is_drawn(page):
    page.go(40, 50).click_and_hold().perform()
    page.go(200, 210).release().perform()
    page.until(lambda: page.find("#marks .box.over") and page.find("#hits .region") and page.find("#hits .is-loaded"))
    check(page, "a box")
    page.click("button[data-tool=paint]")
    page.go(80, 120).click_and_hold().perform()
    page.go(160, 120).release().perform()
    page.request("/v1/search", lambda body: "mask" in body["query"])
    page.until(lambda: page.find("#hits[aria-busy=false] .is-loaded"))
    check(page, "a mask")


def test_axe_finds_nothing_in_the_question_for_a_key(browser, nano):
    with served(nano, settings=Settings(api_key="a-key-of-this-test")) as address:
        browser.driver.get("about:blank")
        browser.driver.get(address)
        browser.until(lambda: browser.find("#key-dialog").is_displayed())
        check(browser, "a key")
        browser.find("#key").send_keys("not-the-right-key" + Keys.ENTER)
        browser.until(lambda: browser.find("#key-wrong").is_displayed())
        check(browser, "a wrong key")


def test_nothing_is_wider_than_the_screen(browser, address):
    for fragment in ("", f"#image={PICTURE}", f"#image={PICTURE}&mode=name"):
        browser.open(address, fragment)
        for width in (320, 390, 768, 1280):
            browser.resize(width, 844)
            assert browser.run("return document.documentElement.scrollWidth") <= width, (fragment, width)
