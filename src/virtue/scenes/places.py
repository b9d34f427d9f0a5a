"""Paints the fourteen places. Every seed gives other colours, horizons and shapes: a place is a look, not a picture."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from virtue.scenes.canvas import Canvas


def paint(place: str, rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Paints a place.

    Args:
        place: One of `vocabulary.PLACES`.
        rng: Decides colours and shapes.
        width: Pixels.
        height: Pixels.

    Returns:
        An RGB image.
    """
    canvas = Canvas(rng, width, height)
    _PAINTERS[place](canvas)
    return canvas.image


def _beach(c: Canvas) -> None:
    horizon = c.between(0.22, 0.42)
    shore = horizon + c.between(0.12, 0.24)
    c.gradient(c.colour((70, 160, 235)), c.colour((190, 226, 246)), 0, horizon)
    c.clouds(0, 3, c.colour((244, 248, 252), 8), 0.03, horizon * 0.7)
    c.gradient(c.colour((20, 110, 180)), c.colour((60, 190, 200)), horizon, 1)
    sand = c.colour((232, 205, 146))
    c.ridge(c.colour((246, 248, 244), 6), shore - 0.015, 0.02, c.between(1, 3))
    c.ridge(sand, shore, 0.02, c.between(1, 3))
    c.grain(shore + 0.03, 1, 48, 12)
    for _ in range(c.count(8, 25)):
        c.disc(c.between(0, 1), c.between(shore + 0.05, 1), 0.006, c.colour((205, 176, 120), 25))


def _forest(c: Canvas) -> None:
    ground = c.between(0.6, 0.78)
    c.gradient(c.colour((120, 160, 120)), c.colour((60, 100, 62)), 0, ground)
    for layer in range(3):
        shade = 1 - 0.25 * layer
        for _ in range(c.count(4, 7)):
            x, w = c.between(0, 1), c.between(0.012, 0.03) * (1 + layer * 0.5)
            c.box(
                x - w,
                0,
                x + w,
                ground + 0.03 * layer,
                c.colour((int(96 * shade), int(70 * shade), int(48 * shade)), 12),
            )
        for _ in range(c.count(7, 11)):
            leaf = c.colour((int(52 * shade), int(118 * shade), int(50 * shade)), 22)
            c.disc(c.between(0, 1), c.between(-0.05, 0.3), c.between(0.06, 0.14), leaf)
    c.gradient(c.colour((62, 84, 40)), c.colour((40, 58, 28)), ground, 1)
    c.grain(ground, 1, 40, 16)


def _desert(c: Canvas) -> None:
    horizon = c.between(0.3, 0.5)
    c.gradient(c.pick((236, 170, 110), (120, 180, 230)), c.colour((250, 222, 170)), 0, horizon + 0.15)
    if c.count(0, 1):
        c.disc(c.between(0.1, 0.9), c.between(0.08, 0.25), c.between(0.04, 0.08), c.colour((255, 240, 190), 8))
    for layer in range(c.count(3, 5)):
        dune = c.colour((226 - 14 * layer, 152 - 12 * layer, 78 - 8 * layer), 14)
        c.ridge(dune, horizon + 0.13 * layer, c.between(0.03, 0.09), c.between(0.7, 2.2))


def _city(c: Canvas) -> None:
    street = c.between(0.78, 0.9)
    c.gradient(c.colour((10, 12, 40), 10), c.pick((44, 40, 92), (78, 40, 90)), 0, street)
    for layer in range(2):
        x = -c.between(0, 0.1)
        while x < 1:
            w, top = c.between(0.08, 0.17), c.between(0.12, 0.5) + 0.15 * layer
            c.box(x, top, x + w, street, c.colour((34 - 12 * layer, 36 - 12 * layer, 60 - 18 * layer), 8))
            _windows(c, x, top, x + w, street)
            x += w + c.between(0, 0.03)
    c.box(0, street, 1, 1, c.colour((30, 30, 38), 8))
    c.line(c.colour((210, 190, 90)), 0.008, (0, (street + 1) / 2), (1, (street + 1) / 2))


