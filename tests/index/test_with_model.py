"""The index with a real, tiny model: what was stored is what a query computes."""

from pathlib import Path

import pytest

from tests.tiny import picture, tiny_embedder
from virtue.embedder import Embedder
from virtue.index import Index, RegionSettings, Summary, build
from virtue.items import Item


@pytest.fixture(scope="module")
def model() -> Embedder:
    return tiny_embedder()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures of different size and shape."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, size in enumerate([(40, 40), (56, 40), (40, 64)]):
        picture(*size, seed=number).save(folder / f"{number}.png")
    return folder


def test_an_image_finds_itself(pictures: Path, model: Embedder) -> None:
    index = Index.create(pictures, model)
    assert build(index, model) == Summary(added=3)
    for number in range(3):
        best = index.search(pictures / f"{number}.png", model, top_k=1)[0]
        assert best.path == f"{number}.png"
        assert best.similarity == pytest.approx(1, abs=1e-5)
    assert len(index.search("a dog", model)) == 3


def test_a_region_is_found_by_its_own_mask(pictures: Path, model: Embedder) -> None:
    # The tiny model's masks are noise, so anything counts as an object.
    anything = RegionSettings(grid=4, min_quality=0, min_area=0.01, max_area=0.99, keep=3)
    index = Index.create(pictures, model, regions=anything)
    summary = build(index, model)
    assert summary.added == 3
    assert 0 < summary.regions == len(index) - 3
    region = index.search("a dog", model, filter="kind = 'region'", top_k=1)[0]
    found = index.search(Item(image=region.file, prompt=region.mask), model, top_k=1)[0]
    assert found.similarity == pytest.approx(1, abs=1e-5)
    assert (found.path, found.box) == (region.path, region.box)


def test_weights_tell_models_apart(pictures: Path, model: Embedder) -> None:
    index = Index.create(pictures, model)
    with pytest.raises(ValueError, match="make another index with --to"):
        build(index, tiny_embedder(seed=1))
    with pytest.raises(ValueError, match="has no segmentation stream"):
        Index.create(pictures, tiny_embedder(sam=False), to=pictures / "other", regions=RegionSettings())
