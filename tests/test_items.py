"""Items: what makes one, and that nonsense is refused before any model runs."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from virtue.items import Item, as_item
from virtue.prompts import Box, Point, Points


def test_a_str_is_always_text() -> None:
    assert as_item("a.jpg").text == "a.jpg"
    assert as_item("a.jpg").image is None


@pytest.mark.parametrize(
    "image",
    [
        Path("a.jpg"),
        b"\x89PNG",
        io.BytesIO(b"\x89PNG"),
        Image.new("RGB", (2, 2)),
        np.zeros((2, 2, 3), dtype=np.uint8),
        torch.zeros(3, 2, 2),
    ],
)
def test_images_are_known_by_their_type_and_not_opened(image: object) -> None:
    item = as_item(image)
    assert item.image is image
    assert item.text is None


def test_dicts_and_items() -> None:
    item = Item(text="in the snow", image="b.jpg", prompt=Box(1, 2, 3, 4), instruction="Find it.")
    assert as_item(item) is item
    made = as_item({"text": "in the snow", "image": "b.jpg", "prompt": item.prompt, "instruction": "Find it."})
    assert (made.text, made.image, made.prompt, made.instruction) == (
        "in the snow",
        "b.jpg",
        Box(1, 2, 3, 4),
        "Find it.",
    )
    for prompt in (Point(1, 2), Points((1, 2)), Point(1, 2) + Box(1, 2, 3, 4)):
        assert Item(image="b.jpg", prompt=prompt).prompt is prompt


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "needs text or an image, got neither"),
        (" \n", "needs text or an image, got neither"),
        ({}, "needs text or an image, got neither"),
        ({"instruction": "Find it."}, "needs text or an image"),
        ({"text": "a dog", "prompt": Point(1, 2)}, "with a visual prompt needs an image"),
        ({"image": "b.jpg", "prompt": (1, 2)}, "visual prompt is a Point, Points, Box, Mask or their sum, got tuple"),
        ({"image": 3}, "image cannot be a int"),
        ({"text": b"a dog"}, "text must be a str, got bytes"),
        ({"image": "b.jpg", "instruction": 3}, "instruction must be a str, got int"),
        ("a \ud800 dog", r"text holds half of a surrogate pair, which is no character: 'a \\ud800 dog'"),
        ({"txt": "a dog"}, "no 'txt': its keys are text, image, prompt, instruction"),
        (3, "Cannot embed a int"),
        (None, "Cannot embed a NoneType"),
        (["a", "b"], "Cannot embed a list"),
    ],
)
def test_nonsense_is_refused(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_item(value)
