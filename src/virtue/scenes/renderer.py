"""Draws scenes: two to five emoji objects on a painted place, with exact masks, boxes and relations.

What is special:
- `render(seed, split)` is a pure function: a seed gives the same picture on every machine. Random numbers are the
  integers and uniforms of numpy's PCG64, drawing is Pillow's and integer arithmetic. The splits draw from disjoint
  streams.
- Everything casts a soft shadow, which shows what is in front where little is hidden and belongs to no object's mask.
- Training scenes never show a held-out pair (`vocabulary`); three test scenes in four or more do.
- Masks hold the pixels that can be seen, boxes are tight around them (XYXY, source pixels, far edges exclusive), and
  relations follow from these visible boxes alone, so anyone can check them:
  left/right of where |dx| > 1.3 |dy| between box centres, above/below where |dy| > 1.3 |dx|, nothing between the cones;
  in front of/behind where the boxes' overlap is more than a fifth of the smaller box, the later drawn being in front.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from virtue.masks import bounding_box
from virtue.scenes.places import paint
from virtue.scenes.vocabulary import OBJECTS, PLACES, held_out_objects, held_out_places

Split = Literal["train", "test"]
Relation = tuple[int, str, int]

SPLITS: dict[Split, int] = {"train": 0, "test": 1}
MIN_OBJECTS, MAX_OBJECTS = 2, 5
MIN_SIZE, MAX_SIZE = 0.18, 0.45  # an object's longer side before it turns, of the picture's shorter side
MAX_TURN = 25  # degrees
MIN_VISIBLE = 0.4  # of an object's own pixels
MIN_AREA = 0.002  # visible pixels of an object, of the picture's
CONE = 1.3
COVERED = 0.2
NEAR = 0.25  # of the objects stand beside or over an earlier one on purpose
SMALLEST_SIDE = 32  # pixels
LARGEST_SIDE = 4096
LONGEST = 4  # longer side over the shorter one; in a longer picture an object as large as it gets is too small
_SHEET_COLUMNS, _CELL = 16, 112


@dataclass(frozen=True, slots=True, eq=False)
class SceneObject:
    """One drawn thing.

    Attributes:
        name: One of the vocabulary's names, unique in its scene.
        box: Tight around the visible pixels, XYXY in source pixels, x2 and y2 exclusive.
        mask: Visible pixels, bool (H, W).
        index: Place in the drawing order; a higher one is drawn later, in front.
    """

    name: str
    box: tuple[float, float, float, float]
    mask: np.ndarray
    index: int


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A picture and everything that is known about it.

    Attributes:
        image: RGB uint8 (H, W, 3).
        objects: In drawing order.
        place: One of the vocabulary's places.
        seed: With `split` and the size, all that is needed to draw it again.
        split: "train" or "test".
        relations: (i, relation, j): "object i is `relation` object j"; each is there from both sides.
        held_out: The pairs of this scene that training never shows: (object, place) and (object, object).
    """

    image: np.ndarray
    objects: tuple[SceneObject, ...]
    place: str
    seed: int
    split: Split
    relations: tuple[Relation, ...]
    held_out: tuple[tuple[str, str], ...]


def render(seed: int, split: Split = "train", width: int = 256, height: int = 256, near: float = NEAR) -> Scene:
    """Draws one scene.

    Args:
        seed: Not negative; chooses the scene within its split.
        split: "train" or "test".
        width: Pixels.
        height: Pixels.
        near: Share of the objects that stand beside or over an earlier one on purpose; more makes a more crowded scene.

    Returns:
        The scene.

    Raises:
        ValueError: If the seed, the split or the size is out of range.
    """
    check_request(seed, split, width, height)
    rng = np.random.default_rng([SPLITS[split], seed])
    place, names = _choose_words(rng, split)
    return draw(rng, place, names, seed, split, width, height, near)


