from pathlib import Path

import numpy as np
from PIL import Image

from virtue.commands.results_page import results_page
from virtue.index import Hit
from virtue.items import Item
from virtue.prompts import Mask


def test_words_and_paths_are_escaped_and_missing_images_said(tmp_path: Path) -> None:
    hit = Hit("<b>.png", tmp_path / "<b>.png", 0.5, "image", 8, 6)
    page = results_page(Item(text="<script>"), [hit])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<b>" not in page
    assert "does not exist" in page


def test_an_empty_result_says_so(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8))
    mask = np.ones((8, 8), dtype=bool)
    page = results_page(Item(image=image, prompt=Mask(mask)), [])
    assert "Nothing was found." in page
    assert page.count("data:image/jpeg") == 1
