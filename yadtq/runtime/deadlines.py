"""`asyncio.timeout` for many calls that all may take the same time: one timer serves them.

A timer for each call would be the most expensive part of a submit after its encoding, and is nearly always cancelled
unused.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Deadlines"]


class Deadlines:
    """`with deadlines.within(): await ...` raises `TimeoutError` after `timeout_s`. For use in one event loop."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        #: In the order of their deadlines, since all have the same time.
        self._running: dict[_Within, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def within(self) -> _Within:
        """To be entered once, in an asyncio task."""
        return _Within(self)

    def _expire(self) -> None:
        """End what is overdue, and set the timer for the first that is not."""
        loop = asyncio.get_running_loop()
        self._timer = None
        for within, deadline in list(self._running.items()):
            if deadline > loop.time():
                self._timer = loop.call_at(deadline, self._expire)
                return
            del self._running[within]
            within.expire()

    def close(self) -> None:
        """If nothing is under way any more, drop the timer."""
        if self._timer is not None and not self._running:
            self._timer.cancel()
            self._timer = None


class _Within:
    __slots__ = ("_cancelling", "_expired", "_owner", "_task")

    def __init__(self, owner: Deadlines) -> None:
        self._owner = owner
        self._expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline is for use inside an asyncio task")
        self._task: asyncio.Task[object] = task
        self._cancelling = task.cancelling()
        owner, loop = self._owner, asyncio.get_running_loop()
        owner._running[self] = loop.time() + owner._timeout_s
        if owner._timer is None:
            owner._timer = loop.call_later(owner._timeout_s, owner._expire)

    def expire(self) -> None:
        self._expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._expired:
            del self._owner._running[self]
        # As asyncio.timeout does: a cancellation from elsewhere stays a cancellation.
        elif (
            self._task.uncancel() <= self._cancelling and kind is not None and issubclass(kind, asyncio.CancelledError)
        ):
            raise TimeoutError from error