def draw(
    rng: np.random.Generator,
    place: int,
    names: list[int],
    seed: int,
    split: Split,
    width: int,
    height: int,
    near: float = NEAR,
    accept: Callable[[tuple[Relation, ...]], bool] = lambda relations: True,
) -> Scene:
    """Draws these objects in this place; `render` and `composing` choose the words.

    Args:
        rng: All that is random about the picture.
        place: Which of `PLACES`.
        names: Which of `OBJECTS`, in drawing order.
        seed: What the scene says of itself.
        split: What the scene says of itself.
        width: Pixels.
        height: Pixels.
        near: As for `render`.
        accept: Objects are arranged anew until it agrees to their relations.
    """
    picture = paint(PLACES[place], rng, width, height)
    while True:
        sprites, corners, owner = _arrange(rng, names, width, height, near)
        objects = tuple(_scene_object(OBJECTS[name].name, owner == index, index) for index, name in enumerate(names))
        relations = tuple(relations_between(objects))
        if accept(relations):
            break
    shadow = _Shadow.of(rng, min(width, height))
    for sprite, corner in zip(sprites, corners, strict=True):
        shadow.cast(picture, sprite, corner)
        picture.paste(sprite, corner, sprite)
    return Scene(
        image=_light(rng, np.asarray(picture)),
        objects=objects,
        place=PLACES[place],
        seed=seed,
        split=split,
        relations=relations,
        held_out=tuple(_held_out(place, names)),
    )


def check_request(seed: int, split: str, width: int, height: int) -> None:
    """Refuses what `render` cannot draw.

    Raises:
        ValueError: If the seed or the split is out of range, or the size, in pixels, too small, too long or too large.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; it must be 'train' or 'test'")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or more")
    if min(width, height) < SMALLEST_SIDE:
        raise ValueError(
            f"a scene of {width} x {height} pixels is too small; each side must be at least {SMALLEST_SIDE}"
        )
    if max(width, height) > LONGEST * min(width, height):
        raise ValueError(
            f"a scene of {width} x {height} pixels is too long; one side may be at most {LONGEST} times the other"
        )
    if max(width, height) > LARGEST_SIDE:
        raise ValueError(f"a scene of {width} x {height} pixels is too large; each side may be at most {LARGEST_SIDE}")


def scenes(
    split: Split = "train", start: int = 0, count: int | None = None, width: int = 256, height: int = 256
) -> Iterator[Scene]:
    """Streams the scenes of seeds `start`, `start + 1`, ...; without a count, for ever."""
    seed = start
    while count is None or seed < start + count:
        yield render(seed, split, width, height)
        seed += 1


def relations_between(objects: tuple[SceneObject, ...]) -> Iterator[Relation]:
    """Every relation that is true between two of the objects, from both sides; the module says by which rule."""
    for i, a in enumerate(objects):
        for j, b in enumerate(objects):
            if i == j:
                continue
            dx, dy = (b.box[k] + b.box[k + 2] - a.box[k] - a.box[k + 2] for k in (0, 1))
            if abs(dx) > CONE * abs(dy):
                yield i, "left of" if dx > 0 else "right of", j
            elif abs(dy) > CONE * abs(dx):
                yield i, "above" if dy > 0 else "below", j
            if _overlap(a, b) > COVERED:
                yield i, "in front of" if a.index > b.index else "behind", j


def _overlap(a: SceneObject, b: SceneObject) -> float:
    """Intersection of two boxes over the area of the smaller one."""
    wide = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    high = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    smaller = min((o.box[2] - o.box[0]) * (o.box[3] - o.box[1]) for o in (a, b))
    return max(wide, 0) * max(high, 0) / smaller


def _choose_words(rng: np.random.Generator, split: Split) -> tuple[int, list[int]]:
    """A place and the objects: without held-out pairs for training, half of the time with a chosen one for testing."""
    count = int(rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
    place = int(rng.integers(len(PLACES)))
    order = rng.permutation(len(OBJECTS)).tolist()
    if split == "train":
        return place, _compatible(order, place, count)
    first = order[0]
    wish = int(rng.integers(4))
    if wish == 0:  # half of the test scenes show a pair on purpose; most others contain one by chance
        places = np.flatnonzero(held_out_places()[first])
        place = int(rng.choice(places)) if len(places) else place
    elif wish == 1:
        partners = set(np.flatnonzero(held_out_objects()[first]).tolist())
        order[1:] = sorted(order[1:], key=lambda name: name not in partners)[:1] + order[1:]
    return place, list(dict.fromkeys(order))[:count]


def _compatible(order: list[int], place: int, count: int) -> list[int]:
    """The first objects of the order that may all be shown together in this place."""
    banned = held_out_places()[:, place].copy()
    names: list[int] = []
    for name in order:
        if not banned[name]:
            names.append(name)
            banned |= held_out_objects()[name]
        if len(names) == count:
            break
    return names


def _held_out(place: int, names: list[int]) -> Iterator[tuple[str, str]]:
    for i, name in enumerate(names):
        if held_out_places()[name, place]:
            yield OBJECTS[name].name, PLACES[place]
        for other in names[:i]:
            if held_out_objects()[name, other]:
                yield OBJECTS[other].name, OBJECTS[name].name


@cache
def _sprites() -> tuple[tuple[Image.Image, Image.Image], ...]:
    """Every object's cropped picture in full and half size, premultiplied RGBa; in the vocabulary's order."""
    with files("virtue.scenes").joinpath("data/sprites.png").open("rb") as file:
        sheet = Image.open(file).convert("RGBA")
    sprites = []
    for index in range(len(OBJECTS)):
        x, y = index % _SHEET_COLUMNS * _CELL, index // _SHEET_COLUMNS * _CELL
        cell = sheet.crop((x, y, x + _CELL, y + _CELL))
        full = cell.crop(cell.getchannel("A").getbbox()).convert("RGBa")
        sprites.append((full, full.resize((-(-full.width // 2), -(-full.height // 2)), Image.Resampling.BILINEAR)))
    return tuple(sprites)


def _sprite(rng: np.random.Generator, name: int, shorter_side: int) -> Image.Image:
    """One object's picture at a random size, turn, flip and colour, RGBA."""
    full, half = _sprites()[name]
    longer_side = (MIN_SIZE + (MAX_SIZE - MIN_SIZE) * float(rng.random())) * shorter_side
    source = full if longer_side > max(half.size) else half
    flip = -1 if rng.integers(2) else 1
    turned = _turn(source, longer_side / max(source.size), int(rng.integers(-MAX_TURN, MAX_TURN + 1)), flip)
    pixels, table = np.array(turned.convert("RGBA")), _colour_table(rng)
    for channel in range(3):
        pixels[..., channel] = table[channel][pixels[..., channel]]
    return Image.fromarray(pixels)


