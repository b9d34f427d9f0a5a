"""Two items have one key only if they say and show the same."""

import io
import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import picture
from virtue.evaluation.changes import Change
from virtue.evaluation.keys import item_key, item_keys, task_digest
from virtue.evaluation.tasks import Task
from virtue.images import ImageError
from virtue.items import Item
from virtue.prompts import Box, Mask, Point, Points


def saved(path: Path, seed: int = 0) -> Path:
    picture(seed=seed).save(path)
    return path


def test_every_part_of_an_item_counts(tmp_path: Path) -> None:
    photo, other = saved(tmp_path / "a.png"), saved(tmp_path / "b.png", 1)
    mask = np.zeros((60, 80), dtype=bool)
    mask[0, 0] = True
    turned = np.zeros((80, 60), dtype=bool)
    turned[0, 0] = True
    items = [
        Item(text="a dog"),
        Item(text="a dog", instruction=""),
        Item(text="a dog", instruction="Find it."),
        Item(text="a dogFind it."),
        Item(image=photo),
        Item(image=other),
        Item(text="a dog", image=photo),
        Item(image=photo, prompt=Point(1, 2)),
        Item(image=photo, prompt=Point(1, 2, include=False)),
        Item(image=photo, prompt=Points([(1, 2), (3, 4)])),
        Item(image=photo, prompt=Box(1, 2, 3, 4)),
        Item(image=photo, prompt=Box(1, 2, 3, 5)),
        Item(image=photo, prompt=Mask(mask)),
        Item(image=photo, prompt=Mask(turned)),
        Item(image=photo, prompt=Mask(mask) + Box(1, 2, 3, 4)),
    ]
    keys = [item_key(item) for item in items]
    assert {len(key) for key in keys} == {16}
    for one, two in combinations(range(len(items)), 2):
        assert keys[one] != keys[two], (items[one], items[two])
    assert item_keys(items) == keys


def test_the_same_content_has_one_key(tmp_path: Path) -> None:
    photo, copy = saved(tmp_path / "a.png"), saved(tmp_path / "b.png")
    data = photo.read_bytes()
    sources = [photo, str(copy), data, bytearray(data), io.BytesIO(data)]
    assert len({item_key(Item(image=source)) for source in sources}) == 1
    assert item_key(Item(image=photo, prompt=Point(1, 2))) == item_key(Item(image=photo, prompt=Points((1, 2))))
    assert item_key(Item(image=picture())) == item_key(Item(image=picture()))


def test_an_open_file_is_read_from_its_start(tmp_path: Path) -> None:
    stream = io.BytesIO(saved(tmp_path / "a.png").read_bytes())
    assert len({item_key(Item(image=stream)) for _ in range(2)}) == 1


def test_pixels_and_their_kind_count() -> None:
    image = picture()
    array = np.asarray(image)
    sources = [
        image,
        image.convert("L"),
        image.transpose(Image.Transpose.TRANSPOSE),
        picture(seed=1),
        array,
        array.astype(np.float32) / 255,
        array.transpose(1, 0, 2),
        torch.from_numpy(array.copy()),
        torch.from_numpy(array.copy()).to(torch.bfloat16) / 255,
    ]
    assert len(set(item_keys([Item(image=source) for source in sources]))) == len(sources)


def test_a_palette_counts() -> None:
    one = Image.new("P", (4, 4))
    one.putpalette([255, 0, 0])
    two = Image.new("P", (4, 4))
    two.putpalette([0, 255, 0])
    assert item_key(Item(image=one)) != item_key(Item(image=two))


def test_a_changed_file_has_another_key(tmp_path: Path) -> None:
    photo = saved(tmp_path / "a.png")
    before = item_key(Item(image=photo))
    os.utime(photo, (0, 0))  # touched, but the same
    assert item_key(Item(image=photo)) == before
    saved(photo, 1)
    assert item_key(Item(image=photo)) != before


def test_changes_count_by_their_names_and_order() -> None:
    item = Item(text="a dog")
    crop, blur, cropblur = (Change(name, lambda item: item) for name in ("crop", "blur", "cropblur"))
    lists = [(), (crop,), (blur,), (crop, blur), (blur, crop), (cropblur,)]
    assert len({item_key(item, changes) for changes in lists}) == len(lists)
    assert item_key(item, (crop,)) == item_key(item, (Change("crop", lambda item: Item(text="x")),))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"There is no image file .*gone\.png\."):
        item_keys([Item(image=tmp_path / "gone.png")])
    with pytest.raises(ImageError, match="cannot be read: Is a directory"):
        item_key(Item(image=tmp_path))


def test_a_tasks_digest_is_of_what_it_asks(tmp_path: Path) -> None:
    def digest(name: str = "a", right: int = 0, lists: list[list[int]] | None = None, query: str = "a dog") -> str:
        candidates = [Item(text="one"), Item(text="two")]
        places = None if lists is None else [np.array(own) for own in lists]
        task = Task(name, [Item(text=query)], candidates, [np.array([right])], places)
        return task_digest(task, item_keys(task.queries), item_keys(task.candidates))

    assert digest() == digest(name="b")
    assert len({digest(), digest(right=1), digest(lists=[[0, 1]]), digest(lists=[[0]]), digest(query="a cat")}) == 5
