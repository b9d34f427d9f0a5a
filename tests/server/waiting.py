"""A server whose model waits for a file, run as a program so that it can be stopped: `python -m tests.server.waiting`.

Arguments: the folder in which it writes `begun` when the model is at it and then waits for `go`; where the model waits,
`loading` or `computing`; and the seconds that what was taken has when the server stops. Prints its port.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

import virtue

for name in ("embedder", "index"):  # without torch and lancedb, which take seconds to import
    light: Any = ModuleType(f"virtue.{name}")
    light.__path__ = [str(Path(virtue.__file__).parent / name)]
    light.Hit = light.Index = object
    sys.modules[light.__name__] = light

from virtue.server import serve, serving  # noqa: E402
from virtue.server.work import Embedded, Work  # noqa: E402

FOLDER, WAITS, GRACE = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])


def wait(what: str) -> None:
    """Waits for `go`, if this is where."""
    if what == WAITS:
        (FOLDER / "begun").touch()
        while not (FOLDER / "go").exists():
            time.sleep(0.005)


def load() -> Any:
    """A model that has as much as texts need; D is 4."""
    wait("loading")
    return SimpleNamespace(name="waiting", dimension=4, model=SimpleNamespace(sam=None))


def compute(work: Work, asks: Sequence[Any]) -> list[Embedded]:
    """The same embedding for everything."""
    wait("computing")
    return [Embedded(np.full(4, 0.5, dtype=np.float32), 1) for _ in asks]


if __name__ == "__main__":
    Work.compute = compute  # type: ignore[method-assign]
    serving.GRACE = GRACE
    with serving.listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    print(port, flush=True)
    serve(load, port=port)
