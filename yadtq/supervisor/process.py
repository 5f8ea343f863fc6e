"""One worker process: start it, read its pipe, signal it, wait for its end.

Two pipes join it to its supervisor. Nothing is ever written to the first: when it closes, the worker knows that the
supervisor has ended, even by SIGKILL. On the other the worker writes a line per heartbeat, so that its health is known
without any server. The ends that stay here are closed on exec, so no sibling can hold them open.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from typing import TYPE_CHECKING, Self

from yadtq.supervisor.seams import Beat
from yadtq.wire.inherited import Inherited

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from yadtq.supervisor.seams import Order

__all__ = ["Spawner", "WorkerProcess"]

_LONGEST_LINE = 64 * 1024
_HIGHEST_SEQ = 2**62
#: For the last lines of an ended process: they are in the pipe already, unless somebody else holds it open.
_LAST_LINES_S = 0.2


class Spawner:
    """Starts workers with one command; the `Spawn` of a real supervisor."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """environment: for the workers, in addition to ours."""
        self._command = list(command)
        self._environment = {**os.environ, **(environment or {})}

    async def __call__(self, order: Order, on_beat: Callable[[Beat], None]) -> WorkerProcess:
        return await WorkerProcess.spawn(self._command, self._environment, order, on_beat)


class WorkerProcess:
    """Made by `spawn`. `worker` is the worker id, new for each process."""

    def __init__(self, worker: str, process: asyncio.subprocess.Process, lifeline: int, lines: _Lines) -> None:
        self.worker = worker
        self._process = process
        self._lifeline = lifeline
        self._lines = lines
        self._oom_kills = oom_kills()
        self.out_of_memory = False

    @classmethod
    async def spawn(
        cls, command: Sequence[str], environment: Mapping[str, str], order: Order, on_beat: Callable[[Beat], None]
    ) -> Self:
        """Raises OSError if the system can't start a process now."""
        lifeline_read, lifeline_write = os.pipe()
        try:
            beats_read, beats_write = os.pipe()
        except OSError:  # no file descriptors left: the start is tried again, and must not leak the ones it has opened
            os.close(lifeline_read)
            os.close(lifeline_write)
            raise
        inherited = Inherited(
            slot=order.slot.id,
            worker=order.worker,
            supervisor=order.supervisor,
            secret=order.secret,
            lock=str(order.slot.lock),
            pipe=f"{lifeline_read},{beats_write}",
        )
        lines = _Lines(on_beat)
        try:
            # The transport owns the read end from here on; `lines` closes it.
            await asyncio.get_running_loop().connect_read_pipe(lambda: lines, os.fdopen(beats_read, "rb", 0))
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                env={**environment, **inherited.environment()},
                pass_fds=(lifeline_read, beats_write, order.slot.lock),
                # Its own group: a Ctrl-C in the terminal is for the supervisor, and a kill takes its children too.
                start_new_session=True,
            )
        except BaseException:  # also a cancelled spawn must leave no pipe
            lines.close()
            os.close(lifeline_write)
            raise
        finally:
            os.close(lifeline_read)
            os.close(beats_write)
        return cls(order.worker, process, lifeline_write, lines)

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, signum: int) -> None:
        """To the worker alone: its children are not signalled."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signum)

    def kill(self) -> None:
        """SIGKILL to it and to all processes that it has started in its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def ended(self) -> int:
        """Wait for its end; returns the exit code, or minus the signal. Nothing of its group is left then."""
        code = await self._process.wait()
        self.out_of_memory = oom_kills() > self._oom_kills
        self.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_LINES_S):
                await self._lines.ended.wait()
        self._lines.close()
        os.close(self._lifeline)
        return code


def oom_kills() -> int:
    """How many processes the kernel has killed because memory ran out, on this machine and in this container; 0 if
    unknown.
    """
    total = 0
    for path in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as counters:
            total += sum(int(line.split()[1]) for line in counters if line.startswith("oom_kill "))
    return total


class _Lines(asyncio.Protocol):
    """Cuts what comes through the pipe into beats. Other lines are ignored: a worker must not confuse the supervisor."""

    def __init__(self, on_beat: Callable[[Beat], None]) -> None:
        self._on_beat = on_beat
        self._rest = b""
        self._transport: asyncio.BaseTransport | None = None
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest if len(rest) <= _LONGEST_LINE else b""
        for line in lines:
            if (beat := _parse(line)) is not None:
                self._on_beat(beat)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _parse(line: bytes) -> Beat | None:
    """None for what is no beat. A task can write to the pipe, too."""
    try:
        said = json.loads(line)
        error = said.get("error")
        seq = int(said.get("seq", 0))
        if not 0 <= seq < _HIGHEST_SEQ:  # the next number has to fit into a heartbeat
            return None
        return Beat(
            phase=str(said["phase"]),
            seq=seq,
            loop_lag_s=float(said.get("loop_lag_s", 0.0)),
            error=None if error is None else " ".join(str(error).split()),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
