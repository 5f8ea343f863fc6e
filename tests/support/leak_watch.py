"""Fail a test that leaves asyncio tasks behind, or whose errors nobody looked at.

pytest-asyncio cancels left-over tasks without a word, and asyncio only logs an exception that is never retrieved: both
hide bugs in code whose whole business is to own its tasks.
"""

from __future__ import annotations

import asyncio
import gc
import logging

from tests.support.poll import eventually

# Transports finish closing a few loop ticks after close() returned; what lives longer than this has been forgotten.
GRACE_S = 1.0


class ErrorCollector(logging.Handler):
    """Keeps the ERROR lines of a logger; a test that means to cause some takes them out with `messages.clear()`."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))

    def collect(self) -> list[str]:
        # "never retrieved" is said by a finalizer, and failed tasks often sit in a cycle with their traceback.
        gc.collect()
        return self.messages


def pending_tasks() -> set[asyncio.Task[object]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task() and not task.done()}


async def no_task_left(known: set[asyncio.Task[object]]) -> None:
    """Raises AssertionError with the stacks of tasks that run on and were not there at the start (`known`)."""
    try:
        await eventually(lambda: not pending_tasks() - known, timeout=GRACE_S, what="tasks to end")
    except AssertionError:
        left = pending_tasks() - known
        if left:
            raise AssertionError("tasks left running:\n" + "\n".join(map(_describe, left))) from None


def _describe(task: asyncio.Task[object]) -> str:
    frames = task.get_stack()
    place = f"{frames[-1].f_code.co_filename}:{frames[-1].f_lineno}" if frames else "nowhere"
    return f"  {task.get_name()}: {task.get_coro()!r} at {place}"
