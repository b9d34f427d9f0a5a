"""The review page in a real browser: keys, edits, undo, reload, a server that goes away, two people at once."""

import json
import shutil
from contextlib import contextmanager

import pytest

from tests.curation.made import region, sample
from tests.curation.review.made_run import made_run, serving, written_anew
from virtue.curation.review.outcomes import outcomes
from virtue.curation.samples import Problem

selenium = pytest.importorskip("selenium", reason="the browser is driven by selenium")

from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver: Debian's packages chromium and chromium-driver"
)


class Browser:
    """A browser, and what a reviewer does with it."""

    def __init__(self):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1200,800"):
            options.add_argument(f"--{argument}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))

    def open(self, address, name=None):
        self.driver.get(address)
        if name:
            self.until(lambda: self.find("#name-dialog").is_displayed())
            self.find("#name").send_keys(name + Keys.ENTER)
        self.until(lambda: self.find(".caption") or self.find("#empty").text)

    def find(self, selector):
        return next(iter(self.driver.find_elements(By.CSS_SELECTOR, selector)), None)

    def text(self, selector):
        found = self.find(selector)
        return found.text if found else ""

    def until(self, condition):
        ignored = [selenium.common.exceptions.StaleElementReferenceException]
        return WebDriverWait(self.driver, 20, 0.02, ignored).until(lambda driver: condition())

    def press(self, *keys):
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def says(self, words):
        self.until(lambda: words in self.text("#message"))
        self.until(lambda: self.find("body[aria-busy=false]"))

    def progress(self, words):
        self.until(lambda: words in self.text("#figures"))

    def errors(self):
        """What the page complained about since it was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@contextmanager
def browser():
    own = Browser()
    try:
        yield own
    finally:
        own.driver.quit()


@pytest.fixture(scope="module")
def ann():
    with browser() as own:
        yield own


def test_keys_decide_and_nothing_is_lost_by_a_reload(ann, tmp_path):
    curation = made_run(tmp_path, 5)
    order = curation.sample_ids()
    with serving(curation) as (address, _):
        ann.open(address, "Ann")
        ann.until(lambda: ann.find("#image").get_property("naturalWidth") == 64)
        ann.progress("0 of 5 done")
        ann.press("a")
        ann.says("you accepted it")
        ann.press("r")
        ann.until(lambda: ann.find("#reject-dialog").is_displayed())
        ann.press("2")
        ann.says("you rejected it (ambiguous)")
        ann.press("r", "7")
        ann.press("<b>too dark</b>", Keys.ENTER)
        ann.says("you rejected it (other: <b>too dark</b>)")
        ann.progress("3 of 5 done · 2 left · 3 by you")
        assert [(own.region_id, own.verdict, own.reason) for own in curation.decisions()] == [
            (order[0], "accept", ""),
            (order[1], "reject", "ambiguous"),
            (order[2], "reject", "other: <b>too dark</b>"),
        ]
        ann.press("u")
        ann.says("Taken back: you rejected it")
        ann.progress("2 of 5 done")
        ann.open(address)  # a reload: the same name, progress and sample
        ann.progress("2 of 5 done · 3 left · 2 by you")
        assert ann.text("#who") == "Ann"
        ann.press("s")
        ann.says("you skipped it")
        assert curation.decisions()[-1].region_id == order[2]
        assert ann.errors() == []


def test_captions_are_edited_in_place_and_a_draft_outlives_a_reload(ann, tmp_path):
    curation = made_run(tmp_path, 1)
    with serving(curation) as (address, _):
        ann.open(address, "Ann")
        ann.press("e")
        ann.until(lambda: ann.find("#captions input"))
        ann.press(Keys.HOME, "small ", Keys.ENTER)
        assert ann.text(".caption.true") == "small dog left of a fence on a beach"
        ann.press(Keys.ARROW_DOWN, "e")
        ann.press(Keys.HOME, "wild ", Keys.ESCAPE)
        assert ann.text("[data-number='1']") == "cat left of a fence on a beach"
        ann.press(Keys.ENTER)
        ann.press(Keys.HOME, "wild ", Keys.ENTER)
        assert ann.text("[data-number='1']") == "wild cat left of a fence on a beach"
        assert ann.text("#accept") == "Accept edited a"
        ann.open(address)
        assert ann.text("#accept") == "Accept edited a"
        ann.press("a")
        ann.says("you edited it")
        ann.press("u")
        ann.says("Taken back: you edited it")
        assert ann.text(".caption.true") == "small dog left of a fence on a beach"
        ann.press("a")
        ann.says("you edited it")
        (last,) = curation.decisions()
        original = curation.sample(last.region_id).captions
        changed = ("small dog left of a fence on a beach", "wild cat left of a fence on a beach")
        assert last.captions == (*changed, *original[2:])
        assert ann.errors() == []


def test_a_change_of_the_true_caption_is_offered_to_the_others_and_problems_are_shown(ann, tmp_path):
    curation = made_run(tmp_path, 1)
    found = Problem("likeness", "A pup is a dog.", None)
    with serving(curation, check=lambda new: [found] if new.elements.object == "pup" else []) as (address, _):
        ann.open(address, "Ann")
        for word in ("pup", "horse"):
            ann.press("e")
            ann.press(Keys.CONTROL + "a" + Keys.NULL, f"{word} left of a fence on a beach", Keys.ENTER)
            assert f"to “{word}” in 6 others" in ann.text("#same") or word == "horse"
            if word == "pup":
                ann.press("c", "a")
                ann.until(lambda: "True caption: A pup is a dog." in ann.text("#problems"))
                assert curation.decisions() == []
                ann.driver.get_log("browser")  # the browser logs that a request was refused
        ann.press("c", "a")
        ann.says("you edited it")
        (last,) = curation.decisions()
        assert last.captions[0] == "horse left of a fence on a beach"
        assert sum(caption.startswith("horse ") for caption in last.captions) == 7
        assert ann.errors() == []


def test_a_decision_outlives_a_server_that_goes_away(ann, tmp_path):
    curation = made_run(tmp_path, 3)
    with serving(curation) as (address, port):
        ann.open(address, "Ann")
        ann.progress("0 of 3 done")
        ann.until(lambda: not ann.find("#accept:disabled"))
    ann.press("a")
    ann.until(lambda: "Nothing is lost" in ann.text("#trouble"))
    with serving(curation, port=port):
        ann.says("you accepted it")
        ann.progress("1 of 3 done")
        assert ann.text("#trouble") == ""
        ann.until(lambda: not ann.find("#accept:disabled"))
    ann.press("a")
    ann.until(lambda: "Nothing is lost" in ann.text("#trouble"))
    ann.driver.get("about:blank")  # the browser goes away as well
    with serving(curation, port=port) as (address, _):
        ann.open(address)
        ann.says("1 decision from before the page was closed: kept.")
        ann.progress("2 of 3 done")
    assert len(curation.all_decisions()) == 2
    ann.driver.get_log("browser")


def test_an_edit_that_is_refused_when_it_is_sent_again_stays_to_be_mended(ann, tmp_path):
    curation = made_run(tmp_path, 3)
    found = Problem("likeness", "A pup is a dog.", None)
    waiting = "return Object.keys(localStorage).filter((name) => name.includes('.out.')).length"
    with serving(curation) as (address, port):
        ann.open(address, "Ann")
        ann.until(lambda: not ann.find("#accept:disabled"))
        ann.press("e")
        ann.press(Keys.HOME, "pup or ", Keys.ENTER)
    ann.press("a")
    ann.until(lambda: "Nothing is lost" in ann.text("#trouble"))
    ann.driver.get("about:blank")
    with serving(curation, port=port, check=lambda new: [found] if "pup" in new.caption else []) as (address, _):
        for _ in range(2):  # a reload loses nothing
            ann.open(address)
            ann.until(
                lambda: "The edit does not pass the checks. True caption: A pup is a dog." in ann.text("#refused")
            )
            assert ann.text("#refused").startswith("Not kept: an edit about made/")
            assert curation.all_decisions() == [] and ann.driver.execute_script(waiting) == 1
        ann.find("#refused button").click()
        ann.until(lambda: ann.text(".caption.true") == "pup or dog left of a fence on a beach")
        ann.until(lambda: "A pup is a dog." in ann.text("#problems"))
        ann.press("e")
        ann.press(Keys.CONTROL + "a" + Keys.NULL, "old dog left of a fence on a beach", Keys.ENTER, "a")
        ann.says("you edited it")
        assert not ann.find("#refused").is_displayed() and ann.driver.execute_script(waiting) == 0
        assert [own.captions[0] for own in curation.decisions()] == ["old dog left of a fence on a beach"]
    ann.driver.get_log("browser")


def test_what_was_written_anew_meanwhile_is_looked_at_again(ann, tmp_path):
    curation = made_run(tmp_path, 3)
    first, second, _ = curation.sample_ids()
    sentence = "This sample was written anew since its captions were shown: look at it again."
    with serving(curation) as (address, port):
        ann.open(address, "Ann")
        ann.until(lambda: not ann.find("#accept:disabled"))
        curation.release("Ann")  # as if its page had been away for long
        written_anew(curation, first)
        ann.press("a")
        ann.says(sentence)
        assert ann.text("[data-number='1']").endswith("at night") and curation.all_decisions() == []
        ann.press("a")
        ann.says("you accepted it")
        ann.press("e")
        ann.press(Keys.HOME, "old ", Keys.ENTER)
    ann.press("a")
    ann.until(lambda: "Nothing is lost" in ann.text("#trouble"))
    ann.driver.get("about:blank")
    curation.release("Ann")
    written_anew(curation, second)
    with serving(curation, port=port) as (address, _):
        ann.open(address)
        ann.until(lambda: f"Not kept: an edit about {second}. {sentence}" in ann.text("#refused"))
        ann.find("#refused button").click()
        ann.says(sentence)
        assert ann.text(".caption.true") == "dog left of a fence on a beach"
        assert ann.text("[data-number='1']").endswith("at night")
        ann.find("#decided button").click()  # "Use these words"
        ann.until(lambda: ann.text(".caption.true") == "old dog left of a fence on a beach")
        ann.press("a")
        ann.says("you edited it")
        assert not ann.find("#refused").is_displayed()
    assert [(own.region_id, own.verdict) for own in curation.decisions()] == [(first, "accept"), (second, "edit")]
    ann.driver.get_log("browser")


def test_a_refused_decision_can_be_discarded(ann, tmp_path):
    curation = made_run(tmp_path, 2)
    with serving(curation) as (address, _):
        ann.open(address, "Ann")
        decision = {"key": "k" * 16, "region": "made/99", "reviewer": "Ann", "verdict": "accept", "seen": 0}
        put = "localStorage.setItem(`virtue.review.${arguments[0]}.out.x`, arguments[1])"
        ann.driver.execute_script(put, curation.noted("review")["run"], json.dumps(decision))
        ann.driver.execute_script("localStorage.setItem(`virtue.review.${arguments[0]}.out.y`, '{')", "other")
        ann.open(address)
        ann.until(lambda: "an acceptance about made/99. There is no sample made/99." in ann.text("#refused"))
        (button,) = ann.driver.find_elements(By.CSS_SELECTOR, "#refused button")
        assert button.text == "Discard it"
    ann.driver.get_log("browser")


def test_a_decision_outlives_a_token_that_was_changed(ann, tmp_path):
    curation = made_run(tmp_path, 2)
    with serving(curation) as (address, port):
        ann.open(address, "Ann")
        ann.until(lambda: not ann.find("#accept:disabled"))
    curation.note("review", curation.noted("review") | {"token": "another-token-of-the-run"})
    with serving(curation, port=port) as (address, _):
        ann.press("a")
        ann.says("The token is missing or another")
        assert curation.decisions() == []
        ann.open(address)
        ann.says("1 decision from before the page was closed: kept.")
        ann.progress("1 of 2 done")
    ann.driver.get_log("browser")


def test_two_people_at_once_see_different_samples_and_a_third_settles_what_they_dispute(ann, tmp_path):
    curation = made_run(tmp_path, 8)
    order = curation.sample_ids()
    with serving(curation) as (address, _), browser() as ben:
        ann.open(address, "Ann")
        ben.open(address, "Ben")
        for _ in range(2):
            ann.press("a")
            ben.press("a")
            ann.says("you accepted it")
            ben.says("you accepted it")
        assert {own.region_id for own in curation.decisions(reviewer="Ann")}.isdisjoint(
            own.region_id for own in curation.decisions(reviewer="Ben")
        )
        shown = next(name for name in order if "Ann" in curation.leases().get(name, ()))
        curation.decide(shown, "Cid", "reject", reason="wording")  # as if Ann's lease had run out
        ann.press("a")
        ann.says("Meanwhile Cid rejected it (wording). Both decisions are kept; it waits for a third look.")
        ben.find("#mode-disputed").click()
        ben.until(lambda: ben.text("#decided") == "Cid rejected it (wording)\nAnn accepted it")
        ben.press("a")
        ben.says("you accepted it")
        ben.until(lambda: "Nothing here for you now." in ben.text("#empty"))
        ben.find("#show-agreement").click()
        ben.until(lambda: "kappa 0.00: of 1 samples" in ben.text("#kappa"))
        assert ann.errors() == ben.errors() == []


def test_the_third_look_can_take_the_words_of_an_edit(ann, tmp_path):
    curation = made_run(tmp_path, 1)
    (name,) = curation.sample_ids()
    words = ("old dog left of a fence on a beach", *curation.sample(name).captions[1:])
    curation.decide(name, "Ben", "accept")
    curation.decide(name, "Cid", "edit", captions=words)
    with serving(curation) as (address, _):
        ann.open(address, "Ann")
        ann.until(lambda: "But 1 disputed: see" in ann.text("#empty"))
        ann.find("#mode-disputed").click()
        ann.until(lambda: ann.find("#decided button")).click()
        assert ann.text(".caption.true") == words[0]
        ann.press("a")
        ann.says("you edited it")
    assert (outcomes(curation)[name].state, outcomes(curation)[name].captions) == ("kept", words)
    assert ann.errors() == []


def test_what_strangers_wrote_is_text_and_nothing_else(ann, tmp_path):
    curation = made_run(tmp_path, 1)
    evil = "<img src=x onerror=document.title='taken'>"
    own = region(9, category=evil, caption=evil, scene=(evil,))
    curation.add_regions([own])
    written = sample(own)
    curation.put_sample(sample(own, caption=evil, distractors=written.distractors))
    shutil.copy(tmp_path / "images" / "0.png", tmp_path / "images" / "9.png")
    for reviewer in (f"Ben {evil}", evil):
        curation.decide("made/9", reviewer, "accept")
    with serving(curation, share=1.0) as (address, _):
        ann.open(address, evil)
        ann.driver.execute_script("document.querySelector('#back').click()")
        ann.until(lambda: ann.text(".caption.true") == evil and f"Ben {evil} accepted it" in ann.text("#decided"))
        ann.find("#show-agreement").click()
        ann.until(lambda: evil in ann.text("#reviewers"))
        assert ann.driver.title == "Review · run"
        assert len(ann.driver.find_elements(By.TAG_NAME, "img")) == 1
        assert ann.errors() == []


@pytest.mark.parametrize("width", [360, 1200])
def test_the_picture_zooms_and_the_page_fits_its_window(ann, tmp_path, width):
    curation = made_run(tmp_path, 1)
    with serving(curation) as (address, _):
        ann.driver.set_window_size(width, 800)
        ann.open(address, "Ann")
        drawn = "return document.querySelector('#sheet').getBoundingClientRect().width"
        whole = ann.driver.execute_script(drawn)
        ann.find("#view").click()
        ann.press("+")
        assert ann.driver.execute_script(drawn) == pytest.approx(1.25 * whole, rel=0.01)
        ann.press("0")
        assert ann.driver.execute_script(drawn) == pytest.approx(whole, rel=0.01)
        ann.press("h")
        assert ann.find("#marks").value_of_css_property("visibility") == "hidden"
        assert ann.find("#toggle").get_attribute("aria-pressed") == "false"
        ann.press("h", "?")
        assert ann.find("#help-dialog").is_displayed()
        ann.press(Keys.ESCAPE)
        page = "return [document.documentElement.scrollWidth, window.innerWidth]"
        wide, window = ann.driver.execute_script(page)
        assert wide <= window
        assert ann.errors() == []


def test_everything_that_can_be_used_has_a_name(ann, tmp_path):
    curation = made_run(tmp_path, 1)
    with serving(curation) as (address, _):
        ann.open(address, "Ann")
        for element in ann.driver.find_elements(By.CSS_SELECTOR, "button, input, [role], img, progress, output"):
            if element.is_displayed() and element.get_attribute("role") not in ("alert", "status"):
                assert element.accessible_name, element.get_attribute("outerHTML")
