"""Processes under test: supervisors with their workers, and workers started by hand.

All are told apart by what they write to standard error, the only thing of theirs that is read here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from tests.chaos.app import APP_VARIABLE
from tests.support.ledger import LEDGER_VARIABLE
from tests.support.local_server import GUARD
from tests.support.poll import eventually

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

ROOT = Path(__file__).parents[2]
START_S = 40.0
END_S = 60.0


class WorkerRef(NamedTuple):
    """A worker process. id: as its tasks know it."""

    id: str
    pid: int
    slot: str = ""


class Where(NamedTuple):
    """What a process has to know of its run."""

    app: str
    kafka: str
    redis: str
    ledger: Path
    folder: Path
    #: Settings, as environment variables.
    environment: Mapping[str, str]

    def variables(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("YADTQ_")}
        return {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "error",
            "XDG_RUNTIME_DIR": str(self.folder),  # slot locks of this run alone
            "YADTQ_KAFKA": self.kafka,
            "YADTQ_REDIS": self.redis,
            APP_VARIABLE: self.app,
            LEDGER_VARIABLE: str(self.ledger),
            **self.environment,
        }


class Logged:
    """A process and its log. It dies with this one, even if this one is killed."""

    def __init__(self, name: str, module: str, words: list[str], where: Where) -> None:
        self.name = name
        self.log = where.folder / f"{name}.log"
        self._command = [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), sys.executable, "-m", module]
        self._command += ["tests.chaos.app:app", *words]
        self._where = where
        self._process: asyncio.subprocess.Process | None = None

    async def launch(self) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=ROOT,
                env=self._where.variables(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self._process is not None, "not launched"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill_all(self) -> None:
        self.signal(signal.SIGKILL)

    async def drain(self, timeout: float = END_S) -> int:
        """Ask it to end in order; returns its exit status."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        return await self.ended(timeout)

    async def ended(self, timeout: float = END_S) -> int:
        assert self._process is not None, "not launched"
        async with asyncio.timeout(timeout):
            return await self._process.wait()

    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Worker(Logged):
    """One started by hand: a dynamic member of the group, with nobody to certify its death."""

    def __init__(self, name: str, where: Where, *, concurrency: int = 20) -> None:
        super().__init__(name, "yadtq.worker", ["--concurrency", str(concurrency)], where)

    async def start(self) -> None:
        await self.launch()
        await self.ready()

    async def ready(self) -> None:
        await eventually(lambda: self.ref, timeout=START_S, what=f"{self.name} to run")

    @property
    def ref(self) -> WorkerRef | None:
        match = re.search(r"worker (\S+) runs, queues", self.text())
        return WorkerRef(match[1], self.pid) if match else None

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.ended()


class Fleet(Logged):
    """A supervisor with its workers. After the supervisor has been killed, `start` makes a new one in its place."""

    def __init__(self, name: str, where: Where, *, workers: int = 2, concurrency: int = 20) -> None:
        words = ["--workers", str(workers), "--concurrency", str(concurrency)]
        super().__init__(name, "yadtq.supervisor", words, where)
        self.size = workers
        self._events: list[dict[str, str]] = []
        self._read_to = 0

    async def start(self) -> None:
        before = len(self.facts("ready", "worker"))
        await self.launch()
        await eventually(
            lambda: len(self.facts("ready", "worker")) >= before + self.size and len(self.workers()) >= self.size,
            timeout=START_S,
            interval=0.05,
            what=f"{self.size} workers of fleet {self.name}",
        )

    def events(self, name: str) -> list[dict[str, str]]:
        """The facts of each such event of its supervisors, in order. Only what was written since is read."""
        if self.log.exists():
            with self.log.open("rb") as log:
                log.seek(self._read_to)
                written = log.read()
            whole = written[: written.rfind(b"\n") + 1]
            self._read_to += len(whole)
            for line in whole.decode(errors="replace").splitlines():
                if "event=" in line:
                    words = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', line)
                    self._events.append({key: value.strip('"') for key, value in words})
        return [facts for facts in self._events if facts["event"] == name]

    def facts(self, event: str, fact: str) -> list[str]:
        return [facts[fact] for facts in self.events(event) if fact in facts]

    def count(self, event: str) -> int:
        return len(self.events(event))

    def workers(self) -> list[WorkerRef]:
        """The living ones, by slot."""
        refs = [WorkerRef(facts["worker"], int(facts["pid"]), facts["slot"]) for facts in self.events("spawned")]
        gone = {*self.facts("died", "worker"), *self.facts("stopped", "worker")}
        return sorted((ref for ref in refs if ref.id not in gone and _alive(ref.pid)), key=lambda ref: ref.slot)

    def spawned(self) -> int:
        """How many processes there have been: unchanged means that none was restarted."""
        return self.count("spawned")

    async def drain(self, timeout: float = END_S) -> int:
        for worker in self.workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGCONT)
        return await super().drain(timeout)

    def kill_all(self) -> None:
        """The workers first: without their supervisor they would only drain."""
        for worker in self.workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
        super().kill_all()

    def all_ready(self, *, but: Collection[str] = ()) -> bool:
        """As many workers run as there shall be, none of them one of these."""
        living = {ref.id for ref in self.workers()}
        return len(living) >= self.size and living <= set(self.facts("ready", "worker")) and not living & set(but)

    async def rolled(self, before: Collection[str], timeout: float = END_S) -> None:
        """Every one of these workers has a successor that runs."""
        await eventually(
            lambda: self.all_ready(but=before),
            timeout=timeout,
            interval=0.1,
            what=f"the end of the rolling restart of {self.name}",
        )

    def leftovers(self) -> list[str]:
        """Processes of its workers that are still there."""
        return [f"worker {pid}" for pid in self.facts("spawned", "pid") if _alive(int(pid))]


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
