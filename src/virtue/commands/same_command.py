"""The command that was given, in the words of a shell, to be given again with a change."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import typer


def same_command(context: typer.Context, *, leave: Sequence[str] = (), add: Sequence[str] = ()) -> str:
    """The command, with the options that were given on the command line and not those that are as by default.

    Args:
        context: Of the command.
        leave: Parameters to leave out.
        add: Words to add at the end.
    """
    words = context.command_path.split()
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in leave and source is not None and source.name == "COMMANDLINE":
            words += _words(parameter, context.params[name])
    return shlex.join([*words, *add])


def _words(parameter: Any, value: Any) -> Iterator[str]:
    """A parameter as it is written: an argument's value, a flag, or an option before each of its values."""
    if parameter.param_type_name == "argument":
        yield from map(_text, value if isinstance(value, list | tuple) else [value])
    elif isinstance(value, bool):
        yield (parameter.opts if value else parameter.secondary_opts)[0]
    else:
        for one in value if isinstance(value, list | tuple) else [value]:
            yield from (parameter.opts[0], _text(one))


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))
