"""The worker of a world, kept as a supervisor keeps one: when it has died, a successor takes its slot."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from contextvars import Context
from itertools import count
from typing import TYPE_CHECKING, Any

from yadtq.errors import BrokerUnavailable, StoreUnavailable
from yadtq.settings import WorkerSettings
from yadtq.testing.kit.scope import Call, Process, Scope, scope
from yadtq.worker.assembly import Given
from yadtq.worker.heartbeat import Identity
from yadtq.worker.machine import Machine
from yadtq.worker.parent import Parent
from yadtq.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from yadtq.app import Yadtq
    from yadtq.context import TaskContext
    from yadtq.execution.chain import Inner
    from yadtq.testing.kit.real import Servers
    from yadtq.testing.kit.virtual_time import VirtualTime

__all__ = ["Fleet"]

log = logging.getLogger("yadtq.testing")

_RESPAWN_S = 0.5
#: Between looks at a worker that starts on real servers.
_LOOK_S = 0.01
_SLOT = "world-0"
#: Virtual seconds for a worker that is asked to end; with running tasks cancelled it needs far fewer.
_END_S = 120.0


class Fleet:
    """One worker at a time. concurrency: of it."""

    def __init__(self, app: Yadtq, servers: Servers, time: VirtualTime, *, concurrency: int) -> None:
        self._app = app
        self._servers = servers
        self._time = time
        self._options = WorkerSettings.load(
            concurrency=concurrency,
            queues=tuple(dict.fromkeys(["default", *(task.queue for task in app.registry)])),
            commit_interval_s=10.0,
        )
        self._pids = count(2)
        self._processes: list[Process] = []
        self._keeper: asyncio.Task[None] | None = None
        self.process: Process | None = None
        self.worker: Worker | None = None
        self._run: asyncio.Task[None] | None = None

    def _make(self) -> None:
        pid = next(self._pids)
        self.process = process = Process(self._time, mortal=True)
        self._time.processes.append(process)
        self._processes.append(process)
        outside = self._servers.outside(pid)
        worker_id = f"world.{pid}:{outside.chance.getrandbits(32):08x}"
        options = self._options

        def enter() -> None:
            scope.set(Scope(process))
            self.worker = Worker(
                Given(
                    app=self._servers.app,
                    identity=Identity(worker_id, _SLOT, options.queues, options.concurrency),
                    options=options,
                    outside=outside,
                    machine=Machine(parent=Parent(), rss_bytes=lambda: 0),
                    middleware=(self._watched(process),),
                )
            )

        # Empty: in production a worker knows nothing of the context variables of a client either.
        context = Context()
        context.run(enter)
        assert self.worker is not None
        self._run = self._time.loop.create_task(self.worker.run(), name=worker_id, context=context)

    def _watched(self, process: Process) -> Callable[[TaskContext, Inner], Any]:
        """Middleware: `advance` has to know which functions run, and what of the loop belongs to each."""

        async def watched(context: TaskContext, call: Inner) -> Any:
            here = Call(process, in_thread=not self._app.registry.get(context.task).is_async)
            process.calls.add(here)
            token = scope.set(here)
            try:
                return await call()
            finally:
                scope.reset(token)
                process.calls.discard(here)

        return watched

    # Kept

    def start(self) -> None:
        """A worker, and a keeper that starts another one when it ends."""
        self._make()
        self._keeper = self._time.loop.create_task(self._keep())

    async def ready(self) -> None:
        """Until it runs. Raises what kept it from starting."""
        while self.worker is None or self.worker.parts.heart.phase != "running":
            if self._keeper is not None and self._keeper.done():
                self._keeper.result()
            await asyncio.sleep(0 if self._servers.in_memory else _LOOK_S)

    def holds_tasks(self) -> bool:
        """Whether a task may be unfinished of which Redis knows nothing."""
        worker = self.worker
        return worker is None or worker.parts.heart.phase != "running" or any(worker.parts.partitions.in_flight())

    async def _keep(self) -> None:
        while self._run is not None:
            await asyncio.wait([self._run])
            try:
                self._run.result()
                return  # drained
            except (BrokerUnavailable, StoreUnavailable) as error:
                log.info("the worker has ended: %s; another one is started", error)
            await self._bury(self.worker)
            await asyncio.sleep(_RESPAWN_S)
            self._make()

    async def _bury(self, worker: Worker | None) -> None:
        """Its leases end at once, as they do when a supervisor sees the end of a process."""
        while worker is not None:
            try:
                await self._servers.store.deaths.bury(worker.id, outside=True)
            except StoreUnavailable:
                await asyncio.sleep(_RESPAWN_S)
            else:
                return

    def kill(self) -> None:
        """Nothing of the worker runs any more."""
        assert self.process is not None
        assert self._keeper is not None
        self.process.alive = False
        self.process.calls.clear()
        self._keeper.cancel()
        dead = self.worker

        async def replace_it() -> None:
            await self._bury(dead)
            self._make()
            await self._keep()

        self._keeper = self._time.loop.create_task(replace_it())

    async def end(self) -> None:
        """Cancel what runs, and drain. What killed workers have left behind is cancelled, so that nothing leaks."""
        if self.worker is not None and self._run is not None and self.process is not None and self.process.alive:
            self.worker.drain()
            self.worker.drain()
            await self._time.advance(_END_S, until=self._run.done)
            if not self._run.done():
                log.warning("the worker does not end: it is cancelled")
        error = await self._over(self._keeper)
        for process in self._processes:
            process.cancel()
        await self._time.advance(_END_S, until=lambda: all(each.is_over() for each in self._processes))
        if error is not None:
            raise error

    @staticmethod
    async def _over(keeper: asyncio.Task[None] | None) -> BaseException | None:
        """What ended the worker, if anything did."""
        if keeper is None:
            return None
        if not keeper.done():
            keeper.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait([keeper])
        return None if keeper.cancelled() else keeper.exception()
