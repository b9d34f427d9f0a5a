"""Reads pickles of strangers that hold plain data: containers, text, numbers and None. Anything else is refused.

A pickle is a program. It may call any function, and it may ask for gigabytes by a few bytes. So it is not run before it
was read through:

1. Every instruction must be one that makes or fills a plain container or value; those that name a class or a function,
   call one, or set the state of an object are not among them.
2. A place in the memo, where a pickle keeps what it uses again, is at most the number of instructions so far: the
   reader would make room for every place below it.
3. Then it is run, by an unpickler that finds no class or function at all.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, NoReturn

_PLAIN = frozenset(
    "PROTO FRAME STOP MARK POP POP_MARK DUP MEMOIZE PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET "
    "NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT "
    "STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES "
    "BINBYTES8 EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM "
    "SETITEMS EMPTY_SET ADDITEMS FROZENSET".split()
)
_MEMO = ("PUT", "BINPUT", "LONG_BINPUT")


def load_plain(file: str | Path) -> Any:
    """What a pickle holds.

    Text written by Python 2 as bytes is read as UTF-8, or, where some of it is not, all of it as Latin-1.

    Args:
        file: The pickle.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no pickle, is damaged, or holds anything but plain data.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    data = path.read_bytes()
    _check(data, path)
    try:
        try:
            return _PlainUnpickler(io.BytesIO(data), encoding="utf-8").load()
        except UnicodeDecodeError:
            return _PlainUnpickler(io.BytesIO(data), encoding="latin-1").load()
    except (pickle.UnpicklingError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError) as error:
        raise ValueError(f"{path} is a damaged pickle: {error}.") from error
    except (MemoryError, RecursionError, AttributeError) as error:
        raise ValueError(f"{path} is not the pickle of plain data that is expected.") from error


class _PlainUnpickler(pickle.Unpickler):
    """Finds nothing, whatever a pickle asks for."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: object) -> NoReturn:
        raise pickle.UnpicklingError("it asks for something that is stored elsewhere")


def _check(data: bytes, path: Path) -> None:
    """Refuses a pickle that is more than plain data, without running it."""
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
            if operation.name not in _PLAIN:
                named = f" ({argument})" if isinstance(argument, str) else ""
                raise ValueError(
                    f"{path} is refused: it holds more than lists, dicts, text and numbers, "
                    f"namely the instruction {operation.name}{named}."
                )
            if operation.name in _MEMO and isinstance(argument, int) and argument > count:
                raise ValueError(f"{path} is refused: it asks for room for {argument:,} things that it does not hold.")
    except (UnicodeDecodeError, OverflowError, IndexError) as error:
        raise ValueError(f"{path} is a damaged pickle: {error}.") from error
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} is no pickle, or a damaged one: {error}.") from error
