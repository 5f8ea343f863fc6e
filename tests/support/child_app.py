"""An app for child processes: tasks of every kind of end."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from yadtq import TaskContext, Yadtq


@asynccontextmanager
async def lifespan(app: Yadtq) -> AsyncIterator[str]:
    """CHILD_OPENS: seconds, or "never"."""
    seconds = os.environ.get("CHILD_OPENS", "0")
    if seconds == "never":
        raise ValueError("no such host")
    await asyncio.sleep(float(seconds))
    yield f"opened in {os.getpid()}"


app = Yadtq("child", lifespan=lifespan)


@app.task
async def shared(ctx: TaskContext[str]) -> list[object]:
    return [ctx.state, os.getpid()]


@app.task
async def double(ctx: TaskContext, n: int) -> tuple[int, int, str]:
    return 2 * n, ctx.attempt, ctx.worker


@app.task
async def fails() -> None:
    raise ValueError("as it should")


@app.task
async def exits() -> None:
    os._exit(3)


@app.task
def segfaults() -> None:
    ctypes.string_at(0)


@app.task
async def aborts() -> None:
    os.abort()


@app.task
async def kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
async def blocks() -> None:
    time.sleep(60)  # noqa: ASYNC251 - the task under test
