"""Chooses what the pictures of the page point at: the samples that show best what the model does.

Nothing is chosen by hand: of samples it is known what they show. The model looks at their things as the page would; of
each kind of picture the thing that comes out best is taken.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from virtue.commands.samples import THEMES, shown_at
from virtue.embedder import Embedder
from virtue.evaluation.scenes import interior_point
from virtue.index import Index
from virtue.prompts import AnyPrompt, Box, Point, Points
from virtue.scenes.renderer import Scene, SceneObject
from virtue.scenes.vocabulary import noun_phrase

FIRST = 9  # results that one sees at once
BEST = 3
TOP_K = 48
LARGE = 0.03  # of a picture's pixels


@dataclass(frozen=True)
class Shown:
    """A thing in a sample.

    Attributes:
        picture: The sample's path in the index.
        name: What it is.
        at: A place on it, source pixels.
        box: Around it, XYXY in source pixels.
        mask: bool (H, W).
    """

    picture: str
    name: str
    at: tuple[float, float]
    box: tuple[float, float, float, float]
    mask: NDArray[np.bool_] = field(repr=False)

    def strokes(self, count: int) -> list[tuple[float, float]]:
        """A way to and fro over the thing, inside its mask: what somebody paints."""
        _, top, _, bottom = self.box
        way = []
        for number in range(count):
            row = int(top + (bottom - top) * (number + 1) / (count + 1))
            columns = np.flatnonzero(self.mask[row])
            inset = 0.25 * (columns[-1] - columns[0])
            ends = [(float(columns[0] + inset), row + 0.5), (float(columns[-1] - inset), row + 0.5)]
            way += ends if number % 2 == 0 else ends[::-1]
        return way


@dataclass(frozen=True)
class Choice:
    """What is pointed at.

    Attributes:
        clear: A thing that one click gets, and that is found again.
        excluded: A thing that a box around two gets together with the other one, which has to be excluded.
        named: A thing that the hint gives its right caption.
        captions: What it could be.
    """

    clear: Shown
    excluded: tuple[Shown, Shown]
    named: Shown
    captions: tuple[str, ...]


def choose(folder: Path, scenes: dict[str, Scene], embedder: Embedder, index: Index) -> Choice:
    """Chooses among all samples.

    Args:
        folder: Where the samples are.
        scenes: What each file shows.
        embedder: The model of the index.
        index: Of the samples, with their regions.
    """
    chooser = _Chooser(folder, scenes, embedder, index)
    named, captions = chooser.named()
    return Choice(chooser.clear(), chooser.excluded(), named, captions)


class _Chooser:
    def __init__(self, folder: Path, scenes: dict[str, Scene], embedder: Embedder, index: Index) -> None:
        self.scenes, self.embedder, self.index = scenes, embedder, index
        self.views = {path: embedder.open(folder / path) for path in scenes}
        # Only what the themes are about is there often enough to be found again.
        self.themes = {f"scene-{seed:04d}.png": thing for (thing, _), seeds in THEMES.items() for seed in seeds}

    def clear(self) -> Shown:
        """The thing that is found most often, then the one that is outlined best."""
        return max(
            self._themed(), key=lambda own: (self._right(own, Points(own.at)), self._overlap(own, Points(own.at)))
        )

    def excluded(self) -> tuple[Shown, Shown]:
        """The pair that a box outlines together, and of which excluding one leaves the other; what is found again."""
        pairs = [(own, other) for path in self.scenes for own in self._things(path) for other in self._things(path)]

        def worth(pair: tuple[Shown, Shown]) -> float:
            own, other = pair
            before, after = _around(own, other)
            both = replace(own, mask=own.mask | other.mask)
            return self._overlap(both, before) * self._overlap(own, after)

        best = sorted((pair for pair in pairs if pair[0].name != pair[1].name), key=worth, reverse=True)[:BEST]
        return max(best, key=lambda pair: self._right(pair[0], _around(*pair)[1]))

    def named(self) -> tuple[Shown, tuple[str, ...]]:
        """The thing that gets its right caption with the hint, and another without it, by the largest margins."""
        found = []
        for path in self.scenes:
            captions = self._captions(path)
            texts = self.embedder.encode(list(captions))
            without = self.views[path].encode([None])[0] @ texts.T
            for own in self._things(path):
                hinted = self.views[path].encode([Points(own.at)])[0] @ texts.T
                right = captions.index(self._caption(path, own.name))
                margin = hinted[right] - np.delete(hinted, right).max()
                lost = np.delete(without, right).max() - without[right]
                found.append((min(margin, lost), own, captions))
        _, own, captions = max(found, key=lambda one: one[0])
        return own, captions

    def _captions(self, path: str) -> tuple[str, ...]:
        """Each thing of the picture where it is, the same things in another place, and other things there."""
        names = [own.name for own in self.scenes[path].objects]
        elsewhere = next(place for _, place in THEMES if place != self.scenes[path].place)
        others = [thing for thing, _ in THEMES if thing not in names][:3]
        return (
            *(self._caption(path, name) for name in (*names, *others)),
            *(f"{noun_phrase(name)} {elsewhere}" for name in names[:3]),
        )

    def _caption(self, path: str, name: str) -> str:
        return f"{noun_phrase(name)} {self.scenes[path].place}"

    def _themed(self) -> list[Shown]:
        return [own for path, thing in self.themes.items() for own in self._things(path) if own.name == thing]

    def _things(self, path: str) -> list[Shown]:
        """The large things of a sample."""
        return [_shown(path, own) for own in self.scenes[path].objects if own.mask.mean() >= LARGE]

    def _overlap(self, own: Shown, prompt: AnyPrompt) -> float:
        """Intersection over union of what the model outlines and the thing."""
        found = self.views[own.picture].mask(prompt)
        return float((found & own.mask).sum() / (found | own.mask).sum())

    def _right(self, own: Shown, prompt: AnyPrompt) -> int:
        """How many of the first results, one for each other picture, are the same thing."""
        vector = self.views[own.picture].encode([prompt])[0]
        condition = f"kind = 'region' AND path != '{own.picture}'"
        hits = {}
        for hit in self.index.search(vector, top_k=TOP_K, filter=condition):
            hits.setdefault(hit.path, hit)
        return sum(shown_at(self.scenes[hit.path], hit) == own.name for hit in list(hits.values())[:FIRST])


def around(one: Shown, other: Shown) -> tuple[float, float, float, float]:
    """The box around two things, XYXY in source pixels."""
    near, far = np.minimum(one.box, other.box), np.maximum(one.box, other.box)
    return (float(near[0]), float(near[1]), float(far[2]), float(far[3]))


def _around(own: Shown, other: Shown) -> tuple[AnyPrompt, AnyPrompt]:
    """The box around two things, and with the second one excluded."""
    box = Box(*around(own, other))
    return box, box + Point(*other.at, include=False)


def _shown(path: str, thing: SceneObject) -> Shown:
    point = interior_point(thing.mask)
    return Shown(path, thing.name, (point.x, point.y), thing.box, thing.mask)
