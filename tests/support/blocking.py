"""Fail a test in which code of ours blocks the event loop: sleeps, reads or writes files, waits for a socket or a lock.

A worker whose loop stands still sends no heartbeats and renews no leases, and then its tasks are run again elsewhere.
"""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import blockbuster
from blockbuster import BlockBuster

import yadtq

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ALLOWED", "NOT_WATCHED", "blocking_calls"]

#: Programs of their own, that serve no tasks: what they do at their start and end may wait for a disk.
NOT_WATCHED = ["yadtq.embedded", "yadtq.demo", "yadtq.cli"]

#: (end of a file's path, function in it): why whatever is called under it may block.
ALLOWED: dict[tuple[str, str], str] = {
    ("logging/__init__.py", "emit"): "logs are lines to stderr, as everywhere in Python",
    ("yadtq/sync.py", "call"): "the blocking client, also inside a notebook's loop: to block is what it is for",
    ("yadtq/embedded/datadir.py", "_open"): "of a program of its own that serves no tasks: see NOT_WATCHED",
    ("yadtq/environment.py", "_read"): "the file of a secret, once, when settings are first asked for",
    ("yadtq/runtime/tls.py", "_read"): "certificates of a few kB, when a process starts and when they were renewed",
    (
        "yadtq/runtime/tls.py",
        "_times",
    ): "three inodes for each new connection, to see whether certificates were renewed",
    ("yadtq/worker/facts.py", "rss_bytes"): "a file of /proc is memory of the kernel: there is no disk to wait for",
}

_PACKAGE = yadtq.__path__[0]


class _Recorded(blockbuster.BlockingError):
    """Also kept, since a broad `except` of the code under test may take it for an error of a task."""

    calls: ClassVar[list[str]] = []

    def __init__(self, func: str) -> None:
        super().__init__(func)
        ours = [frame for frame in traceback.extract_stack() if frame.filename.startswith(_PACKAGE)]
        place = f" by {ours[-1].filename}:{ours[-1].lineno} ({ours[-1].name})" if ours else ""
        self.calls.append(f"{func}{place}")


@contextmanager
def blocking_calls() -> Iterator[list[str]]:
    """While it is open, a blocking call under a running loop raises `BlockingError` and is listed."""
    calls = _Recorded.calls = []
    detector = _detector()
    detector.activate()
    try:
        yield calls
    finally:
        detector.deactivate()


@cache
def _detector() -> BlockBuster:
    """One for the session: to make it takes 10 ms, to switch it on a fraction of one."""
    detector = BlockBuster(scanned_modules=["yadtq"], excluded_modules=NOT_WATCHED)
    for function in detector.functions.values():
        for file, where in ALLOWED:
            function.can_block_in(file, where)
    blockbuster.blockbuster.BlockingError = _Recorded  # type: ignore[misc]
    return detector
