"""Released checkpoints: every layout they come in, back to the bit, and one sentence for each way to be broken."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.model.reference_weights import (
    ADAPTER,
    SAM_SETTINGS,
    cases,
    connector_tensors,
    expected,
    vlm_tensors,
    write_released,
)
from virtue.model import VirtueModel, VirtueProcessor
from virtue.model.checkpoints import CheckpointError, is_released, load_adapter, load_released, save_released
from virtue.model.released import CONNECTOR_FILE

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_released(tmp_path_factory.mktemp("released"))


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy to break: its files are links, so replace a file, never write into it."""
    return Path(shutil.copytree(pristine, tmp_path / "copy", copy_function=os.link))


@pytest.fixture(scope="module")
def loaded(pristine: Path) -> tuple[VirtueModel, VirtueProcessor]:
    return load(pristine)


def load(folder: Path) -> tuple[VirtueModel, VirtueProcessor]:
    return load_released(folder, sam=folder / "sam2_tiny.pt", sam_config=SAM_SETTINGS)


def replace(path: Path, content: bytes | str | dict[str, Any]) -> None:
    path.unlink(missing_ok=True)
    text = json.dumps(content) if isinstance(content, dict) else content
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def edit_json(path: Path, **changes: object) -> None:
    replace(path, json.loads(path.read_text()) | changes)


def without_segmentation(folder: Path) -> Path:
    """What a VLM2Vec checkpoint looks like: the VLM alone."""
    fields = json.loads((folder / "config.json").read_text())
    del fields["virtue_sam"]
    replace(folder / "config.json", fields)
    (folder / CONNECTOR_FILE).unlink()
    return folder


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def shard(folder: Path, stem: str, save: Callable[[State, Path], None]) -> None:
    """Replace the weights by two shards and an index."""
    (folder / "model.safetensors").unlink()
    suffix = stem.rpartition(".")[2]
    name = stem.removesuffix(f".{suffix}")
    keys = sorted(vlm_tensors())
    places = {}
    for number, part in enumerate([keys[:30], keys[30:]], start=1):
        file = f"{name}-0000{number}-of-00002.{suffix}"
        save({key: vlm_tensors()[key] for key in part}, folder / file)
        places |= dict.fromkeys(part, file)
    replace(folder / f"{stem}.index.json", {"weight_map": places})


def newer_names(state: State) -> State:
    """As transformers from 4.52 on names them, with the `lm_head` that a 7B checkpoint has."""
    renamed = {
        f"model.{key}" if key.startswith("visual.") else key.replace("model.", "model.language_model.", 1): tensor
        for key, tensor in state.items()
    }
    return renamed | {"lm_head.weight": torch.zeros(512, 64)}


