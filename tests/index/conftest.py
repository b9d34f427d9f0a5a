from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.index.colours import NAMES, ColourEmbedder

Paint = Callable[..., Path]


@pytest.fixture
def embedder() -> ColourEmbedder:
    return ColourEmbedder()


@pytest.fixture
def paint(tmp_path: Path) -> Paint:
    """Writes an image of one colour into the folder `tmp_path / "images"`."""

    def write(path: str, colour: str, size: tuple[int, int] = (8, 6)) -> Path:
        file = tmp_path / "images" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, NAMES[colour]).save(file)
        return file

    return write


@pytest.fixture
def folder(tmp_path: Path, paint: Paint) -> Path:
    """A folder with a red, a green and a blue image, the last in a folder of its own."""
    paint("red.png", "red")
    paint("green.png", "green", size=(16, 6))
    paint("deep/blue's.png", "blue")
    return tmp_path / "images"


@pytest.fixture
def folder_with_objects(folder: Path) -> Path:
    """The folder and a black image with a red square and a blue one."""
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[8:24, 8:24] = NAMES["red"]
    pixels[40:48, 40:48] = NAMES["blue"]
    Image.fromarray(pixels).save(folder / "squares.png")
    return folder
