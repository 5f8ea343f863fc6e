"""One child process, the attempts that run in it, and its messages."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import anyio

from yadtq.execution.attempt import StopReason
from yadtq.execution.outcome import Outcome
from yadtq.execution.quarantine.frames import frame, read_frame
from yadtq.execution.quarantine.report import CrashReport
from yadtq.options import effective
from yadtq.wire.envelope import encode_envelope
from yadtq.wire.exits import describe_exit
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yadtq.execution.attempt import Attempt
    from yadtq.runtime.clock import Clock

__all__ = ["CHILD_FDS", "Died", "Ward", "child_command"]

log = logging.getLogger("yadtq.worker")

#: Of the child: the descriptors for its answers, and for what faulthandler writes.
CHILD_FDS = "YADTQ_CHILD"
_STOP_S = 5.0
#: Until a child's first message: it loads the app, and opens its lifespan.
_READY_S = 120.0
#: After its end, for what it had written into the pipe.
_LAST_WORDS_S = 1.0


class Died(Exception):
    """The child process has ended with attempts in it. together: how many, this one included."""

    def __init__(self, report: CrashReport, *, together: int) -> None:
        self.report, self.together = report, together
        super().__init__(str(report))

    @property
    def alone(self) -> bool:
        return self.together == 1


class Ward:
    """size: how many attempts may be in it at once. command: starts the child.

    environ, folder: of the child. Not those that the worker has now: a task may have changed them, and the child would
    not find the app.
    """

    def __init__(
        self,
        *,
        command: list[str],
        environ: Mapping[str, str],
        size: int,
        clock: Clock,
        folder: str | None = None,
    ) -> None:
        self._command = command
        self._environ = environ
        self._folder = folder
        self.size = size
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._inside: dict[str, tuple[Attempt, asyncio.Future[Outcome]]] = {}
        self._starting = asyncio.Lock()
        self._heard_at = clock.monotonic()
        self._rss_bytes = 0
        #: It has sent a message: until then its end is a failed start, and proves nothing about a task.
        self._ready = False
        self._first = asyncio.Event()
        self.ended = False
        #: Has an attempt in it that can't be stopped: no other joins it.
        self.closed = False

    @property
    def inside(self) -> int:
        """How many attempts are in it."""
        return len(self._inside)

    async def run(self, attempt: Attempt) -> Outcome:
        """Its outcome. Raises `Died`, or OSError if no process can be started now."""
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        # Registered now, not only when the child has started: a ward that seems to be idle is closed.
        self._inside[attempt.envelope.id] = attempt, answer
        try:
            return await self._run(attempt, answer)
        finally:
            if self._inside.get(attempt.envelope.id, (None,))[0] is attempt:
                del self._inside[attempt.envelope.id]

    async def _run(self, attempt: Attempt, answer: asyncio.Future[Outcome]) -> Outcome:
        async with self._starting:
            if self._process is None:
                await self._start()
        # The task's time limit begins when the child can run it.
        with anyio.move_on_after(_READY_S):
            await self._first.wait()
        if answer.done():
            return answer.result()
        if not self._ready:
            self.kill()
            raise OSError(f"the child process was not ready within {_READY_S:g} s")
        if self.ended:
            raise OSError("the child process has just ended")
        order = {
            "op": "run",
            "attempt": attempt.number,
            "nonce": attempt.nonce,
            "crashes": attempt.crashes,
            "failures": attempt.failures,
        }
        self._say(frame(order, encode_envelope(attempt.envelope)))
        return await self._answered(attempt, answer)

    async def _answered(self, attempt: Attempt, answer: asyncio.Future[Outcome]) -> Outcome:
        limit_s = effective(attempt.task, attempt.envelope).timeout_s
        try:
            # The child enforces the limit itself; if it is blocked and can't, it is killed.
            async with asyncio.timeout(None if limit_s is None else limit_s + _STOP_S):
                return await asyncio.shield(answer)
        except TimeoutError:
            # We have killed the child, so its end is no evidence: the task has used up its time.
            self.closed = True
            attempt.stop = StopReason.TIMEOUT
            self.kill()
            raise asyncio.CancelledError from None
        except asyncio.CancelledError:
            reason = attempt.stop
            self._say(frame({"op": "stop", "id": attempt.envelope.id, "reason": reason.name if reason else "SHUTDOWN"}))
            with anyio.CancelScope(shield=True):
                await asyncio.wait([answer], timeout=_STOP_S)
            if not answer.done():
                self.closed = True
                if len(self._inside) == 1:
                    self.kill()
            raise

    async def _start(self) -> None:
        answers_read, answers_write = os.pipe()
        faults = _fault_file()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(answers_write, faults),
                cwd=self._folder,
                env={**self._environ, CHILD_FDS: f"{answers_write},{faults}"},
            )
        except BaseException:  # also a cancelled start must leave no pipe
            os.close(answers_read)
            os.close(faults)
            raise
        finally:
            os.close(answers_write)
        reader = asyncio.StreamReader(limit=2**20)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(answers_read, "rb", 0)
        )
        self._heard_at = self._clock.monotonic()
        log.info("a child process for suspects starts: pid %d", self._process.pid)
        self._listener = asyncio.get_running_loop().create_task(
            self._listen(self._process, reader, transport, faults), name="yadtq-quarantine"
        )

    async def _listen(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        transport: asyncio.BaseTransport,
        faults: int,
    ) -> None:
        """Wait until the child has ended, then end the attempts in it."""
        try:
            hearing = asyncio.ensure_future(self._hear_all(reader))
            ending = asyncio.ensure_future(process.wait())
            # Both: what the child has forked may hold the pipe for long after its end.
            await asyncio.wait([hearing, ending], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait([hearing], timeout=_LAST_WORDS_S)
            hearing.cancel()
            ending.cancel()
        finally:
            transport.close()
            if process.returncode is None:
                with anyio.move_on_after(_STOP_S):
                    await process.wait()
            self.kill()
            code = await process.wait()
            self.ended = True
            stack = os.pread(faults, 64 * 1024, 0).decode(errors="backslashreplace").strip()
            os.close(faults)
            self._tell_end(code, stack)

    async def _hear_all(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, Exception):  # its end; or a task wrote into the pipe
            while True:
                header, body = await read_frame(reader)
                self._hear(header, body)

    def _hear(self, header: dict[str, Any], body: bytes) -> None:
        self._ready = True
        self._first.set()
        self._heard_at = self._clock.monotonic()
        self._rss_bytes = int(header.get("rss", self._rss_bytes))
        if header.get("op") == "ended" and (found := self._inside.get(str(header["id"]))) is not None:
            attempt, answer = found
            status = header["status"]
            outcome = Outcome(attempt, TaskStatus(status) if status else None, body, float(header["retry_in_s"]))
            outcome = outcome._replace(misfit=bool(header.get("misfit")))
            if not answer.done():
                answer.set_result(outcome)

    def _tell_end(self, code: int, stack: str) -> None:
        now = self._clock.monotonic()
        # Attempts that were cancelled have left: their end is known.
        waiting = [(attempt, answer) for attempt, answer in self._inside.values() if not answer.done()]
        self._first.set()
        if waiting:
            log.warning("a child process with %d suspects ended: %s", len(waiting), describe_exit(code))
        for attempt, answer in waiting:
            report = CrashReport(code, self._rss_bytes, now - self._heard_at, now - attempt.started_at, stack)
            failed_start = OSError(
                f"the child process could not start ({describe_exit(code)}); its last message is above"
            )
            answer.set_exception(Died(report, together=len(waiting)) if self._ready else failed_start)
            answer.exception()  # retrieved: its attempt may be gone

    def _say(self, data: bytes) -> None:
        if self._process is not None and self._process.stdin is not None and not self.ended:
            with contextlib.suppress(ConnectionError, RuntimeError):  # its end is noticed by the other pipe
                self._process.stdin.write(data)

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)

    async def close(self) -> None:
        """End the child: it exits when its orders end."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([self._listener], timeout=_STOP_S)
            self.kill()
            await asyncio.wait([self._listener], timeout=_STOP_S)


def _fault_file() -> int:
    """Where the child's faulthandler writes: memory where the system has it, so that to read it never waits for a disk."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("yadtq-faults")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def child_command(app: str, worker_id: str) -> list[str]:
    """Starts a child process of this worker with this app (`module:attribute`)."""
    return [sys.executable, "-m", "yadtq.worker.child", app, worker_id]
