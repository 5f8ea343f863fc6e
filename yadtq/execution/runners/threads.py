"""Sync functions, in threads, a bounded number of them: one that can't be ended keeps its place until its function
returns.

A thread can't be interrupted. A task that is stopped (timeout, drain, lost lease) is therefore abandoned: its result is
ignored, but its thread counts for as long as it runs. Otherwise retries of a call that hangs would pile up threads
without limit (G5), as they do with anyio's own limiter, which frees the place as soon as no caller waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from yadtq.execution.attempt import Attempt
    from yadtq.execution.limits import Limits

__all__ = ["ThreadRunner"]


class ThreadRunner:
    """`runner.Runner` with `total` threads.

    on_free: called in the loop when an abandoned thread has returned. A waiting room that admits no more than `room()`
    sync tasks keeps them from waiting here with a lease and a slot.
    """

    def __init__(self, total: int, limits: Limits) -> None:
        self.total = total
        self.on_free: Callable[[], None] = lambda: None
        self._limits = limits
        self._pid = os.getpid()
        self._places = anyio.CapacityLimiter(total)
        self._unlimited = anyio.CapacityLimiter(math.inf)  # ours is the limit; anyio's would be a second one
        #: What has a thread, by its place. A place is of a call: a later attempt of the same task has another. Written
        #: in the loop only: a thread that wrote it while the loop goes through it would end the worker.
        self._busy: dict[object, Attempt] = {}

    def left_behind(self) -> Collection[Attempt]:
        return [attempt for attempt in self._busy.values() if attempt.running is None]

    async def call(
        self, attempt: Attempt, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        value = await self._in_thread(attempt, partial(function, *args, **kwargs))
        if inspect.isawaitable(value):  # a plain decorator around an async function
            value = await value
        return value

    async def _in_thread(self, attempt: Attempt, function: Callable[[], Any]) -> Any:
        """If this is cancelled, a running `function` continues, and one that has not begun is not started."""
        place = object()
        await self._places.acquire_on_behalf_of(place)
        self._busy[place] = attempt
        loop = asyncio.get_running_loop()
        lock = threading.Lock()
        begun = given_up = False

        def in_thread() -> tuple[Any, BaseException | None]:
            nonlocal begun
            with lock:
                if given_up:
                    return None, None
                begun = True
            try:
                return function(), None
            except BaseException as error:
                # Passed on as a value: anyio looks at an exception in the loop before it ends the call, and one whose
                # `__class__` raises would leave the call without an end, and its slot taken.
                return None, error
            finally:
                if os.getpid() != self._pid:
                    os._exit(0)  # a child that the task has forked, and that came back: it has no loop to work for
                with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
                    loop.call_soon_threadsafe(self._leave, place)

        try:
            if attempt.timeout_s is not None:  # only now: a task must not time out in the queue for a thread
                self._limits.start(attempt, attempt.timeout_s)
            value, error = await anyio.to_thread.run_sync(in_thread, abandon_on_cancel=True, limiter=self._unlimited)
        finally:
            with lock:
                given_up = True
                if not begun:
                    self._leave(place)
        if error is None:
            return value
        try:
            raise error
        finally:
            del error  # it holds this frame, which would hold it

    def _leave(self, place: object) -> None:
        attempt = self._busy.pop(place, None)
        self._places.release_on_behalf_of(place)
        if attempt is not None and attempt.running is None:
            self.on_free()