def _windows(c: Canvas, x1: float, y1: float, x2: float, y2: float) -> None:
    columns, rows = max(2, int((x2 - x1) / 0.035)), int((y2 - y1) / 0.06)
    lit = c.rng.random((rows, columns)) < 0.55
    light = c.pick((250, 214, 120), (240, 236, 190), (150, 200, 240))
    for row, column in np.argwhere(lit).tolist():
        x, y = x1 + (column + 0.25) * (x2 - x1) / columns, y1 + (row + 0.3) * (y2 - y1) / rows
        c.box(x, y, x + 0.016, y + 0.024, light)


def _mountain(c: Canvas) -> None:
    c.gradient(c.pick((70, 130, 210), (130, 160, 190)), c.colour((214, 230, 244)), 0, 0.7)
    snow = c.colour((240, 245, 250), 8)
    for layer in range(c.count(2, 4)):
        x, peak = c.between(0, 1), c.between(0.08, 0.3) + 0.06 * layer
        spread, foot = c.between(0.35, 0.6), c.between(0.68, 0.8)
        cap = c.between(0.35, 0.6)
        c.shape(c.colour((98, 110, 130), 16), (x, peak), (x - spread, foot), (x + spread, foot))
        low, s = peak + (foot - peak) * cap, spread * cap
        c.shape(
            snow,
            (x, peak),
            (x - s, low),
            (x - s / 2, low - 0.05),
            (x, low + 0.03),
            (x + s / 2, low - 0.04),
            (x + s, low),
        )
    ground = c.between(0.55, 0.68)
    c.ridge(snow, ground, c.between(0.02, 0.06), c.between(0.8, 2))
    c.ridge(c.colour((214, 226, 240), 8), ground + c.between(0.12, 0.2), 0.04, c.between(0.8, 2))
    for _ in range(c.count(0, 1) * c.count(20, 50)):
        c.disc(c.between(0, 1), c.between(0, 1), 0.006, (252, 252, 255))


def _kitchen(c: Canvas) -> None:
    edge = c.between(0.3, 0.46)
    tile, gap = c.pick((222, 232, 230), (190, 214, 226), (236, 222, 200)), c.between(0.08, 0.14)
    c.box(0, 0, 1, edge, tile)
    grout = c.colour((170, 176, 176), 10)
    for step in range(int(1 / gap) + 1):
        c.line(grout, 0.006, (step * gap, 0), (step * gap, edge))
        if step * gap < edge:
            c.line(grout, 0.006, (0, step * gap), (1, step * gap))
    wood = c.pick((186, 126, 74), (150, 96, 58), (214, 170, 116))
    c.gradient(wood, c.colour((wood[0] - 30, wood[1] - 26, wood[2] - 20), 6), edge, 1)
    c.grain(edge, 1, 10, 8)
    dark = c.colour((wood[0] - 60, wood[1] - 50, wood[2] - 40), 8)
    middle = c.between(0.3, 0.7)
    for step in range(-6, 8):
        c.line(dark, 0.005, (middle + step * 0.1, edge), (middle + step * 0.26, 1))
    c.box(0, edge - 0.015, 1, edge + 0.012, dark)


def _water(c: Canvas) -> None:
    c.gradient(c.pick((70, 190, 220), (60, 170, 200)), c.pick((6, 50, 110), (4, 66, 96)))
    for _ in range(c.count(2, 5)):
        x, w, lean = c.between(0, 1), c.between(0.02, 0.06), c.between(-0.3, 0.3)
        c.shape(c.colour((92, 190, 220), 10), (x, 0), (x + w, 0), (x + lean + w * 2, 0.6), (x + lean, 0.6))
    c.grain(0, 1, 9, 14)
    floor = c.between(0.82, 0.93)
    c.ridge(c.colour((150, 150, 112)), floor, 0.03, c.between(1, 3))
    for _ in range(c.count(4, 9)):
        x, top, weed = c.between(0, 1), c.between(0.55, 0.8), c.colour((24, 110, 76), 22)
        sway = c.between(0.01, 0.04)
        c.line(weed, 0.02, (x, 1), (x + sway, (1 + top) / 2), (x, top + 0.05), (x + sway, top))
    for _ in range(c.count(10, 28)):
        c.disc(c.between(0, 1), c.between(0, 0.9), c.between(0.006, 0.022), None, c.colour((190, 232, 244), 12))


