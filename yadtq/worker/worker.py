"""One worker process: connects, starts the services of its assembly from the last stage to the first, and drains them
in turn.

The stages, and why in this order: runtime/service.py.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from yadtq.runtime.service import Stage, first_cause, start_services
from yadtq.wire.inherited import Inherited
from yadtq.worker.assembly import Given, assemble
from yadtq.worker.drain import drain, in_order
from yadtq.worker.heartbeat import Identity
from yadtq.worker.machine import Machine
from yadtq.worker.start import say_start, with_queues

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyio.abc import TaskGroup
    from anyio.abc import TaskStatus as Started

    from yadtq.app import Yadtq
    from yadtq.outside import Outside
    from yadtq.runtime.service import Service
    from yadtq.settings import WorkerSettings

__all__ = ["Worker", "make_worker"]

log = logging.getLogger("yadtq.worker")

_END_S = 5.0
_DISCONNECT_S = 12.0
_NOTHING = Inherited()


def make_worker(
    app: Yadtq,
    options: WorkerSettings,
    inherited: Inherited = _NOTHING,
    *,
    app_path: str | None = None,
    outside: Outside | None = None,
) -> Worker:
    """A worker on this machine. inherited: values from its supervisor. outside: other servers than the app's own.

    app_path: `module:attribute` of the app, so that child processes can load it; without it suspects run among others.
    """
    outside = outside or app.outside()
    host, pid = outside.place
    identity = Identity(
        worker_id=inherited.worker or f"{host}.{pid}:{outside.chance.getrandbits(32):08x}",
        slot=inherited.slot or None,
        queues=options.queues,
        concurrency=options.concurrency,
        supervisor=inherited.supervisor or None,
        secret=inherited.secret,
    )
    return Worker(
        Given(
            app=app,
            identity=identity,
            options=options,
            outside=outside,
            machine=Machine.this(
                worker_id=identity.worker_id,
                pipe=inherited.pipe or None,
                app_path=app_path,
                outside=outside,
                options=options,
            ),
        )
    )


class Worker:
    """`await worker.run()` returns when it has drained. `drain()` asks for that; a second call cancels running tasks."""

    def __init__(self, given: Given) -> None:
        self._given = given = with_queues(given)
        self.outside = given.outside
        self._draining = anyio.Event()
        self._impatient = anyio.Event()
        self.id = given.identity.worker_id
        self.parts = assemble(given)
        given.machine.parent.on_gone = self.drain

    def drain(self) -> None:
        """Finish what runs and end. A second call cancels running tasks; other workers can run them at once."""
        (self._impatient if self._draining.is_set() else self._draining).set()
        if self.parts.lifespan is not None:
            self.parts.lifespan.give_up()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Raises `ConfigError`, `BrokerUnavailable`, `StoreUnavailable` or `LifespanFailed` if it can't start."""
        say_start(self._given)
        with self._given.app.working(self.parts.submits):
            await self._run(task_status)

    async def _run(self, task_status: Started[None]) -> None:
        parts = self.parts
        services: Sequence[Service] = in_order(parts.services)
        try:
            await self._connect()
            async with anyio.create_task_group() as group:
                services = await self._start(group, services)
                await parts.heart.phase_is("running")
                log.info("worker %s runs, queues %s", self.id, ", ".join(self._given.options.queues))
                task_status.started()
                await self._draining.wait()
                await self._drain(services)
                for service in services:
                    service.stop()
                # A service that can't end now waits for Redis, or for a task that doesn't stop: both are reported
                # elsewhere.
                group.cancel_scope.deadline = anyio.current_time() + _END_S
        except BaseExceptionGroup as errors:
            raise first_cause(errors) from None
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(_DISCONNECT_S):
                await parts.consumer.stop()
                await parts.producer.stop()
                await self.outside.store.aclose()

    async def _connect(self) -> None:
        """Concurrently: each of these round trips adds to the time for which a dead worker's tasks wait."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.outside.store.start)
            group.start_soon(self.parts.producer.start)
            if self._given.identity.slot is None:  # a supervisor has provisioned the topics before it started anyone
                group.start_soon(self.outside.broker.provision, self._given.options.queues)

    async def _start(self, group: TaskGroup, services: Sequence[Service]) -> Sequence[Service]:
        """Those that run then: if the worker is to end before the lifespan is open, no task may be claimed."""
        shared = [service for service in services if service.stage >= Stage.RESOURCES]
        await start_services(group, shared[::-1], self._draining.is_set)
        if self.parts.lifespan is not None and self._draining.is_set():
            return shared
        rest = services[: len(services) - len(shared)]
        await start_services(group, rest[::-1], self._draining.is_set)
        return services

    async def _drain(self, services: Sequence[Service]) -> None:
        log.info("draining: %d tasks run", self.parts.executor.slots.running)
        await self.parts.heart.phase_is("draining")
        await drain(
            services,
            grace_s=self._given.options.grace_s,
            lease_s=self._given.app.settings.lease_s,
            impatient=self._impatient,
        )
        log.info("drained")
