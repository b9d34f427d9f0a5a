"""What a server allows, and how much of it at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from virtue.listening import is_own

MIN_KEY = 16
"""Characters of an API key at least."""


@dataclass(frozen=True)
class Settings:
    """Limits and permissions of a server.

    Attributes:
        api_key: What requests have to bring as a bearer token; None lets in whoever can reach the server.
        network: Whether the server answers under any host name, not only under this machine's own.
        allow_urls: Whether pictures may be given as URLs, which the server fetches from public addresses only.
        max_body: Bytes of a request.
        max_intake: Bytes of all requests that are being read or worked on.
        max_pixels: Pixels of a picture.
        max_inputs: Texts of one embeddings request, and candidates of one rank request.
        max_text: Characters of a text.
        queue_rows: Embeddings and masks that may wait; what comes on top is answered with 429.
        queue_bytes: Bytes of the pictures, masks, texts and answers of all requests; what comes on top gets 429.
        batch_rows: Embeddings and masks that are computed in one go.
        wait: Seconds that a first job waits for others to share its batch.
        deadline: Seconds after which a request is given up.
        body_timeout: Seconds in which the body of a request has to arrive.
        url_timeout: Seconds for fetching a picture from a URL.
        opened_bytes: Memory for open pictures; the one that was not used for longest goes first.
        decoders: Threads that decode pictures.
        connections: Connections at a time; what comes on top takes the place of one without a request.

    Raises:
        ValueError: If the key is too short, or a limit is not a finite number above 0.
    """

    api_key: str | None = None
    network: bool = False
    allow_urls: bool = False
    max_body: int = 32_000_000
    max_intake: int = 256_000_000
    max_pixels: int = 40_000_000
    max_inputs: int = 2048
    max_text: int = 100_000
    queue_rows: int = 4096
    queue_bytes: int = 512_000_000
    batch_rows: int = 64
    wait: float = 0.004
    deadline: float = 60.0
    body_timeout: float = 30.0
    url_timeout: float = 10.0
    opened_bytes: int = 1_000_000_000
    decoders: int = 2
    connections: int = 512

    def __post_init__(self) -> None:
        """Refuses what cannot be meant."""
        key = self.api_key
        if key is not None and (len(key) < MIN_KEY or not key.isascii() or not key.isprintable() or " " in key):
            raise ValueError(f"An API key has at least {MIN_KEY} characters, letters and digits best, without spaces.")
        for name, value in vars(self).items():
            if isinstance(value, int | float) and not isinstance(value, bool) and not 0 < value < math.inf:
                raise ValueError(f"{name} is a finite number above 0, not {value:g}.")

    def check_address(self, host: str) -> None:
        """Refuses to serve a network that nobody meant to serve.

        Raises:
            ValueError: If there is no address, or others can reach it and there is neither a key nor `network`.
        """
        if not host.strip():
            raise ValueError(
                "The host is empty; give the address to listen at, 127.0.0.1 for this machine, 0.0.0.0 for others too."
            )
        if self.api_key is None and not self.network and not is_own(host):
            raise ValueError(
                f"Other machines can reach {host}: give an --api-key that requests need, or say --open-to-network."
            )


def check_name(name: str | None) -> None:
    """Refuses what nobody can call a model.

    Raises:
        ValueError: If the name has neither a letter nor a digit.
    """
    if name is not None and not any(letter.isalnum() for letter in name):
        raise ValueError(
            f"A name has at least one letter or digit, not {name!r}; without one the model goes by its own."
        )
