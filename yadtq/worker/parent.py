"""The connection to the supervisor: a pipe that closes when the supervisor ends, and one to report our state."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING

import anyio

from yadtq.errors import ConfigError
from yadtq.runtime.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus as Started

__all__ = ["Parent", "report_to_supervisor"]

log = logging.getLogger("yadtq.worker")


class Parent(Service):
    """A service; without a supervisor it only waits for its end."""

    name = "parent"

    def __init__(self, pipe: str | None = None) -> None:
        """pipe: `YADTQ_PIPE`, two file descriptors: to read from, to write to."""
        self._fds: tuple[int, int] | None = None
        #: The supervisor has ended: no successor will be started in this slot.
        self.orphaned = False
        if pipe is not None:
            read, _, write = pipe.partition(",")
            if not (read.isdigit() and write.isdigit()):
                raise ConfigError(f"YADTQ_PIPE={pipe!r}: expected two file descriptors; only a supervisor sets it")
            self._fds = int(read), int(write)
            for fd in self._fds:
                os.set_blocking(fd, False)
                os.set_inheritable(fd, False)  # a task's child process must not keep the pipe open after our death
        #: Called once when the supervisor's end of the pipe closes, which happens even if it is killed.
        self.on_gone: Callable[[], None] = lambda: None
        self._stopped = anyio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        loop = asyncio.get_running_loop()
        if self._fds is not None:
            loop.add_reader(self._fds[0], self._read)
        task_status.started()
        try:
            await self._stopped.wait()
        finally:
            if self._fds is not None:
                loop.remove_reader(self._fds[0])

    def _read(self) -> None:
        assert self._fds is not None
        with contextlib.suppress(BlockingIOError):
            if os.read(self._fds[0], 4096) == b"":
                asyncio.get_running_loop().remove_reader(self._fds[0])
                log.warning("the supervisor is gone: draining")
                self.orphaned = True
                self.on_gone()

    def tell(self, line: str) -> None:
        """One line; lost if nobody reads (a frozen supervisor fills the pipe), since the next one says the same."""
        if self._fds is not None:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(self._fds[1], line.encode() + b"\n")


def report_to_supervisor(pipe: str | None, error: str) -> None:
    """Report why this worker ends before it could start: the supervisor repeats it in its own last message."""
    _, _, write = (pipe or "").partition(",")
    if write.isdigit():
        line = json.dumps({"phase": "stopped", "seq": 0, "loop_lag_s": 0, "error": error})
        with contextlib.suppress(OSError):  # no supervisor reads any more
            os.write(int(write), line.encode() + b"\n")
