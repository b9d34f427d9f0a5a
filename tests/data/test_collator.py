"""A batch holds each picture once, its rows in order, and draws that belong to the pair and not to the batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import picture, tiny_config, tiny_processor
from virtue.data.collator import PairBatch, PairCollator, Pictures, Side, Skipped
from virtue.data.pairs import Pair
from virtue.items import Item
from virtue.model import VirtueProcessor
from virtue.prompts import Box, Mask, Point, Points

PICTURE = picture()  # 80 x 60
BLOCK = np.zeros((60, 80), dtype=bool)
BLOCK[10:40, 20:60] = True


@pytest.fixture(scope="module")
def processor() -> VirtueProcessor:
    return tiny_processor(tiny_config())


def said(processor: VirtueProcessor, side: Side) -> list[str]:
    """The words of each row, without the picture's tokens and the end."""
    return [processor.tokenizer.decode([i for i in ids if i > 4]) for ids in side.ids]


def pair(query: Item | str, *targets: Item | str, row: int = 0, draw: int = 0, **more: tuple[Item, ...]) -> Pair:
    items = [item if isinstance(item, Item) else Item(text=item) for item in (query, *targets)]
    return Pair(items[0], tuple(items[1:]), where=f"file row {row}", draw=draw, **more)


def texts(*words: str) -> tuple[Item, ...]:
    return tuple(Item(text=word) for word in words)


def test_rows_stand_in_order_and_negatives_know_their_pair(processor: VirtueProcessor) -> None:
    pairs = [
        pair("q0", "t0", negatives=texts("n00", "n01"), query_negatives=texts("m0")),
        pair("q1", "t1", row=1),
        pair("q2", "t2", row=2, negatives=texts("n20"), query_negatives=texts("m20", "m21")),
    ]
    batch = PairCollator(processor)(pairs)
    assert said(processor, batch.queries) == ["q0", "q1", "q2", "m0", "m20", "m21"]
    assert said(processor, batch.targets) == ["t0", "t1", "t2", "n00", "n01", "n20"]
    assert batch.positives.tolist() == [0, 1, 2]
    assert batch.owners.tolist() == [0, 1, 2, 0, 0, 2]
    assert batch.queries.where == [f"file row {i}" for i in (0, 1, 2, 0, 2, 2)]
    assert batch.targets.where == [f"file row {i}" for i in (0, 1, 2, 0, 0, 2)]
    assert len(batch) == 3
    assert len(batch.images) == 0 and batch.queries.image == [-1] * 6
    assert batch.queries.prompts is None


