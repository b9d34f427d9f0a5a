"""The cached gradients are those of the plain loss, whatever is cut up how."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from tests.tiny import tiny_config, tiny_model, tiny_processor
from tests.training.tiny_pairs import tiny_batch
from virtue.model import VirtueModel, VirtueProcessor
from virtue.training.adaptation import prepare
from virtue.training.grad_cache import RandomState, chunk_rows, grad_cache
from virtue.training.loss import info_nce
from virtue.training.settings import AdapterSettings, TrainedPart
from virtue.training.step import StepRows
from virtue.training.towers import Towers

ADAPTERS = {
    "lora": AdapterSettings(rank=2, alpha=4, dropout=0.0, dora=False),
    "dora": AdapterSettings(rank=2, alpha=4, dropout=0.0, dora=True),
    "lora with dropout": AdapterSettings(rank=2, alpha=4, dropout=0.3, dora=False),
    "dora with dropout": AdapterSettings(rank=2, alpha=4, dropout=0.3, dora=True),
}


def learner(
    part: TrainedPart = "adapter", adapter: str = "dora", *, sam: bool = True
) -> tuple[VirtueModel, VirtueProcessor]:
    config = tiny_config(sam=sam)
    model = tiny_model(config)
    torch.manual_seed(0)
    prepare(model, part, ADAPTERS[adapter])
    with torch.no_grad():  # B matrices start at 0, where A has no gradient
        for name, parameter in model.named_parameters():
            if ".lora_B" in name:
                parameter.normal_(0, 0.3)
    return model.train(), tiny_processor(config)


def gradients(model: VirtueModel) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def rows_of(model: VirtueModel, processor: VirtueProcessor, **towers: int) -> StepRows:
    batch = tiny_batch(processor)
    return StepRows(model, processor, batch, Towers(model, batch.images, **towers))


def loss_of(rows: StepRows) -> Callable[[Sequence[Tensor]], Tensor]:
    return lambda sides: info_nce(sides[0], sides[1], 0.1, positives=rows.batch.positives, symmetric=True)


def plain(rows: StepRows, chunks: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    """The loss with its whole graph, its rows embedded in the same chunks so that dropout falls the same way."""
    sides = []
    for side, own in enumerate(chunks):
        order = torch.tensor([row for part in own for row in part])
        sides.append(torch.cat([rows.embed(side, part) for part in own])[order.argsort()])
    value = loss_of(rows)(sides)
    value.backward()
    return value.detach()


CUTS = {
    "one by one": lambda count: [[row] for row in range(count)],
    "ragged": lambda count: [[0, 1, 2], [3], list(range(4, count))],
    "out of order": lambda count: [[3, 0], [count - 1, 1, 2], *([row] for row in range(4, count - 1))],
    "all at once": lambda count: [list(range(count))],
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_gradients_are_those_of_the_plain_loss(adapter: str, cut: str) -> None:
    model, processor = learner(adapter=adapter)
    rows = rows_of(model, processor)
    chunks = [CUTS[cut](len(side)) for side in rows.sides]
    torch.manual_seed(1)
    expected_loss = plain(rows, chunks)
    expected = gradients(model)
    torch.manual_seed(1)
    loss = grad_cache(rows.embed, loss_of(rows), chunks)
    found = gradients(model)
    assert loss.item() == pytest.approx(expected_loss.item(), abs=1e-6)
    assert found.keys() == expected.keys()
    assert any("lora_A" in name for name in found)
    assert any("connector" in name for name in found)
    for name, gradient in expected.items():
        scale = max(1.0, float(gradient.abs().max()))
        assert torch.allclose(found[name], gradient, rtol=0, atol=1e-6 * scale), name
        assert gradient.abs().max() > 0, name


@pytest.mark.parametrize("part", ["full", "connector"])
def test_other_parts_learn_the_same_way(part: TrainedPart) -> None:
    model, processor = learner(part)
    rows = rows_of(model, processor)
    chunks = [CUTS["ragged"](len(side)) for side in rows.sides]
    plain(rows, chunks)
    expected = gradients(model)
    grad_cache(rows.embed, loss_of(rows), chunks)
    found = gradients(model)
    assert ("vlm.visual.patch_embed.proj.weight" in found) is (part == "full")
    assert not any(name.startswith("sam.") for name in found)
    for name, gradient in expected.items():
        scale = max(1.0, float(gradient.abs().max()))
        assert torch.allclose(found[name], gradient, rtol=0, atol=1e-6 * scale), name


def test_a_model_without_a_segmentation_stream() -> None:
    model, processor = learner(sam=False)
    batch = tiny_batch(processor, rows=[0, 5, 10])  # whole pictures: this template cannot put regions in words
    rows = StepRows(model, processor, batch, Towers(model, batch.images))
    grad_cache(rows.embed, loss_of(rows), [[[0, 1], [2]], [list(range(len(batch.targets)))]])
    assert all("lora" in name for name in gradients(model))


def test_the_first_pass_may_use_larger_chunks() -> None:
    model, processor = learner()
    rows = rows_of(model, processor)
    small = [CUTS["one by one"](len(side)) for side in rows.sides]
    large = [CUTS["all at once"](len(side)) for side in rows.sides]
    grad_cache(rows.embed, loss_of(rows), small)
    expected = gradients(model)
    grad_cache(rows.embed, loss_of(rows), small, first=large)
    found = gradients(model)
    for name, gradient in expected.items():
        scale = max(1.0, float(gradient.abs().max()))
        assert torch.allclose(found[name], gradient, rtol=0, atol=1e-5 * scale), name


def test_random_numbers_go_on_as_if_the_second_pass_had_drawn_none() -> None:
    torch.manual_seed(0)
    state = RandomState.now()
    first = torch.rand(3)
    with state.again():
        assert torch.equal(torch.rand(3), first)
        torch.rand(100)
    torch.manual_seed(0)
    torch.rand(3)
    expected = torch.rand(3)
    torch.manual_seed(0)
    torch.rand(3)
    with state.again():
        torch.rand(7)
    assert torch.equal(torch.rand(3), expected)


def test_what_else_the_loss_learns_from_gets_its_gradient_once() -> None:
    weight = nn.Parameter(torch.tensor(2.0))
    rows = nn.Parameter(torch.tensor([[1.0], [3.0]]))
    grad_cache(lambda _, numbers: rows[list(numbers)], lambda sides: weight * sides[0].sum(), [[[0], [1]]])
    assert weight.grad is not None
    assert weight.grad.item() == 4.0
    assert rows.grad is not None
    assert rows.grad.flatten().tolist() == [2.0, 2.0]


@pytest.mark.parametrize("limit", [None, 0, 1500])
@pytest.mark.parametrize("keep", ["device", "host"])
def test_towers_run_once_for_each_picture_with_the_same_bits(limit: int | None, keep: str) -> None:
    model, processor = learner()
    batch = tiny_batch(processor)
    chunks = [CUTS["one by one"](len(side)) for side in (batch.queries, batch.targets)]
    results = []
    for bound in (0, limit):  # nothing kept, and what fits
        towers = Towers(model, batch.images, group=2, keep=keep, limit=bound)
        rows = StepRows(model, processor, batch, towers)
        grad_cache(rows.embed, loss_of(rows), chunks)
        results.append((gradients(model), towers.runs))
    (twice, many), (once, few) = results
    assert all(torch.equal(once[name], twice[name]) for name in twice)
    assert len(batch.images) == 4  # 14 rows with a picture or without, four distinct pictures
    assert few == (2 if limit is None else many) or (limit == 1500 and few < many)


def test_chunks_by_rows_and_by_tokens() -> None:
    assert chunk_rows([5, 5, 5, 5, 5], rows=2) == [[0, 1], [2, 3], [4]]
    assert chunk_rows([2, 9, 4, 4], tokens=9) == [[1], [2, 3], [0]]  # longest first; 2 x 4 fit, 3 x 4 do not
    assert chunk_rows([2, 9, 4, 4], rows=1, tokens=100) == [[1], [2], [3], [0]]
    assert chunk_rows([50, 1], tokens=10) == [[0], [1]]  # a row longer than the limit stands alone
    assert chunk_rows([3, 4]) == [[0, 1]]
    assert chunk_rows([]) == []
    with pytest.raises(ValueError, match="rows are 1 or more, not 0"):
        chunk_rows([1], rows=0)
    with pytest.raises(ValueError, match="tokens are 1 or more, not -1"):
        chunk_rows([1], tokens=-1)
