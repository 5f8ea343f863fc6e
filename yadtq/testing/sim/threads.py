"""Sync tasks on virtual time: a function is called at once, and its thread is busy for as long as it has asked to be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from yadtq.execution.runners.threads import ThreadRunner

if TYPE_CHECKING:
    from collections.abc import Callable

    from yadtq.execution.attempt import Attempt

__all__ = ["SimThreads", "busy_for"]

_asked: list[float] = []


def busy_for(seconds: float) -> None:
    """Called by a simulated sync task: its function returns `seconds` from now."""
    _asked.append(seconds)


class SimThreads(ThreadRunner):
    """Keeps the account of `ThreadRunner`: what can't be stopped goes on, and holds its thread."""

    async def _in_thread(self, attempt: Attempt, function: Callable[[], Any]) -> Any:
        place = object()
        await self._places.acquire_on_behalf_of(place)
        if attempt.timeout_s is not None:
            self._limits.start(attempt, attempt.timeout_s)
        self._busy[place] = attempt
        loop = asyncio.get_running_loop()
        returned = loop.create_future()
        _asked.clear()
        error: Exception | None = None
        value = None
        try:
            value = function()
        except Exception as raised:  # the task's own: it comes out of the thread
            error = raised

        def leave() -> None:
            self._leave(place)
            if not returned.done():
                if error is not None:
                    returned.set_exception(error)
                else:
                    returned.set_result(value)

        loop.call_later(sum(_asked), leave)
        return await returned
