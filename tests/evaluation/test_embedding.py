"""Each distinct item is embedded once, in one order, and never by a run that was killed and started again."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.fakes import TEXTS, FakeEncoder
from tests.tiny import picture, tiny_embedder
from virtue.evaluation import embedding
from virtue.evaluation.changes import Change
from virtue.evaluation.embedding import described, embed
from virtue.evaluation.store import Store
from virtue.items import Item
from virtue.prompts import Box, Point


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "CHUNK", 4)


def words(items: Sequence[Item]) -> list[str | None]:
    return [item.text for item in items]


def test_equal_items_are_embedded_once_and_come_back_in_order() -> None:
    encoder = FakeEncoder()
    items = [Item(text="a"), Item(text="bb"), Item(text="a"), Item(text="ccc")]
    vectors = embed(encoder, items, "query")
    assert [words(call) for call in encoder.calls] == [["ccc", "bb", "a"]]
    assert vectors.shape == (4, 8) and vectors.dtype == np.float32
    assert (vectors[0] == vectors[2]).all() and (vectors[0] != vectors[1]).any()
    assert np.allclose(vectors[1], FakeEncoder().encode_query([Item(text="bb")])[0], atol=1e-4)


@pytest.mark.usefixtures("small_chunks")
def test_texts_come_by_length_and_pictures_with_their_prompts(tmp_path: Path) -> None:
    photos = [tmp_path / "a.png", tmp_path / "b.png"]
    for seed, photo in enumerate(photos):
        picture(seed=seed).save(photo)
    items = [Item(image=photos[number % 2], prompt=Point(number, 1)) for number in range(6)]
    encoder = FakeEncoder()
    embed(encoder, [Item(text="a"), *items, Item(text="bb")], "query")
    assert words(encoder.calls[0]) == ["bb", "a"]
    assert [[item.image for item in call] for call in encoder.calls[1:]] == [
        [photos[0]] * 3 + [photos[1]],
        [photos[1]] * 2,
    ]


def test_the_store_is_asked_first_and_roles_are_apart(tmp_path: Path) -> None:
    first = embed(FakeEncoder(), TEXTS, "query", store=Store(tmp_path))
    again = FakeEncoder()
    assert (embed(again, TEXTS[::-1], "query", store=Store(tmp_path)) == first[::-1]).all()
    assert again.calls == []
    other = embed(again, TEXTS, "document", store=Store(tmp_path))
    assert len(again.calls) == 1 and not (other == first).any()
    embed(FakeEncoder(fingerprint="fake-2"), TEXTS, "query", store=Store(tmp_path))
    assert len(list(tmp_path.glob("*/*/*.safetensors"))) == 3


@pytest.mark.usefixtures("small_chunks")
def test_only_what_is_missing_is_embedded(tmp_path: Path) -> None:
    embed(FakeEncoder(), TEXTS[:7], "query", store=Store(tmp_path))
    encoder = FakeEncoder()
    embed(encoder, TEXTS, "query", store=Store(tmp_path))
    assert sorted(str(text) for call in encoder.calls for text in words(call)) == sorted(map(str, words(TEXTS[7:])))


def test_a_shortened_model_does_not_get_the_whole_ones_embeddings(tmp_path: Path) -> None:
    whole, short = tiny_embedder(), tiny_embedder()
    short.truncate_dim = 4
    assert whole.fingerprint == short.fingerprint
    items = [Item(text="a"), Item(text="b")]
    assert embed(whole, items, "query", store=Store(tmp_path)).shape == (2, 32)
    assert embed(short, items, "query", store=Store(tmp_path)).shape == (2, 4)


def test_a_changed_image_file_is_embedded_anew(tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    picture(seed=0).save(photo)
    embedder, store = tiny_embedder(), Store(tmp_path / "store")
    before = embed(embedder, [Item(image=photo)], "query", store=store)
    picture(seed=1).save(photo)
    after = embed(embedder, [Item(image=photo)], "query", store=store)
    assert np.allclose(after[0], embedder.encode(Item(image=photo)), atol=1e-6)
    assert np.abs(after - before).max() > 1e-3


def test_the_models_own_embeddings_come_out(tmp_path: Path) -> None:
    embedder = tiny_embedder()
    items = [Item(text="a dog"), Item(image=picture(), prompt=Box(1, 2, 30, 40)), Item(image=picture(), text="a")]
    assert np.allclose(embed(embedder, items, "document"), embedder.encode(items), atol=1e-6)


def test_changes_are_applied_when_embedding_a_batch_at_a_time() -> None:
    loud = Change("loud", lambda item: replace(item, text=(item.text or "").upper()))
    encoder = FakeEncoder()
    vectors = embed(encoder, TEXTS, "query", changes=(loud,), batch_size=8)
    assert [len(call) for call in encoder.calls] == [8, 8, 4]
    assert all(str(text).isupper() for call in encoder.calls for text in words(call))
    some = embed(FakeEncoder(), TEXTS, "query", changes=lambda item: (loud,) if item is TEXTS[3] else ())
    plain = embed(FakeEncoder(), TEXTS, "query")
    assert np.allclose(some[3], vectors[3], atol=1e-3)
    assert np.allclose(np.delete(some, 3, 0), np.delete(plain, 3, 0), atol=1e-3)


@pytest.mark.usefixtures("small_chunks")
def test_nan_is_named_and_nothing_of_its_chunk_kept(tmp_path: Path) -> None:
    items = [Item(text=f"{'x' * (20 - number)}{number}") for number in range(12)]
    bad = items[6].text
    message = rf"fake gives an embedding that is not finite for query 6 \('{bad}'\); 1 of 4 that were embedded"
    with pytest.raises(ValueError, match=message):
        embed(FakeEncoder(spoil=[str(bad)]), items, "query", store=Store(tmp_path))
    encoder = FakeEncoder()
    embed(encoder, items, "query", store=Store(tmp_path))
    assert [words(call) for call in encoder.calls] == [words(items[4:8]), words(items[8:])]


def test_an_item_that_cannot_be_embedded_is_named() -> None:
    with pytest.raises(ValueError, match=r"fake cannot embed document 7 \('long long text 7'\): it is too rude\."):
        embed(FakeEncoder(refuse=["long long text 7"]), TEXTS, "document")


def test_a_picture_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    items = [Item(text="fine"), Item(image=picture()), Item(image=broken, text="what is this?")]
    message = r"tiny cannot embed query 2 \('what is this\?', image .*broken\.jpg\): .*broken\.jpg is not an image"
    with pytest.raises(ValueError, match=message):
        embed(tiny_embedder(), items, "query")


def test_other_failures_say_where(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = FakeEncoder()

    def fail(items: Sequence[Item], *, batch_size: int = 32) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(encoder, "encode_query", fail)
    message = r"fake failed at query 14 \('long .*text 14'\) or one of 19 after it: no route to host"
    with pytest.raises(RuntimeError, match=message):
        embed(encoder, TEXTS, "query")


def test_changes_that_fail_name_the_item() -> None:
    def apply(item: Item) -> Item:
        raise ValueError("There is no box.")

    with pytest.raises(ValueError, match=r"query 0 \('a'\) cannot be changed as asked: There is no box\."):
        embed(FakeEncoder(), [Item(text="a")], "query", changes=(Change("crop", apply),))


def test_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="There are no items to embed"):
        embed(FakeEncoder(), [], "query")
    with pytest.raises(ValueError, match=r"batch_size is at least 1, not 0\."):
        embed(FakeEncoder(), TEXTS, "query", batch_size=0)
    encoder = FakeEncoder()
    monkeypatch.setattr(encoder, "encode_query", lambda items, batch_size: np.ones((3, 8)))
    with pytest.raises(ValueError, match=r"fake gave an array of shape \(3, 8\) for 20 items"):
        embed(encoder, TEXTS, "query")


@pytest.mark.usefixtures("small_chunks")
def test_progress_counts_distinct_items_and_what_is_there(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    embed(FakeEncoder(), TEXTS[:4], "query", store=Store(tmp_path))
    items = [*TEXTS[:10], *TEXTS[:10]]
    embed(FakeEncoder(), items, "query", store=Store(tmp_path), progress=lambda *step: seen.append(step))
    assert seen[0] == (4, 10) and seen[-1] == (10, 10)
    assert seen == sorted(seen)


def test_items_are_described_for_messages() -> None:
    assert described(Item(text="word " * 50)) == "'word word word word word word word word word word word...'"
    assert described(Item(image=picture(), prompt=Box(1, 2, 3, 4))) == "an image in memory, Box(1, 2, 3, 4)"


RUN = """
import sys
from pathlib import Path
import numpy as np
from tests.evaluation.fakes import TEXTS, FakeEncoder
from virtue.evaluation import embedding
from virtue.evaluation.store import Store
embedding.CHUNK = 4
folder, die_at = Path(sys.argv[1]), sys.argv[2] or None
encoder = FakeEncoder(folder / "log.txt", die_at=die_at)
np.save(folder / "vectors.npy", embedding.embed(encoder, TEXTS, "query", store=Store(folder / "store")))
"""


@pytest.mark.usefixtures("small_chunks")
def test_a_killed_run_goes_on_and_embeds_nothing_twice(tmp_path: Path) -> None:
    def run(die_at: str) -> int:
        command = [sys.executable, "-c", RUN, str(tmp_path), die_at]
        return subprocess.run(
            command, check=False, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        ).returncode

    log = tmp_path / "log.txt"
    assert run(str(TEXTS[12].text)) == -9
    before = log.read_text().splitlines()
    assert 0 < len(before) < len(TEXTS)
    assert run("") == 0
    after = log.read_text().splitlines()
    assert after[: len(before)] == before
    assert sorted(after) == sorted(f"query {item.text}" for item in TEXTS)
    assert (np.load(tmp_path / "vectors.npy") == embed(FakeEncoder(), TEXTS, "query")).all()
