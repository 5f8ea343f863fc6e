"""Which process of a world the running code belongs to: a context variable, which asyncio copies to tasks and timers."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from contextvars import Context
    from typing import Protocol

    class _Time(Protocol):
        loop: asyncio.AbstractEventLoop

        def now(self) -> float: ...

        def call_at(
            self,
            when: float,
            callback: Callable[..., Any],
            args: tuple[Any, ...],
            *,
            here: Scope,
            context: Context | None,
        ) -> asyncio.TimerHandle: ...


__all__ = ["Call", "Process", "Scope", "scope"]


class Process:
    """One process of a world. mortal: it may be killed: then nothing of it runs any more, no `finally` either."""

    def __init__(self, time: _Time, *, mortal: bool = False) -> None:
        self.time = time
        self.mortal = mortal
        self.alive = True
        self.calls: set[Call] = set()
        #: Of a mortal one: cancelled when the world ends, since nothing else ends them after a kill.
        self.tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self._dropped: list[tuple[Callable[..., Any], tuple[Any, ...], Context]] = []

    def run(self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context) -> None:
        """Each callback of a mortal process goes through here, in `context`."""
        if self.alive:
            callback(*args)
        else:
            self._dropped.append((callback, args, context))

    def cancel(self) -> None:
        """Cancel what a killed process has left behind. Its tasks need their dropped steps to see that."""
        self.alive = True
        for task in list(self.tasks):
            task.cancel()
        dropped, self._dropped = self._dropped, []
        for callback, args, context in dropped:
            self.time.loop.call_soon(callback, *args, context=context)

    def is_over(self) -> bool:
        return all(task.done() for task in self.tasks)


class Scope:
    """Code of a process."""

    __slots__ = ("process",)

    def __init__(self, process: Process) -> None:
        self.process = process


class Call(Scope):
    """One call of a task's function, with all asyncio tasks that it starts.

    moves: how often something of it was scheduled. sleeping: how many of its asyncio tasks sleep.
    """

    __slots__ = ("in_thread", "moves", "sleeping", "stuck_at")

    def __init__(self, process: Process, *, in_thread: bool) -> None:
        super().__init__(process)
        self.in_thread = in_thread
        self.moves = 0
        self.sleeping = 0
        self.stuck_at = -1

    def waits_outside(self) -> bool:
        """It waits for something other than time (I/O, a thread), and it was not in vain to wait with it."""
        return self.sleeping == 0 and self.stuck_at != self.moves


#: The scope of the running code; None: of no world.
scope: ContextVar[Scope | None] = ContextVar("yadtq_world_scope", default=None)
