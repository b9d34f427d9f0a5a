"""A canvas with the strokes that places are painted with: gradients, grain, ridges, discs, polygons, clouds.

Positions are fractions of the width and the height, colours RGB in [0, 255]. Randomness comes from numpy integers and
uniforms and the arithmetic is sums and products (a parabola stands in for the sine), so a seed gives the same pixels
everywhere.
"""

import numpy as np
from PIL import Image, ImageChops, ImageDraw

Colour = tuple[int, int, int]


class Canvas:
    """A picture being painted; positions are fractions of its width and height."""

    def __init__(self, rng: np.random.Generator, width: int, height: int) -> None:
        self.rng, self.width, self.height = rng, width, height
        self.image = Image.new("RGB", (width, height))
        self.draw = ImageDraw.Draw(self.image)

    def between(self, low: float, high: float) -> float:
        """A random number in [low, high)."""
        return low + (high - low) * float(self.rng.random())

    def count(self, low: int, high: int) -> int:
        """A random whole number in [low, high]."""
        return int(self.rng.integers(low, high + 1))

    def colour(self, base: Colour, spread: int = 18) -> Colour:
        """A random colour near `base`: one shift of all channels, and a smaller one of each."""
        shift, *own = self.rng.integers(-spread, spread + 1, size=4).tolist()
        red, green, blue = (min(255, max(0, c + shift + d // 2)) for c, d in zip(base, own, strict=True))
        return red, green, blue

    def pick(self, *colours: Colour) -> Colour:
        """A random colour near one of these."""
        return self.colour(colours[self.count(0, len(colours) - 1)])

    def xy(self, x: float, y: float) -> tuple[int, int]:
        """Fractions to pixels."""
        return int(x * self.width), int(y * self.height)

    def gradient(self, top: Colour, bottom: Colour, y1: float = 0.0, y2: float = 1.0) -> None:
        """A vertical blend from `top` to `bottom` between two heights."""
        first, last = int(y1 * self.height), max(int(y2 * self.height), int(y1 * self.height) + 1)
        share = np.linspace(0, 1, last - first)[:, None]
        column = (np.array(top) * (1 - share) + np.array(bottom) * share).astype(np.uint8)[:, None]  # (rows, 1, 3)
        self.image.paste(Image.fromarray(column).resize((self.width, last - first)), (0, first))

    def grain(self, y1: float, y2: float, cells: int, strength: int) -> None:
        """Soft random blotches of light and dark between two heights; more cells make finer ones."""
        first, last = int(y1 * self.height), int(y2 * self.height)
        if last <= first:
            return
        rows = max(2, cells * (last - first) // self.width)
        field = self.rng.integers(128 - strength, 129 + strength, size=(rows, cells), dtype=np.uint8)
        blotches = Image.fromarray(field).resize((self.width, last - first), Image.Resampling.BILINEAR)
        area = self.image.crop((0, first, self.width, last))
        self.image.paste(ImageChops.add(area, Image.merge("RGB", [blotches] * 3), 1, -128), (0, first))

    def ridge(self, colour: Colour, base: float, amplitude: float, bumps: float, bottom: float = 1.0) -> None:
        """A rolling silhouette (dunes, hills, waves) whose crest lies about `base`, filled down to `bottom`."""
        x = np.linspace(0, 1, 33)
        y = base - amplitude * (
            0.7 * _wave(x * bumps + self.between(0, 1)) + 0.3 * _wave(x * bumps * 2.7 + self.between(0, 1))
        )
        crest = [self.xy(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
        self.draw.polygon(
            [*crest, (self.width, int(bottom * self.height)), (0, int(bottom * self.height))], fill=colour
        )

    def disc(self, x: float, y: float, radius: float, fill: Colour | None, outline: Colour | None = None) -> None:
        """A circle; the radius is a fraction of the shorter side."""
        r = radius * min(self.width, self.height)
        px, py = x * self.width, y * self.height
        self.draw.ellipse((px - r, py - r, px + r, py + r), fill=fill, outline=outline)

    def box(self, x1: float, y1: float, x2: float, y2: float, fill: Colour) -> None:
        """A filled rectangle."""
        left, right = sorted((x1, x2))
        top, bottom = sorted((y1, y2))
        self.draw.rectangle((*self.xy(left, top), *self.xy(right, bottom)), fill=fill)

    def shape(self, fill: Colour, *corners: tuple[float, float]) -> None:
        """A filled polygon."""
        self.draw.polygon([self.xy(*corner) for corner in corners], fill=fill)

    def line(self, colour: Colour, width: float, *corners: tuple[float, float]) -> None:
        """A stroke through these corners; its width is a fraction of the shorter side."""
        pixels = max(1, int(width * min(self.width, self.height)))
        self.draw.line([self.xy(*corner) for corner in corners], fill=colour, width=pixels)

    def clouds(self, low: int, high: int, colour: Colour, y1: float, y2: float) -> None:
        """A few clouds of overlapping ellipses."""
        for _ in range(self.count(low, high)):
            x, y, size = self.between(0, 1), self.between(y1, y2), self.between(0.03, 0.07)
            for _ in range(4):
                self.disc(
                    x + self.between(-2, 2) * size,
                    y + self.between(-0.4, 0.4) * size,
                    size * self.between(0.5, 1),
                    colour,
                )


def _wave(turns: np.ndarray) -> np.ndarray:
    """Looks like a sine of `turns` whole turns, from two parabolas."""
    phase = turns - np.floor(turns)
    half = 2 * phase - np.floor(2 * phase)
    sign: np.ndarray = np.where(phase < 0.5, 1.0, -1.0)
    sign *= 4 * half * (1 - half)
    return sign
