"""A supervisor as a child process that never outlives this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from yadtq.embedded.binaries import broker_binary
from yadtq.embedded.errors import MissingServer
from yadtq.errors import YadtqError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

__all__ = ["Heard", "SupervisorProcess", "supervisor"]

#: Above the supervisor's own grace for its workers.
_GRACE_S = 45.0
#: Used when we were killed: our servers have ended as well, and without them a drain can't finish.
_ORPHANED_S = 5.0
_LAST_LINES_S = 5.0


class Heard(Protocol):
    """What a supervisor tells."""

    def line(self, line: str) -> None:
        """A line of its log, which its workers also write to: its content is not trusted."""
        ...

    def event(self, facts: Mapping[str, Any]) -> None:
        """An event of its own."""
        ...


class SupervisorProcess:
    """`signal` it, `wait` for its end; the `async with` that made it ends it."""

    def __init__(self, process: asyncio.subprocess.Process, pid: int) -> None:
        self._process = process
        self.pid = pid

    def signal(self, signum: signal.Signals = signal.SIGTERM) -> None:
        """SIGTERM: its workers drain; again: they cancel running tasks; a third time: they are killed."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    async def wait(self) -> int:
        """Its exit status."""
        return await self._process.wait()

    async def stop(self) -> None:
        """Let its workers drain; kill it if that takes too long."""
        self.signal()
        with anyio.move_on_after(_GRACE_S):
            await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def supervisor(
    app: str,
    *,
    workers: int,
    concurrency: int | None = None,
    env: Mapping[str, str],
    hear: Heard | None = None,
) -> AsyncIterator[SupervisorProcess]:
    """`python -m yadtq.supervisor app` for as long as the block runs.

    hear: receives its log and events; without one it and its workers log to our standard error.
    """
    command = [sys.executable, "-m", "yadtq.supervisor", app, "--workers", str(workers)]
    if concurrency is not None:
        command += ["--concurrency", str(concurrency)]
    guard = _guard()
    events, write = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *guard,
            *command,
            *("--events-fd", str(write)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if guard else asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE if hear else None,
            env={**os.environ, **env},
            pass_fds=(write,),
            # A Ctrl-C in the terminal is for us: we end it in order.
            start_new_session=True,
        )
    except BaseException:  # also a cancellation: nothing else would close the descriptor
        os.close(events)
        raise
    finally:
        os.close(write)
    child = SupervisorProcess(process, process.pid)
    lines, transport = await _reader(events)
    readers = []
    if hear is not None and process.stderr is not None:
        readers = [
            asyncio.create_task(_read(process.stderr, lambda line: hear.line(line.decode(errors="replace")))),
            asyncio.create_task(_read(lines, lambda line: _hear_event(line, hear))),
        ]
    try:
        if guard:
            child.pid = await _pid(process)
        yield child
    finally:
        with anyio.CancelScope(shield=True):
            await child.stop()
            await _close(process, readers)
            transport.close()


def _guard() -> list[str]:
    """What ends the supervisor when we are killed. Without it (no `yadtq[embedded]`) it would go on."""
    try:
        return [str(broker_binary()), "guard", "-grace", f"{_ORPHANED_S:g}s", "-quiet", "--"]
    except MissingServer:
        return []


async def _pid(process: asyncio.subprocess.Process) -> int:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise YadtqError(f"the supervisor can't be started: its guard ended with status {await process.wait()}")
    return int(json.loads(line)["pid"])


async def _close(process: asyncio.subprocess.Process, readers: list[asyncio.Task[None]]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    if readers:  # a worker that still ends after its supervisor was killed holds the log open
        await asyncio.wait(readers, timeout=_LAST_LINES_S)
        for reader in readers:
            reader.cancel()


async def _reader(fd: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(fd, "rb", buffering=0)
    )
    return stream, transport


def _hear_event(line: bytes, hear: Heard) -> None:
    with contextlib.suppress(ValueError):  # cut, as the pipe was full
        facts = json.loads(line)
        if isinstance(facts, dict):
            hear.event(facts)


async def _read(stream: asyncio.StreamReader, on_line: Callable[[bytes], None]) -> None:
    """By chunks: `readline` fails on a line that is longer than its buffer."""
    rest = b""
    while chunk := await stream.read(65_536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            on_line(line)
