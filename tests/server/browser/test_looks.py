"""What shuts people out, and what does not fit."""

import pytest

pytest.importorskip("selenium", reason="the browser is driven by selenium")
pytest.importorskip("fastapi", reason="the page is served by fastapi")

from selenium.webdriver.common.keys import Keys

from tests.server.browser.driving import PICTURE, needs_browser, thing

pytestmark = needs_browser


def test_axe_finds_nothing(page, indexed):
    axe = pytest.importorskip("axe_core_python.base", reason="axe comes with axe-core-python").AXE_SCRIPT

    def check(what):
        page.colours("light")
        assert page.violations(axe) == [], what
        page.colours("dark")
        assert page.violations(axe, "color-contrast") == [], f"{what} in the dark"  # all else is the same

    page.go(*thing(indexed)).click().perform()
    page.until(lambda: page.find("#hits .region") and page.find("#hits .is-loaded"))
    check("results")
    page.click("#mode-name")
    page.until(lambda: page.all("#rank-rows td"))
    check("What is this?")
    page.click("#help")
    check("help")
    page.press(Keys.ESCAPE)
    page.click("#code")
    check("code")
    page.press(Keys.ESCAPE)
    page.find("#file").send_keys(__file__)
    page.until(lambda: page.find("#trouble").is_displayed())
    page.click("#home")
    page.click("#mode-find")
    page.until(lambda: page.all("#pictures .is-loaded"))
    check("the gallery")


def test_nothing_is_wider_than_the_screen(browser, address):
    for fragment in ("", f"#image={PICTURE}", f"#image={PICTURE}&mode=name"):
        browser.open(address, fragment)
        for width in (320, 390, 768, 1280):
            browser.resize(width, 844)
            assert browser.run("return document.documentElement.scrollWidth") <= width, (fragment, width)
