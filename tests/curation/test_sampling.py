from collections import Counter
from pathlib import Path

import pytest

from tests.curation.published_sources import annotation, image, write_coco
from virtue.curation.sampling import sample, split_of
from virtue.curation.sources import Source, open_source


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Twelve images of COCO's names with two dogs, two boats and a person each."""
    images = [image(number, f"{number:012}.jpg") for number in range(12)]
    boxes = [
        annotation(number * 10 + index, number, category, [index * 8, 8, 8, 16])
        for number in range(12)
        for index, category in enumerate((1, 1, 2, 2, 3))
    ]
    return open_source("coco", write_coco(tmp_path / "set.json", images, boxes, tmp_path))


def ids(source: Source, seed: int = 0, **caps: int) -> list[str]:
    return [region.id for region in sample(source, seed, **caps)]


def test_a_sample_depends_on_its_seed_alone(source: Source) -> None:
    assert ids(source) == ids(source)
    assert sorted(ids(source)) == sorted(ids(source, 1)) == sorted(region.id for region in source)
    assert ids(source) != ids(source, 1)


def test_the_order_of_the_file_does_not_matter(source: Source, tmp_path: Path) -> None:
    images = [image(number, f"{number:012}.jpg") for number in reversed(range(12))]
    boxes = [
        annotation(number * 10 + index, number, category, [index * 8, 8, 8, 16])
        for number in reversed(range(12))
        for index, category in reversed(list(enumerate((1, 1, 2, 2, 3))))
    ]
    turned = open_source("coco", write_coco(tmp_path / "turned.json", images, boxes, None))
    assert ids(turned, 3, per_image=2, per_category=9) == ids(source, 3, per_image=2, per_category=9)


def test_a_larger_limit_only_adds(source: Source) -> None:
    whole = ids(source, per_image=3)
    assert [ids(source, per_image=3, limit=limit) for limit in (1, 5, 20)] == [whole[:1], whole[:5], whole[:20]]


def test_an_image_gives_one_of_each_category_first(source: Source) -> None:
    of_image: dict[str, list[str]] = {}
    for region in sample(source, per_image=4):
        of_image.setdefault(region.image_id, []).append(region.category)
    assert len(of_image) == 12
    assert all(set(categories[:3]) == {"dog", "boat", "person"} for categories in of_image.values())
    assert {len(categories) for categories in of_image.values()} == {4}
    assert source.left_out == {"beyond the cap of their image": 12}


def test_categories_are_capped(source: Source) -> None:
    assert Counter(region.category for region in sample(source, per_category=7)) == {"dog": 7, "boat": 7, "person": 7}
    assert source.left_out == {"beyond the cap of their category": 17 + 17 + 5}


def test_an_id_is_taken_once(tmp_path: Path) -> None:
    boxes = [annotation(5, 1, 1, [0, 8, 8, 16]), annotation(5, 1, 2, [8, 8, 8, 16])]
    source = open_source("coco", write_coco(tmp_path / "set.json", [image(1, "a.png")], boxes, tmp_path))
    assert ids(source) == ["COCO/5"]
    assert source.left_out == {"with an id that another one has": 1}


def test_caps_must_be_positive(source: Source) -> None:
    with pytest.raises(ValueError, match="per_image is 0; it must be at least 1, or None for no cap"):
        sample(source, per_image=0)


def test_splits_go_by_the_photograph() -> None:
    names = [f"COCO/{number}" for number in range(4000)]
    evaluated = {name for name in names if split_of(name, 0.1) == "eval"}
    assert 320 < len(evaluated) < 480  # four standard deviations around 400
    assert evaluated == {name for name in reversed(names) if split_of(name, 0.1) == "eval"}
    assert evaluated < {name for name in names if split_of(name, 0.2) == "eval"}
    assert evaluated != {name for name in names if split_of(name, 0.1, seed=1) == "eval"}
    assert {split_of(name, 0) for name in names} == {"train"}
    assert {split_of(name, 1) for name in names} == {"eval"}
    with pytest.raises(ValueError, match="The share of images for evaluation is from 0 to 1, got 5"):
        split_of("COCO/1", 5)


def test_the_split_is_the_same_on_every_machine() -> None:
    assert [number for number in range(60) if split_of(f"COCO/{number}", 0.1) == "eval"] == [15, 24, 28, 36, 47, 52]