def _space(c: Canvas) -> None:
    c.gradient(c.colour((8, 6, 22), 6), c.pick((24, 10, 48), (8, 18, 50), (30, 8, 34)))
    c.grain(0, 1, 5, 16)
    for x, y, light in c.rng.random((c.count(70, 160), 3)).tolist():
        value = int(140 + 115 * light)
        c.disc(x, y, 0.002 + 0.004 * light * light, (value, value, min(255, value + 15)))
    for _ in range(c.count(1, 3)):
        x, y, r = c.between(0, 1), c.between(0, 1), c.between(0.04, 0.14)
        body = c.pick((200, 120, 80), (90, 140, 200), (180, 170, 140), (150, 90, 170))
        c.disc(x, y, r, body)
        c.disc(
            x - r * 0.25,
            y - r * 0.25,
            r * 0.6,
            c.colour((min(255, body[0] + 24), min(255, body[1] + 24), min(255, body[2] + 24)), 4),
        )
        if c.count(0, 1):
            c.line(c.colour((210, 196, 160)), 0.012, (x - r * 1.7, y + r * 0.5), (x + r * 1.7, y - r * 0.5))


def _grass(c: Canvas) -> None:
    horizon = c.between(0.2, 0.42)
    c.gradient(c.colour((96, 176, 240)), c.colour((206, 232, 248)), 0, horizon + 0.06)
    c.clouds(1, 4, c.colour((248, 250, 252), 6), 0.03, horizon * 0.8)
    green = c.pick((98, 178, 62), (124, 190, 72), (76, 158, 66))
    c.ridge(c.colour((green[0] - 24, green[1] - 24, green[2] - 12), 8), horizon, 0.04, c.between(0.8, 2))
    c.ridge(green, horizon + 0.07, 0.03, c.between(0.8, 2))
    c.grain(horizon + 0.1, 1, 36, 12)
    blade = c.colour((green[0] - 34, green[1] - 30, green[2] - 20), 8)
    for x, y in c.rng.random((c.count(60, 110), 2)).tolist():
        y = horizon + 0.14 + y * (0.86 - horizon)
        c.line(blade, 0.005, (x, y), (x + 0.006, y - 0.03))


def _road(c: Canvas) -> None:
    horizon, vanish = c.between(0.25, 0.42), c.between(0.35, 0.65)
    c.gradient(c.pick((130, 180, 226), (176, 190, 204)), c.colour((222, 230, 236)), 0, horizon)
    c.gradient(
        c.pick((140, 156, 92), (176, 160, 110), (110, 150, 90)), c.pick((110, 140, 80), (150, 140, 92)), horizon, 1
    )
    c.grain(horizon, 1, 30, 10)
    left, right = c.between(-0.45, -0.1), c.between(1.1, 1.45)
    c.shape(c.colour((92, 94, 100), 14), (vanish - 0.04, horizon), (vanish + 0.04, horizon), (right, 1), (left, 1))
    white = c.colour((236, 236, 230), 8)
    for side, end in ((-0.035, left + 0.07), (0.035, right - 0.07)):
        c.line(white, 0.014, (vanish + side, horizon), (end, 1))
    yellow, middle, offset = c.pick((244, 206, 70), (240, 240, 236)), (left + right) / 2, c.between(0, 0.1)
    for step in range(7):
        t1, t2 = ((step * 0.16 + offset) ** 2, (step * 0.16 + offset + 0.08) ** 2)
        x1, x2 = (vanish + (middle - vanish) * t for t in (t1, t2))
        w1, w2 = 0.004 + 0.02 * t1, 0.004 + 0.02 * t2
        y1, y2 = (horizon + (1 - horizon) * t for t in (t1, t2))
        c.shape(yellow, (x1 - w1, y1), (x1 + w1, y1), (x2 + w2, y2), (x2 - w2, y2))


