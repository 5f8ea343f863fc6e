"""Which ports are free.

Ports are taken from below the kernel's range for outgoing connections. A server that restarts must find its port free
while clients keep trying to reconnect. Within that range a client can be assigned the very port it is connecting to: it
then connects to itself, and the server can't start again.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

_LOWEST = 15_000  # above the ports that well-known services listen on
_HIGHEST = 32_000  # where the kernel's range can't be read


class FreePorts(NamedTuple):
    """Ports to ask an EmbeddedStack for; 0 where the wanted one is taken, which means any."""

    kafka: int
    redis: int


def ports_free(kafka: int = 9092, redis: int = 6379) -> FreePorts:
    """Those of the wanted ports that nothing listens on, so that a stack can take the default ports where it may."""
    return FreePorts(kafka if is_free(kafka) else 0, redis if is_free(redis) else 0)


def is_free(port: int) -> bool:
    """Whether nothing listens on this port of `localhost`, IPv6 included, which a client may try first."""
    return _bindable(socket.AF_INET, "127.0.0.1", port) and _bindable(socket.AF_INET6, "::1", port)


def pick_port(taken: Collection[int] = ()) -> int:
    """A port that is free now. Another process may take it before its use: be ready to pick again."""
    highest = _first_outgoing()
    for _ in range(1000):
        port = random.randrange(_LOWEST, highest)
        if port not in taken and is_free(port):
            return port
    raise OSError(f"no free port found between {_LOWEST} and {highest}")


def _bindable(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            # As the servers do: a connection in TIME_WAIT is no obstacle, a listener is.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
    except OSError:
        # No IPv6 address on this machine: nobody can listen there either.
        return port != 0 and family == socket.AF_INET6 and not _bindable(family, host, 0)
    return True


def _first_outgoing() -> int:
    try:
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return _HIGHEST
    return low if low > _LOWEST + 1000 else _HIGHEST
