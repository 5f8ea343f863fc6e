"""Gives the code of a world its own time, in an event loop that it shares with the test and with other worlds.

The hooks are attributes of the loop object, for as long as a world is open in it. Each looks at the context of the call:
code of no world gets what the loop does without them. This uses public methods of the loop only, so it works on
asyncio's loops and on uvloop's.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from yadtq.testing.kit.scope import Call, scope

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

__all__ = ["LoopHooks", "hooks_of"]

_NAMES = ("time", "call_soon", "call_later", "call_at", "create_task")
_MISSING = object()
#: What asyncio.sleep gives to its timer. Without the name no call counts as sleeping, which makes `advance` slower.
_WAKE_SLEEPER = getattr(asyncio.futures, "_set_result_unless_cancelled", None)

_installed: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopHooks] = WeakKeyDictionary()


class LoopHooks:
    """turns: how often `call_soon` was called in this loop: if it stands still over a turn, nothing is ready to run."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.turns = 0
        self.users = 0
        self.moved: asyncio.Future[None] | None = None
        self.real_time, self.real_call_at, self._real_call_later = loop.time, loop.call_at, loop.call_later
        self._real_call_soon, self._real_create_task = loop.call_soon, loop.create_task
        self._before: dict[str, Any] = {}

    def install(self) -> None:
        attributes = vars(self.loop)
        for name in _NAMES:
            self._before[name] = attributes.get(name, _MISSING)
            setattr(self.loop, name, getattr(self, name))

    def remove(self) -> None:
        for name, before in self._before.items():
            if before is _MISSING:
                delattr(self.loop, name)
            else:
                setattr(self.loop, name, before)

    def time(self) -> float:
        here = scope.get()
        return self.real_time() if here is None else here.process.time.now()

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:
        self.turns += 1
        here = scope.get() if context is None else context.get(scope)
        if here is None or not here.process.mortal:
            return self._real_call_soon(callback, *args, context=context)
        if isinstance(here, Call):
            here.moves += 1
            if self.moved is not None and not self.moved.done():
                self.moved.set_result(None)
        context = copy_context() if context is None else context
        return self._real_call_soon(here.process.run, callback, args, context, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        here = scope.get() if context is None else context.get(scope)
        if here is None:
            return self._real_call_later(delay, callback, *args, context=context)
        time = here.process.time
        return time.call_at(time.now() + delay, callback, args, here=here, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        here = scope.get() if context is None else context.get(scope)
        if here is None:
            return self.real_call_at(when, callback, *args, context=context)
        return here.process.time.call_at(when, callback, args, here=here, context=context)

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        task = self._real_create_task(coro, **options)
        context = options.get("context")
        here = scope.get() if context is None else context.get(scope)
        if here is not None and here.process.mortal:
            here.process.tasks.add(task)
        return task

    @staticmethod
    def is_sleep(callback: Callable[..., Any]) -> bool:
        """Whether it is the end of an `asyncio.sleep`, and not a deadline."""
        return callback is _WAKE_SLEEPER

    async def quiet(self, at_most_s: float) -> None:
        """Until nothing is ready to run, or for so many real seconds: something may run all the time."""
        quiet, until = 0, self.real_time() + at_most_s
        while quiet < 2 and self.real_time() < until:
            turns = self.turns
            await asyncio.sleep(0)
            # One turn more is that of this coroutine. What comes from a socket is ready one turn before it is counted.
            quiet = quiet + 1 if self.turns == turns + 1 else 0

    async def move(self, at_most_s: float) -> None:
        """Until a call of a task is scheduled, or for so many real seconds."""
        self.moved = moved = self.loop.create_future()
        timer = self.real_call_at(self.real_time() + at_most_s, _end, moved, context=Context())
        try:
            await moved
        finally:
            timer.cancel()
            self.moved = None


def _end(moved: asyncio.Future[None]) -> None:
    if not moved.done():
        moved.set_result(None)


@contextmanager
def hooks_of(loop: asyncio.AbstractEventLoop) -> Iterator[LoopHooks]:
    """The hooks of this loop, which all worlds in it share; the last one removes them."""
    hooks = _installed.get(loop)
    if hooks is None:
        hooks = _installed[loop] = LoopHooks(loop)
        hooks.install()
    hooks.users += 1
    try:
        yield hooks
    finally:
        hooks.users -= 1
        if not hooks.users:
            del _installed[loop]
            hooks.remove()