def _room(c: Canvas) -> None:
    floor = c.between(0.62, 0.76)
    wall = c.pick((214, 200, 176), (186, 206, 196), (206, 186, 196), (190, 200, 220))
    c.box(0, 0, 1, floor, wall)
    c.gradient(c.pick((160, 112, 74), (128, 90, 64), (176, 150, 120)), c.pick((140, 96, 62), (112, 80, 58)), floor, 1)
    c.box(0, floor - 0.02, 1, floor, c.colour((240, 236, 228), 8))
    x, y, w = c.between(0.05, 0.6), c.between(0.06, 0.16), c.between(0.24, 0.34)
    c.box(x, y, x + w, y + w, c.colour((244, 242, 236), 8))
    c.box(x + 0.02, y + 0.02, x + w - 0.02, y + w - 0.02, c.colour((168, 212, 240)))
    c.line((244, 242, 236), 0.016, (x + w / 2, y), (x + w / 2, y + w))
    c.line((244, 242, 236), 0.016, (x, y + w / 2), (x + w, y + w / 2))
    rug = c.between(0.2, 0.6)
    c.draw.ellipse(
        (*c.xy(rug - 0.3, floor + 0.1), *c.xy(rug + 0.45, floor + 0.25)),
        fill=c.pick((176, 80, 76), (80, 100, 150), (200, 180, 120)),
    )
    sofa = c.pick((84, 110, 150), (160, 84, 74), (92, 130, 96), (130, 100, 140))
    left, top, wide = c.between(0, 0.45), floor - c.between(0.18, 0.24), c.between(0.42, 0.56)
    light = c.colour((min(255, sofa[0] + 22), min(255, sofa[1] + 22), min(255, sofa[2] + 22)), 4)
    c.box(left, top, left + wide, floor + 0.05, sofa)
    c.box(left + 0.05, top + 0.1, left + wide - 0.05, floor, light)
    for side in (left - 0.03, left + wide - 0.04):
        c.box(side, top + 0.06, side + 0.07, floor + 0.06, sofa)


def _sunset(c: Canvas) -> None:
    horizon, x = c.between(0.42, 0.6), c.between(0.2, 0.8)
    c.gradient(c.pick((90, 50, 120), (130, 50, 90), (60, 60, 130)), c.pick((255, 160, 70), (255, 130, 80)), 0, horizon)
    for _ in range(c.count(1, 5)):
        y, cx, w = c.between(0.05, horizon - 0.1), c.between(0, 1), c.between(0.1, 0.3)
        c.draw.ellipse(
            (*c.xy(cx - w, y), *c.xy(cx + w, y + 0.035)), fill=c.pick((220, 100, 100), (240, 140, 110), (150, 70, 110))
        )
    c.disc(x, horizon - c.between(-0.02, 0.06), c.between(0.08, 0.13), c.colour((255, 226, 120), 10))
    c.gradient(c.pick((200, 100, 80), (170, 80, 90)), c.pick((40, 30, 80), (50, 30, 60)), horizon, 1)
    for _ in range(c.count(16, 30)):
        t = c.between(0.02, 1)
        y, w = horizon + (1 - horizon) * t, c.between(0.02, 0.05) + 0.07 * t
        cx = x + c.between(-0.06, 0.06)
        c.line(c.colour((255, 190, 100), 20), 0.01, (cx - w, y), (cx + w, y))
    for _ in range(c.count(10, 20)):
        cx, y, w = c.between(0, 1), c.between(horizon + 0.03, 1), c.between(0.02, 0.08)
        c.line(c.colour((110, 60, 90), 16), 0.006, (cx - w, y), (cx + w, y))