def test_a_picture_comes_once_however_it_is_given(processor: VirtueProcessor, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    PICTURE.save(path)
    other = picture(seed=1)
    pairs = [
        pair(Item(image=str(path)), Item(image=path, text="x")),  # the same file
        pair(Item(image=PICTURE), Item(image=PICTURE.copy(), text="x")),  # the same pixels, twice in memory
        pair(Item(image=other), "words"),
        pair(Item(image=np.array(PICTURE)), Item(image=other)),
    ]
    batch = PairCollator(processor)(pairs)
    assert batch.queries.image == [0, 1, 2, 1]
    assert batch.targets.image == [0, 1, -1, 2]
    assert len(batch.images) == 3
    assert torch.equal(batch.images[0]["pixel_values"], batch.images[1]["pixel_values"])
    assert not torch.equal(batch.images[0]["pixel_values"], batch.images[2]["pixel_values"])
    expected = processor.image_inputs([other])
    assert batch.images[2].keys() == expected.keys()
    assert all(torch.equal(batch.images[2][name], tensor) for name, tensor in expected.items())


def test_pictures_of_equal_bytes_and_other_sides_are_two(processor: VirtueProcessor) -> None:
    wide, high = Image.new("RGB", (80, 60), "teal"), Image.new("RGB", (60, 80), "teal")
    batch = PairCollator(processor)([pair(Item(image=wide), Item(image=high))])
    assert (batch.queries.image, batch.targets.image, len(batch.images)) == ([0], [1], 2)
    assert batch.queries.keys[0] != batch.targets.keys[0]


def test_a_row_is_what_the_processor_makes_of_its_item(processor: VirtueProcessor) -> None:
    asked = [Item(image=PICTURE, prompt=Box(4, 6, 40, 30), text="where"), Item(image=PICTURE, instruction="Find.")]
    batch = PairCollator(processor)([pair(item, "t") for item in asked])
    expected = processor([processor.render(item) for item in asked], [PICTURE] * 2, [asked[0].prompt, None])
    padded = processor.pad(batch.queries.ids)
    assert torch.equal(padded["input_ids"], expected["input_ids"])
    assert torch.equal(padded["attention_mask"], expected["attention_mask"])
    assert batch.queries.prompts is not None
    assert torch.equal(batch.queries.prompts.points, expected["prompt_points"])
    assert torch.equal(batch.queries.prompts.labels, expected["prompt_labels"])


SAME = Item(image=PICTURE, text="what", prompt=Box(4, 6, 40, 30))
OTHERS = {
    "words": Item(image=PICTURE, text="who", prompt=Box(4, 6, 40, 30)),
    "instruction": Item(image=PICTURE, text="what", prompt=Box(4, 6, 40, 30), instruction="Find it."),
    "picture": Item(image=picture(seed=1), text="what", prompt=Box(4, 6, 40, 30)),
    "box": Item(image=PICTURE, text="what", prompt=Box(4, 6, 40, 31)),
    "no region": Item(image=PICTURE, text="what"),
    "click": Item(image=PICTURE, text="what", prompt=Point(4, 6)),
    "exclusion": Item(image=PICTURE, text="what", prompt=Point(4, 6, include=False)),
    "mask": Item(image=PICTURE, text="what", prompt=Mask(BLOCK)),
    "other mask": Item(image=PICTURE, text="what", prompt=Mask(~BLOCK)),
    "box and mask": Item(image=PICTURE, text="what", prompt=Box(4, 6, 40, 30) + Mask(BLOCK)),
    "no picture": Item(text="what"),
}


def keys(processor: VirtueProcessor, items: Sequence[Item], **settings: float) -> list[int]:
    pairs = [pair(item, "t", draw=i) for i, item in enumerate(items)]
    return PairCollator(processor, **settings)(pairs).queries.keys.tolist()  # type: ignore[arg-type]


def test_keys_are_equal_for_equal_rows_alone(processor: VirtueProcessor) -> None:
    again = Item(image=PICTURE.copy(), text="what", prompt=Box(4.0, 6.0, 40.0, 30.0))
    found = keys(processor, [SAME, again, *OTHERS.values()])
    assert found[0] == found[1]
    assert len(set(found)) == len(found) - 1
    assert keys(processor, [again]) == found[:1]  # in any batch, in any process


def test_a_key_is_of_the_region_and_not_of_the_drawn_prompt(processor: VirtueProcessor) -> None:
    region = Item(image=PICTURE, prompt=Mask(BLOCK))
    kinds = {"box": 1.0, "point": 1.0}
    collator = PairCollator(processor, kinds)  # type: ignore[arg-type]
    batch = collator([pair(region, "t", draw=draw) for draw in range(6)])
    assert batch.queries.prompts is not None
    assert len({tuple(points.flatten().tolist()) for points in batch.queries.prompts.points}) == 6
    assert batch.queries.keys.unique().tolist() == keys(processor, [region])
    assert batch.queries.prompts.masks is None  # that kind has no weight


def test_draws_belong_to_the_pair_and_the_seed(processor: VirtueProcessor) -> None:
    def points(pairs: Sequence[Pair], seed: int = 0) -> list[list[float]]:
        batch = PairCollator(processor, {"point": 1.0}, seed=seed)(pairs)
        assert batch.queries.prompts is not None
        return batch.queries.prompts.points[: len(pairs), 0].tolist()

    pairs = [pair(Item(image=PICTURE, prompt=Mask(BLOCK)), "a", "b", row=row, draw=row) for row in range(5)]
    together = points(pairs)
    assert points(pairs[::-1]) == together[::-1]
    assert [points([each])[0] for each in pairs] == together
    assert points(pairs, seed=1) != together
    moved = pair(pairs[0].query, "a", "b", draw=7)
    assert points([moved])[0] != together[0]


def test_one_of_several_positives_is_drawn(processor: VirtueProcessor) -> None:
    pairs = [pair("q", "a", "b", "c", draw=draw) for draw in range(300)]
    words = said(processor, PairCollator(processor)(pairs).targets)
    assert all(70 < words.count(word) < 130 for word in "abc")
    assert words == said(processor, PairCollator(processor)(pairs).targets)
    assert words != said(processor, PairCollator(processor, seed=1)(pairs).targets)


@pytest.mark.parametrize(("limit", "counts"), [(None, [3, 1]), (2, [2, 1]), (0, [0, 0])])
def test_hard_negatives_have_a_limit(processor: VirtueProcessor, limit: int | None, counts: list[int]) -> None:
    collator = PairCollator(processor, hard_negatives=limit)
    batch = collator([pair("q", "t", negatives=texts("a", "b", "c"), query_negatives=texts("d"))])
    assert [len(batch.targets) - 1, len(batch.queries) - 1] == counts


def test_which_negatives_are_used_is_drawn_and_their_order_kept(processor: VirtueProcessor) -> None:
    collator = PairCollator(processor, hard_negatives=2)
    drawn = {
        tuple(said(processor, collator([pair("q", "t", draw=draw, negatives=texts("a", "b", "c"))]).targets)[1:])
        for draw in range(40)
    }
    assert drawn == {("a", "b"), ("a", "c"), ("b", "c")}


def broken(tmp_path: Path) -> dict[str, tuple[Pair, str]]:
    (tmp_path / "text.png").write_text("no picture")
    return {
        "missing": (pair(Item(image=tmp_path / "none.png"), "t", row=7), r"^file row 7: .*none\.png"),
        "broken": (pair("q", Item(image=tmp_path / "text.png"), row=8), r"^file row 8: .*text\.png"),
        "negative": (
            pair("q", "t", row=9, negatives=(Item(text="n"), Item(image=tmp_path / "none.png"))),
            r"^file row 9: .*none\.png",
        ),
        "region": (pair(Item(image=PICTURE, prompt=Point(200, 5)), "t", row=10), r"^file row 10: .*200"),
        "image token": (pair("see <|image_pad|>", "t", row=11), r"^file row 11: A text may not hold '<\|image_pad\|>'"),
    }


@pytest.mark.parametrize("fault", ["missing", "broken", "negative", "region", "image token"])
def test_what_cannot_be_read_is_left_out_and_named(processor: VirtueProcessor, tmp_path: Path, fault: str) -> None:
    wrong, message = broken(tmp_path)[fault]
    batch = PairCollator(processor)([pair("q0", Item(image=PICTURE)), wrong, pair("q2", "t2", row=2)])
    assert said(processor, batch.queries) == ["q0", "q2"]
    assert batch.owners.tolist() == [0, 1]
    assert len(batch.images) == 1
    assert len(batch.skipped) == 1 and not batch.skipped[0].fatal
    with pytest.raises(ValueError, match=message):
        raise ValueError(batch.skipped[0].reason)


def test_pictures_of_left_out_pairs_are_not_in_the_batch(processor: VirtueProcessor, tmp_path: Path) -> None:
    wrong = pair(Item(image=picture(seed=3)), Item(image=tmp_path / "none.png"))
    batch = PairCollator(processor)([wrong, pair(Item(image=PICTURE), "t")])
    assert len(batch.images) == 1 and batch.queries.image == [0]


def test_a_missing_picture_is_named_for_each_pair_that_asks_for_it(processor: VirtueProcessor, tmp_path: Path) -> None:
    wrong = [pair(Item(image=tmp_path / "none.png"), "t", row=row) for row in (1, 2)]
    reasons = [row.reason for row in PairCollator(processor)(wrong).skipped]
    assert [reason.split(":")[0] for reason in reasons] == ["file row 1", "file row 2"]


def test_skipped_rows_pass_through(processor: VirtueProcessor) -> None:
    before = Skipped("file row 3, field box: is no box", fatal=True)
    batch = PairCollator(processor)([before, pair("q", "t")])
    assert batch.skipped == [before]
    assert said(processor, batch.queries) == ["q"]


def empty(batch: PairBatch) -> bool:
    sides = (batch.queries, batch.targets)
    nothing = all(len(side) == len(side.keys) == 0 and side.prompts is None for side in sides)
    return nothing and len(batch) == len(batch.owners) == len(batch.images) == 0


def test_a_batch_of_nothing(processor: VirtueProcessor) -> None:
    assert empty(PairCollator(processor)([]))
    batch = PairCollator(processor)([Skipped("gone")])
    assert empty(batch) and batch.skipped == [Skipped("gone")]
    assert batch.owners.dtype == batch.positives.dtype == torch.int64


def test_masks_and_clicks_of_one_batch(processor: VirtueProcessor) -> None:
    asked = [Mask(BLOCK), Points([(20, 30), (60, 10)], exclude=[(5, 5)]), None]
    batch = PairCollator(processor)([pair(Item(image=PICTURE, prompt=prompt), "t") for prompt in asked])
    prompts = batch.queries.prompts
    assert prompts is not None and prompts.has_mask is not None
    assert prompts.has_mask.tolist() == [True, False, False]
    assert prompts.labels[1].tolist()[:3] == [1, 1, 0]
    assert prompts.labels[2].tolist() == [1] * 9  # the grid


def test_without_a_segmentation_stream_regions_must_be_said_in_words() -> None:
    plain = tiny_processor(tiny_config(sam=False))
    asked = pair(Item(image=PICTURE, prompt=Box(1, 2, 30, 40)), "t", row=4)
    skipped = PairCollator(plain)([asked]).skipped
    assert skipped[0].reason == "file row 4: The model has no segmentation stream and cannot take such a visual prompt."
    in_words = tiny_processor(tiny_config(sam=False, template="vlm2vec"), longest=256)
    batch = PairCollator(in_words)([asked])
    assert "Referring object bbox: [1.0, 2.0, 30.0, 40.0]" in said(in_words, batch.queries)[0]
    assert batch.queries.prompts is None
    assert batch.images[0].keys() == {"pixel_values", "image_grid_thw"}
    click = PairCollator(in_words)([pair(Item(image=PICTURE, prompt=Point(4, 6)), "t", row=5)])
    assert "only a box can be put in words" in click.skipped[0].reason


def test_pictures_are_joined_and_taken_apart_again(processor: VirtueProcessor) -> None:
    alone = [processor.image_inputs([picture(width, 60, seed)]) for seed, width in enumerate((80, 120, 60))]
    joined = Pictures.join(alone)
    assert len(joined) == 3
    assert len(Pictures.join([])) == 0
    for number, expected in enumerate(alone):
        found = joined[number]
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    with pytest.raises(IndexError, match="There are 3 pictures, so none with number 3"):
        joined[3]


def test_queries_that_nothing_answers_can_be_left_out(processor: VirtueProcessor) -> None:
    pair = Pair(Item(text="a"), (Item(text="b"),), query_negatives=(Item(text="c"),))
    assert len(PairCollator(processor)([pair]).queries) == 2
    assert len(PairCollator(processor, query_negatives=False)([pair]).queries) == 1
