"""The demo's sample images and its three searches, of which it is known what is right.

The samples are test scenes: `THEMES` names seeds whose scenes show one thing in one place, so that every search has
several right answers, and the scenes of the first seeds stand among them. A seed is all there is to keep: pictures are
drawn when they are missing, and the truth is drawn again.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from virtue.evaluation.scenes import interior_point
from virtue.items import Item
from virtue.prompts import Point
from virtue.scenes.renderer import Scene, render

if TYPE_CHECKING:
    from virtue.index import Hit

THEMES = {
    ("dog", "on a beach"): (1329, 3749, 3876, 4565, 5724),
    ("cat", "in a living room"): (1513, 1925, 2252, 4369, 6058),
    ("rocket", "in outer space"): (2447, 3268, 3716, 6443, 7782),
    ("octopus", "under water"): (1159, 1923, 2415, 3272, 7762),
    ("bicycle", "on a road"): (2379, 2445, 3900, 5466, 8190),
    ("penguin", "on a snowy mountain"): (1340, 3504, 3548, 4191, 4267),
}
FIRST_SEEDS = 42
SEEDS = (*chain.from_iterable(THEMES.values()), *range(FIRST_SEEDS))
WORDS = "a dog on a beach"
LIKE_SEED = 6605  # a rocket and a donut in outer space
POINTED_SEED, POINTED_AT = 8868, "cat"  # with a snail and a pumpkin in a living room


@dataclass(frozen=True)
class Search:
    """A search and what is right.

    Attributes:
        name: Of the file that shows its results.
        asked: What is asked, for a person.
        command: The same on the command line, without where to search.
        item: What is embedded.
        kind: Which rows answer it, `image` or `region`.
        wanted: What is right, in words.
        is_right: Whether a hit in a scene is.
    """

    name: str
    asked: str
    command: str
    item: Item
    kind: str
    wanted: str
    is_right: Callable[[Scene, Hit], bool]


def write_samples(folder: Path) -> dict[str, Scene]:
    """Draws the samples that are missing.

    Args:
        folder: Where to; made if missing.

    Returns:
        What each file shows, by its name.

    Raises:
        ValueError: If the folder holds other files, whose truth is not known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    samples = {f"scene-{seed:04d}.png": render(seed, "test") for seed in SEEDS}
    others = [file.name for file in folder.iterdir() if file.name not in samples and file.name[0] != "."]
    if others:
        raise ValueError(f"{folder} holds {others[0]}, which is no sample of the demo; choose another --folder.")
    for name, scene in samples.items():
        _draw(folder / name, scene)
    return samples


def searches(folder: Path) -> list[Search]:
    """The three searches: by words, by an image, by a thing in one.

    Args:
        folder: Where the images that are searched by are drawn; made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    like, pointed = render(LIKE_SEED, "test"), render(POINTED_SEED, "test")
    like_file, pointed_file = folder / "image.png", folder / "object.png"
    _draw(like_file, like)
    _draw(pointed_file, pointed)
    place = next(thing for thing in pointed.objects if thing.name == POINTED_AT)
    point = interior_point(place.mask)
    return [_by_words(), _by_image(like_file, like), _by_object(pointed_file, point)]


def shown_at(scene: Scene, hit: Hit) -> str | None:
    """The thing that fills at least half of a region; None if there is none."""
    assert hit.mask is not None
    region = hit.mask.array
    filled = {thing.name: int(np.count_nonzero(thing.mask & region)) for thing in scene.objects}
    name = max(filled, key=lambda thing: filled[thing])
    return name if 2 * filled[name] >= np.count_nonzero(region) else None


def _by_words() -> Search:
    (thing, place), *_ = THEMES

    def is_right(scene: Scene, hit: Hit) -> bool:
        return thing in _names(scene) and scene.place == place

    return Search(
        name="words",
        asked=f'the words "{WORDS}"',
        command=f'virtue search "{WORDS}" --filter "kind = \'image\'"',
        item=Item(text=WORDS),
        kind="image",
        wanted=f"a {thing} {place}",
        is_right=is_right,
    )


def _by_image(file: Path, shown: Scene) -> Search:
    def is_right(scene: Scene, hit: Hit) -> bool:
        return scene.place == shown.place and bool(_names(scene) & _names(shown))

    return Search(
        name="image",
        asked=f"an image of {' and '.join(f'a {thing.name}' for thing in shown.objects)} {shown.place}",
        command=f"virtue search --image {shlex.quote(str(file))} --filter \"kind = 'image'\"",
        item=Item(image=file),
        kind="image",
        wanted=f"one of these things {shown.place}",
        is_right=is_right,
    )


def _by_object(file: Path, point: Point) -> Search:
    def is_right(scene: Scene, hit: Hit) -> bool:
        return shown_at(scene, hit) == POINTED_AT

    return Search(
        name="object",
        asked=f"a point on the {POINTED_AT} in an image",
        command=f"virtue search --image {shlex.quote(str(file))} --point {point.x:g},{point.y:g}"
        " --filter \"kind = 'region'\"",
        item=Item(image=file, prompt=point),
        kind="region",
        wanted=f"a region that is a {POINTED_AT}",
        is_right=is_right,
    )


def _names(scene: Scene) -> set[str]:
    return {thing.name for thing in scene.objects}


def _draw(file: Path, scene: Scene) -> None:
    """Writes the picture unless it is there, whole or not at all, so that an index finds it unchanged."""
    if not file.exists():
        unfinished = file.with_name(f".{file.name}.unfinished")  # hidden: a kill may leave it among the samples
        Image.fromarray(scene.image).save(unfinished, "PNG")
        unfinished.replace(file)
