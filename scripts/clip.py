"""A clip of the page: frames with a drawn pointer, which a browser without a screen does not show."""
# ruff: noqa: T201 -- who runs it is told what was made

import base64
import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ARROW = [(0, 0), (0, 17), (4, 13.4), (6.8, 19.6), (9.4, 18.4), (6.7, 12.4), (12, 12)]
FRAME = 50  # milliseconds of a frame in which the pointer moves
LABEL_SECONDS = 0.9
PALETTE_FRAMES = 6  # that its colours are chosen from


class Clip:
    """What a person does with the page, frame by frame.

    Args:
        browser: On the page, as large as `SIZE`.
    """

    SIZE = (1120, 700)
    SHOWN = (896, 560)

    def __init__(self, browser) -> None:
        self.browser = browser
        self.at = (self.SIZE[0] * 0.5, self.SIZE[1] * 0.9)
        self.frames: list[Image.Image] = []
        self.milliseconds: list[int] = []

    def middle(self, selector: str) -> tuple[float, float]:
        """The middle of an element, in pixels of the page."""
        return tuple(
            self.browser.run(
                "const r = document.querySelector(arguments[0]).getBoundingClientRect();"
                "return [r.x + r.width / 2, r.y + r.height / 2]",
                selector,
            )
        )

    def place(self, x: float, y: float) -> tuple[float, float]:
        """A place in the open picture, in pixels of the page."""
        return tuple(
            self.browser.run(
                "const r = frame.getBoundingClientRect(); const [, , w, h] = marks.getAttribute('viewBox').split(' ');"
                "return [r.x + arguments[0] / w * r.width, r.y + arguments[1] / h * r.height]",
                x,
                y,
            )
        )

    def move(self, to: tuple[float, float], frames: int = 12, label: str = "", **held: str) -> None:
        """Moves the pointer, slow at both ends."""
        start = self.at
        for step in range(1, frames + 1):
            part = step / frames
            eased = part * part * (3 - 2 * part)
            self.at = tuple(a + (b - a) * eased for a, b in zip(start, to, strict=True))
            self._send("mouseMoved", **held)
            self._take(FRAME, label)

    def drag(self, to: tuple[float, float], label: str) -> None:
        """Drags from where the pointer is."""
        self._send("mousePressed", button="left", clickCount=1)
        self.move(to, frames=14, label=label, button="left")
        self._send("mouseReleased", button="left", clickCount=1)
        self._take(round(500 * LABEL_SECONDS), label)

    def click(self, label: str, shift: bool = False) -> None:
        """Clicks where the pointer is, and says so."""
        keys = {"modifiers": 8 if shift else 0}
        self._take(FRAME, label)
        self._send("mousePressed", button="left", clickCount=1, **keys)
        for ring in (8, 14, 20):
            self._take(FRAME, label, ring)
        self._send("mouseReleased", button="left", clickCount=1, **keys)
        self._take(round(1000 * LABEL_SECONDS), label)

    def hold(self, seconds: float, label: str = "") -> None:
        """Shows the page as it is for a while."""
        self._take(round(1000 * seconds), label)

    def save(self, file: Path) -> None:
        """Writes a GIF that repeats, its colours chosen from all along it."""
        width, height = self.SHOWN
        some = Image.new("RGB", (width, PALETTE_FRAMES * height))
        for number in range(PALETTE_FRAMES):
            some.paste(self.frames[number * (len(self.frames) - 1) // (PALETTE_FRAMES - 1)], (0, number * height))
        palette = some.quantize(256, method=Image.Quantize.MEDIANCUT)
        first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self.frames)
        first.save(file, save_all=True, append_images=others, duration=self.milliseconds, loop=0)
        seconds, size = sum(self.milliseconds) / 1000, file.stat().st_size
        print(f"{file.name}: {len(self.frames)} frames, {seconds:.1f} s, {size / 1000:.0f} kB")

    def _send(self, kind: str, **details) -> None:
        x, y = self.at
        self.browser.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, **details})

    def _take(self, milliseconds: int, label: str = "", ring: int = 0) -> None:
        data = self.browser.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
        frame = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
        self.frames.append(_drawn(frame, self.at, label, ring).resize(self.SHOWN, Image.Resampling.LANCZOS))
        self.milliseconds.append(milliseconds)


def _drawn(frame: Image.Image, at: tuple[float, float], label: str, ring: int) -> Image.Image:
    """The frame with the pointer, what it does in words, and a ring where it clicks."""
    # Twice as large, for smooth edges.
    over = Image.new("RGBA", (2 * frame.width, 2 * frame.height))
    draw = ImageDraw.Draw(over)
    x, y = (2 * value for value in at)
    if ring:
        box = (x - 2 * ring, y - 2 * ring, x + 2 * ring, y + 2 * ring)
        draw.ellipse(box, outline=(255, 255, 255, 230), width=8)
        draw.ellipse(box, outline=(79, 75, 209, 255), width=4)
    if label:
        _label(draw, label, x + 44, y + 44, over.width)
    arrow = [(x + 2.9 * own_x, y + 2.9 * own_y) for own_x, own_y in ARROW]
    draw.polygon(arrow, fill=(18, 18, 24, 255), outline=(255, 255, 255, 255), width=4)
    frame.paste(small := over.resize(frame.size, Image.Resampling.LANCZOS), (0, 0), small)
    return frame


def _label(draw: ImageDraw.ImageDraw, text: str, x: float, y: float, width: int) -> None:
    font = ImageFont.load_default(30)
    long = draw.textlength(text, font)
    x = min(x, width - long - 70)
    draw.rounded_rectangle((x, y, x + long + 44, y + 58), 29, fill=(18, 18, 24, 235))
    draw.text((x + 22, y + 29), text, (255, 255, 255, 255), font, anchor="lm")
