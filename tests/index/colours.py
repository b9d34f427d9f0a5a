"""A stand-in for a model: an image is its mean colour, a text the colour it names, an object a patch of one colour.

Run as a program, it indexes a folder, so that a test can kill it: `python colours.py FOLDER SECONDS_PER_BATCH`.
"""

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from virtue.images import ImageSource, open_image
from virtue.index import Index, build
from virtue.items import as_item
from virtue.prompts import AnyPrompt, as_visual_prompt

NAMES = {"black": (0, 0, 0), "red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def embed(colour: ArrayLike) -> NDArray[np.float32]:
    """The colour scaled to [0, 1], and what its brightest part lacks to 1, as a unit vector (4,)."""
    parts = np.asarray(colour, dtype=np.float32) / 255
    vector = np.append(parts, 1 - parts.max()).astype(np.float32)
    return vector / np.linalg.norm(vector)


class ColourEmbedder:
    """Follows the contract of `virtue.embedder.Embedder`; D is 4."""

    def __init__(self, name: str = "colours", fingerprint: str = "c0105", pause: float = 0.0) -> None:
        self.name, self.fingerprint, self.dimension, self.pause = name, fingerprint, 4, pause
        self.model = SimpleNamespace(sam="can segment")
        self.calls = 0

    def encode(self, inputs: object, *, instruction: str | None = None, batch_size: int = 32) -> NDArray[np.float32]:
        self.calls += 1
        time.sleep(self.pause)
        if not isinstance(inputs, list):
            return self._encode_one(inputs)
        return np.stack([self._encode_one(value) for value in inputs])

    encode_query = encode_document = encode

    def open(self, image: ImageSource) -> "ColourView":
        return ColourView(open_image(image))

    def _encode_one(self, value: object) -> NDArray[np.float32]:
        item = as_item(value)
        if item.image is None:
            return embed(NAMES[str(item.text)])
        view = self.open(item.image)
        if view.size == (1, 1):
            raise ValueError("an image of one pixel is too small")
        return view.encode([item.prompt])[0]


class ColourView:
    """An open image; the mask at a point is all pixels of the colour there, and black is no object."""

    def __init__(self, image: Image.Image) -> None:
        self.image, self.size, self.pixels = image, image.size, np.asarray(image)

    def encode(self, prompts: list[AnyPrompt | None]) -> NDArray[np.float32]:
        return np.stack([embed(self.pixels[self._pixels_of(prompt)].mean(axis=0)) for prompt in prompts])

    def masks(self, prompts: list[AnyPrompt]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        masks = np.stack([self.mask(prompt) for prompt in prompts])
        seen = [self.pixels[mask].any() for mask in masks]
        return masks, np.where(seen, 0.9, 0.1).astype(np.float32)

    def mask(self, prompt: AnyPrompt) -> NDArray[np.bool_]:
        x, y = as_visual_prompt(prompt, *self.size).clicks()[0][0].astype(int)
        return (self.pixels == self.pixels[y, x]).all(axis=-1)

    def _pixels_of(self, prompt: AnyPrompt | None) -> NDArray[np.bool_]:
        if prompt is None:
            return np.ones(self.pixels.shape[:2], dtype=bool)
        prompt = as_visual_prompt(prompt, *self.size)
        return self.mask(prompt) if prompt.mask is None else prompt.mask.array


def main() -> None:
    """Indexes a folder and says after each batch how many images are done."""
    folder, pause = Path(sys.argv[1]), float(sys.argv[2])
    embedder = ColourEmbedder(pause=pause)
    index = Index.open(folder / ".virtue") if (folder / ".virtue").exists() else Index.create(folder, embedder)
    build(index, embedder, batch_size=2, progress=lambda done, total: print(done, flush=True))


if __name__ == "__main__":
    main()
