import numpy as np
import pytest

from virtue.prompts import Box, Mask, Point, VisualPrompt
from virtue.templates import TEMPLATES, released, virtue, vlm2vec

BOX = VisualPrompt(box=Box(8.5, 24, 72.75, 96))
POINT = VisualPrompt(points=(Point(120.7, 80),))
MASK = VisualPrompt(mask=Mask(np.ones((2, 2), dtype=bool)))


@pytest.mark.parametrize("name", ["released", "vlm2vec"])
def test_text_without_a_picture_is_left_alone(name: str) -> None:
    assert TEMPLATES[name]("A dog.", has_image=False, prompt=None) == "A dog."


def test_released_writes_a_box_as_the_authors_training_data_does() -> None:
    assert released("Find it.", has_image=True, prompt=BOX) == (
        "<|image_pad|>\nFind it.\nReferring object bbox: [8.5, 24.0, 72.75, 96.0]"
    )


def test_released_writes_a_point_as_the_authors_example_does() -> None:
    assert released("Find it.", has_image=True, prompt=POINT) == (
        "<|image_pad|>\nFind it.\nReferring object point: (120, 80)"
    )


def test_released_writes_the_first_point_that_is_meant() -> None:
    excluded = VisualPrompt(points=(Point(3, 4, include=False),))
    assert released("Find it.", has_image=True, prompt=excluded + POINT).endswith("point: (120, 80)")
    assert released("Find it.", has_image=True, prompt=excluded + MASK) == "<|image_pad|>\nFind it."


def test_released_has_an_instruction_for_each_kind_of_question() -> None:
    assert released("", has_image=True, prompt=None) == "<|image_pad|>\nRepresent the given image.\n"
    context = "considering both local details and global context in the given image."
    for prompt, what in ((MASK, "segmented object"), (POINT, "segmented object"), (BOX, "object in the bounding box")):
        text = released("", has_image=True, prompt=prompt)
        assert text.startswith(f"<|image_pad|>\nFind the caption that best describes the {what}, {context}")


def test_vlm2vec_says_a_box_in_words_and_refuses_what_it_cannot_say() -> None:
    assert vlm2vec("", has_image=True, prompt=None) == "<|image_pad|> Represent the given image.\n"
    assert vlm2vec("Find it.", has_image=True, prompt=BOX) == (
        "<|image_pad|> Find it.\nReferring object bbox: [8.5, 24.0, 72.75, 96.0]\n"
    )
    for prompt in (POINT, MASK, BOX + POINT):
        with pytest.raises(ValueError, match="only a box can be put in words"):
            vlm2vec("Find it.", has_image=True, prompt=prompt)


def test_virtue_never_writes_where_a_region_is() -> None:
    assert virtue("a dog", has_image=False, prompt=None) == "a dog<|endoftext|>"
    for prompt in (None, BOX, POINT, MASK):
        assert virtue("a dog", has_image=True, prompt=prompt) == "<|image_pad|>a dog<|endoftext|>"
