"""The app under measurement. Its name comes from the runner, so that every run has topics and keys of its own."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from yadtq import Yadtq

app = Yadtq(os.environ.get("BENCH_APP", "bench"))

_stamp: Path | None = Path(os.environ["BENCH_STAMP"]) if "BENCH_STAMP" in os.environ else None


def _note_start() -> None:
    """When this process ran its first task, for the runner's clock. Monotonic time is the same in all processes."""
    global _stamp
    if _stamp is not None:
        stamp, _stamp = _stamp, None
        stamp.with_suffix(".new").write_text(str(time.monotonic_ns()))
        stamp.with_suffix(".new").rename(stamp)


@app.task
async def noop(n: int) -> int:
    """What is left of a task is what the queue costs."""
    if _stamp is not None:
        _note_start()
    return n


@app.task
async def sleep50(n: int) -> int:
    """Waits 50 ms, as for another service."""
    if _stamp is not None:
        _note_start()
    await asyncio.sleep(0.05)
    return n
