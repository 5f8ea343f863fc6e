"""Ports for servers that go down and come back during a test.

They lie below the range from which the kernel takes ports for outgoing connections. Otherwise a client that retries
while the server is down could get the server's own port, connect to itself, and keep the server from binding again.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

LOWEST, HIGHEST = 20_000, 32_000

# Locked files, held open until this process ends: another test run on this machine takes other ports, also while the
# server behind a port is stopped and a bind would succeed.
_reserved: list[int] = []


def reserve_port() -> int:
    folder = Path(tempfile.gettempdir()) / f"yadtq-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for port in random.sample(range(LOWEST, HIGHEST), k=200):
        descriptor = os.open(folder / str(port), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            os.close(descriptor)
            continue
        _reserved.append(descriptor)
        return port
    raise RuntimeError(f"no free port between {LOWEST} and {HIGHEST}")
