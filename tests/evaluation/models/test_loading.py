"""From names to encoders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.models import sentence_models
from tests.tiny import picture, tiny_embedder
from virtue import Box, Embedder, Item
from virtue.evaluation.changes import changed
from virtue.evaluation.models.encoder import Encoder
from virtue.evaluation.models.loading import OPENAI, load_encoder
from virtue.evaluation.models.sentence_encoder import SentenceEncoder
from virtue.evaluation.models.server_encoder import ServerEncoder
from virtue.evaluation.strategies import STRATEGIES, strategy_changes


def test_nano_and_folders_of_this_project_are_embedders(tmp_path: Path) -> None:
    assert isinstance(load_encoder("nano", device="cpu"), Embedder)
    saved = tiny_embedder()
    saved.model.save_pretrained(tmp_path)
    saved.processor.save_pretrained(tmp_path)
    loaded = load_encoder(str(tmp_path), device="cpu", truncate_dim=8)
    assert loaded.name == str(tmp_path) and loaded.fingerprint == saved.fingerprint
    assert loaded.encode_query([Item(text="a dog")]).shape == (1, 8)
    (tmp_path / "modules.json").write_text("[]")  # such as an integration writes
    assert isinstance(load_encoder(str(tmp_path), device="cpu"), Embedder)


def test_a_folder_for_sentence_transformers_is_told_by_its_files(tmp_path: Path) -> None:
    model = sentence_models.clip(tmp_path / "plain")
    model.save(str(tmp_path / "saved"), create_model_card=False)
    encoder = load_encoder(str(tmp_path / "saved"), device="cpu", fuse="sum")
    assert isinstance(encoder, SentenceEncoder) and encoder.fuse == "sum"
    assert encoder.name == str(tmp_path / "saved")
    plain = load_encoder(f"st:{tmp_path / 'plain'}", device="cpu")
    assert isinstance(plain, SentenceEncoder)
    np.testing.assert_allclose(*(e.encode_query([Item(text="a dog")]) for e in (encoder, plain)), atol=1e-6)


def test_addresses_are_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    encoder = load_encoder("http://127.0.0.1:8000/v1#owner/name", in_flight=2)
    assert isinstance(encoder, ServerEncoder)
    assert (encoder.base_url, encoder.model, encoder.in_flight) == ("http://127.0.0.1:8000/v1", "owner/name", 2)
    named = load_encoder("openai:text-embedding-3-large", base_url="http://127.0.0.1:8000/v1", device="cpu")
    assert named.name == "http://127.0.0.1:8000/v1#text-embedding-3-large"
    assert load_encoder("openai:text-embedding-3-large", api_key="k").name == f"{OPENAI}#text-embedding-3-large"


def test_options_may_stand_behind_the_name(tmp_path: Path) -> None:
    server = load_encoder("http://127.0.0.1:8000/v1#m?dimensions=256&visual_prompts=true&timeout=2.5", retries=1)
    assert isinstance(server, ServerEncoder)
    assert (server.model, server.dimensions, server.visual_prompts) == ("m", 256, True)
    assert (server.timeout, server.retries) == (2.5, 1)
    sentence_models.clip(tmp_path)
    encoder = load_encoder(f"st:{tmp_path}?fuse=sum", device="cpu")
    assert isinstance(encoder, SentenceEncoder) and encoder.fuse == "sum"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nowhere", {}, "nowhere is neither a folder nor a Hub id"),
        ("http://127.0.0.1:8000/v1", {}, "Write address and model as http://host:8000/v1#MODEL"),
        ("openai:", {"api_key": "k"}, "needs a name"),
        ("openai:text-embedding-3-large", {}, "needs an API key: set OPENAI_API_KEY"),
        ("nano", {"fuse": "sum"}, "nano takes no option fuse; it takes dtype, attn_implementation, truncate_dim"),
        ("http://host/v1#m", {"dtype": "float32"}, "takes no option dtype; it takes api_key, dimensions"),
        ("nano?truncate_dim", {}, r"written behind a name as nano\?key=value&key=value, not nano\?truncate_dim"),
        (
            "http://host/v1#m?api_key=secret",
            {},
            r"no place for an API key, as reports show names: set OPENAI_API_KEY\.$",
        ),
        ("st:nowhere", {"sam": "x"}, "takes no option sam; it takes revision"),
    ],
)
def test_what_cannot_be_loaded_is_said(
    name: str, options: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ValueError, match=message):
        load_encoder(name, **options)


def test_a_folder_that_only_transformers_knows_is_refused_with_a_hint(tmp_path: Path) -> None:
    sentence_models.bert(tmp_path)
    with pytest.raises(ValueError, match=f"st:{tmp_path}"):
        load_encoder(str(tmp_path), device="cpu")


def counting(tmp_path: Path) -> Encoder:
    return SentenceEncoder(sentence_models.counting())


def clip(tmp_path: Path) -> Encoder:
    return SentenceEncoder(sentence_models.clip(tmp_path), fuse="sum")


def embedder(tmp_path: Path) -> Encoder:
    return tiny_embedder()


@pytest.mark.parametrize("make", [embedder, clip, counting])
def test_every_strategy_works_with_every_kind_of_model(make: Callable[[Path], Encoder], tmp_path: Path) -> None:
    encoder = make(tmp_path)
    given = Item(image=picture(), text="a dog", prompt=Box(10, 10, 30, 40))
    names = [name for name in STRATEGIES if name != "prompt"] + ["crop-margin+box-in-text", "red-circle+blur"]
    rows = encoder.encode_query([changed(given, strategy_changes(name)) for name in names])
    assert len(rows) == len(names) and np.isfinite(rows).all()
