"""What a browser may do with a server of this project while other sites are open in it.

Another site could send requests here, or, by pointing a name of its own at this machine, read from it. So a server that
is meant for this machine answers to the machine's own names alone, refuses what says that it comes from another site,
and forbids framing, guessing of types, and scripts other than its own files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# An address cannot be pointed elsewhere. Names have no case, and a port may be left empty (RFC 3986, 3.2).
_OWN_NAME = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d*)?", re.ASCII | re.IGNORECASE)

_SAFE = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
SAFE_HEADERS = [(name.encode(), value.encode()) for name, value in _SAFE.items()]
"""Headers of every answer."""

NO_STORE = (b"cache-control", b"no-store")
"""Header of an answer that nobody keeps."""


def wrong_host(headers: Mapping[str, str]) -> str | None:
    """What is wrong with the name that a request calls this machine by; None if it is the machine's own.

    Args:
        headers: By their names in lower case.
    """
    host = headers.get("host", "")
    if _OWN_NAME.fullmatch(host):
        return None
    return f"This server is for this machine only and goes by localhost, not by {host or 'no name'}."


def is_foreign(headers: Mapping[str, str]) -> bool:
    """Whether a request says that a page of another origin sends it.

    Args:
        headers: By their names in lower case.
    """
    origin = headers.get("origin")
    if origin is None:
        return False
    own = _plain(headers.get("host", ""))
    return not own or _plain(origin.partition("://")[2]) != own


def _plain(host: str) -> str:
    """A host with its port as browsers write it: in lower case, and without the colon of an empty port."""
    return host.lower().removesuffix(":")
