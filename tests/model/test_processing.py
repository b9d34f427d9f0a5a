from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, BatchFeature

from tests.tiny import SAM_SIDE, picture, tiny_config, tiny_processor
from virtue.items import Item
from virtue.model import VirtueProcessor
from virtue.model.processing_virtue import SAM_MEAN, SAM_STD
from virtue.model.segmentation import PADDING_LABEL
from virtue.prompts import AnyPrompt, Box, Mask, Point, Points, VisualPrompt
from virtue.templates import IMAGE_TOKEN


@pytest.fixture(scope="module")
def processor() -> VirtueProcessor:
    return tiny_processor(tiny_config())


def ask(processor: VirtueProcessor, prompt: AnyPrompt | None, size: tuple[int, int]) -> tuple[list, list]:
    """Clicks and labels of one visual prompt as SAM-2 gets them."""
    sam = processor.prompt_inputs([prompt], [size])
    return sam.points[0].tolist(), sam.labels[0].tolist()


def test_a_mixed_batch(processor: VirtueProcessor) -> None:
    wide, tall = picture(112, 56), picture(56, 112)
    inputs = processor(
        ["a", f"{IMAGE_TOKEN}bc", f"{IMAGE_TOKEN}d"], [None, wide, tall], [None, Point(56, 28), Box(0, 0, 28, 56)]
    )
    assert isinstance(inputs, BatchFeature)
    assert inputs["image_grid_thw"].tolist() == [[1, 4, 8], [1, 8, 4]]
    assert inputs["image_index"].tolist() == [-1, 0, 1]
    assert inputs["attention_mask"].sum(1).tolist() == [1, 8 + 2, 8 + 1]
    assert (inputs["input_ids"] == 1).sum(1).tolist() == [0, 8, 8]
    assert inputs["pixel_values"].shape == (64, 3 * 2 * 14 * 14)
    assert inputs["sam_pixel_values"].shape == (2, 3, SAM_SIDE, SAM_SIDE)
    assert inputs["prompt_points"].tolist() == [[[32, 32], [0, 0]], [[0, 0], [32, 32]]]
    assert inputs["prompt_labels"].tolist() == [[1, PADDING_LABEL], [2, 3]]
    assert "prompt_masks" not in inputs


def test_texts_alone_need_no_lists_of_none(processor: VirtueProcessor) -> None:
    assert set(processor(["a", "bc"])) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_are_padded_on_the_tokenizers_side(side: str) -> None:
    inputs = tiny_processor(tiny_config(), padding_side=side).text_inputs(["a", "abc"], [0, 0])
    assert inputs["attention_mask"].tolist() == [[0, 0, 1] if side == "left" else [1, 0, 0], [1, 1, 1]]


def test_an_overlong_text_keeps_its_end_token() -> None:
    processor = tiny_processor(tiny_config(), longest=8)
    item = Item(text="a text of many letters", image=picture())
    ids = processor.text_inputs([processor.render(Item(text=item.text)), processor.render(item)], [0, 5])
    assert ids["attention_mask"].sum(1).tolist() == [8, 5 + 8]  # image tokens do not count
    assert ids["input_ids"][0, 7] == 0 and ids["input_ids"][1, 12] == 0
    assert ids["input_ids"][1, :5].tolist() == [1] * 5
    bare = processor.text_inputs(["a text of many letters"], [0])["input_ids"]
    assert bare.shape == (1, 8) and bare[0, 7] != 0  # a template without an end token gets none


def test_what_does_not_fit_together_is_refused(processor: VirtueProcessor) -> None:
    image = picture()
    with pytest.raises(ValueError, match="Got 2 texts, 1 images and 2 visual prompts"):
        processor(["a", "b"], [image])
    with pytest.raises(ValueError, match="Row 1 has a visual prompt but no image"):
        processor([IMAGE_TOKEN, "b"], [image, None], [None, Point(1, 1)])
    with pytest.raises(
        ValueError, match="Text 0 holds '<|image_pad|>' 1 times; it must hold it nowhere".replace("|", r"\|")
    ):
        processor([IMAGE_TOKEN])
    for text, count in (("a", 0), (IMAGE_TOKEN * 2, 2)):
        with pytest.raises(ValueError, match=rf"holds .* {count} times; it must hold it once"):
            processor([text], [image])
    with pytest.raises(ValueError, match="Text 1 is empty"):
        processor(["a", ""])
    with pytest.raises(ValueError, match="PyTorch tensors \\(\"pt\"\\), not 'np'"):
        processor(["a"], return_tensors="np")
    with pytest.raises(ValueError, match="outside"):
        processor([IMAGE_TOKEN], [image], [Point(81, 5)])


def test_a_model_without_segmentation_stream_takes_no_visual_prompt() -> None:
    processor = tiny_processor(tiny_config(sam=False))
    assert "sam_pixel_values" not in processor([IMAGE_TOKEN], [picture()])
    with pytest.raises(ValueError, match="no segmentation stream"):
        processor([IMAGE_TOKEN], [picture()], [Point(1, 1)])


