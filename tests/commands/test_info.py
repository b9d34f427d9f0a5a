from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.tiny import tiny_embedder
from virtue import __version__, cli
from virtue.commands.info import index_facts, licence, model_facts
from virtue.embedder import Embedder
from virtue.index import Index


def run(*args: object) -> Result:
    return CliRunner().invoke(cli.app, ["info", *map(str, args)], prog_name="virtue", env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def model() -> Embedder:
    return tiny_embedder()


def test_what_is_installed() -> None:
    result = run()
    assert result.exit_code == 0
    assert __version__ in result.stdout
    assert "torch" in result.stdout


def test_a_model(model: Embedder) -> None:
    facts = model_facts(model, "Apache-2.0")
    assert facts["dimension"] == "32"
    assert facts["segmentation stream"] == "SAM-2, 64 px, 4 tokens"
    assert facts["position rule"] == "image_frame"
    assert facts["double normalization"] == facts["unscaled boxes"] == "no"
    assert facts["trained on"] == "it does not say"
    assert facts["licence"] == "Apache-2.0"


def test_a_model_without_a_segmentation_stream() -> None:
    assert model_facts(tiny_embedder(sam=False), "")["segmentation stream"] == "none"


def test_an_index(model: Embedder, tmp_path: Path) -> None:
    index = Index.create(tmp_path, model)
    assert index_facts(index)["regions"] == "not indexed"
    assert index_facts(index)["images"] == "0"
    result = run(tmp_path)
    assert result.exit_code == 0
    assert str(tmp_path) in result.stdout


def test_the_licence_is_on_the_card_of_the_model(tmp_path: Path) -> None:
    assert licence(str(tmp_path)) == "it does not say"
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# A model\n")
    assert licence(str(tmp_path)) == "cc-by-nc-4.0"
    assert licence("nano") == "Apache-2.0"


def test_neither_a_model_nor_an_index(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
