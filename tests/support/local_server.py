"""A server as a child process that tests may stop, kill, freeze, thaw and restart.

Invariant: it never outlives the test process, not even when that is killed with SIGKILL. Every operation exists twice:
as a coroutine for tests, which must see the outage go on in their own loop, and with the suffix `_blocking` for session
fixtures, which belong to no loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import psutil

from tests.support.poll import eventually_blocking
from tests.support.ports import reserve_port

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

GUARD = Path(__file__).with_name("guarded_exec.py")

# The kernel's death signal is tied to the *thread* that forked. This one lives as long as the interpreter does.
_spawner = ThreadPoolExecutor(1, thread_name_prefix="server-spawner")
_operators = ThreadPoolExecutor(4, thread_name_prefix="server-operator")


@dataclass(frozen=True)
class Availability:
    """Whether a server can be run here; `reason` says what it is, or what is missing."""

    ok: bool
    reason: str

    def __bool__(self) -> bool:
        return self.ok


class ServerDied(RuntimeError):
    """The server ended by itself while a test was waiting for it."""


class LocalServer(ABC):
    """Shared life cycle; a subclass says which command to run and how to see that it answers."""

    name: str
    start_timeout_s = 30.0
    stop_timeout_s = 15.0

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.host = "127.0.0.1"
        self.port = reserve_port()
        self.log_path = directory / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @abstractmethod
    def _prepare(self) -> None:
        """Write what the command needs; called before every launch, so data of an earlier one may be there."""

    @abstractmethod
    def _command(self) -> Sequence[str]: ...

    @abstractmethod
    def _answers(self) -> bool:
        """One quick try; may raise OSError while the server is not there yet."""

    @abstractmethod
    def _erase(self) -> None:
        """Forget all data, but not the log."""

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def running(self) -> bool:
        return self.pid is not None

    def log_tail(self, lines: int = 30) -> str:
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    # Blocking operations

    def start_blocking(self) -> None:
        with self._lock:
            self._start()

    def stop_blocking(self) -> None:
        with self._lock:
            self._stop()

    def kill_blocking(self) -> None:
        # The signal goes out before the lock is taken: it must also end a start that hangs in another thread.
        self.send(signal.SIGKILL)
        with self._lock:
            self._reap()

    def freeze_blocking(self) -> None:
        self.send(signal.SIGSTOP)
        eventually_blocking(lambda: self._status() == psutil.STATUS_STOPPED, timeout=5, interval=0.001, what="SIGSTOP")

    def thaw_blocking(self) -> None:
        self.send(signal.SIGCONT)

    def discard_blocking(self) -> None:
        """Kill and erase: the quick end for a server whose data nobody wants any more."""
        self.kill_blocking()
        self._erase()

    # The same as coroutines

    async def start(self) -> None:
        await self._in_thread(self.start_blocking)

    async def stop(self) -> None:
        await self._in_thread(self.stop_blocking)

    async def kill(self) -> None:
        await self._in_thread(self.kill_blocking)

    async def freeze(self) -> None:
        await self._in_thread(self.freeze_blocking)

    async def thaw(self) -> None:
        await self._in_thread(self.thaw_blocking)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._in_thread(self.discard_blocking)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        # Not asyncio.to_thread: these threads must not count as the loop's own in a test that looks for leaked threads.
        return await asyncio.get_running_loop().run_in_executor(_operators, work)

    # The parts

    def send(self, signum: signal.Signals) -> None:
        """Signal the whole process group, as forked children (a Redis that saves) would survive their parent."""
        if (pid := self.pid) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signum)

    def _start(self) -> None:
        if self.running:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        self._prepare()
        self._process = _spawner.submit(self._spawn).result()
        try:
            # A dead process never answers: end the wait at once instead of at the deadline.
            eventually_blocking(
                lambda: not self.running or self._answers(),
                timeout=self.start_timeout_s,
                what=f"{self.name} at {self.address} to answer",
            )
        except AssertionError as error:
            self.send(signal.SIGKILL)
            self._reap()
            raise TimeoutError(f"{error}\n{self.log_tail()}") from None
        if not self.running:
            raise ServerDied(f"{self.name} ended with {self._process.returncode}\n{self.log_tail()}")

    def _spawn(self) -> subprocess.Popen[bytes]:
        guarded = [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), *self._command()]
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                guarded,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own group: a Ctrl-C in the terminal is for pytest, which then ends its servers in order.
                start_new_session=True,
            )

    def _stop(self) -> None:
        self.send(signal.SIGCONT)  # a frozen process does not see SIGTERM
        self.send(signal.SIGTERM)
        if self._process is not None:
            try:
                self._process.wait(self.stop_timeout_s)
            except subprocess.TimeoutExpired:
                self.send(signal.SIGKILL)
                self._reap()
                raise TimeoutError(
                    f"{self.name} did not stop within {self.stop_timeout_s} s\n{self.log_tail()}"
                ) from None

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait(10)

    def _status(self) -> str:
        if (pid := self.pid) is None:
            raise ServerDied(f"{self.name} is not running")
        return psutil.Process(pid).status()

    def _remove(self, *paths: Path) -> None:
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
