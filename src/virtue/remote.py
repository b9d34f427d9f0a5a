"""Fetches an image from a URL without letting the URL reach into the network that this program runs in.

1. Only http and https, no user name or password in the URL, and it and its host no longer than such things are.
2. The host is resolved once, and every address it has must be public.
3. The connection goes to an address that was checked, so a second answer of the name server changes nothing.
4. A redirect starts over at 1.
5. Bytes and seconds are limited in total, whatever the server sends and however slowly.

Proxies from the environment are not used: they would resolve the host themselves.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from urllib.parse import SplitResult, quote, urljoin, urlsplit

MAX_BYTES = 50_000_000
TIMEOUT = 20.0
"""Seconds for all of a fetch, redirects included."""

MAX_URL = 8000
"""Characters of a URL; signed ones have some thousands."""

MAX_HOST = 253
"""Characters of a host's name; what turns other letters into ASCII takes seconds for a million."""

MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_KEPT = "/%:@!$&'()*+,;=~-._?"
"""What may stand in a path or query as it is; `%` because a URL usually comes quoted."""

_SHOWN = 100
"""Characters of what others wrote that an error repeats."""

_USER = re.compile(r"(?<=://)[^/?#]*@")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class ImageError(ValueError):
    """An image that cannot be opened; the message is one sentence that names it."""


def fetch(url: str, *, max_bytes: int = MAX_BYTES, timeout: float = TIMEOUT) -> bytes:
    """Fetches a URL from a public address.

    Args:
        url: An http or https URL.
        max_bytes: The largest body that is read.
        timeout: Seconds for everything together, except what the name server takes.

    Returns:
        The body of the answer.

    Raises:
        ImageError: If the URL is malformed or too long, leads to an address that is not public, fails, or is too large
            or slow.
    """
    deadline = time.monotonic() + timeout
    target = url
    try:
        for _ in range(MAX_REDIRECTS + 1):
            body, location = _get(target, max_bytes, deadline)
            if location is None:
                return body
            target = urljoin(target, location)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        reason = "it took too long" if time.monotonic() >= deadline else _short(str(error)) or type(error).__name__
        raise ImageError(f"{_named(url)} cannot be fetched: {reason}.") from error
    raise ImageError(f"{_named(url)} cannot be fetched: more than {MAX_REDIRECTS} redirects.")


def _get(url: str, max_bytes: int, deadline: float) -> tuple[bytes, str | None]:
    """One request: the body, or where a redirect leads."""
    parts, host, port = _split(url)
    path = quote(parts.path or "/", safe=_KEPT) + (f"?{quote(parts.query, safe=_KEPT)}" if parts.query else "")
    headers = {"Host": parts.netloc.encode("idna").decode(), "User-Agent": "virtue", "Accept-Encoding": "identity"}
    connection = http.client.HTTPConnection(host, port)
    with _connected(host, port, parts.scheme == "https", deadline) as sock, contextlib.closing(connection):
        connection.sock = sock
        connection.request("GET", path, headers=headers)
        with contextlib.closing(connection.getresponse()) as answer:
            location = answer.getheader("Location")
            if answer.status in _REDIRECTS and location:
                return b"", location
            if answer.status != 200:
                said = f"{answer.status} {_short(answer.reason)}"
                raise ImageError(f"{_named(url)} cannot be fetched: the server answered {said}.")
            body = answer.read(max_bytes + 1)
    if len(body) > max_bytes:
        raise ImageError(f"{_named(url)} cannot be fetched: it is larger than {max_bytes:,} bytes.")
    _seconds_left(deadline)  # a connection cut at the deadline looks like a body that ended
    if answer.length:
        raise ImageError(f"{_named(url)} cannot be fetched: the connection ended {answer.length:,} bytes early.")
    return body, None


def _split(url: str) -> tuple[SplitResult, str, int]:
    """The URL in its parts, with host and port."""
    if len(url) > MAX_URL:
        raise ImageError(
            f"{_named(url)} cannot be fetched: a URL has {MAX_URL:,} characters at most, and this one {len(url):,}."
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ImageError(f"{_named(url)} is not a URL: {_short(str(error))}.") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ImageError(f"{_named(url)} cannot be fetched: only http:// and https:// URLs with a host are.")
    if len(host) > MAX_HOST:
        raise ImageError(f"{_named(url)} cannot be fetched: a host's name has {MAX_HOST} characters at most.")
    if "@" in parts.netloc:
        raise ImageError(f"The URL for {_short(host)} holds a user name or password, and such URLs are not fetched.")
    return parts, host, port or (443 if parts.scheme == "https" else 80)


def _named(url: str) -> str:
    """The URL as an error names it: without a user name and password, and short."""
    return _short(_USER.sub("", url, count=1))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


@contextlib.contextmanager
def _connected(host: str, port: int, secure: bool, deadline: float) -> Iterator[socket.socket]:
    """A connection to a checked address of the host, cut at the deadline even in the middle of a slow answer."""
    sock = _connect(_public_addresses(host, port), port, deadline)
    if secure:
        sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
    # A socket's timeout starts anew with every byte, so it does not end an answer that drips.
    cut = threading.Timer(deadline - time.monotonic(), _cut, (sock,))
    cut.daemon = True
    cut.start()
    try:
        yield sock
    finally:
        cut.cancel()
        sock.close()


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # below TLS, which would wait for an answer


def _connect(addresses: list[str], port: int, deadline: float) -> socket.socket:
    """The first of the addresses that answers."""
    for address in addresses[:-1]:
        with contextlib.suppress(OSError):
            return socket.create_connection((address, port), timeout=_seconds_left(deadline))
    return socket.create_connection((addresses[-1], port), timeout=_seconds_left(deadline))


def _seconds_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _public_addresses(host: str, port: int) -> list[str]:
    """All addresses of the host, if every one of them is public."""
    addresses = _resolve(host, port)
    for address in addresses:
        if not _is_public(address):
            raise ImageError(f"{_short(host)} leads to {address}, which is not a public address, and is not fetched.")
    return addresses


def _resolve(host: str, port: int) -> list[str]:
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):  # forms that carry an IPv4 address inside
        teredo = ip.teredo[1] if ip.teredo else None
        nat64 = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
        inner = ip.ipv4_mapped or ip.sixtofour or teredo or nat64
        if inner is not None:
            return _is_public(str(inner))
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast
