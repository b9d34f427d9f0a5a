"""What the commands that serve share."""

from __future__ import annotations

from importlib.util import find_spec


def require_server() -> None:
    """Says how to install what a server needs.

    Raises:
        ModuleNotFoundError: If something is missing.
    """
    for name in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
        if find_spec(name) is None:
            raise ModuleNotFoundError(
                f"The server needs {name}: install it with `pip install 'virtue[serve]'`.", name=name
            )
