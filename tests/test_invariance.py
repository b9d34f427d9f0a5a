"""An embedding is a function of its item alone: nothing around it moves it by more than 1e-5."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.tiny import picture, tiny_embedder
from virtue import Box, Embedder, Item, Mask, Point, Points
from virtue.prompts import AnyPrompt, VisualPrompt, as_visual_prompt

LIMIT = 1e-5
SIZES = [(100, 80), (40, 120), (9, 30)]
PICTURES = [picture(*size) for size in SIZES]
TEXTS = [None, "a", "a dog", "what is behind the red car, and why is it there?"]


def visual_prompts(width: int, height: int) -> list[AnyPrompt | None]:
    """None, and prompts with one to seven points, boxes and masks."""
    middle = Point(width / 2, height / 2)
    box = Box(1, 2, width / 2, height - 1)
    mask = np.zeros((height, width), dtype=bool)
    mask[: height // 2, width // 3 :] = True
    return [
        None,
        middle,
        box,
        Mask(mask),
        Points([(1, 1), (2, height - 1)], exclude=[(width - 1, 3)]),
        middle + Points([(3, 4)]) + box + Mask(mask),
        Points([(x, x) for x in range(1, 8)]),
    ]


PROMPTS = [visual_prompts(*size) for size in SIZES]


def every_item(segmentation: bool) -> list[Item]:
    """Texts, and every picture with every visual prompt, with texts that change from one to the next."""
    items = [Item(text=text) for text in TEXTS if text]
    for image, prompts in zip(PICTURES, PROMPTS, strict=True):
        for number, prompt in enumerate(prompts if segmentation else [None] * 3):
            items.append(Item(text=TEXTS[number % len(TEXTS)], image=image, prompt=prompt))
    return items


@pytest.fixture(scope="module", params=[True, False], ids=["segmentation", "plain"])
def segmentation(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture(scope="module", params=["image_frame", "released"])
def embedder(request: pytest.FixtureRequest, segmentation: bool) -> Embedder:
    return tiny_embedder(sam=segmentation, position_rule=request.param)


@pytest.fixture(scope="module")
def items(segmentation: bool) -> list[Item]:
    return every_item(segmentation)


@pytest.fixture(scope="module")
def alone(embedder: Embedder, items: list[Item]) -> NDArray[np.float32]:
    """Each item's embedding, computed by itself."""
    return np.stack([embedder.encode(item) for item in items])


def check(embeddings: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert abs(embeddings - expected).max() <= LIMIT


def forward(embedder: Embedder, items: Sequence[Item]) -> NDArray[np.float32]:
    """The model's own forward pass over one batch, whatever is in it."""
    prompts: list[VisualPrompt | None] = [
        as_visual_prompt(item.prompt, *item.image.size) if item.prompt else None for item in items
    ]
    texts = [embedder.processor.render(item, prompt) for item, prompt in zip(items, prompts, strict=True)]
    inputs = embedder.processor(text=texts, images=[item.image for item in items], prompts=prompts)
    with torch.inference_mode():
        return embedder.model(**inputs).embeddings.numpy()


def test_what_an_item_says_does_move_its_embedding(alone: NDArray[np.float32], items: list[Item]) -> None:
    """Without this, a model that ignores everything would pass the rest of this file."""
    distance = np.linalg.norm(alone[:, None] - alone[None], axis=-1)
    same_text = [[a is not b and a.text == b.text and a.image is b.image for b in items] for a in items]
    different = ~np.array(same_text) & ~np.eye(len(items), dtype=bool)
    assert distance[different].min() > 1e-3
    if np.any(same_text):
        assert distance[np.array(same_text)].max() > 1e-3


def test_the_batch_size_does_not_matter(embedder: Embedder, items: list[Item], alone: NDArray[np.float32]) -> None:
    for batch_size in (2, 64):
        check(embedder.encode(items, batch_size=batch_size), alone)


@settings(max_examples=5)
@given(data=st.data())
def test_order_and_company_do_not_matter(
    embedder: Embedder, items: list[Item], alone: NDArray[np.float32], data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(items) - 1), min_size=1, max_size=20))
    check(embedder.encode([items[number] for number in chosen]), alone[chosen])


@settings(max_examples=5)
@given(data=st.data())
def test_one_forward_pass_may_mix_all_kinds_of_rows(
    embedder: Embedder, items: list[Item], alone: NDArray[np.float32], data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(items) - 1), min_size=1, max_size=12))
    side = data.draw(st.sampled_from(["left", "right"]))
    embedder.processor.tokenizer.padding_side = side
    try:
        check(forward(embedder, [items[number] for number in chosen]), alone[chosen])
    finally:
        embedder.processor.tokenizer.padding_side = "right"


def test_text_rows_between_pictures_do_not_matter(
    embedder: Embedder, items: list[Item], alone: NDArray[np.float32]
) -> None:
    for side in ("left", "right"):
        embedder.processor.tokenizer.padding_side = side
        check(forward(embedder, items), alone)
    embedder.processor.tokenizer.padding_side = "right"


def test_earlier_calls_do_not_matter(embedder: Embedder, items: list[Item], alone: NDArray[np.float32]) -> None:
    embedder.encode([picture(33, 99), "something else", picture(200, 50)])
    embedder.open(picture(50, 50)).encode([None, None], "more")
    np.testing.assert_array_equal(np.stack([embedder.encode(item) for item in items[::4]]), alone[::4])


def test_the_path_taken_does_not_matter(embedder: Embedder, items: list[Item], alone: NDArray[np.float32]) -> None:
    for image in PICTURES:
        numbers = [number for number, item in enumerate(items) if item.image is image]
        view = embedder.open(image)
        prompts, texts = [items[n].prompt for n in numbers], [items[n].text for n in numbers]
        check(view.encode(prompts, texts), alone[numbers])
        check(np.stack([view.encode(*pair) for pair in zip(prompts, texts, strict=True)]), alone[numbers])


def test_items_of_one_picture_share_it_without_mixing(
    embedder: Embedder, alone: NDArray[np.float32], items: list[Item]
) -> None:
    numbers = [number for number, item in enumerate(items) if item.image is PICTURES[0]]
    repeated = [number for number in numbers for _ in range(3)]
    check(embedder.encode([items[number] for number in repeated]), alone[repeated])
