"""Starts the review server: it binds its address, says where the page is, and serves until it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from virtue.listening import address, is_own, listen

if TYPE_CHECKING:
    from virtue.curation.review.edits import Check

PORT = 8765
MIN_TOKEN = 16
"""Characters of a token that a server needs which other machines can reach."""


def serve(
    folder: str | Path,
    images: str | Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    reviewers_share: float = 0.1,
    seed: int = 0,
    token: str | None = None,
    check: Check | None = None,
    ready: Callable[[str], object] | None = None,
) -> None:
    """Serves the review page of a run until Ctrl-C. Every decision is on disk before its request is answered.

    Args:
        folder: Of the run; a set may still be built in it.
        images: Folder that the images' paths are relative to; by default those that the run remembers.
        host: Address to listen at. Others than this machine's own need a token.
        port: Port to listen at; 0 takes one that is free.
        reviewers_share: Of the samples, in [0, 1], those that two reviewers see.
        seed: Decides which these are.
        token: Without it nobody sees or decides anything; by default whoever is on this machine does.
        check: What edits have to pass, beyond being ten different captions.
        ready: Called with the page's address once it can be opened.

    Raises:
        FileNotFoundError: If there is no such run, or no such folder of images.
        ModuleNotFoundError: If FastAPI or uvicorn is not installed.
        ValueError: If the address cannot be listened at, or needs a token, or the share is none.
    """
    if images is not None and not Path(images).is_dir():
        raise FileNotFoundError(f"There is no folder of images {images}.")
    _check_token(host, token)
    try:
        import uvicorn

        from virtue.curation.review.app import create_app
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"The review page needs {error.name}: install it with `pip install 'virtue[curate]'`.", name=error.name
        ) from error
    from virtue.curation.review.queue import Queue
    from virtue.curation.store import Curation

    with closing(Curation(folder)) as curation, closing(listen(host, port)) as listening:
        queue = Queue(curation, share=reviewers_share, seed=seed)
        app = create_app(queue, None if images is None else Path(images), token=token, check=check)
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=3)
        if ready is not None:
            ready(address(host, listening.getsockname()[1]) + (f"#token={token}" if token is not None else ""))
        with suppress(KeyboardInterrupt):  # Ctrl-C is how a review ends
            uvicorn.Server(config).run(sockets=[listening])


def _check_token(host: str, token: str | None) -> None:
    if token is None and not is_own(host):
        raise ValueError(
            f"Other machines can reach {host}: give a token that reviewers need, or listen at 127.0.0.1 "
            "and let them in through SSH."
        )
    if token is not None and (len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable()):
        raise ValueError(f"A token has at least {MIN_TOKEN} characters, letters and digits best.")
