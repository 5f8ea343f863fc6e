"""One server under a guard: start, end, kill, freeze and restart it, on the same port and data.

Invariant: the server never outlives this process, however either ends. It is the child of `yadtq-devbroker guard`,
which ends it when its standard input does (that is us) and which it can't outlive either.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from yadtq.embedded.binaries import broker_binary
from yadtq.embedded.errors import ServerStartFailed
from yadtq.embedded.ports import pick_port
from yadtq.runtime.folders import open_own_file, open_own_folder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

_GRACE_S = 5.0  # between a server's SIGTERM and its SIGKILL
_REAP_S = 5.0  # for what ends at once: a killed server and its guard
_PICKS = 5  # of ports that turned out to be taken
_TAIL_BYTES = 4000


@dataclass(frozen=True)
class ServerSpec:
    """What is particular to a server.

    wanted_ports: 0 for any; command: its arguments on these ports, called in a thread; announces: it prints a ready
    line of JSON; probe: is it ready, and is it really ours, on its first port. env: in addition to ours.
    """

    name: str
    wanted_ports: tuple[int, ...]
    command: Callable[[Sequence[int]], list[str]]
    log: Path
    announces: bool = False
    probe: Callable[[int], Awaitable[bool]] | None = None
    env: Mapping[str, str] = field(default_factory=dict)


class _Ended(Exception):
    """The server ended before it was ready."""


class ServerProcess:
    """A server that can be ended and started again. Not for concurrent use by several tasks.

    lock_fd: a descriptor that the server holds open as long as it lives. timeout: seconds for each start.
    """

    def __init__(self, spec: ServerSpec, *, lock_fd: int, timeout: float) -> None:
        self._spec, self._lock_fd, self._timeout_s = spec, lock_fd, timeout
        self._guard: asyncio.subprocess.Process | None = None
        self._pid: int | None = None
        self._log_start = 0
        self.name = spec.name
        self.log = spec.log
        self.ports: tuple[int, ...] = ()  # chosen at the first start, and kept

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def pid(self) -> int | None:
        """The server's own process id, None when it is not running."""
        return self._pid if self.running else None

    @property
    def running(self) -> bool:
        """Whether the process exists; a frozen one does."""
        return self._guard is not None and self._guard.returncode is None

    async def start(self) -> None:
        """Start it and wait until it answers; nothing if it runs. Raises ServerStartFailed with the log's tail."""
        if self.running:
            return
        await self._reap()
        first = not self.ports
        for attempt in range(1, _PICKS + 1):
            ports = self.ports or _fill(self._spec.wanted_ports)
            try:
                await self._start_on(ports)
            except ServerStartFailed as exc:
                # Another process can take a port between its choice and its use: choose again. A requested port is not
                # replaced.
                lost = first and 0 in self._spec.wanted_ports and "in use" in exc.log_tail
                if not lost or attempt == _PICKS:
                    raise
            else:
                self.ports = ports
                return

    async def stop(self) -> None:
        """End it as its operator would: SIGTERM, and it saves its state. SIGKILL if it does not end."""
        if self._guard is None:
            return
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        # Also by signal: a process that the user's code forked may hold the pipe open.
        with contextlib.suppress(ProcessLookupError):
            self._guard.terminate()
        with anyio.CancelScope(shield=True), anyio.move_on_after(_GRACE_S + _REAP_S):
            await self._guard.wait()
        await self.kill()

    async def kill(self) -> None:
        """End it as a crash would: SIGKILL, nothing is saved."""
        if self._guard is None:
            return
        # Both signals before the first await, so that a cancellation can't come between. Linux kills the server with
        # its guard; the guard is killed only when the server's id is unknown, since it also reaps the server.
        with contextlib.suppress(ProcessLookupError):
            if self.running and self._pid is not None:
                os.kill(self._pid, signal.SIGKILL)
            elif self.running:
                self._guard.kill()
        await self._reap()

    async def restart(self) -> None:
        """Stop and start it again, on the same ports and data."""
        await self.stop()
        await self.start()

    def freeze(self) -> None:
        """Stop it where it is (SIGSTOP): connections stay open and nothing answers, as on a host that hangs."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        self._signal(signal.SIGCONT)

    def _signal(self, signum: signal.Signals) -> None:
        if self.pid is None:
            raise RuntimeError(f"{self.name} is not running")
        os.kill(self.pid, signum)

    async def _start_on(self, ports: Sequence[int]) -> None:
        try:
            with anyio.fail_after(self._timeout_s):
                await self._launch(ports)
                await self._ready(ports[0])
        except (TimeoutError, _Ended) as exc:
            await self.kill()
            reason = str(exc) if isinstance(exc, _Ended) else f"not ready within {self._timeout_s:g} s"
            tail = await anyio.to_thread.run_sync(_tail, self.log, self._log_start)
            raise ServerStartFailed(self.name, reason, tail) from exc
        except BaseException:  # cancelled half-way
            await self.kill()
            raise

    async def _launch(self, ports: Sequence[int]) -> None:
        self._pid = None
        guard = [str(broker_binary()), "guard", "-grace", f"{_GRACE_S}s", f"-quiet={not self._spec.announces}", "--"]
        with anyio.CancelScope(shield=True):  # otherwise the log of a cancelled call would stay open
            command, log = await anyio.to_thread.run_sync(lambda: (self._spec.command(ports), _open_log(self.log)))
        try:
            self._log_start = os.lseek(log, 0, os.SEEK_END)
            # Shielded: asyncio would kill the half-made process of a cancelled call, but not wait for its end.
            with anyio.CancelScope(shield=True):
                self._guard = await asyncio.create_subprocess_exec(
                    *guard,
                    *command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    pass_fds=(self._lock_fd,),
                    # A Ctrl-C in the terminal is for us: the servers end after those who use them.
                    start_new_session=True,
                    # Valkey refuses to start under a locale that the machine does not have.
                    env={**os.environ, "LC_ALL": "C", **self._spec.env},
                )
        finally:
            os.close(log)

    async def _ready(self, port: int) -> None:
        self._pid = (await self._line("pid"))["pid"]
        if self._spec.announces:
            await self._line("ready")
        pause_s = 0.001
        while self._spec.probe is not None and not await self._spec.probe(port):
            if not self.running:
                raise _Ended(await self._ending())
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.02)

    async def _line(self, key: str) -> dict[str, Any]:
        """The next line that has this key, from the guard or the server: their order is not certain."""
        assert self._guard is not None
        assert self._guard.stdout is not None
        while line := await self._guard.stdout.readline():
            found: dict[str, Any] = json.loads(line)
            if key in found:
                return found
        raise _Ended(await self._ending())

    async def _ending(self) -> str:
        assert self._guard is not None
        return f"it ended with status {await self._guard.wait()}"

    async def _reap(self) -> None:
        """Wait for the guard's end, and for its pipes', whose transports would else outlive the loop."""
        if self._guard is None:
            return
        guard, self._guard, self._pid = self._guard, None, None
        with anyio.CancelScope(shield=True), anyio.move_on_after(_REAP_S):
            await guard.wait()
            if guard.stdin is not None:
                guard.stdin.close()
                with contextlib.suppress(ConnectionError):
                    await guard.stdin.wait_closed()
            if guard.stdout is not None:
                await guard.stdout.read()


def _fill(wanted: Sequence[int]) -> tuple[int, ...]:
    ports: list[int] = []
    for port in wanted:
        ports.append(port or pick_port({*wanted, *ports}))
    return tuple(ports)


def _open_log(path: Path) -> int:
    folder = open_own_folder(path.parent)
    try:
        return open_own_file(path.name, folder, os.O_WRONLY | os.O_APPEND)
    finally:
        os.close(folder)


def _tail(path: Path, start: int) -> str:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - _TAIL_BYTES))
        return file.read().decode(errors="replace").strip()
