"""`virtue convert`: there and back to the bit, and never half a target."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.model.reference_weights import ADAPTER, SAM_SETTINGS, cases, expected, picture, vlm_tensors, write_released
from virtue import Box, Embedder, Item
from virtue.cli import main
from virtue.model import VirtueModel, VirtueProcessor
from virtue.model.checkpoints import load_released, save_released
from virtue.prompts import as_visual_prompt


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_released(tmp_path_factory.mktemp("released"))


def convert(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["convert", *map(str, words)])
    return int(ended.value.code or 0)


def sam_arguments(folder: Path) -> dict[str, Path]:
    return {"sam": folder / "sam2_tiny.pt", "sam_config": SAM_SETTINGS}


def sam_of(folder: Path) -> list[str | Path]:
    return ["--sam", folder / "sam2_tiny.pt", "--sam-config", SAM_SETTINGS]


def test_there_and_back(released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, back = tmp_path / "ours", tmp_path / "back"
    assert convert(released, ours, *sam_of(released)) == 0
    assert "ours in the virtue layout: 6.2 M parameters in float32" in " ".join(capsys.readouterr().out.split())
    model, processor = VirtueModel.from_pretrained(ours), VirtueProcessor.from_pretrained(ours)
    with torch.no_grad():
        embedding = model(**processor(["A cat"])).embeddings
    torch.testing.assert_close(embedding, expected()["text_only.embedding"], rtol=0, atol=1e-5)
    assert convert(ours, back, "--to", "released") == 0
    weights = load_file(back / "model.safetensors")
    assert weights.keys() == vlm_tensors().keys()
    assert all(torch.equal(weights[key], tensor) for key, tensor in vlm_tensors().items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "ours"]


def test_an_adapter_is_merged_and_the_number_format_changed(released: Path, tmp_path: Path) -> None:
    target = tmp_path / "ours"
    assert convert(released, target, *sam_of(released), "--adapter", ADAPTER, "--dtype", "bfloat16") == 0
    model = VirtueModel.from_pretrained(target)
    assert model.dtype == torch.bfloat16
    merged = expected()["dora.merged.model.layers.0.mlp.down_proj.weight"]
    weight = model.state_dict()["vlm.language_model.layers.0.mlp.down_proj.weight"]
    torch.testing.assert_close(weight.float(), merged, rtol=2**-8, atol=0)


def test_a_wider_number_format_keeps_every_digit(released: Path, tmp_path: Path) -> None:
    half, ours = tmp_path / "half", tmp_path / "ours"
    shutil.copytree(released, half)
    (half / "model.safetensors").unlink()  # it may be a link
    save_file({key: tensor.bfloat16() for key, tensor in vlm_tensors().items()}, half / "model.safetensors")
    assert convert(half, ours, *sam_of(half), "--dtype", "float32") == 0
    written, original = load_file(ours / "model.safetensors"), load_released(released, **sam_arguments(released))[0]
    for key, tensor in original.state_dict().items():
        known = tensor if key.startswith(("sam.", "connector.")) else tensor.bfloat16().float()
        assert torch.equal(written[key], known)


def test_a_checkpoint_that_lacks_a_tensor_is_refused(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = tmp_path / "ours"
    assert convert(released, ours, *sam_of(released)) == 0
    state = load_file(ours / "model.safetensors")
    del state["connector.conv.weight"]
    save_file(state, ours / "model.safetensors")
    assert convert(ours, tmp_path / "again") == 2
    assert "lacks the tensor connector.conv.weight" in " ".join(capsys.readouterr().err.split())


def test_an_embedder_asks_a_released_checkpoint_in_its_own_words(released: Path, tmp_path: Path) -> None:
    folder = tmp_path / "with its SAM-2 beside"
    save_released(*load_released(released, **sam_arguments(released)), folder)
    embedder = Embedder.from_pretrained(folder, device="cpu")
    row = cases()["box"][0]
    assert embedder.processor.config.template == "released"
    np.testing.assert_allclose(embedder.encode("A cat"), expected()["text_only.embedding"][0], rtol=0, atol=1e-5)
    image = picture(row["image"])
    box = Box(8, 24, 72, 96)
    rendered = embedder.processor.render(Item(image=image, prompt=box), as_visual_prompt(box, *image.size))
    assert rendered.endswith("\nReferring object bbox: [8.0, 24.0, 72.0, 96.0]")
    whole, pointed = embedder.encode([Item(image=image), Item(image=image, prompt=box)])
    assert float(whole @ pointed) < 0.999


def test_an_embedder_with_an_adapter_is_the_same_model_in_every_precision(released: Path, tmp_path: Path) -> None:
    folder = tmp_path / "with its SAM-2 beside"
    save_released(*load_released(released, **sam_arguments(released)), folder)
    whole, half = (
        Embedder.from_pretrained(folder, device="cpu", adapter=ADAPTER, dtype=dtype)
        for dtype in ("float32", "bfloat16")
    )
    assert half.model.dtype == torch.bfloat16
    assert half.fingerprint == whole.fingerprint
    assert whole.fingerprint != Embedder.from_pretrained(folder, device="cpu").fingerprint


def test_a_sam_of_no_public_size_goes_with_its_settings(released: Path) -> None:
    embedder = Embedder.from_pretrained(released, device="cpu", **sam_arguments(released))
    np.testing.assert_allclose(embedder.encode("A cat"), expected()["text_only.embedding"][0], rtol=0, atol=1e-5)


def test_the_bundled_model_is_known_by_its_name(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtue.embedder.loading.BUNDLED", tmp_path)
    assert convert(released, tmp_path / "nano", *sam_of(released)) == 0
    monkeypatch.chdir(released)
    assert convert("nano", tmp_path / "copy", "--dtype", "bfloat16") == 0
    assert VirtueModel.from_pretrained(tmp_path / "copy").dtype == torch.bfloat16


def test_a_failure_leaves_nothing(released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(released, tmp_path / "ours") == 2
    assert "which is no public size" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_exists_is_left_alone(released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(released, tmp_path) == 2
    assert "is there already" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_our_own_layout_takes_no_other_sam(released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "config.json").write_text('{"model_type": "virtue"}')
    assert convert(ours, tmp_path / "again", *sam_of(released)) == 2
    assert "leave out --sam" in capsys.readouterr().err
