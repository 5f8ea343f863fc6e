"""Tasks that write down what happens to them, and whose results anyone can check: `answer(n)`, whatever their kind."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from tests.support.ledger import Ledger
from yadtq import TaskContext, Yadtq
from yadtq.errors import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

#: How worker processes learn the name of the app of their run.
APP_VARIABLE = "YADTQ_TEST_CHAOS_APP"


def answer(n: int) -> int:
    return n * 7919 % 1_000_003


def long_answer(n: int, size: int) -> str:
    """Too long for the task's own hash in Redis, and different for each n."""
    return f"{answer(n)}-" * (size // len(f"{answer(n)}-") + 1)


@cache
def _ledger() -> Ledger:
    return Ledger.from_environment()


def make_app(name: str, **settings: Any) -> Yadtq:
    """A new app with the tasks below; settings as for `Yadtq`."""
    app = Yadtq(name, **settings)

    @app.task
    async def quick(ctx: TaskContext, n: int) -> int:
        with _ledger().execution(ctx.task_id, ctx.attempt, ctx.fencing_token, worker=ctx.worker):
            return answer(n)

    @app.task
    async def sleep(ctx: TaskContext, n: int, ms: int) -> int:
        with _ledger().execution(ctx.task_id, ctx.attempt, ctx.fencing_token, worker=ctx.worker):
            await asyncio.sleep(ms / 1000)
            return answer(n)

    @app.task(retries=4, retry_base=0.2)
    async def flaky(ctx: TaskContext, n: int, failures: int) -> int:
        """Fails until it has been attempted often enough."""
        with _ledger().execution(ctx.task_id, ctx.attempt, ctx.fencing_token, worker=ctx.worker):
            if ctx.attempt <= failures:
                raise Retry(delay=0.3) if failures % 2 else ValueError("not yet")
            return answer(n)

    @app.task
    async def large(ctx: TaskContext, n: int, size: int) -> str:
        with _ledger().execution(ctx.task_id, ctx.attempt, ctx.fencing_token, worker=ctx.worker):
            return long_answer(n, size)

    @app.task
    def in_thread(ctx: TaskContext, n: int, ms: int) -> int:
        with _ledger().execution(ctx.task_id, ctx.attempt, ctx.fencing_token, worker=ctx.worker):
            time.sleep(ms / 1000)
            return answer(n)

    @app.task
    async def block(ctx: TaskContext, n: int, ms: int) -> int:
        """What no task should do: it holds up the loop of its worker, heartbeats and leases included."""
        with _ledger().execution(ctx.task_id, ctx.attempt, ctx.fencing_token, worker=ctx.worker):
            time.sleep(ms / 1000)  # noqa: ASYNC251 - the fault itself
            return answer(n)

    @app.task
    async def poison(kind: str) -> None:
        """Ends its process."""
        _END[kind]()

    return app


def _overflow() -> None:
    """The stack of C, which no exception protects."""
    sys.setrecursionlimit(2**30)
    nested: list[Any] = []
    for _ in range(10_000_000):
        nested = [nested]
    repr(nested)


_END: dict[str, Callable[[], object]] = {
    "none": lambda: None,
    "exit": lambda: os._exit(3),
    "exit-0": lambda: os._exit(0),
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "stack": _overflow,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
}

app = make_app(os.environ.get(APP_VARIABLE, "chaos"))
