"""The `virtue` command: which commands there are, and how they answer when something goes wrong.

`virtue --help` must answer at once, so a command's module (and with it torch) is imported only when that command runs:
`COMMANDS` keeps where each one lives and the line that describes it. A module in `virtue.commands` holds a plain
function with annotated parameters, whose docstring is the help, and `EXAMPLES`, the lines shown below it. One that also
holds `PARTS`, functions by name, is a group: `virtue curate build`.

Nothing a user does ends in a traceback: `_Commands.invoke` says in one sentence what was wrong. Exit codes: 2 for a
command or an input that cannot be right, 1 for what failed on the way, 130 for Ctrl-C.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

import virtue

INPUT_ERRORS = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    ModuleNotFoundError,
)
"""What wrong input raises; the messages of these are written for the user and shown as they are."""

EXAMPLES = (
    "virtue demo",
    "virtue index ~/Pictures --regions",
    'virtue search "a dog on a beach" --in ~/Pictures --top-k 5',
    "virtue search --image street.jpg --point 120,80 --open",
)


@dataclass(frozen=True)
class Command:
    """Where a command lives and what it does.

    Attributes:
        target: `module:function`, imported when the command runs.
        help: The first line of the function's docstring, kept here so that the list needs no import.
    """

    target: str
    help: str

    def load(self) -> Any:
        """Import the function, `virtue.commands.search.search` for `virtue.commands.search:search`."""
        module, function = self.target.split(":")
        return getattr(importlib.import_module(module), function)

    def examples(self) -> tuple[str, ...]:
        """The lines that show the command at work, from its module's `EXAMPLES`."""
        examples: tuple[str, ...] = importlib.import_module(self.target.split(":")[0]).EXAMPLES
        return examples

    def parts(self) -> Mapping[str, Callable[..., None]]:
        """Its own commands by name, from its module's `PARTS`; none for most."""
        parts: Mapping[str, Callable[..., None]] = getattr(
            importlib.import_module(self.target.split(":")[0]), "PARTS", {}
        )
        return parts


COMMANDS = {
    "demo": Command("virtue.commands.demo:demo", "Index the sample images and search them in three ways."),
    "index": Command("virtue.commands.index:index", "Make or update the index of a folder of images."),
    "search": Command("virtue.commands.search:search", "Find images by words, by an image, or by a thing in one."),
    "serve": Command("virtue.commands.serve:serve", "Serve a model over HTTP, and the page to point and search."),
    "embed": Command("virtue.commands.embed:embed", "Write embeddings of texts and images to a file."),
    "scenes": Command("virtue.commands.scenes:scenes", "Draw scenes of the generated world, with captions and masks."),
    "train": Command("virtue.commands.train:train", "Train a model by a recipe."),
    "measure": Command("virtue.commands.measure:measure", "Measure a model on held-out scenes."),
    "eval": Command(
        "virtue.commands.evaluate:evaluate", "Measure any embedding model on SCaR, MMEB, scenes or own data."
    ),
    "report": Command("virtue.commands.report:report", "Put runs side by side, beside the paper's figures."),
    "convert": Command("virtue.commands.convert:convert", "Convert a checkpoint between the released layout and ours."),
    "curate": Command("virtue.commands.curate:curate", "Build a SCaR set from annotations, an LLM and people."),
    "info": Command("virtue.commands.info:info", "Show what is installed, and what a model or an index is."),
}


class _Commands(TyperGroup):
    """Holds a stub per command for the list; imports the real one when it is called, and reports its errors."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, _load(name) if name in COMMANDS else command, rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _say("interrupted")
            raise typer.Exit(130) from None
        except Exception as error:
            if ctx.params["debug"] or not _is_failure(error):
                raise
            _say(_sentence(error))
            raise typer.Exit(2 if isinstance(error, INPUT_ERRORS) else 1) from error


def _epilog(examples: Sequence[str]) -> str:
    return "\n  ".join(["Examples:", *examples])


app = typer.Typer(cls=_Commands, no_args_is_help=True, epilog=_epilog(EXAMPLES))


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"virtue {virtue.__version__}")
        raise typer.Exit


@app.callback(help="Search images by words, by an image, or by pointing at a thing in one.")
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error arose.", envvar="VIRTUE_DEBUG")] = False,
) -> None:
    """Declares the options that stand before the command; `_Commands.invoke` reads them."""


def _stub() -> None:
    """Stands in the list for a command that has not been imported."""


for _name, _command in COMMANDS.items():
    app.command(_name, help=_command.help)(_stub)


def _load(name: str) -> Any:
    """The real command `name`, with its options and examples."""
    command = COMMANDS[name]
    found, parts, examples = typer.Typer(add_completion=False), command.parts(), command.examples()
    if not parts:
        found.command(name, epilog=_epilog(examples))(command.load())
        return get_command(found)
    found.callback(no_args_is_help=True, epilog=_epilog(examples))(command.load())
    for part, function in parts.items():
        own = [line for line in examples if f"{line} ".startswith(f"virtue {name} {part} ")]
        found.command(part, epilog=_epilog(own))(function)
    return get_command(found)


def _is_failure(error: Exception) -> bool:
    """Whether it is an error to report, rather than one by which typer ends a command or a reader closes a pipe."""
    return not isinstance(error, (typer.Exit, typer.Abort, BrokenPipeError)) and not hasattr(error, "exit_code")


def _sentence(error: Exception) -> str:
    """What went wrong, as one sentence for the person at the keyboard."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}"
    message = " ".join(str(error).split())
    if isinstance(error, INPUT_ERRORS) or (isinstance(error, OSError) and error.errno is None):  # raised in our words
        return message
    return f"{type(error).__name__}: {message} (virtue --debug shows where)"


def _say(sentence: str) -> None:
    typer.secho(f"virtue: {sentence}", fg="red", err=True)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code.

    Args:
        args: The words after `virtue`; those of the process by default.
    """
    get_command(app).main(args=args, prog_name="virtue")
