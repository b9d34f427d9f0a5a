"""A query as a link and as code: both ask the server the same."""

import json
import os
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("selenium", reason="the browser is driven by selenium")
pytest.importorskip("fastapi", reason="the page is served by fastapi")

from selenium.webdriver.common.keys import Keys

from tests.server.browser.driving import PICTURE, needs_browser, thing

pytestmark = needs_browser


def code(page, language: str) -> str:
    """What the dialog shows."""
    page.click("#code")
    page.click(f"[data-code={language}]")
    text = page.text("#code-text")
    page.press(Keys.ESCAPE)
    return text


def ran(text: str, folder, command: list[str]) -> str:
    """What code prints, run where the pictures are."""
    done = subprocess.run(
        command, input=text, cwd=folder, capture_output=True, text=True, timeout=60, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def first_by_curl(text: str, folder) -> dict:
    """The first row of what the last of the commands gets."""
    if not shutil.which("curl"):
        pytest.skip("needs curl")
    answers = ran(text, folder, ["bash", "-e", "-s"])
    decoder, at, last = json.JSONDecoder(), 0, {}
    while at < len(answers.rstrip()):  # one answer after the other
        last, at = decoder.raw_decode(answers, at)
    return last["data"][0]


def shown_on(page) -> list[str]:
    """The results on the page as the Python code prints them."""
    page.until(lambda: page.find("#hits[aria-busy=false] .card"))
    return page.run(
        "return [...document.querySelectorAll('#hits .card')]"
        ".map((card) => `${card.querySelector('.score').textContent} ${card.dataset.path}`)"
    )


def pointed(page, indexed) -> None:
    page.go(*thing(indexed)).click().perform()
    page.request("/v1/search", lambda body: "points" in body["query"])
    page.until(lambda: page.find("#hits .region"))


def boxed_in_an_own_picture(page, indexed) -> None:
    page.find("#file").send_keys(str(indexed[0].root / "scene-2447.png"))
    page.until(lambda: "scene-2447.png" in page.find("#image").get_attribute("alt"))
    page.opened()
    page.forget()
    page.go(40, 50).click_and_hold().perform()
    page.go(200, 210).release().perform()
    page.request("/v1/search", lambda body: "box" in body["query"])
    page.until(lambda: page.find("#hits .region"))


def with_words(page, indexed) -> None:
    page.find("#words").send_keys('it\'s "in" the snow [1,2]')
    page.request("/v1/search", lambda body: body["query"].get("text", "").endswith("[1,2]"))


@pytest.mark.parametrize("ask", [pointed, boxed_in_an_own_picture, with_words])
def test_the_code_finds_what_the_page_shows(page, indexed, ask):
    ask(page, indexed)
    shown = shown_on(page)
    assert ran(code(page, "python"), indexed[0].root, [sys.executable, "-"]).splitlines() == shown
    row = first_by_curl(code(page, "curl"), indexed[0].root)
    assert f"{row['similarity']:.3f} {row['path']}" == shown[0]
    assert "best of each picture" in page.text("#code-note:not([hidden])")


def test_the_code_ranks_what_the_page_ranks(page, indexed):
    page.click("#mode-name")
    page.until(lambda: page.all("#rank-rows td"))
    page.go(*thing(indexed)).click().perform()
    answer = page.request("/v1/rank", lambda body: "points" in body["query"])["answer"]["data"]
    rows = ran(code(page, "python"), indexed[0].root, [sys.executable, "-"]).splitlines()
    assert [row.split(") ", 1)[1] for row in rows] == [row["text"] for row in answer]
    assert [float(row.split()[0]) for row in rows] == pytest.approx([row["similarity"] for row in answer], abs=2e-3)
    assert first_by_curl(code(page, "curl"), indexed[0].root)["text"] == answer[0]["text"]


def test_a_link_asks_the_same(page, address, indexed):
    page.find("#words").send_keys("in the snow")
    page.go(*thing(indexed)).click().perform()
    page.go(40, 50).click_and_hold().perform()
    page.go(200, 210).release().perform()
    page.run("document.querySelector('button[data-tool=paint]').click()")
    page.go(80, 120).click_and_hold().perform()
    page.go(160, 120).release().perform()

    def is_whole(body):
        return {"points", "box", "mask", "text"} <= body["query"].keys()

    asked = page.request("/v1/search", is_whole)
    shown = shown_on(page)
    page.click("#share")
    link = page.find("#link").get_property("value")
    assert link.startswith(address)
    page.open(address, link.removeprefix(f"{address}/"))
    again = page.request("/v1/search", is_whole)
    assert again["body"] == asked["body"]
    page.opened()
    assert shown_on(page) == shown
    assert len(page.all("#marks .include")) == len(page.all("#marks .box.over")) == 1


@pytest.mark.parametrize(
    "nonsense",
    [
        "points=9999,10,1 10,-1,1 10,10,7 10,10 ,, a,b,c&box=100,100,10,10&mask=x,y,abc",
        "box=10,10,300,40&mask=1,2,abc",  # outside of the picture, and not of its size
        "box=,,,&mask=256,256,abc",  # and runs that do not fill it
        "box=10,10,20&mask=256,256,PPP2",  # and nothing set: all is background
    ],
)
def test_what_makes_no_sense_in_a_link_is_left_out(browser, address, nonsense):
    browser.errors()
    browser.open(address, f"#image={PICTURE}&text=%20&{nonsense}")
    browser.opened()
    browser.until(lambda: browser.find("#hits[aria-busy=false] .card"))
    assert browser.request("/v1/search")["body"]["query"].keys() == {"image"}
    assert browser.requests("/v1/mask") == []
    assert browser.all("#marks *") == []
    assert browser.errors() == []


def test_what_makes_sense_in_a_link_is_kept(browser, address):
    browser.errors()
    browser.open(address, f"#image={PICTURE}&points=9999,10,1 40,50,1&mode=name&captions=%20%0A a cat %0D%0Aa dog")
    asked = browser.request("/v1/rank")
    assert (asked["status"], asked["body"]["candidates"]) == (200, ["a cat", "a dog"])
    assert asked["body"]["query"]["points"] == [[40, 50, 1]]
    browser.open(address, f"#image={PICTURE}&mode=name&captions=%20")
    assert browser.request("/v1/rank")["body"]["candidates"][0] == "a dog on a beach"  # none, so the page's own
    assert browser.errors() == []
