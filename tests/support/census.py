"""Count what a process holds, for the leak invariant (I6)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil

from tests.support.invariants import Census

if TYPE_CHECKING:
    from collections.abc import Sequence


def take_census(pid: int | None = None, *, keys: Sequence[str] = ()) -> Census:
    """Of the process and its descendants; `keys` are Redis keys, which only the test can list."""
    root = psutil.Process(os.getpid() if pid is None else pid)
    family = [root, *root.children(recursive=True)]
    connections = [
        # The remote end only: local ports are new each time, and two censuses must be comparable.
        f"{_role(process, root)} to {connection.raddr.ip}:{connection.raddr.port}"
        for process in family
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_ESTABLISHED and connection.raddr
    ]
    threads = [_role(process, root) for process in family for _ in process.threads()]
    children = [_role(process, root) for process in family[1:]]
    return Census(processes=children, threads=threads, connections=connections, keys=list(keys))


def _role(process: psutil.Process, root: psutil.Process) -> str:
    return "itself" if process == root else process.name()
