"""Linear layers by oneDNN: the same numbers but for rounding, and only where they are meant to be used."""

import pytest
import torch
from torch import nn

from tests.tiny import picture
from virtue.embedder import Embedder
from virtue.embedder.linear_layers import LEAST_WORK, OneDnnLinear, use_onednn
from virtue.items import Item
from virtue.prompts import Box
from virtue.training.architecture import nano_model, nano_processor, nano_tokenizer

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch is built without oneDNN")

WIDTH = 64
ENOUGH = LEAST_WORK // WIDTH**2  # rows that are worth it


@pytest.fixture
def layer() -> nn.Module:
    layer = nn.Linear(WIDTH, WIDTH)
    use_onednn(layer)
    return layer


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of PyTorch's own linear layer."""
    made: list[str] = []
    plain = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, input: made.append("plain") or plain(self, input))
    return made


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(ENOUGH, WIDTH), (2, 3, ENOUGH, WIDTH), (ENOUGH, 2, WIDTH)])
def test_results_are_those_of_pytorch(shape: tuple[int, ...], bias: bool, calls: list[str]) -> None:
    plain, fast = nn.Linear(WIDTH, WIDTH, bias=bias), nn.Linear(WIDTH, WIDTH, bias=bias)
    fast.load_state_dict(plain.state_dict())
    use_onednn(fast)
    rows = torch.randn(shape).transpose(0, -2)  # not contiguous, as attention leaves them
    with torch.inference_mode():
        torch.testing.assert_close(fast(rows), plain(rows), rtol=1e-5, atol=1e-5)
    assert calls == ["plain"]  # the other one


def test_small_work_and_other_precisions_stay_with_pytorch(layer: nn.Module, calls: list[str]) -> None:
    rows = torch.randn(ENOUGH, WIDTH)
    with torch.no_grad():
        layer(rows[:-1])
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(rows).dtype == torch.bfloat16
        layer.double()(rows.double())
    assert len(calls) == 3


def test_gradients_are_as_ever(layer: nn.Module, calls: list[str]) -> None:
    assert isinstance(layer, OneDnnLinear)
    layer(torch.ones(ENOUGH, WIDTH)).sum().backward()
    assert calls == ["plain"]
    assert layer.weight.grad is not None and bool((layer.weight.grad == ENOUGH).all())


def test_layers_of_others_are_left_alone() -> None:
    class Special(nn.Linear):
        pass

    model = nn.Sequential(Special(2, 2), nn.Linear(2, 2, device="meta"), nn.Linear(2, 2))
    use_onednn(model)
    assert [type(layer) for layer in model] == [Special, nn.Linear, OneDnnLinear]


def test_embeddings_do_not_depend_on_who_multiplies(monkeypatch: pytest.MonkeyPatch, calls: list[str]) -> None:
    embedder = Embedder(nano_model(0), nano_processor(nano_tokenizer(iter(["a red dog on a beach"]))))
    whole, part = Item(image=picture(200, 150)), Item(image=picture(90, 140, seed=1), prompt=Box(10, 10, 60, 70))
    items = [whole, part, Item(text="a red dog")]
    fast, mixed = embedder.encode(items), len(calls)
    calls.clear()
    monkeypatch.setattr(OneDnnLinear, "_suits", lambda self, input: False)
    plain = embedder.encode(items)
    assert mixed < len(calls) / 2  # most of the work has gone elsewhere
    assert float((1 - (fast * plain).sum(1)).max()) < 1e-6
