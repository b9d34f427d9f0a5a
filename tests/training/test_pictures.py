import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import picture, tiny_config, tiny_processor
from virtue.model import VirtueProcessor
from virtue.training.pairs import SIZES
from virtue.training.pictures import PictureBytes


def drawn(width: int, height: int) -> list[Image.Image]:
    """Blocks and noise, so that no two pixels may be exchanged unnoticed."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return [picture(width, height), Image.fromarray(noise)]


def read(images: list[Image.Image], processor: VirtueProcessor) -> PictureBytes:
    return PictureBytes.of([np.asarray(image) for image in images], processor)


@pytest.mark.parametrize(("width", "height"), [*sorted(set(SIZES)), (70, 110)])
def test_pictures_become_what_the_processor_makes_of_them(processor: VirtueProcessor, width: int, height: int) -> None:
    images = drawn(width, height)
    inputs, pictures = processor.image_inputs(images), read(images, processor)
    assert torch.equal(pictures.patches(), inputs["pixel_values"])
    assert torch.equal(pictures.sam_pixels(), inputs["sam_pixel_values"])
    assert torch.equal(pictures.patch_grid, inputs["image_grid_thw"])
    assert [pictures.grid[0] * pictures.grid[1]] * 2 == processor.image_token_counts(inputs["image_grid_thw"])


def test_pictures_of_sams_own_size_stay_as_they_are(processor: VirtueProcessor) -> None:
    image = drawn(64, 64)[1]
    assert np.array_equal(read([image], processor).segmented[0].numpy(), np.asarray(image))


def test_pictures_travel_as_bytes(processor: VirtueProcessor) -> None:
    pictures = read(drawn(320, 240), processor)
    assert len(pictures) == 2
    assert pictures.seen.dtype == pictures.segmented.dtype == torch.uint8
    assert pictures.seen.shape[1:] == (pictures.grid[0] * 28, pictures.grid[1] * 28, 3)
    assert pictures.segmented.shape == (2, 64, 64, 3)


def test_the_towers_own_normalisation_is_used() -> None:
    processor = tiny_processor(tiny_config())
    processor.image_processor.image_mean, processor.image_processor.image_std = [0.0, 0.5, 1.0], [1.0, 0.5, 0.25]
    white = Image.new("RGB", (56, 56), "white")
    patches = read([white], processor).patches()  # (16, 3 channels * 2 frames * 14 * 14)
    assert patches.unflatten(1, (3, -1)).mean((0, 2)).tolist() == [1.0, 1.0, 0.0]
