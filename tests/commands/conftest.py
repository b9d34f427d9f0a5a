import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.index.colours import NAMES, ColourEmbedder


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands load `ColourEmbedder`, whatever model they are asked for; `other` is another one."""

    class Loader(ColourEmbedder):
        @classmethod
        def from_pretrained(
            cls, name: str = "nano", *, device: str | None = None, truncate_dim: int | None = None
        ) -> ColourEmbedder:
            return ColourEmbedder(name, fingerprint="5ade5" if name == "other" else "c0105")

    module = types.ModuleType("virtue.embedder")
    module.Embedder = Loader  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "virtue.embedder", module)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a red and a blue image, and a black one with a red square."""
    folder = tmp_path / "images"
    folder.mkdir()
    for colour in ("red", "blue"):
        Image.new("RGB", (8, 6), NAMES[colour]).save(folder / f"{colour}.png")
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[8:24, 8:24] = NAMES["red"]
    Image.fromarray(pixels).save(folder / "square.png")
    return folder
