"""A browser, a server for it, and what a person does with the page."""

import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.server.live import running
from virtue.embedder import Embedder
from virtue.evaluation.scenes import interior_point
from virtue.index import Index, RegionSettings, build
from virtue.scenes.renderer import render
from virtue.server.app import create_app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver: Debian's packages chromium and chromium-driver"
)
SEEDS = (1329, 1513, 2447, 1340)
PICTURE = "scene-1329.png"

# Keeps each request to the API with its body and its answer, for tests to look at.
_RECORD = """
window.requests = [];
const fetched = window.fetch;
window.fetch = async (path, options = {}) => {
  const response = await fetched(path, options);
  const isJson = typeof options.body === "string";
  const entry = { path: String(path), status: response.status, body: isJson ? JSON.parse(options.body) : null };
  if ((response.headers.get("content-type") || "").includes("json")) {
    response.clone().json().then((answer) => { entry.answer = answer; window.requests.push(entry); }, () => {});
  }
  return response;
};
"""


def made_index(folder: Path, embedder: Embedder) -> tuple[Index, dict[str, object]]:
    """An index of four scenes with their regions, and what each scene shows."""
    scenes = {f"scene-{seed}.png": render(seed, "test") for seed in SEEDS}
    for name, scene in scenes.items():
        Image.fromarray(scene.image).save(folder / name)
    index = Index.create(folder, embedder, regions=RegionSettings(grid=4, min_quality=0.5, keep=4))
    build(index, embedder, batch_size=4)
    return index, scenes


def thing(indexed: tuple[Index, dict[str, object]], picture: str = PICTURE) -> tuple[float, float]:
    """A place on the largest thing of a picture, source pixels."""
    shown = max(indexed[1][picture].objects, key=lambda own: own.mask.sum())
    point = interior_point(shown.mask)
    return point.x, point.y


def near(found, expected, slack: float = 3.0) -> bool:
    """Whether places are the same but for what a screen's pixels make of them."""
    return all(abs(one - other) <= slack for one, other in zip(found, expected, strict=True))


@contextmanager
def served(embedder, index=None, settings=None):
    """The address of a server."""
    with running(create_app(embedder, index, settings, name="nano")) as address:
        yield address


class Browser:
    """A browser on the page."""

    def __init__(self, width: int = 1280, height: int = 800) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
            options.add_argument(f"--{argument}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _RECORD})
        self.resize(width, height)
        self.colours("light")

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        """Sets the size of the page, which is smaller than a window may be, and the screen's pixels for one of it."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def colours(self, scheme: str) -> None:
        """Prefers light or dark, and nothing that moves: so nobody has to wait until it has."""
        wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def touched(self, is_touched: bool) -> None:
        """Makes the screen one that is touched, as a phone's is."""
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": is_touched})

    def open(self, address: str, fragment: str = "") -> None:
        """Loads the page anew."""
        self.driver.get("about:blank")
        self.driver.get(address + "/" + fragment)
        self.until(lambda: self.find("body[data-ready]"))

    def opens(self, picture: str) -> None:
        """Chooses a picture of the gallery."""
        card = f"#pictures [data-path='{picture}']"
        self.until(lambda: self.find(card))
        self.run("document.querySelector(arguments[0]).click()", card)
        self.opened()

    def opened(self) -> None:
        """Waits until the server has read the picture."""
        self.until(lambda: self.find("#frame:not(.is-opening)") and self.run("return image.naturalWidth"))

    def run(self, script: str, *arguments):
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str):
        return next(iter(self.all(selector)), None)

    def all(self, selector: str):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def until(self, condition):
        return WebDriverWait(self.driver, 20, 0.02, [StaleElementReferenceException]).until(lambda _: condition())

    def press(self, *keys: str) -> None:
        """Presses keys one after the other, wherever the focus is."""
        ActionChains(self.driver, 0).send_keys("".join(keys)).perform()

    def forget(self) -> None:
        """Forgets the requests so far."""
        self.run("window.requests.length = 0")

    def requests(self, path: str) -> list[dict]:
        """The answered requests to a path, the oldest first."""
        return [one for one in self.run("return window.requests") if one["path"].startswith(path)]

    def request(self, path: str, fits=lambda body: True) -> dict:
        """Waits for an answered request to a path whose body fits; the newest."""
        return self.until(lambda: next((one for one in reversed(self.requests(path)) if fits(one["body"])), None))

    def at(self, x: float, y: float) -> tuple[int, int]:
        """Where a place in the picture is, from the middle of the frame in screen pixels."""
        self.run("frame.scrollIntoView({block: 'center'})")
        wide, high, width, height = self.run(
            "const [, , w, h] = marks.getAttribute('viewBox').split(' ').map(Number);"
            "return [frame.clientWidth, frame.clientHeight, w, h]"
        )
        return round((x / width - 0.5) * wide), round((y / height - 0.5) * high)

    def go(self, x: float, y: float) -> ActionChains:
        """Actions that begin with the pointer at a place in the picture."""
        return ActionChains(self.driver, 0).move_to_element_with_offset(self.find("#frame"), *self.at(x, y))

    def screen(self, x: float, y: float) -> tuple[float, float]:
        """Where a place in the picture is on the screen."""
        self.run("frame.scrollIntoView({block: 'center'})")
        return tuple(
            self.run(
                "const [, , w, h] = marks.getAttribute('viewBox').split(' ').map(Number);"
                "const at = frame.getBoundingClientRect();"
                "return [at.x + arguments[0] / w * at.width, at.y + arguments[1] / h * at.height]",
                x,
                y,
            )
        )

    def errors(self) -> list[str]:
        """What the page complained about since it was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def violations(self, axe: str, *rules: str) -> list[str]:
        """What axe finds wrong with the page as it is, by these rules or all."""
        if not self.run("return Boolean(window.axe)"):
            self.run(axe)
        done = self.driver.execute_async_script(
            "const [rules, done] = arguments; axe.run(rules.length ? { runOnly: rules } : {}).then(done)", rules
        )
        return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in done["violations"]]
