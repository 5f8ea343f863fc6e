"""An app for child processes: tasks of every kind of end."""

from __future__ import annotations

import ctypes
import os
import signal
import time

from yadtq import TaskContext, Yadtq

app = Yadtq("child")


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