class Hostile:
    """Unpickling it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.target),)


# --- every layout


def test_every_tensor_lands_under_our_names(loaded: tuple[VirtueModel, VirtueProcessor]) -> None:
    state = loaded[0].state_dict()
    assert torch.equal(state["vlm.language_model.embed_tokens.weight"], vlm_tensors()["model.embed_tokens.weight"])
    assert torch.equal(state["vlm.visual.merger.ln_q.bias"], vlm_tensors()["visual.merger.ln_q.bias"])
    assert torch.equal(state["connector.conv.weight"], connector_tensors()["sam2_reducer"]["weight"])
    assert torch.equal(state["connector.mlp.2.bias"], connector_tensors()["sam2vlm_layer"]["2.bias"])


def test_sam_has_one_positional_code(loaded: tuple[VirtueModel, VirtueProcessor]) -> None:
    state = loaded[0].state_dict()
    matrix = expected()["gaussian_matrix"]
    assert torch.equal(state["sam.shared_image_embedding.positional_embedding"], matrix)
    assert torch.equal(state["sam.prompt_encoder.shared_embedding.positional_embedding"], matrix)


def test_shards_and_pickles_and_newer_names_hold_the_same_model(
    loaded: tuple[VirtueModel, VirtueProcessor], pristine: Path, tmp_path: Path
) -> None:
    changes: dict[str, Callable[[Path], None]] = {
        "safetensors shards": lambda folder: shard(folder, "model.safetensors", lambda s, p: save_file(s, p)),
        "pickle shards": lambda folder: shard(folder, "pytorch_model.bin", lambda s, p: torch.save(s, p)),
        "one pickle, newer names": lambda folder: (
            (folder / "model.safetensors").unlink(),
            torch.save(newer_names(vlm_tensors()), folder / "pytorch_model.bin"),
        ),
    }
    for name, change in changes.items():
        copy = Path(shutil.copytree(pristine, tmp_path / name, copy_function=os.link))
        change(copy)
        assert equal(load(copy)[0].state_dict(), loaded[0].state_dict()), name


def test_the_authors_layout_comes_back_to_the_bit(loaded: tuple[VirtueModel, VirtueProcessor], tmp_path: Path) -> None:
    save_released(*loaded, tmp_path)
    assert equal(load_file(tmp_path / "model.safetensors"), vlm_tensors())
    connector = torch.load(tmp_path / CONNECTOR_FILE, weights_only=True)
    assert connector.keys() == connector_tensors().keys()
    assert all(equal(connector[part], connector_tensors()[part]) for part in connector)
    again, processor = load_released(tmp_path)  # with the SAM-2 that lies beside it
    assert equal(again.state_dict(), loaded[0].state_dict())
    assert again.config.to_diff_dict() == loaded[0].config.to_diff_dict()
    assert processor.tokenizer("a dog")["input_ids"] == loaded[1].tokenizer("a dog")["input_ids"]
    assert processor.image_processor.size == loaded[1].image_processor.size


def test_the_written_configuration_keeps_what_the_authors_code_reads(
    loaded: tuple[VirtueModel, VirtueProcessor], pristine: Path, tmp_path: Path
) -> None:
    save_released(*loaded, tmp_path)
    ours, theirs = (json.loads((path / "config.json").read_text()) for path in (tmp_path, pristine))
    for key in (
        "hidden_size",
        "num_hidden_layers",
        "num_key_value_heads",
        "rope_theta",
        "image_token_id",
        "vocab_size",
    ):
        assert ours[key] == theirs[key]
    assert ours["rope_scaling"]["mrope_section"] == theirs["rope_scaling"]["mrope_section"]
    assert ours["vision_config"]["embed_dim"] == theirs["vision_config"]["embed_dim"]
    assert ours["virtue_sam"]["points_per_side"] == 3
    tokens, sizes = (
        json.loads((tmp_path / f"{name}_config.json").read_text()) for name in ("tokenizer", "preprocessor")
    )
    assert "<|image_pad|>" in tokens["additional_special_tokens"]
    assert (sizes["min_pixels"], sizes["max_pixels"]) == (3136, 1003520)


def test_our_own_layout_comes_back_to_the_bit(loaded: tuple[VirtueModel, VirtueProcessor], tmp_path: Path) -> None:
    for part in loaded:
        part.save_pretrained(tmp_path)
    again = VirtueModel.from_pretrained(tmp_path)
    assert equal(again.state_dict(), loaded[0].state_dict())
    assert again.config.position_rule == "released"
    assert not is_released(tmp_path)


def test_is_released(pristine: Path, tmp_path: Path) -> None:
    assert is_released(pristine)
    assert not is_released(tmp_path)


def test_dtype_is_of_the_whole_model(pristine: Path) -> None:
    model, _ = load_released(pristine, sam=pristine / "sam2_tiny.pt", sam_config=SAM_SETTINGS, dtype="bfloat16")
    assert {tensor.dtype for tensor in model.parameters()} == {torch.bfloat16}


def test_images_are_no_larger_than_the_authors_code_makes_them(folder: Path) -> None:
    edit_json(folder / "preprocessor_config.json", max_pixels=12845056)
    assert load(folder)[1].image_processor.size["longest_edge"] == 1280 * 28 * 28


def test_a_vlm2vec_checkpoint_has_no_segmentation_stream(folder: Path) -> None:
    model, processor = load_released(without_segmentation(folder))
    assert model.sam is None and model.connector is None
    assert model.config.template == "vlm2vec"
    with torch.no_grad():
        embedding = model(**processor([cases()["text_only"][0]["text"]])).embeddings
    torch.testing.assert_close(embedding, expected()["text_only.embedding"], rtol=0, atol=1e-5)


def test_a_vlm2vec_adapter_is_merged_into_the_model_it_names(folder: Path, tmp_path: Path) -> None:
    without_segmentation(folder)
    adapter = Path(shutil.copytree(ADAPTER, tmp_path / "adapter"))
    edit_json(adapter / "adapter_config.json", base_model_name_or_path=str(folder))
    model, processor = load_released(adapter)
    with torch.no_grad():
        embedding = model(**processor(["A cat"])).embeddings
    torch.testing.assert_close(embedding, expected()["dora.target_embedding_merged"][:1], rtol=0, atol=1e-5)
    half = load_released(adapter, dtype="bfloat16")[0]
    for key, tensor in model.state_dict().items():
        assert torch.equal(half.state_dict()[key], tensor.bfloat16())


@pytest.mark.parametrize(("name", "value"), [("position_rule", "image_frame"), ("connector_depth", 3)])
def test_a_model_with_our_own_rules_has_no_place_in_the_authors_layout(
    loaded: tuple[VirtueModel, VirtueProcessor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    monkeypatch.setattr(loaded[0].config, name, value)
    with pytest.raises(CheckpointError, match=f"{name} = {value!r}"):
        save_released(*loaded, tmp_path)


# --- every way to be broken


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, r"config\.json is missing"),
        ("config.json", "{", r"config\.json is not readable as JSON"),
        ("config.json", "[]", r"config\.json must hold a JSON object, not a list"),
        ("config.json", {"model_type": "bert"}, r"config\.json is of a 'bert' model"),
        ("config.json", {"model_type": "virtue"}, "load it with VirtueModel.from_pretrained"),
        ("config.json", {"model_type": "qwen2_vl", "hidden_size": "wide"}, r"config\.json has a setting that qwen2_vl"),
        ("model.safetensors", None, "holds no weights"),
        ("model.safetensors", b"\x00" * 100, r"model\.safetensors is truncated or no safetensors file"),
        (CONNECTOR_FILE, None, rf"{CONNECTOR_FILE} is missing; complete the download"),
        (CONNECTOR_FILE, b"PK\x03\x04 cut off", rf"{CONNECTOR_FILE} is truncated"),
        (CONNECTOR_FILE, b"", rf"{CONNECTOR_FILE} is truncated"),
        ("sam2_tiny.pt", None, r"sam2_tiny\.pt is missing"),
        ("sam2_tiny.pt", b"no weights here", r"sam2_tiny\.pt is truncated"),
        ("preprocessor_config.json", None, "lacks a readable preprocessor_config.json or tokenizer"),
        ("preprocessor_config.json", "[]", "lacks a readable preprocessor_config.json or tokenizer"),
        ("tokenizer_config.json", "[]", "lacks a readable preprocessor_config.json or tokenizer"),
    ],
)
def test_a_missing_or_damaged_file_is_named(
    folder: Path, name: str, content: bytes | str | dict[str, Any] | None, message: str
) -> None:
    (folder / name).unlink()
    if content is not None:
        replace(folder / name, content)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": -5}, "describes no model that can be built"),
        ({"num_attention_heads": 0}, "describes no model that can be built"),
        ({"hidden_act": "nonesuch"}, "describes no model that can be built"),
        ({"virtue_sam": {"enabled": True, "points_per_side": "3"}}, "has settings that make no sense"),
        ({"virtue_sam": {"enabled": True, "points_per_side": 0}}, "has settings that make no sense"),
    ],
)
def test_a_configuration_of_no_model_is_named(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit_json(folder / "config.json", **changes)
    with pytest.raises(CheckpointError, match=rf"config\.json.*{message}"):
        load(folder)


def test_a_tokenizer_of_a_newer_kind_is_named(folder: Path) -> None:
    replace(folder / "tokenizer.json", {"version": "9", "model": {"type": "BPE"}})
    with pytest.raises(
        CheckpointError, match=r"lacks a readable preprocessor_config\.json or tokenizer\.json"
    ) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_an_adapter_of_our_own_layout_says_how_it_is_loaded(
    loaded: tuple[VirtueModel, VirtueProcessor], tmp_path: Path
) -> None:
    loaded[0].save_pretrained(tmp_path / "base")
    adapter = Path(shutil.copytree(ADAPTER, tmp_path / "adapter"))
    edit_json(adapter / "adapter_config.json", base_model_name_or_path=str(tmp_path / "base"))
    with pytest.raises(CheckpointError, match=r"Embedder\.from_pretrained\('.*base', adapter='.*adapter'\)"):
        load_released(adapter)


@pytest.mark.parametrize("name", ["model.safetensors", CONNECTOR_FILE, "sam2_tiny.pt"])
def test_a_file_cut_in_the_middle_is_named(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    replace(folder / name, content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=f"{name} is truncated"):
        load(folder)


@pytest.mark.parametrize("name", [CONNECTOR_FILE, "sam2_tiny.pt", "pytorch_model.bin"])
@pytest.mark.parametrize("form", ["zip", "plain"])
def test_a_hostile_pickle_runs_nothing(folder: Path, name: str, form: str) -> None:
    trap = folder / "sprung"
    (folder / name).unlink(missing_ok=True)
    if name == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
    if form == "zip":
        torch.save({"model": Hostile(trap)}, folder / name)
    else:
        (folder / name).write_bytes(pickle.dumps({"model": Hostile(trap)}))
    with pytest.raises(
        CheckpointError, match=f"{name} is truncated or holds more than tensors, so nothing in it was run"
    ):
        load(folder)
    assert not trap.exists()


def test_the_hostile_pickle_is_really_hostile(tmp_path: Path) -> None:
    torch.save(Hostile(tmp_path / "sprung"), tmp_path / "file.bin")
    torch.load(tmp_path / "file.bin", weights_only=False)
    assert (tmp_path / "sprung").is_dir()


def test_a_pickle_of_something_else_is_named(folder: Path) -> None:
    (folder / CONNECTOR_FILE).unlink()
    for content, message in [
        ([torch.zeros(1)], "must hold a dictionary of tensors, not a list"),
        ({"sam2_reducer": {}}, "lacks 'sam2vlm_layer'"),
        ({"sam2_reducer": 1, "sam2vlm_layer": {}}, "must hold named tensors under 'sam2_reducer'"),
        ({"sam2_reducer": {}, "sam2vlm_layer": {}}, "must hold a convolution's weight"),
    ]:
        torch.save(content, folder / CONNECTOR_FILE)
        with pytest.raises(CheckpointError, match=message):
            load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state.pop("model.norm.weight"),
            r"model\.safetensors lacks the tensor vlm\.language_model\.norm\.weight",
        ),
        (
            lambda state: state.update(extra=torch.zeros(1)),
            r"model\.safetensors holds the tensor vlm\.extra, for which",
        ),
        (
            lambda state: state.update({"model.norm.weight": torch.zeros(65)}),
            r"of shape \(65,\), but the configuration asks for \(64,\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(folder: Path, change: Callable[[State], object], message: str) -> None:
    state = dict(vlm_tensors())
    change(state)
    (folder / "model.safetensors").unlink()
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_a_broken_index_is_named(folder: Path) -> None:
    shard(folder, "model.safetensors", lambda state, path: save_file(state, path))
    index = folder / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    for changed, message in [
        ({}, "has no weight_map"),
        (places | {"model.norm.weight": "../secret.safetensors"}, "names a shard outside its folder"),
        (places | {"model.norm.weight": "model-00003.safetensors"}, r"model-00003\.safetensors is missing"),
        (places | {"model.extra": "model-00001-of-00002.safetensors"}, "lacks the tensor model.extra, which"),
    ]:
        replace(index, {"weight_map": changed})
        with pytest.raises(CheckpointError, match=message):
            load(folder)


def test_sam_that_cannot_be_guessed_is_asked_for(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"names the SAM-2 'tiny_sam2\.yaml', which is no public size"):
        load_released(folder)


def test_sam_without_a_segmentation_stream_is_refused(folder: Path) -> None:
    without_segmentation(folder)
    with pytest.raises(CheckpointError, match="has no segmentation stream"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no such folder", "neither a folder nor a Hub id"),
        ("../elsewhere", "neither a folder nor a Hub id"),
        ("owner/model", r"the Hub did not give owner/model at v1 \(LocalEntryNotFoundError\)"),
    ],
)
def test_a_name_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    def offline(*args: object, **kwargs: object) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(CheckpointError, match=message):
        load_released(name, revision="v1")


def test_a_tokenizer_with_code_of_its_own_is_refused_without_asking(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_json(
        folder / "tokenizer_config.json", tokenizer_class="Own", auto_map={"AutoTokenizer": ["own.Own", "own.Own"]}
    )
    (folder / "own.py").write_text("raise SystemExit('this has been run')")
    monkeypatch.setattr("builtins.input", lambda question: "y")
    with pytest.raises(CheckpointError, match=r"lacks a readable preprocessor_config\.json or tokenizer"):
        load(folder)


def test_a_hub_id_is_downloaded_without_foreign_code(
    monkeypatch: pytest.MonkeyPatch, pristine: Path, loaded: tuple[VirtueModel, VirtueProcessor]
) -> None:
    asked: list[tuple[str, str | None]] = []

    def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert not any(fnmatch("modeling.py", pattern) for pattern in allow_patterns)
        return str(pristine)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    model, _ = load_released("owner/model", sam=pristine / "sam2_tiny.pt", sam_config=SAM_SETTINGS, revision="v1")
    assert asked == [("owner/model", "v1")]
    assert equal(model.state_dict(), loaded[0].state_dict())


# --- adapters


def test_an_adapter_changes_the_language_model_alone(loaded: tuple[VirtueModel, VirtueProcessor]) -> None:
    model = copy.deepcopy(loaded[0])
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    load_adapter(model, ADAPTER, merge=True)
    after = model.state_dict()
    assert after.keys() == before.keys()
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    kinds = ["mlp.down_proj"] + [f"self_attn.{part}_proj" for part in "qkvo"]
    assert changed == {f"vlm.language_model.layers.{layer}.{kind}.weight" for layer in range(3) for kind in kinds}
    assert not model.training


def test_an_attached_adapter_trains_its_own_weights(loaded: tuple[VirtueModel, VirtueProcessor]) -> None:
    model = copy.deepcopy(loaded[0])
    load_adapter(model, ADAPTER, trainable=True)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad and ".lora_" in name]
    assert len(trained) == 3 * 5 * 3  # layers, modules; A, B and DoRA's magnitude


def test_the_connector_beside_an_adapter_is_loaded(loaded: tuple[VirtueModel, VirtueProcessor], tmp_path: Path) -> None:
    model = copy.deepcopy(loaded[0])
    adapter = Path(shutil.copytree(ADAPTER, tmp_path / "adapter"))
    parts = {part: {key: tensor + 1 for key, tensor in state.items()} for part, state in connector_tensors().items()}
    torch.save(parts, adapter / CONNECTOR_FILE)
    load_adapter(model, adapter, merge=True)
    assert model.connector is not None
    assert torch.equal(model.connector.conv.bias, connector_tensors()["sam2_reducer"]["bias"] + 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "adapter_config.json").unlink(), r"adapter_config\.json is missing"),
        (lambda f: (f / "adapter_model.safetensors").unlink(), r"adapter_model\.safetensors is missing"),
        (lambda f: edit_json(f / "adapter_config.json", peft_type="IA3"), "of peft_type 'IA3'; only LORA"),
        (
            lambda f: edit_json(f / "adapter_config.json", r=0),
            r"adapter_config\.json beside .* does not go with this model",
        ),
        (lambda f: edit_json(f / "adapter_config.json", r=4), "holds tensors of another shape"),
        (lambda f: edit_json(f / "adapter_config.json", use_dora=False), "do not agree about"),
        (lambda f: save_file({"x": torch.zeros(1)}, f / "adapter_model.safetensors"), "is no LoRA adapter: it holds x"),
        (
            lambda f: save_file(
                {"base_model.model.model.layers.9.mlp.up_proj.lora_A.weight": torch.zeros(8, 64)},
                f / "adapter_model.safetensors",
            ),
            r"adapts vlm\.language_model\.layers\.9\.mlp\.up_proj, which this model does not have",
        ),
    ],
)
def test_an_adapter_that_does_not_fit_is_named(
    loaded: tuple[VirtueModel, VirtueProcessor], tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    adapter = Path(shutil.copytree(ADAPTER, tmp_path / "adapter"))
    change(adapter)
    with pytest.raises(CheckpointError, match=message):
        load_adapter(copy.deepcopy(loaded[0]), adapter)


def test_an_attached_adapter_is_not_written_in_the_authors_layout(
    loaded: tuple[VirtueModel, VirtueProcessor], tmp_path: Path
) -> None:
    model, processor = copy.deepcopy(loaded[0]), loaded[1]
    load_adapter(model, ADAPTER)
    with pytest.raises(CheckpointError, match="Merge the adapter"):
        save_released(model, processor, tmp_path)
