"""Takes the pictures of the page that README and docs/demo.md show, and makes the clip.

    python scripts/screenshots.py                     # all of them, into docs/images
    python scripts/screenshots.py click clip          # only these

It serves the demo's sample images and does in a browser what a person does. What is pointed at is chosen by what the
bundled model makes of the samples, of which it is known what they show (`showcase`): so this can be run again after the
model or the drawn world has changed. It needs what the tests of the page need, Chromium and chromedriver; the font
Inter, Debian's fonts-inter, makes the pictures look as the page does where it is installed.
"""
# ruff: noqa: T201 -- who runs it is told what was made

import argparse
import base64
import io
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the tests' browser is used, and tests are no package

from scripts.clip import Clip  # noqa: E402
from scripts.showcase import Choice, Shown, around, choose  # noqa: E402
from tests.server.browser.driving import Browser, served  # noqa: E402
from virtue.commands.samples import write_samples  # noqa: E402
from virtue.embedder import Embedder  # noqa: E402
from virtue.index import FOLDER_NAME, Index, RegionSettings, build  # noqa: E402

FOLDER = ROOT / "docs" / "images"
DESKTOP, PHONE = (1280, 800), (390, 844)
SCALE = 1.5  # pixels of a picture for one of the page
MOST = 250_000  # bytes of a picture
SETTLED = 0.5  # seconds in which pictures are painted
STROKES = 5


class Photographer:
    """Brings the page into the states that are shown.

    Args:
        browser: On the page.
        address: Of the server.
        choice: What is pointed at.
    """

    def __init__(self, browser: Browser, address: str, choice: Choice) -> None:
        self.browser, self.address, self.choice = browser, address, choice

    def gallery(self) -> Image.Image:
        """The pictures to choose from."""
        self._page("", loaded="#pictures")
        return self._shot()

    def click(self, scheme: str = "light", size: tuple[int, int] = DESKTOP) -> Image.Image:
        """One click, and the things that are found."""
        self._open(self.choice.clear.picture, scheme, size)
        self._click(*self.choice.clear.at)
        return self._shot()

    def dark(self) -> Image.Image:
        """The same in the dark."""
        return self.click("dark")

    def exclude(self) -> Image.Image:
        """A box around two things, and the same after one is excluded, side by side."""
        take, leave = self.choice.excluded
        self._open(take.picture)
        self._box(around(take, leave))
        before = self._cropped("#picture")
        self._tool("exclude")
        self._click(*leave.at)
        return beside([before, self._cropped("#picture")])

    def box(self) -> Image.Image:
        """A box around a thing, and a mask painted over it, side by side."""
        shown = self.choice.clear
        self._open(shown.picture)
        self._box(shown.box)
        box = self._cropped("#picture")
        self._open(shown.picture)
        self._tool("paint")
        self._paint(shown.strokes(STROKES))
        return beside([box, self._cropped("#picture")])

    def name(self, scheme: str = "light", size: tuple[int, int] = DESKTOP, top: str = "body") -> Image.Image:
        """What is this? With and without the hint."""
        named = self.choice.named
        self._open(named.picture, scheme, size, mode="name")
        self.browser.run(
            "captions.value = arguments[0]; captions.dispatchEvent(new Event('input'))", "\n".join(self.choice.captions)
        )
        self.browser.until(lambda: len(self.browser.all("#rank-rows tr")) == len(self.choice.captions))
        self.browser.go(*named.at).click().perform()
        self.browser.until(lambda: "hint makes" in self.browser.text("#verdict"))
        return self._shot(top)

    def phone(self) -> Image.Image:
        """A phone: the gallery, a click in the dark, and What is this?"""
        self.browser.touched(True)
        self._page("", loaded="#pictures", size=PHONE)
        row = beside([self._shot(), self.click("dark", PHONE), self.name("light", PHONE, top="#frame")])
        self.browser.touched(False)
        return row

    def clip(self) -> Clip:
        """Point, exclude, search: the frames of a clip."""
        clear, (take, leave) = self.choice.clear, self.choice.excluded
        self._page("", loaded="#pictures", size=Clip.SIZE, scale=1)
        clip = Clip(self.browser)
        self._choose(clip, clear)
        clip.move(clip.place(*clear.at), frames=16)
        clip.hold(0.7, "Hover: what the model sees")
        clip.click("Click: this thing")
        self._found()
        clip.hold(1.8)
        clip.move(clip.middle("#home"))
        clip.click("")
        self._choose(clip, take)
        left, top, right, bottom = around(take, leave)
        clip.move(clip.place(left, top))
        clip.drag(clip.place(right, bottom), "Drag: a box around two")
        self._found()
        clip.hold(1.2)
        clip.move(clip.place(*leave.at))
        clip.click("Shift-click: not this one", shift=True)
        self._found()
        clip.hold(2.4)
        return clip

    def _choose(self, clip: Clip, shown: Shown) -> None:
        """Clicks a picture of the gallery."""
        card = f"#pictures [data-path='{shown.picture}']"
        self.browser.until(lambda: self._is_shown(card))
        time.sleep(SETTLED)
        clip.hold(0.4)
        clip.move(clip.middle(card))
        clip.click("Choose a picture")
        self.browser.opened()
        self._found()
        clip.hold(0.5)

    def _is_shown(self, card: str) -> bool:
        """Whether a picture of the gallery is in sight; reads on where it is not there yet."""
        self.browser.run(
            "const card = document.querySelector(arguments[0]);"
            "card ? card.scrollIntoView({block: 'center'}) : scrollTo(0, document.body.scrollHeight)",
            card,
        )
        return bool(self.browser.all(f"{card} .is-loaded"))

    def _page(self, fragment: str, loaded: str, scheme: str = "light", size=DESKTOP, scale: float = SCALE) -> None:
        self.browser.resize(*size, scale)
        self.browser.colours(scheme)
        self.browser.open(self.address, fragment)
        self.browser.until(lambda: self.browser.all(f"{loaded} .is-loaded"))

    def _open(self, picture: str, scheme: str = "light", size=DESKTOP, mode: str = "find") -> None:
        self.browser.resize(*size, SCALE)
        self.browser.colours(scheme)
        self.browser.open(self.address, f"#image={picture}&mode={mode}")
        self.browser.opened()
        self._found() if mode == "find" else None

    def _click(self, x: float, y: float) -> None:
        self.browser.go(x, y).click().perform()
        self._found()

    def _box(self, box: tuple[float, float, float, float]) -> None:
        self.browser.go(*box[:2]).click_and_hold().perform()
        self.browser.go(*box[2:]).release().perform()
        self._found()

    def _tool(self, name: str) -> None:
        self.browser.run("document.querySelector(`button[data-tool=${arguments[0]}]`).click()", name)

    def _paint(self, places: list[tuple[float, float]]) -> None:
        first, *others = places
        self.browser.go(*first).click_and_hold().perform()
        for place in others:
            self.browser.go(*place).perform()
        self.browser.go(*others[-1]).release().perform()
        self._found()

    def _found(self) -> None:
        """Waits until the newest results and their thumbnails are there, and the pointer's preview is gone."""
        time.sleep(0.3)
        self.browser.until(lambda: self.browser.find("#hits[aria-busy=false]") and self.browser.find("#busy[hidden]"))
        self.browser.until(lambda: self.browser.all("#hits .is-loaded"))

    def _shot(self, top: str = "body", clip: dict[str, float] | None = None) -> Image.Image:
        """The page with an element at its top, or a part of it."""
        self.browser.run(
            "scrollTo(0, 0); scrollTo(0, document.querySelector(arguments[0]).getBoundingClientRect().top - 8)", top
        )
        time.sleep(SETTLED)
        options = {"format": "png", **({"clip": clip} if clip else {})}
        data = self.browser.driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"]
        return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")

    def _cropped(self, selector: str) -> Image.Image:
        """Only a part of the page, with a margin."""
        x, y, width, height = self.browser.run(
            "scrollTo(0, 0); const r = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return [r.x, r.y, r.width, r.height]",
            selector,
        )
        return self._shot(clip={"x": x - 12, "y": y - 12, "width": width + 24, "height": height + 24, "scale": 1})


