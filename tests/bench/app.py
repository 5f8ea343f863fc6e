"""The app under measurement. Its name comes from the runner, so that every run has topics and keys of its own."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from yadtq import Yadtq

app = Yadtq(os.environ.get("BENCH_APP", "bench"))


def _path(variable: str) -> Path | None:
    return Path(os.environ[variable]) if variable in os.environ else None


_stamp, _gate = _path("BENCH_STAMP"), _path("BENCH_GATE")
#: True until this process's first task has been noted, and the gate (if there is one) has been opened.
_held = _stamp is not None or _gate is not None


async def _hold() -> None:
    """Note when this process ran its first task (monotonic time is the same in all processes); wait for the runner."""
    global _stamp, _held
    if _stamp is not None:
        stamp, _stamp = _stamp, None
        stamp.with_suffix(".new").write_text(str(time.monotonic_ns()))
        stamp.with_suffix(".new").rename(stamp)
    while _gate is not None and not _gate.exists():  # noqa: ASYNC110 - the runner is another process
        await asyncio.sleep(0.002)
    _held = False


@app.task
async def noop(n: int) -> int:
    """What is left of a task is what the queue costs."""
    if _held:
        await _hold()
    return n


@app.task
async def sleep50(n: int) -> int:
    """Waits 50 ms, as for another service."""
    if _held:
        await _hold()
    await asyncio.sleep(0.05)
    return n


@app.task
async def hold(path: str) -> None:
    """Runs until the file exists: a straggler."""
    while not Path(path).exists():  # noqa: ASYNC110, ASYNC240 - the runner is another process
        await asyncio.sleep(0.2)
