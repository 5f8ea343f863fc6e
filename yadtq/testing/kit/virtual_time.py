"""The time of one world. It passes as real time does, and `advance` moves it on, timer by timer.

While `advance` runs, time stands still at each timer until everything that this timer has started waits again.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from contextvars import Context, copy_context
from itertools import count
from typing import TYPE_CHECKING, Any

from yadtq.testing.kit.scope import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from yadtq.testing.kit.loop_hooks import LoopHooks
    from yadtq.testing.kit.scope import Process, Scope

__all__ = ["VirtualTime"]

#: Real seconds: for code that never waits, and for threads of sync tasks.
_BUSY_S = 5.0
_THREAD_S = 10.0
#: uvloop's timers count milliseconds, and may come that much too early.
_EARLY_S = 0.001
_CANCELLED = 200


class _Timer(asyncio.TimerHandle):
    """In the heap of a world. Cancelled before it has run, it does not run."""

    __slots__ = ("_asleep", "_ready", "owner", "run")

    def __init__(
        self, when: float, callback: Callable[..., Any], args: tuple[Any, ...], *, owner: VirtualTime, context: Context
    ) -> None:
        super().__init__(when, callback, args, owner.loop, context)
        self.owner = owner
        self._ready: asyncio.Handle | None = None
        self._asleep: Call | None = None

        def run() -> None:
            self._ready = owner.loop.call_soon(callback, *args, context=context)

        self.run = run

    def sleeps(self, call: Call) -> None:
        self._asleep = call
        call.sleeping += 1

    def over(self) -> None:
        """Its sleeper is not asleep any more."""
        if self._asleep is not None:
            self._asleep.sleeping -= 1
            self._asleep = None

    def cancel(self) -> None:
        if not self.cancelled():
            self.owner.cancelled += 1
            self.over()
        if self._ready is not None:
            self._ready.cancel()
        asyncio.Handle.cancel(self)  # the loop knows nothing of this timer


class VirtualTime:
    """`Clock` of a world, and its timers. patience_s: real seconds that `settle` gives a task that waits for I/O."""

    def __init__(self, hooks: LoopHooks, *, patience_s: float) -> None:
        self.hooks = hooks
        self.loop = hooks.loop
        self.cancelled = 0
        self.processes: list[Process] = []
        self._patience_s = patience_s
        self._offset = 0.0
        self._still: float | None = None
        self._epoch = time.time() - hooks.real_time()
        self._timers: list[tuple[float, int, _Timer, Scope]] = []
        self._serial = count()
        self._alarm: asyncio.TimerHandle | None = None

    def now(self) -> float:
        return self.hooks.real_time() + self._offset if self._still is None else self._still

    monotonic = now

    def time(self) -> float:
        return self._epoch + self.now()

    def call_at(
        self, when: float, callback: Callable[..., Any], args: tuple[Any, ...], *, here: Scope, context: Context | None
    ) -> asyncio.TimerHandle:
        """`loop.call_at` for code of this world."""
        timer = _Timer(when, callback, args, owner=self, context=copy_context() if context is None else context)
        if isinstance(here, Call) and self.hooks.is_sleep(callback):
            timer.sleeps(here)
        if self.cancelled > _CANCELLED and self.cancelled > len(self._timers) // 2:
            self._timers = [entry for entry in self._timers if not entry[2].cancelled()]
            heapq.heapify(self._timers)
            self.cancelled = 0
        heapq.heappush(self._timers, (when, next(self._serial), timer, here))
        if self._timers[0][2] is timer:
            self._arm()
        return timer

    def _arm(self) -> None:
        """Real time goes on: be woken for the next timer."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._still is None and (first := self._first()) is not None:
            self._alarm = self.hooks.real_call_at(first - self._offset, self._ring, context=Context())

    def _ring(self) -> None:
        self._alarm = None
        if self._still is None:
            self._fire(self.now() + _EARLY_S)
            self._arm()

    def _first(self) -> float | None:
        while self._timers and (self._timers[0][2].cancelled() or not self._timers[0][3].process.alive):
            timer = heapq.heappop(self._timers)[2]
            self.cancelled -= timer.cancelled()
        return self._timers[0][0] if self._timers else None

    def _fire(self, until: float) -> None:
        """Run what is due, in order."""
        while (first := self._first()) is not None and first <= until:
            timer = heapq.heappop(self._timers)[2]
            timer.over()
            timer.run()

    async def settle(self) -> None:
        """Until everything in this world waits: for time, or in vain for something else."""
        await self.hooks.quiet(_BUSY_S)
        while waiting := [call for process in self.processes for call in process.calls if call.waits_outside()]:
            moves = [call.moves for call in waiting]
            in_thread = any(call.in_thread for call in waiting)
            await self.hooks.move(_THREAD_S if in_thread else self._patience_s)
            if moves == [call.moves for call in waiting]:
                for call in waiting:
                    call.stuck_at = call.moves
            await self.hooks.quiet(_BUSY_S)

    async def advance(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Move on by so many seconds, or until `until` says so."""
        now = self.now()
        target = now + seconds
        self._still = now
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        try:
            await self.settle()
            while not until():
                first = self._first()
                if first is not None and first <= target:
                    self._still = max(self._still, first)
                    self._fire(self._still)
                elif self._still < target:
                    self._still = target
                else:
                    break
                await self.settle()
        finally:
            self._offset = self._still - self.hooks.real_time()
            self._still = None
            self._arm()
