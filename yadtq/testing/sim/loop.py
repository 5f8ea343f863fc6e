"""The event loop of one simulated process.

FIFO inside, as asyncio promises; which process runs next is the world's choice. A loop that is killed never runs again:
no `finally`, no callback, as after a SIGKILL. Tasks, futures, anyio and asyncio.timeout run on it as they are.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import _set_running_loop
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context
    from random import Random

__all__ = ["SimLoop", "Timeline"]

#: Heaps with more cancelled timers than this, and more of them than live ones, are cleaned.
_CANCELLED = 200


class Timeline(Protocol):
    """What a loop asks of its world."""

    now: float
    rng: Random
    tasks: int
    ready: list[SimLoop]

    def call_at(self, when: float, act: Callable[[], object]) -> None: ...

    def note(self, who: str, what: str, detail: str = "") -> None: ...

    def on_loop_error(self, loop: SimLoop, context: dict[str, Any]) -> None: ...

    def on_exit(self, loop: SimLoop, error: BaseException) -> None: ...


class _Handle:
    """asyncio.Handle, as far as tasks, futures and timeouts use it; the original spends more on each call."""

    __slots__ = ("_args", "_callback", "_cancelled", "_context", "_loop", "when")

    def __init__(
        self, loop: SimLoop, callback: Callable[..., Any], args: tuple[Any, ...], context: Context | None, when: float
    ) -> None:
        self._loop = loop
        self._callback = callback
        self._args = args
        self._context = context
        self._cancelled = False
        self.when = when

    def cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            if self.when:
                self._loop.cancelled += 1

    def cancelled(self) -> bool:
        return self._cancelled

    def __repr__(self) -> str:
        return f"<{self._callback!r} of {self._loop.name}>"


class _Task(asyncio.Task[Any]):
    """Its hash is a number of its world, not its address: sets of tasks are walked through in the same order each time."""

    def __init__(
        self, coro: Coroutine[Any, Any, Any], loop: SimLoop, name: str | None, context: Context | None
    ) -> None:
        loop.world.tasks += 1
        self._number = loop.world.tasks
        if context is None:
            super().__init__(coro, loop=loop.as_asyncio, name=name or loop.name)
        else:
            super().__init__(coro, loop=loop.as_asyncio, name=name or loop.name, context=context)

    def __hash__(self) -> int:
        return self._number


class SimLoop:
    """slow_s: each wake-up comes up to this much later. dead: killed. Only the world calls `tick`."""

    def __init__(self, world: Timeline, name: str) -> None:
        self.world = world
        self.name = name
        #: For asyncio's types; it asks for no more than what is here.
        self.as_asyncio = cast("asyncio.AbstractEventLoop", self)
        self.dead = False
        self.frozen_until = 0.0
        self.slow_s = 0.0
        self.queued = False  # among those that the world may choose next
        self.serial = 0
        self.cancelled = 0
        self._wake_at = inf  # the earliest wake-up that the world knows of
        self._ready: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Handle]] = []
        # A coroutine that is collected runs its `finally`: those of a killed process must not.
        self._tasks: list[_Task] = []
        self._clean_at = 1_000

    def time(self) -> float:
        return self.world.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.dead

    def is_closed(self) -> bool:
        return False

    def get_task_factory(self) -> None:
        return None

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self.as_asyncio)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        task = _Task(coro, self, name, context)
        tasks = self._tasks
        tasks.append(task)
        if len(tasks) > self._clean_at:
            self.report_lost_errors()
            self._tasks = [each for each in tasks if not each.done()]
            self._clean_at = 2 * len(self._tasks) + 1_000
        return task

    def report_lost_errors(self) -> None:
        """Exceptions that were never retrieved: asyncio reports them when the task is collected, which is too late
        here.
        """
        for task in self._tasks:
            if task.done() and task._log_traceback:
                context = {
                    "message": f"the error of {task.get_name()} was never retrieved",
                    "exception": task.exception(),
                }
                self.world.on_loop_error(self, context)

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> _Handle:
        handle = _Handle(self, callback, args, context, 0.0)
        if not self.dead:
            self._ready.append(handle)
            if not self.queued:
                self.wake()
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Handle:
        return self.call_at(self.world.now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> _Handle:
        handle = _Handle(self, callback, args, context, when)
        if not self.dead:
            self.serial += 1
            heapq.heappush(self._timers, (when, self.serial, handle))
            if when < self._wake_at:
                self._wake_at = when
                self.world.call_at(when, self._due)
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.world.on_loop_error(self, context)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        raise RuntimeError("a simulated process has no threads: use async tasks, or replace the thread runner")

    def wake(self) -> None:
        """There is something to do: let the world choose this loop."""
        if self.queued or self.dead or self.frozen_until > self.world.now:
            return
        self.queued = True
        if self.slow_s:
            self.world.call_at(self.world.now + self.world.rng.uniform(0, self.slow_s), self._late)
        else:
            self.world.ready.append(self)

    def _late(self) -> None:
        if self.dead:
            return
        self.world.ready.append(self)

    def _due(self) -> None:
        self._wake_at = inf
        self.wake()

    def thaw(self) -> None:
        """After `frozen_until`."""
        if self._ready or self._timers:
            self.wake()

    def tick(self) -> int:
        """One iteration, as asyncio's `_run_once`: due timers, then exactly what was ready at the start.

        Returns how many callbacks have run.
        """
        self.queued = False
        now = self.world.now
        if self.dead or self.frozen_until > now:
            return 0
        timers, ready = self._timers, self._ready
        while timers and timers[0][0] <= now:
            handle = heapq.heappop(timers)[2]
            if handle._cancelled:
                self.cancelled -= 1
            else:
                handle.when = 0.0  # marks it as no longer in the heap
                ready.append(handle)
        count = len(ready)
        _set_running_loop(self.as_asyncio)
        try:
            for _ in range(count):
                handle = ready.popleft()
                if handle._cancelled:
                    continue
                self._run(handle)
                if self.killed():
                    return count
        finally:
            _set_running_loop(None)
        self._tidy()
        if ready:
            self.wake()
        return count

    def _run(self, handle: _Handle) -> None:
        try:
            if handle._context is not None:
                handle._context.run(handle._callback, *handle._args)
            else:
                handle._callback(*handle._args)
        except (SystemExit, KeyboardInterrupt) as error:
            # Out of a task, asyncio raises these from the loop itself: the process ends.
            self.world.on_exit(self, error)
        except BaseException as error:  # as asyncio does: a callback's error is reported, the loop goes on
            self.call_exception_handler({"message": f"exception in {handle!r}", "exception": error})

    def _tidy(self) -> None:
        """Forget cancelled timers, and tell the world of the next one."""
        timers = self._timers
        if self.cancelled > _CANCELLED and self.cancelled > len(timers) // 2:
            for _, _, handle in timers:
                if handle._cancelled:
                    handle.when = 0.0
            self._timers = timers = [entry for entry in timers if not entry[2]._cancelled]
            heapq.heapify(timers)
            self.cancelled = 0
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
            self.cancelled -= 1
        if timers and timers[0][0] < self._wake_at:
            self._wake_at = timers[0][0]
            self.world.call_at(self._wake_at, self._due)

    def killed(self) -> bool:
        """Asked after each callback, which may have been its last."""
        return self.dead

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more."""
        self.dead = True

    def bury(self) -> None:
        """The world ends: close all coroutines, so that they can be collected. Their `finally` blocks may raise."""
        self.dead = True
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                coro = task.get_coro()
                for _ in range(50):
                    try:
                        coro.close()
                        break
                    except BaseException:  # of a `finally` of dead code, which may also refuse to be closed
                        pass
        self._tasks.clear()
        self._ready.clear()
        self._timers.clear()
