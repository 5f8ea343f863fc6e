"""`running(app)`: a real worker and a real client of an app, on servers in memory, in the test's own loop."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakSet

from yadtq.errors import ConfigError
from yadtq.store.tasks.verbs import Unreadable
from yadtq.testing.kit.fleet import Fleet
from yadtq.testing.kit.loop_hooks import hooks_of
from yadtq.testing.kit.real import RealServers, RealTime
from yadtq.testing.kit.scope import Call, Process, Scope, scope
from yadtq.testing.kit.servers import MemoryServers
from yadtq.testing.kit.virtual_time import VirtualTime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from yadtq.app import Yadtq
    from yadtq.client.client import Client
    from yadtq.handle import TaskHandle
    from yadtq.store.tasks.verbs import Snapshot
    from yadtq.testing.kit.real import Servers
    from yadtq.testing.kit.submits import Submit
    from yadtq.wire.deadletter import DeadLetter
    from yadtq.wire.states import TaskStatus

__all__ = ["World", "running"]

_open: WeakSet[Yadtq] = WeakSet()

_DAY_S = 86_400.0
_LOOK_S = 0.05


class World:
    """What `running` gives. client: the connected client; `task.submit(...)` goes through it."""

    def __init__(self, app: Yadtq, client: Client, fleet: Fleet, *, servers: Servers, time: VirtualTime) -> None:
        self.app = app
        self.client = client
        self._fleet = fleet
        self._servers = servers
        self._time = time
        self._closed = False
        self._advancing = False

    @property
    def submits(self) -> list[Submit]:
        """What was submitted so far, by the test and by tasks, in order. A copy.

        Example: `assert [(each.task, each.args) for each in world.submits] == [("addition", (1, 2))]`
        """
        return list(self._servers.submits.all)

    def now(self) -> datetime:
        """The wall clock of this world, in UTC. `datetime.now()` is not changed by `advance`."""
        return datetime.fromtimestamp(self._time.time(), UTC)

    async def status(self, task: TaskHandle[Any] | str) -> TaskStatus:
        """Of a task, by its handle or id. Raises `TaskNotFound`."""
        return await self.client.status(task)

    async def dead_letters(self) -> list[DeadLetter]:
        """All records of the dead-letter topic, oldest first."""
        self._check()
        return await self._servers.dead_letters()

    # Time

    async def advance(self, seconds: float) -> None:
        """Let `seconds` of this world pass: whatever falls due runs, in order, and `asyncio.sleep` in tasks is not
        waited for.

        Time stands still while something runs: a thread of a sync task, I/O of a task. A task that waits for an event
        of the test's own delays it by `patience_s` real seconds. On real servers it waits, for real, until every
        submitted task has ended, and no longer than this. Raises `ConfigError` after the end of the world, and
        inside a task.
        """
        if not 0 <= seconds < 1e9:
            raise ConfigError(f"advance({seconds!r}): expected seconds from 0 to 1e9")
        with self._one_at_a_time():
            if self.in_memory:
                await self._time.advance(seconds)
                return
            until = self._time.now() + seconds
            while await self._unfinished() and self._time.now() < until:
                await self._time.advance(_LOOK_S)

    @property
    def in_memory(self) -> bool:
        """Whether the servers are in memory, so that time and all faults are the test's own."""
        return self._servers.in_memory

    async def run_until_idle(self, at_most: float = _DAY_S) -> None:
        """Let time pass until every submitted task has ended. Raises `TimeoutError` after `at_most` virtual seconds."""
        with self._one_at_a_time():
            until = self._time.now() + at_most
            await self._time.advance(0)  # the worker gets what was submitted
            while unfinished := await self._unfinished():
                if self._time.now() >= until:
                    names = ", ".join(unfinished[:3])
                    raise TimeoutError(f"{len(unfinished)} tasks have not ended within {at_most:g} s: {names}")
                steps = iter((False, True))
                await self._time.advance(until - self._time.now(), until=lambda steps=steps: next(steps))  # type: ignore[misc]

    async def _unfinished(self) -> list[str]:
        ids = [each.id for each in self._servers.submits.all]
        held = self._fleet.holds_tasks()  # else Redis has lost what it knew of a task that had ended
        found = await self._servers.store.tasks.snapshots(ids)
        return [
            task_id
            for task_id, snapshot in zip(ids, found, strict=True)
            if (snapshot is None and held) or (snapshot is not None and not _is_over(snapshot))
        ]

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        self._check()
        if isinstance(scope.get(), Call):
            raise ConfigError("a task can't advance the time that it runs in: do it in the test")
        if self._advancing:
            raise ConfigError("time is being advanced already, by another asyncio task of this test")
        self._advancing = True
        try:
            yield
        finally:
            self._advancing = False

    # Faults

    async def kill_worker(self) -> None:
        """As `kill -9` under a supervisor: nothing of the worker runs any more, no `finally` either, and a successor is
        started.

        Tasks that ran are run again, as the next attempt. A thread of a sync task can't be killed: it runs on, and its
        result is ignored. What was left behind is cancelled at the end of the world.
        """
        self._check()
        self._fleet.kill()

    async def lose_redis(self) -> None:
        """Redis restarts without its data. Unfinished tasks are known again once the worker has seen it."""
        self._check()
        self._servers.lose_redis()

    @contextmanager
    def kafka_outage(self) -> Iterator[None]:
        """Inside the block Kafka does not answer."""
        self._check()
        self._servers.kafka_down(True)
        try:
            yield
        finally:
            self._servers.kafka_down(False)

    @contextmanager
    def redis_outage(self) -> Iterator[None]:
        """Inside the block Redis does not answer."""
        self._check()
        self._servers.redis_down(True)
        try:
            yield
        finally:
            self._servers.redis_down(False)

    def _check(self) -> None:
        if self._closed:
            raise ConfigError("this world has ended: use it inside its `async with running(app)` block")

    def _close(self) -> None:
        self._closed = True