def beside(pictures: list[Image.Image], gap: int = 18) -> Image.Image:
    """Pictures of one height in a row, on a grey that suits a light and a dark page."""
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    row = Image.new("RGB", (width, max(picture.height for picture in pictures)), (128, 129, 136))
    left = 0
    for picture in pictures:
        row.paste(picture, (left, 0))
        left += picture.width + gap
    return row


def save(picture: Image.Image, file: Path) -> None:
    """Writes WebP, as well as fits."""
    for quality in (86, 80, 72, 64, 55, 45):
        out = io.BytesIO()
        picture.save(out, "WEBP", quality=quality, method=6)
        if out.tell() < MOST:
            break
    file.write_bytes(out.getvalue())
    print(
        f"{file.relative_to(ROOT)}: {picture.width} x {picture.height}, {out.tell() / 1000:.0f} kB, quality {quality}"
    )


@contextmanager
def photographer(folder: Path):
    """A browser on the demo's page."""
    scenes = write_samples(folder)
    embedder = Embedder.from_pretrained("nano", device="cpu")
    place = folder / FOLDER_NAME
    regions = RegionSettings(grid=5, min_quality=0.5, keep=6)
    index = Index.open(place) if Index.exists(place) else Index.create(folder, embedder, regions=regions)
    build(index, embedder, batch_size=8)
    choice = choose(folder, scenes, embedder, index)
    with served(embedder, index) as address:
        browser = Browser(*DESKTOP)
        try:
            yield Photographer(browser, address, choice)
        finally:
            browser.driver.quit()


def main() -> None:
    """Takes what is asked for."""
    names = ("gallery", "click", "exclude", "box", "name", "dark", "phone", "clip")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", nargs="*", help=f"which: {', '.join(names)}; all by default")
    parser.add_argument("--samples", type=Path, help="folder to keep the samples and their index in, for another time")
    given = parser.parse_args()
    asked = given.name or names
    if unknown := sorted(set(asked) - set(names)):
        parser.error(f"there is no picture {unknown[0]}; there are {', '.join(names)}")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, photographer(given.samples or Path(scratch)) as person:
        for name in asked:
            taken = getattr(person, name)()
            if isinstance(taken, Clip):
                taken.save(FOLDER / f"page-{name}.gif")
            else:
                save(taken, FOLDER / f"page-{name}.webp")


if __name__ == "__main__":
    main()
