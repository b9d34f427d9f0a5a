import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.index.colours import ColourEmbedder, embed
from virtue.index import Index, RegionSettings, build, find_index
from virtue.index.table import Row
from virtue.items import Item


def row(number: int, vector: np.ndarray) -> Row:
    path = f"{number:04}.png"
    return Row(path, path, 0, 0, 8, 6, "image", None, None, None, vector.astype(np.float32))


@pytest.fixture
def index(folder: Path, embedder: ColourEmbedder) -> Index:
    index = Index.create(folder, embedder)
    build(index, embedder)
    return index


def test_search_by_text_finds_the_colour(index: Index, embedder: ColourEmbedder, folder: Path) -> None:
    hits = index.search("blue", embedder, top_k=2)
    assert len(hits) == 2
    assert hits[0].path == "deep/blue's.png"
    assert hits[0].file == folder / "deep" / "blue's.png"
    assert hits[0].similarity == pytest.approx(1, abs=1e-6)
    assert hits[1].similarity == pytest.approx(0, abs=1e-6)
    assert (hits[0].kind, hits[0].width, hits[0].height, hits[0].box, hits[0].mask) == ("image", 8, 6, None, None)


def test_search_by_vector_image_and_item_agree(index: Index, embedder: ColourEmbedder, folder: Path) -> None:
    by_vector = index.search(embed((255, 0, 0)))
    assert by_vector[0].path == "red.png"
    assert index.search(folder / "red.png", embedder) == by_vector
    assert index.search(Item(image=folder / "red.png"), embedder) == by_vector


def test_regions_are_hits_with_box_and_mask(folder_with_objects: Path, embedder: ColourEmbedder) -> None:
    index = Index.create(folder_with_objects, embedder, regions=RegionSettings())
    build(index, embedder)
    hit = index.search("blue", embedder, filter="kind = 'region' AND path = 'squares.png'")[0]
    assert hit.box == (40, 40, 48, 48)
    assert hit.mask is not None
    assert hit.mask.array[40:48, 40:48].all()
    assert int(hit.mask.array.sum()) == 64
    assert hit.similarity == pytest.approx(1, abs=1e-6)
    assert hit.score == pytest.approx(0.9)


def test_more_hits_than_rows_may_be_asked_for(index: Index, embedder: ColourEmbedder) -> None:
    assert len(index.search("red", embedder, top_k=10**20)) == len(index.search("red", embedder, top_k=1000))


def test_filter_names_columns(index: Index, embedder: ColourEmbedder) -> None:
    assert [hit.path for hit in index.search("red", embedder, filter="width > 8")] == ["green.png"]
    assert index.search("red", embedder, filter="path LIKE 'nowhere/%'") == []


