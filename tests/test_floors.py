"""The floors of the package: what may import what, as the contracts in pyproject.toml say."""

from logging import config
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports


def test_modules_import_from_lower_floors_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(config, "dictConfig", lambda settings: None)  # it would silence every other logger for good
    status = lint_imports(config_filename=str(Path(__file__).parents[1] / "pyproject.toml"), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out