def test_an_items_words_may_not_hold_the_image_token(processor: VirtueProcessor) -> None:
    with pytest.raises(ValueError, match="give the picture as the item's image"):
        processor.render(Item(text=f"a {IMAGE_TOKEN} dog"))


def test_instruction_comes_before_the_text(processor: VirtueProcessor) -> None:
    item = Item(text="a dog", instruction="Find it:", image=picture())
    assert processor.render(item) == "<|image_pad|>Find it: a dog<|endoftext|>"


def test_prompts_are_scaled_to_the_frame_of_sam(processor: VirtueProcessor) -> None:
    size = (128, 32)  # twice as wide and half as high as SAM-2's frame
    assert ask(processor, Points((40, 10), exclude=[(128, 32)]), size) == ([[20, 20], [64, 64]], [1, 0])
    assert ask(processor, Box(16, 8, 64, 24), size) == ([[8, 16], [32, 48]], [2, 3])
    assert ask(processor, Point(40, 10) + Box(16, 8, 64, 24), size) == ([[20, 20], [8, 16], [32, 48]], [1, 2, 3])


def test_the_released_weights_read_boxes_but_not_points_in_source_pixels() -> None:
    processor = tiny_processor(tiny_config(unscaled_boxes=True))
    prompt = Point(40, 10) + Box(16, 8, 64, 24)
    assert ask(processor, prompt, (128, 32)) == ([[20, 20], [16, 8], [64, 24]], [1, 2, 3])


def test_no_prompt_is_a_grid_of_cell_centres_row_by_row() -> None:
    processor = tiny_processor(tiny_config(points_per_side=2))
    assert ask(processor, None, (10, 99)) == ([[16, 16], [48, 16], [16, 48], [48, 48]], [1, 1, 1, 1])


def test_a_mask_becomes_logits_at_a_quarter_of_the_frame(processor: VirtueProcessor) -> None:
    array = np.zeros((32, 32), dtype=bool)
    array[:, :15] = True  # two source columns are one of the 16 cells across
    sam = processor.prompt_inputs([None, VisualPrompt(mask=Mask(array))], [(32, 32), (32, 32)])
    assert sam.masks is not None and sam.has_mask is not None
    assert sam.has_mask.tolist() == [False, True]
    assert sam.masks.shape == (2, 1, 16, 16)
    row = sam.masks[1, 0, 5]
    assert row[:6].tolist() == [10.0] * 6 and row[9:].tolist() == [-10.0] * 7
    assert -10 < row[7] < 10
    assert not sam.masks[0].any()
    assert (sam.labels[1] == PADDING_LABEL).all()  # the mask alone, no click


def test_sam_sees_the_source_picture_normalised_once(processor: VirtueProcessor) -> None:
    white = Image.new("RGB", (300, 20), "white")
    pixels = processor.image_inputs([white])["sam_pixel_values"]
    for channel, (mean, std) in enumerate(zip(SAM_MEAN, SAM_STD, strict=True)):
        torch.testing.assert_close(pixels[0, channel], torch.full((64, 64), (1 - mean) / std))


def test_the_released_weights_saw_pictures_normalised_twice() -> None:
    processor = tiny_processor(tiny_config(double_normalization=True))
    black, white = (Image.new("RGB", (90, 60), name) for name in ("black", "white"))
    pixels = processor.image_inputs([black, white])["sam_pixel_values"]
    expected = torch.tensor([[-9.94, -9.86, -8.38], [6.31, 7.23, 7.73]])
    torch.testing.assert_close(pixels.mean((2, 3)), expected, rtol=0, atol=0.005)


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((56, 56), (4, 4)),
        ((1, 1), (4, 4)),  # tiny: enlarged to 56 x 56
        ((500, 20), (4, 4)),  # one tiny side: likewise, aspect lost
        ((1000, 1000), (8, 8)),  # shrunk to the largest area
        ((400, 100), (4, 16)),  # 112 x 112 pixels' worth at the same aspect
        ((7000, 30), (8, 8)),  # longer than 200 to 1: read as a square
    ],
)
def test_pictures_of_any_size_become_patches(
    processor: VirtueProcessor, size: tuple[int, int], grid: tuple[int, int]
) -> None:
    data = processor.image_inputs([picture(*size)])
    assert data["image_grid_thw"].tolist() == [[1, *grid]]
    assert processor.image_token_counts(data["image_grid_thw"]) == [grid[0] * grid[1] // 4]


def test_qwen3_reads_patches_of_16_pixels() -> None:
    data = tiny_processor(tiny_config("qwen3_vl")).image_inputs([picture(96, 64), picture(5, 5)])
    assert data["image_grid_thw"].tolist() == [[1, 4, 6], [1, 4, 4]]
    assert data["pixel_values"].shape == (24 + 16, 3 * 2 * 16 * 16)


def test_a_saved_processor_makes_the_same_tensors(processor: VirtueProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    arguments = (["a", f"{IMAGE_TOKEN}bc"], [None, picture()], [None, Point(7, 8)])
    expected = processor(*arguments)
    for loaded in (VirtueProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is VirtueProcessor
        again = loaded(*arguments)
        assert set(again) == set(expected)
        assert all(torch.equal(again[key], expected[key]) for key in expected)