@pytest.mark.parametrize(
    "wrong",
    [
        "colour = 'red'",
        "width >",
        "width",
        "width > 1 LIMIT 1",
        "width > 1 kind = 'image'",
        "kind = 'image'; DROP TABLE items",
        "width > 1 --",
    ],
)
def test_bad_filter_is_refused_in_one_sentence(index: Index, embedder: ColourEmbedder, wrong: str) -> None:
    with pytest.raises(
        ValueError, match=r"^The filter .* is not understood \(.*\); the columns are id, path"
    ) as caught:
        index.search("red", embedder, filter=wrong)
    assert "\n" not in str(caught.value)
    assert ".rs" not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (np.ones(3), r"one vector of 4 numbers, got shape \(3,\)"),
        (np.zeros(4), "finite and not all zeros"),
        (np.array([1, 0, 0, np.nan]), "finite and not all zeros"),
        ("red", "needs the embedder"),
    ],
)
def test_bad_queries_are_refused(index: Index, query: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        index.search(query)


def test_top_k_must_be_positive(index: Index) -> None:
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        index.search(embed((255, 0, 0)), top_k=0)


def test_another_model_is_refused(index: Index) -> None:
    other = ColourEmbedder(name="shades", fingerprint="5ade5")
    message = r"the model 'colours' \(4 dimensions, fingerprint c0105\) and cannot be used with 'shades' .* --to"
    with pytest.raises(ValueError, match=message):
        index.search("red", other)
    with pytest.raises(ValueError, match=message):
        build(index, other)


def test_settings_survive_reopening_and_compaction(folder: Path, embedder: ColourEmbedder) -> None:
    index = Index.create(folder, embedder, regions=RegionSettings(grid=3))
    build(index, embedder)
    assert Index.open(folder / ".virtue").settings == index.settings
    assert index.settings.regions == RegionSettings(grid=3)


def test_folder_and_index_can_be_moved_together(index: Index, embedder: ColourEmbedder, tmp_path: Path) -> None:
    shutil.move(index.root, tmp_path / "moved")
    moved = find_index(tmp_path / "moved")
    assert moved.search("red", embedder)[0].file == tmp_path / "moved" / "red.png"


def test_index_may_lie_elsewhere(folder: Path, embedder: ColourEmbedder, tmp_path: Path) -> None:
    build(Index.create(folder, embedder, to=tmp_path / "elsewhere"), embedder)
    assert not (folder / ".virtue").exists()
    assert find_index(tmp_path / "elsewhere").search("red", embedder)[0].file == folder / "red.png"


def test_opening_what_is_no_index(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no index in .*; make one with"):
        find_index(tmp_path)
    versions = tmp_path / "items.lance" / "_versions"
    versions.mkdir(parents=True)
    (versions / "1.manifest").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"holds no readable index .*; delete it"):
        find_index(tmp_path)


def test_a_creation_that_was_killed_is_started_afresh(folder: Path, embedder: ColourEmbedder) -> None:
    transactions = folder / ".virtue" / "items.lance" / "_transactions"
    transactions.mkdir(parents=True)
    (transactions / "0-11111111-2222-3333-4444-555555555555.txn").write_bytes(b"torn")
    assert not Index.exists(folder / ".virtue")
    index = Index.create(folder, embedder)
    assert build(index, embedder).added == 3
    assert len(Index.open(folder / ".virtue")) == 3


def test_create_refuses_a_second_index_and_a_missing_folder(index: Index, embedder: ColourEmbedder) -> None:
    with pytest.raises(FileExistsError, match="already holds an index"):
        Index.create(index.root, embedder)
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        Index.create(index.root / "nowhere", embedder)


def test_regions_need_a_model_that_segments(folder: Path, embedder: ColourEmbedder) -> None:
    embedder.model.sam = None
    with pytest.raises(ValueError, match="'colours' has no segmentation stream"):
        Index.create(folder, embedder, regions=RegionSettings())
    Index.create(folder, embedder)


def test_write_replaces_all_rows_of_an_image_at_once(index: Index) -> None:
    before = index._table.version
    index.write([row(1, embed((255, 0, 0)))], replaced=["red.png", "deep/blue's.png"])
    assert index._table.version == before + 1
    assert sorted(index.files()) == ["0001.png", "green.png"]


def test_approximate_search_agrees_with_exact(tmp_path: Path) -> None:
    embedder = ColourEmbedder()
    (tmp_path / "images").mkdir()
    index = Index.create(tmp_path / "images", embedder)
    vectors = np.random.default_rng(0).normal(size=(3000, 4))
    index.write([row(number, vector) for number, vector in enumerate(vectors)])
    exact = index.search(vectors[7])
    index.optimize(approximate_from=3000)
    assert index._table.list_indices()
    approximate = index.search(vectors[7])
    assert [hit.path for hit in approximate] == [hit.path for hit in exact]
    assert approximate[0].path == "0007.png"
    # Rows that came after the clustering are found too.
    index.write([row(5000, -vectors[7])])
    assert index.search(-vectors[7], top_k=1)[0].path == "5000.png"
    index.optimize(approximate_from=3000)
    assert index.search(-vectors[7], top_k=1)[0].path == "5000.png"
    assert len(index.search(vectors[7], filter="path = '0009.png'")) == 1