def _turn(picture: Image.Image, scale: float, degrees: int, flip: int) -> Image.Image:
    """The picture scaled, turned about its centre and, where `flip` is -1, mirrored, in a frame just large enough."""
    cos, sin = (round(f(math.radians(degrees)) * 4096) / 4096 for f in (math.cos, math.sin))  # alike on all machines
    wide = math.ceil(scale * (picture.width * cos + picture.height * abs(sin)))
    high = math.ceil(scale * (picture.height * cos + picture.width * abs(sin)))
    a, b, c, d = flip * cos / scale, flip * sin / scale, -sin / scale, cos / scale  # from the frame back to the picture
    x, y = (picture.width - a * wide - b * high) / 2, (picture.height - c * wide - d * high) / 2
    return picture.transform((wide, high), Image.Transform.AFFINE, (a, b, x, c, d, y), Image.Resampling.BILINEAR)


def _colour_table(rng: np.random.Generator) -> np.ndarray:
    """What each value of the three channels turns into: brightness, contrast and tint, uint8 (3, 256)."""
    contrast, brightness = int(rng.integers(205, 307)), int(rng.integers(-26, 27))  # contrast in 1/256
    tints = rng.integers(238, 275, size=(3, 1))  # gains in 1/256
    toned = np.clip((np.arange(256) - 128) * contrast // 256 + 128 + brightness, 0, 255)
    table: np.ndarray = np.minimum(toned * tints // 256, 255).astype(np.uint8)
    return table


def _arrange(
    rng: np.random.Generator, names: list[int], width: int, height: int, near: float
) -> tuple[list[Image.Image], list[tuple[int, int]], np.ndarray]:
    """Places all sprites so that each stays visible enough.

    Returns:
        The sprites (RGBA), their top-left corners (x, y), and which object every pixel shows, int8 (H, W), -1 for none.
    """
    least = MIN_AREA * width * height
    while True:
        sprites: list[Image.Image] = []
        corners: list[tuple[int, int]] = []
        owner = np.full((height, width), -1, dtype=np.int8)
        spare = np.zeros(0)  # pixels that each object may still lose, (objects so far,)
        for name in names:
            sprite = _sprite(rng, name, min(width, height))
            mask = np.asarray(sprite)[..., 3] >= 128
            area = int(np.count_nonzero(mask))
            found = _find_corner(rng, mask, owner, spare, corners, near) if area >= least else None
            if found is None:
                break
            (x, y), spare = found
            owner[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = len(sprites)
            spare = np.append(spare, area - max(MIN_VISIBLE * area, least))
            sprites.append(sprite)
            corners.append((x, y))
        else:
            return sprites, corners, owner


def _find_corner(
    rng: np.random.Generator,
    mask: np.ndarray,
    owner: np.ndarray,
    spare: np.ndarray,
    corners: list[tuple[int, int]],
    near: float,
) -> tuple[tuple[int, int], np.ndarray] | None:
    """A top-left corner (x, y) where no earlier object is hidden too much, and what each may lose after that."""
    high, wide = mask.shape
    room_x, room_y = owner.shape[1] - wide, owner.shape[0] - high
    if min(room_x, room_y) < 0:
        return None
    beside = bool(corners) and rng.random() < near
    for _ in range(20):
        x, y = int(rng.integers(room_x + 1)), int(rng.integers(room_y + 1))
        if beside:
            anchor = corners[int(rng.integers(len(corners)))]
            x = min(room_x, max(0, anchor[0] + int(rng.integers(-wide, wide + 1)) * 3 // 4))
            y = min(room_y, max(0, anchor[1] + int(rng.integers(-high, high + 1)) * 3 // 4))
        hidden = np.bincount(owner[y : y + high, x : x + wide][mask] + 1, minlength=len(spare) + 1)[1:]
        if np.all(hidden <= spare):
            return (x, y), spare - hidden
    return None


@dataclass(frozen=True, slots=True)
class _Shadow:
    """How the things of a scene darken what lies behind them; the light comes from above, more or less from one side.

    Attributes:
        shift: Where a shadow falls, (x, y) from its thing in pixels.
        blur: Radius in pixels.
        darkness: Of a shadow's middle, 0 to 255.
    """

    shift: tuple[int, int]
    blur: int
    darkness: int

    @classmethod
    def of(cls, rng: np.random.Generator, shorter_side: int) -> "_Shadow":
        """A scene's own; lengths grow with the picture."""
        x, y = int(rng.integers(-7, 8)), int(rng.integers(3, 9))
        scale = shorter_side / 256
        return cls((round(x * scale), round(y * scale)), max(1, round(4 * scale)), int(rng.integers(120, 191)))

    def cast(self, picture: Image.Image, sprite: Image.Image, corner: tuple[int, int]) -> None:
        """Darkens the picture where the sprite (RGBA), its top-left corner here (x, y), keeps the light away."""
        margin = 2 * self.blur
        outline = Image.new("L", (sprite.width + 2 * margin, sprite.height + 2 * margin))
        outline.paste(self.darkness, (margin, margin), sprite.getchannel("A"))
        soft = outline.filter(ImageFilter.BoxBlur(self.blur)).filter(ImageFilter.BoxBlur(self.blur))
        left, top = (at + by - margin for at, by in zip(corner, self.shift, strict=True))
        picture.paste((0, 0, 0), (left, top), soft)


def _scene_object(name: str, mask: np.ndarray, index: int) -> SceneObject:
    return SceneObject(name, bounding_box(mask), mask, index)


def _light(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A slope of light across the picture, a warm or cold cast, and fine noise; uint8 (H, W, 3) in and out."""
    height, width, _ = image.shape
    corner = rng.integers(109, 140, size=3)  # gains in 1/128 at the top left, top right and bottom left
    across = np.arange(width) * (corner[1] - corner[0]) // width
    down = np.arange(height) * (corner[2] - corner[0]) // height
    gain = np.repeat(np.clip(corner[0] + across + down[:, None], 95, 150).astype(np.uint16), 3, axis=1)  # (H, 3 W)
    strength = int(rng.integers(1, 8))
    cast = np.tile((rng.integers(-8, 9, size=3) - strength).astype(np.int16), width)
    noise = np.frombuffer(rng.bytes(image.size), dtype=np.uint8).reshape(height, -1).astype(np.uint16)
    lit = (image.reshape(height, -1) * gain >> 7) + (noise * np.uint16(2 * strength + 1) >> 8)
    lit = lit.astype(np.int16) + cast
    pixels: np.ndarray = np.clip(lit, 0, 255).astype(np.uint8)
    return pixels.reshape(image.shape)
