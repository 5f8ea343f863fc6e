"""A worker in a process of its own, for tests that kill, freeze and signal it. Run as a program it is that process.

Its tasks write what they did to the ledger (YADTQ_TEST_LEDGER), since a killed process tells nothing afterwards.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.support.ledger import LEDGER_VARIABLE, Ledger
from tests.support.poll import eventually
from yadtq import TaskContext, Yadtq

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[2]
#: Short enough for tests; Kafka itself allows no session under six seconds by default.
SHORT = {"lease_s": 3.0, "heartbeat_s": 0.5, "session_timeout_s": 6.0}

app = Yadtq(os.environ.get("YADTQ_TEST_APP", "t"))


@app.task(retries=0)
async def work(ctx: TaskContext, name: str, seconds: float = 0.0, first_s: float | None = None) -> str:
    """first_s: how long the first attempt takes, if not `seconds`. Returns name, attempt and worker."""
    if first_s is not None and ctx.attempt == 1:
        seconds = first_s
    with Ledger.from_environment().execution(ctx.task_id, ctx.attempt, ctx.fencing_token, worker=ctx.worker):
        await asyncio.sleep(seconds)
    return f"{name} {ctx.attempt} {ctx.worker}"


@app.task
def sync_sleep(ctx: TaskContext, seconds: float) -> int:
    with Ledger.from_environment().execution(ctx.task_id, ctx.attempt, ctx.fencing_token, worker=ctx.worker):
        time.sleep(seconds)
    return ctx.attempt


@app.task
async def stubborn(ctx: TaskContext) -> None:
    """Swallows every cancellation."""
    Ledger.from_environment().record(ctx.task_id, ctx.attempt, ctx.fencing_token, "start", worker=ctx.worker)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


class WorkerProcess:
    """`python -m yadtq.worker tests.support.worker_process:app`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process, self.log_path = process, log
        self.stops = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def id(self) -> str:
        """The worker id, once it runs."""
        found = re.search(r"worker (\S+) runs", self.log())
        assert found, self.log()
        return found[1]

    def log(self) -> str:
        return self.log_path.read_text()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def freeze(self) -> None:
        self.send(signal.SIGSTOP)
        await eventually(lambda: psutil.Process(self.pid).status() == psutil.STATUS_STOPPED)

    async def ended(self, timeout: float = 20) -> int:
        async with asyncio.timeout(timeout):
            return await self.process.wait()


@asynccontextmanager
async def worker_process(
    kafka: str, redis: str, app_name: str, ledger: Path, **env: Any
) -> AsyncIterator[WorkerProcess]:
    """Entered when it runs. It is killed at the end unless it has ended by then."""
    log = ledger.with_name(f"worker-{time.monotonic_ns()}.log")
    settings = {f"YADTQ_{name.upper()}": str(value) for name, value in {**SHORT, **env}.items()}
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "yadtq.worker", "tests.support.worker_process:app"),
            cwd=ROOT,
            env={
                **os.environ,
                "YADTQ_KAFKA": kafka,
                "YADTQ_REDIS": redis,
                "YADTQ_TEST_APP": app_name,
                LEDGER_VARIABLE: str(ledger),
                **settings,
            },
            stderr=stderr,
        )
    worker = WorkerProcess(process, log)
    try:
        await eventually(lambda: worker.id, timeout=40, what="the worker to run")
        yield worker
    finally:
        if process.returncode is None:
            worker.send(signal.SIGCONT)
            worker.send(signal.SIGKILL)
            await process.wait()
