"""The page in a real browser: every gesture, with the request it sends and the result it shows, at two sizes."""

import pytest

pytest.importorskip("selenium", reason="the browser is driven by selenium")
pytest.importorskip("fastapi", reason="the page is served by fastapi")

from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.server.browser.driving import PICTURE, near, needs_browser, thing
from virtue.masks import bounding_box

pytestmark = needs_browser

# Answers to /v1/mask wait until `release()`; `held` has what was asked, with its signal.
_HOLD = """
window.held = [];
const fetched = window.fetch;
window.fetch = async (path, options = {}) => {
  if (!String(path).startsWith("/v1/mask")) return fetched(path, options);
  await new Promise((go) => { held.push({ point: JSON.parse(options.body).points[0], signal: options.signal, go }); });
  return fetched(path, options);
};
"""


def test_hover_shows_a_mask(page, indexed):
    x, y = thing(indexed)
    for step in range(8):
        page.go(x + step, y + step).perform()
        page.until(lambda: page.find("#marks .preview"))
    asked = page.requests("/v1/mask")
    assert 1 <= len(asked) <= 8
    assert all(near(one["body"]["points"][0][:2], (x, y), 12) and one["status"] == 200 for one in asked)
    assert page.all("#marks .spot") == []
    assert all("points" not in one["body"]["query"] for one in page.requests("/v1/search"))  # nothing is taken yet
    times = page.run("return performance.getEntriesByName('virtue:hover').map((mark) => mark.detail.milliseconds)")
    print(f"hover to mask: {sorted(times)[len(times) // 2]:.0f} ms (the median of {len(times)})")


def test_a_newer_hover_takes_the_place_of_an_older_one(page):
    page.run(_HOLD)
    for place in ((20, 30), (90, 90), (150, 150), (220, 200)):
        page.go(*place).perform()
    page.until(lambda: page.run("return held.length") == 1)
    page.run("held[0].go()")
    page.until(lambda: page.run("return held.length") == 2)  # those between are not asked any more
    points = page.run("return held.map((one) => one.point)")
    assert near(points[0][:2], (20, 30))
    assert near(points[1][:2], (220, 200))
    assert not page.run("return held[1].signal.aborted")
    ActionChains(page.driver, 0).move_to_element(page.find("#home")).perform()
    page.until(lambda: page.run("return held[1].signal.aborted"))
    page.run("held[1].go()")
    assert page.all("#marks .preview") == []


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


# Whether the inside of a drawn outline covers a place, and the box around it: both in source pixels.
_COVERED = """
const [selector, x, y] = arguments;
const drawn = marks.querySelector(selector);
const toPicture = marks.getScreenCTM().inverse().multiply(drawn.getScreenCTM());
const { x: left, y: top, width, height } = drawn.getBBox();
const corners = [[left, top], [left + width, top + height]].map((at) => new DOMPoint(...at).matrixTransform(toPicture));
const covers = drawn.isPointInFill(new DOMPoint(x, y).matrixTransform(toPicture.inverse()));
return [covers, corners.flatMap((corner) => [corner.x, corner.y])];
"""


def test_outlines_lie_on_the_thing_in_a_large_picture(page, indexed, tmp_path):
    scene = indexed[1][PICTURE]
    file = tmp_path / "large.jpg"
    Image.fromarray(scene.image).resize((3000, 2000)).save(file, quality=95)
    across, down = 3000 / scene.image.shape[1], 2000 / scene.image.shape[0]
    x, y = thing(indexed)
    x, y = x * across, y * down
    page.find("#file").send_keys(str(file))
    page.until(lambda: page.run("return marks.getAttribute('viewBox')") == "0 0 3000 2000")
    page.opened()
    page.forget()
    x1, y1, x2, y2 = bounding_box(max(scene.objects, key=lambda own: own.mask.sum()).mask)
    for act, selector in ((page.go(x, y), ".preview"), (page.go(x, y).click(), ".edge.over")):
        act.perform()
        page.until(lambda selector=selector: page.find(f"#marks {selector}"))
        covers, box = page.run(_COVERED, selector, x, y)
        assert covers
        assert near(box, (x1 * across, y1 * down, x2 * across, y2 * down), 300)
    answer = page.request("/v1/mask")["answer"]
    assert answer["mask"]["size"] == [683, 1024]  # smaller than the picture, so that it comes fast


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


def test_an_error_is_a_sentence(page):
    page.until(lambda: page.find("#hits .card"))
    page.find("#file").send_keys(__file__)
    page.until(lambda: page.find("#trouble").is_displayed())
    assert "is no picture" in page.text("#trouble-text")
    ActionChains(page.driver).move_to_element(page.find("#trouble-close")).click().perform()
    assert not page.find("#trouble").is_displayed()