def _volcano(c: Canvas) -> None:
    ground, x, top = c.between(0.66, 0.78), c.between(0.25, 0.75), c.between(0.2, 0.32)
    c.gradient(c.colour((58, 30, 40), 12), c.pick((180, 80, 50), (150, 70, 66)), 0, ground)
    for _ in range(c.count(5, 9)):
        c.disc(x + c.between(-0.2, 0.2), top - c.between(0.02, 0.25), c.between(0.04, 0.09), c.colour((74, 62, 66), 14))
    spread, mouth = c.between(0.38, 0.55), c.between(0.06, 0.1)
    rock, lava = c.colour((64, 48, 46), 10), c.colour((255, 104, 24))
    c.shape(rock, (x - mouth, top), (x + mouth, top), (x + spread, ground), (x - spread, ground))
    c.shape(lava, (x - mouth, top), (x + mouth, top), (x + mouth * 0.5, top + 0.05), (x - mouth * 0.4, top + 0.08))
    for _ in range(c.count(2, 4)):
        a, b, m = c.between(-0.5, 0.5) * mouth, c.between(-0.6, 0.6) * spread, c.between(0.3, 0.7)
        kink = (x + a + (b - a) * m + c.between(-0.03, 0.03), top + (ground - top) * m)
        c.line(c.pick((255, 120, 30), (255, 80, 20)), 0.022, (x + a, top), kink, (x + b, ground))
    for _ in range(c.count(6, 16)):
        c.disc(
            x + c.between(-0.25, 0.25),
            top - c.between(0, 0.2),
            c.between(0.005, 0.012),
            c.pick((255, 160, 40), (255, 90, 30)),
        )
    c.ridge(c.colour((44, 36, 38), 10), ground, 0.03, c.between(1, 3))
    c.grain(ground + 0.02, 1, 30, 14)
    for _ in range(c.count(1, 4)):
        a, y = c.between(0, 1), c.between(ground + 0.06, 0.97)
        c.line(lava, 0.014, (a - 0.1, y), (a, y + c.between(-0.03, 0.03)), (a + 0.1, y))


def _court(c: Canvas) -> None:
    outer = c.pick((46, 110, 70), (60, 90, 160), (176, 120, 70), (150, 70, 60))
    inner = c.pick((190, 96, 62), (50, 110, 180), (208, 150, 90), (80, 140, 90))
    c.box(0, 0, 1, 1, outer)
    c.grain(0, 1, 24, 6)
    far, near, shrink = c.between(0.1, 0.25), c.between(0.85, 0.98), c.between(0.02, 0.18)
    left, right = c.between(0.02, 0.1), c.between(0.9, 0.98)

    def spot(u: float, v: float) -> tuple[float, float]:
        inset = shrink * (1 - v)
        return left + inset + (right - left - 2 * inset) * u, far + (near - far) * v

    c.shape(inner, spot(0, 0), spot(1, 0), spot(1, 1), spot(0, 1))
    white, thick = c.colour((244, 244, 240), 6), c.between(0.01, 0.016)
    c.line(white, thick, spot(0, 0), spot(1, 0), spot(1, 1), spot(0, 1), spot(0, 0))
    c.line(white, thick, spot(0, 0.5), spot(1, 0.5))
    if c.count(0, 1):  # tennis: side lines, service lines
        for u in (0.14, 0.86):
            c.line(white, thick, spot(u, 0), spot(u, 1))
        for v in (0.26, 0.74):
            c.line(white, thick, spot(0.14, v), spot(0.86, v))
        c.line(white, thick, spot(0.5, 0.26), spot(0.5, 0.74))
    else:  # basketball: centre circle, two keys
        x, y = spot(0.5, 0.5)
        c.draw.ellipse(
            (*c.xy(x - 0.13, y - 0.1), *c.xy(x + 0.13, y + 0.1)), outline=white, width=max(1, int(thick * c.width))
        )
        for v, deep in ((0, 0.24), (1, 0.76)):
            c.line(white, thick, spot(0.36, v), spot(0.36, deep), spot(0.64, deep), spot(0.64, v))


_PAINTERS: dict[str, Callable[[Canvas], None]] = {
    "on a beach": _beach,
    "in a forest": _forest,
    "in a desert": _desert,
    "in a city at night": _city,
    "on a snowy mountain": _mountain,
    "on a kitchen table": _kitchen,
    "under water": _water,
    "in outer space": _space,
    "on a grass field": _grass,
    "on a road": _road,
    "in a living room": _room,
    "at sunset on the sea": _sunset,
    "near a volcano": _volcano,
    "on a court": _court,
}
