"""The `virtue` command: what it lists, and that a mistake ends in one sentence and never in a traceback."""

import errno
import inspect
import sys
import types

import pytest
import typer
from typer.testing import CliRunner

from virtue import __version__, cli


def run(*args: str, env: dict[str, str] | None = None):
    return CliRunner().invoke(cli.app, list(args), prog_name="virtue", env={"VIRTUE_DEBUG": None, **(env or {})})


@pytest.fixture
def command(monkeypatch):
    """Makes a command `trial` out of a function, as if a module of `virtue.commands` held it."""

    def add(function):
        module = types.ModuleType("virtue.commands.trial")
        module.trial, module.EXAMPLES = function, ("virtue trial 3",)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(cli.COMMANDS, "search", cli.Command("virtue.commands.trial:trial", "Stands in."))

    return add


def failing(error: BaseException):
    def trial() -> None:
        """Fail."""
        raise error

    return trial


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_exists_and_says_what_the_list_says(name):
    command = cli.COMMANDS[name]
    assert inspect.getdoc(command.load()).splitlines()[0] == command.help
    assert all(example.startswith(f"virtue {name}") for example in command.examples())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_explains_itself_with_examples(name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert f"virtue {name}" in result.output.partition("Examples:")[2]


def test_the_list_names_every_command_and_shows_examples():
    result = run("--help")
    assert result.exit_code == 0
    assert all(f" {name} " in result.output for name in cli.COMMANDS)
    assert 'virtue search "a dog on a beach"' in result.output


def test_the_list_loads_no_heavy_library(heavy_modules_after):
    statement = "from typer.testing import CliRunner; from virtue.cli import app; CliRunner().invoke(app, ['--help'])"
    assert heavy_modules_after(statement) == set()


def test_the_version_is_shown():
    assert run("--version").output == f"virtue {__version__}\n"


def test_an_unknown_command_is_refused_with_the_nearest_one():
    result = run("searhc")
    assert result.exit_code == 2
    assert "No such command 'searhc'. Did you mean 'search'?" in result.output


def test_a_command_gets_its_own_options(command):
    def trial(count: int, twice: bool = False) -> None:
        """Count."""
        typer.echo(count * 2 if twice else count)

    command(trial)
    assert run("search", "3", "--twice").output == "6\n"


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ValueError("top_k is 0, not at least 1"), 2, "virtue: top_k is 0, not at least 1\n"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.jpg"), 2, "virtue: a.jpg: no such file\n"),
        (ModuleNotFoundError("No module named 'fastapi'"), 2, "virtue: No module named 'fastapi'\n"),
        (OSError(errno.ENOSPC, "No space left", "out.npy"), 1, "virtue: out.npy: no space left\n"),
        (RuntimeError("lost\nthe thread"), 1, "virtue: RuntimeError: lost the thread (virtue --debug shows where)\n"),
        (KeyboardInterrupt(), 130, "virtue: interrupted\n"),
    ],
)
def test_an_error_is_one_sentence_and_an_exit_code(command, error, code, sentence):
    command(failing(error))
    result = run("search")
    assert (result.exit_code, result.stderr, result.stdout) == (code, sentence, "")


@pytest.mark.parametrize(("args", "env"), [(["--debug"], {}), ([], {"VIRTUE_DEBUG": "1"})])
def test_debug_lets_the_error_through(command, args, env):
    command(failing(ValueError("top_k is 0")))
    result = run(*args, "search", env=env)
    assert isinstance(result.exception, ValueError)


def test_a_command_may_choose_its_exit_code(command):
    command(failing(typer.Exit(3)))
    result = run("search")
    assert (result.exit_code, result.output) == (3, "")


def test_a_wrong_option_value_is_named(command):
    def trial(count: int) -> None:
        """Count."""

    command(trial)
    result = run("search", "three")
    assert result.exit_code == 2
    assert "Invalid value for 'count'" in result.output
