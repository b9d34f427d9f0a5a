"""The public names are a list; this holds it to what is really there."""

import ast
from pathlib import Path

import pytest

import virtue


@pytest.mark.parametrize("name", virtue.__all__)
def test_a_public_name_resolves_to_what_it_names(name):
    value = getattr(virtue, name)
    assert value.__name__ == name
    assert value.__module__.startswith("virtue.")
    assert value.__doc__


def test_the_list_is_sorted_and_says_what_dir_says():
    assert virtue.__all__ == sorted(virtue.__all__)
    assert set(virtue.__all__) <= set(dir(virtue))


def test_type_checkers_and_the_interpreter_see_the_same_names():
    tree = ast.parse(Path(virtue.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "typing"]
    declared = {alias.name: node.module for node in imports for alias in node.names}
    assert declared == virtue._HOME
    assert sorted(declared) == virtue.__all__


def test_an_unknown_name_is_refused_by_name():
    with pytest.raises(AttributeError, match="no attribute 'Embeder'; its public names are Box, Contrast"):
        virtue.Embeder  # noqa: B018


def test_the_version_is_the_installed_one():
    from importlib.metadata import version

    assert version("virtue") == virtue.__version__


@pytest.mark.parametrize("statement", ["import virtue", "import virtue.cli"])
def test_importing_loads_no_heavy_library(statement, heavy_modules_after):
    assert heavy_modules_after(statement) == set()
