"""Calls of a client from another event loop than its own: a sync task may run a loop in its thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from yadtq.handle import TaskHandle

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from yadtq.handle import ResultSource
    from yadtq.wire.states import TaskStatus

__all__ = ["handed_over"]

T = TypeVar("T")


async def _in(loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Do it there, wait for it here. A cancellation here cancels it there."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), loop))


async def handed_over(
    loop: asyncio.AbstractEventLoop, submit: Callable[[], Coroutine[Any, Any, TaskHandle[T]]]
) -> TaskHandle[T]:
    """Submit in `loop`. The handle may be used here."""
    handle = await _in(loop, submit)
    return TaskHandle(handle.id, _Elsewhere(loop, handle._source), handle._decode)


class _Elsewhere:
    """`handle.ResultSource` of a client of another loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, source: ResultSource) -> None:
        self._loop, self._source = loop, source

    async def status(self, task_id: str) -> TaskStatus:
        return await _in(self._loop, lambda: self._source.status(task_id))

    async def final_payload(self, task_id: str, timeout: float | None) -> bytes:
        return await _in(self._loop, lambda: self._source.final_payload(task_id, timeout))
