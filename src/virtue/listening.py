"""Where a server of this project listens: who can reach an address, the socket, and what a person types for it."""

from __future__ import annotations

import ipaddress
import socket


def is_own(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int, backlog: int = 2048) -> socket.socket:
    """A socket that listens; connections wait in it until the server takes them.

    Args:
        host: An address of this machine.
        port: 0 for one that is free.
        backlog: Connections that may wait.

    Raises:
        ValueError: If nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host.strip("[]"), port), family=family, backlog=backlog)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"Cannot listen at port {port} of {host} ({error}); give another port, or 0 for one that is free."
        ) from error
    # Taken connections inherit it. asyncio sets it on sockets of its own making only, and without it the body of an
    # answer waits 40 ms for the client to acknowledge the head.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def address(host: str, port: int) -> str:
    """What a browser on this machine is given."""
    name = f"[{host.strip('[]')}]" if ":" in host else host
    return f"http://{name}:{port}/"
