"""Middleware around every call of a task: functions that get the context and the inner call.

    async def timed(ctx: TaskContext, call: Inner) -> Any:
        started = time.perf_counter()
        try:
            return await call()
        finally:
            print(ctx.task, time.perf_counter() - started)

The first one is the outermost. Without middleware a task is called directly, at no cost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from yadtq.context import TaskContext

__all__ = ["Inner", "Middleware", "chained"]

Inner: TypeAlias = Callable[[], Awaitable[Any]]
Middleware: TypeAlias = Callable[["TaskContext", Inner], Awaitable[Any]]


def chained(middleware: Sequence[Middleware], context: TaskContext, call: Inner) -> Inner:
    """`call` with all of `middleware` around it."""
    for each in reversed(middleware):
        call = partial(each, context, call)
    return call
