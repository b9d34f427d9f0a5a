import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.tiny import picture, tiny_config, tiny_model
from virtue.model import VirtueProcessor
from virtue.training.pictures import PictureBytes
from virtue.training.vision import image_tokens

SIZES = [(256, 256), (320, 240), (240, 320)]


def tower() -> nn.Module:
    """The tower of a tiny model, every weight of which matters."""
    visual: nn.Module = tiny_model(tiny_config()).vlm.visual
    return visual


def pictures(processor: VirtueProcessor, width: int, height: int) -> PictureBytes:
    return PictureBytes.of([np.asarray(picture(width, height, seed)) for seed in range(3)], processor)


def one_by_one(visual: nn.Module, shown: PictureBytes) -> Tensor:
    """The tokens that transformers gives, (N, T, D)."""
    grid, patches = shown.patch_grid[:1], shown.patches().chunk(len(shown))
    return torch.stack([visual(own, grid_thw=grid).pooler_output for own in patches])


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_tokens_are_those_of_transformers_picture_by_picture(
    processor: VirtueProcessor, width: int, height: int
) -> None:
    visual, shown = tower(), pictures(processor, width, height)
    with torch.no_grad():
        tokens = image_tokens(visual, shown)
        torch.testing.assert_close(tokens, one_by_one(visual, shown), rtol=0, atol=1e-5)
    assert tokens.shape[:2] == (3, shown.grid[0] * shown.grid[1])
    assert not torch.allclose(tokens[0], tokens[1], atol=1e-2)


def test_gradients_are_those_of_transformers(processor: VirtueProcessor) -> None:
    ours, theirs = tower(), tower()
    shown = pictures(processor, *SIZES[1])
    tokens = image_tokens(ours, shown)
    weight = torch.randn_like(tokens) / tokens.numel() ** 0.5
    (tokens * weight).sum().backward()
    (one_by_one(theirs, shown) * weight).sum().backward()
    for (name, own), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert own.grad is not None and own.grad.abs().sum() > 0, name
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-5)