def _is_over(snapshot: Snapshot | Unreadable) -> bool:
    return isinstance(snapshot, Unreadable) or snapshot.status.final


@asynccontextmanager
async def running(
    app: Yadtq,
    *,
    concurrency: int = 100,
    patience_s: float = 0.5,
    servers: Literal["memory", "real"] = "memory",
) -> AsyncIterator[World]:
    """A worker and a client of `app`, on servers in memory that nobody else uses, in the running event loop.

    concurrency: tasks running at once. patience_s: real seconds that `advance` waits for a task that waits for I/O.
    servers: "real": those of the app's settings, under an app name of its own, in real time. Raises `ConfigError` for
    an app without tasks, and if a world of this app is open already.

    Example:
        async with running(app) as world:
            handle = await addition.submit(1, 2)
            assert await handle.result() == 3
    """
    if not len(app.registry):
        raise ConfigError(f"app {app.name!r} has no tasks: import the modules that define them before running(app)")
    if app in _open:
        raise ConfigError(f"a world of app {app.name!r} is open already: use that one, or end it first")
    _open.add(app)
    try:
        with hooks_of(asyncio.get_running_loop()) as hooks:
            time = (RealTime if servers == "real" else VirtualTime)(hooks, patience_s=patience_s)
            before = scope.get()
            scope.set(Scope(Process(time)))
            try:
                async with _world(
                    app, RealServers(app) if servers == "real" else MemoryServers(app, time), time, concurrency
                ) as world:
                    yield world
            finally:
                scope.set(before)
    finally:
        _open.discard(app)


@asynccontextmanager
async def _world(app: Yadtq, servers: Servers, time: VirtualTime, concurrency: int) -> AsyncIterator[World]:
    fleet = Fleet(app, servers, time, concurrency=concurrency)
    async with app.client(outside=servers.outside(1)) as client:
        try:
            await servers.start()
            fleet.start()
            await fleet.ready()
            world = World(app, client, fleet, servers=servers, time=time)
            try:
                yield world
            finally:
                world._close()
        finally:
            await fleet.end()
            await servers.aclose()
