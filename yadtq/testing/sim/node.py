"""One simulated process: a loop, a clock that may be wrong, chance of its own, and a link to each server."""

from __future__ import annotations

import random
from asyncio import _set_running_loop
from typing import TYPE_CHECKING, Any

from yadtq.testing.sim.loop import SimLoop

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from yadtq.testing.sim.loop import Timeline

__all__ = ["Node", "SimClock"]

EPOCH = 1_800_000_000


class SimClock:
    """`Clock` on virtual time. skew_s: the wall clock of this machine is off by so much."""

    __slots__ = ("_world", "skew_s")

    def __init__(self, world: Timeline, skew_s: float = 0.0) -> None:
        self._world = world
        self.skew_s = skew_s

    def monotonic(self) -> float:
        return self._world.now

    def time(self) -> float:
        return EPOCH + self._world.now + self.skew_s


class Node:
    """on_end: called with the node and its error (None: it returned) when `main` is over; not after a kill."""

    def __init__(
        self,
        world: Timeline,
        name: str,
        *,
        on_end: Callable[[Node, BaseException | None], None] | None = None,
        skew_s: float = 0.0,
    ) -> None:
        self.world = world
        self.name = name
        self.loop = SimLoop(world, name)
        self.clock = SimClock(world, skew_s)
        self.chance = random.Random(world.rng.getrandbits(64))
        self.killed_at: float | None = None
        self.killed_by = 0
        self.ended = False
        self._on_end = on_end
        self.main: asyncio.Task[Any] | None = None

    def __repr__(self) -> str:
        return f"<Node {self.name}>"

    @property
    def alive(self) -> bool:
        return not self.loop.dead

    @property
    def frozen(self) -> bool:
        return self.loop.frozen_until > self.world.now

    def start(self, main: Callable[[Node], Coroutine[Any, Any, Any]]) -> None:
        def begin() -> None:
            self.main = self.loop.create_task(main(self))
            self.main.add_done_callback(self._over)

        self.loop.call_soon(begin)

    def inside(self, act: Callable[[], Any]) -> Any:
        """Do something as if in this process now, in a signal handler; what it schedules runs later."""
        if not self.alive:
            return None
        _set_running_loop(self.loop.as_asyncio)
        try:
            return act()
        finally:
            _set_running_loop(None)

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after `seconds`."""
        if not self.alive:
            return
        until = self.world.now + seconds
        self.world.note(self.name, "frozen", f"{seconds:.3f}")
        if until > self.loop.frozen_until:
            self.loop.frozen_until = until
            self.world.call_at(until, self.loop.thaw)

    def _over(self, main: asyncio.Task[Any]) -> None:
        self.ended = True
        error = None if main.cancelled() else main.exception()
        self.world.note(self.name, "ended", type(error).__name__ if error is not None else "")
        self.loop.dead = True
        if self._on_end is not None:
            self._on_end(self, error)
