"""`virtue serve`: an HTTP server that embeds, segments and searches, and the page to point and search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MOST = 1e9
"""Seconds and gigabytes that no limit reaches."""

EXAMPLES = (
    "virtue serve --index ~/Pictures",
    "virtue serve --model Sony/VIRTUE-2B-SCaR --port 8001",
    "virtue serve --host 0.0.0.0 --api-key KEY --index ~/Pictures",
)


def _limit(value: float) -> float:
    """Refuses what is a number for Python and limits nothing."""
    if not value < MOST:  # as nan is not
        raise typer.BadParameter(f"it is a finite number below {MOST:g}, not {value:g}.")
    return value


def serve(
    model: Annotated[
        str | None,
        typer.Option(help="Name, folder or Hub id of the model.", show_default="the index's, else nano"),
    ] = None,
    index: Annotated[Path | None, typer.Option(help="The indexed folder, or the index, to search.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 8000,
    api_key: Annotated[
        str | None, typer.Option(envvar="VIRTUE_API_KEY", help="What requests must bring as a bearer token.")
    ] = None,
    open_to_network: Annotated[
        bool, typer.Option("--open-to-network", help="Let others in without an API key.")
    ] = False,
    allow_urls: Annotated[
        bool, typer.Option("--allow-urls", help="Fetch pictures from public URLs in requests.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="What requests call the model.", show_default="as it is called")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps.", show_default="the best there is")] = None,
    deadline: Annotated[float, typer.Option(min=0.1, callback=_limit, help="Seconds that a request may take.")] = 60.0,
    queue: Annotated[int, typer.Option(min=1, help="Embeddings and masks that may wait.")] = 4096,
    batch_size: Annotated[int, typer.Option(min=1, help="Embeddings and masks computed in one go.")] = 64,
    memory: Annotated[float, typer.Option(min=0.01, callback=_limit, help="Gigabytes for open pictures.")] = 1.0,
) -> None:
    """Serve a model over HTTP, and the page to point and search.

    The API is OpenAI's for embeddings, and more for pictures; /docs lists it. Ctrl-C or SIGTERM ends it once what was
    taken is answered.
    """
    from virtue.commands.serving import require_server

    require_server()
    from virtue.server.allocation import bound_memory
    from virtue.server.settings import Settings, check_name

    settings = Settings(
        api_key=api_key or None,
        network=open_to_network,
        allow_urls=allow_urls,
        deadline=deadline,
        queue_rows=queue,
        batch_rows=batch_size,
        opened_bytes=int(memory * 1e9),
    )
    check_name(name)
    settings.check_address(host)  # before torch is read: what is refused is refused at once
    bound_memory()

    from virtue.embedder import Embedder
    from virtue.index import find_index
    from virtue.server import serve as run

    found = None if index is None else find_index(index)
    wanted = model or ("nano" if found is None else found.settings.model)
    run(
        lambda: Embedder.from_pretrained(wanted, device=device),
        found,
        settings,
        name=name,
        host=host,
        port=port,
        ready=lambda address: typer.echo(f"Serving {wanted} at {address} (the API is documented at {address}docs)."),
    )
