"""One worker process: builds the parts, starts them in order, and drains in the written order.

Started:  store, producer, heartbeat, watchdog, parent, control, completer, executor, claimer, renewer, fetcher,
          committer, truncator, rebuilder.
Drained:  1. fetch nothing more   2. claim nothing more   3. let running tasks end, for `grace_s`   4. break off the rest
          and give their leases back   5. store all outcomes   6. last commit   7. leave   8. last heartbeat, disconnect.
The group membership is kept to step 7: giving it up earlier would start a rebalance while tasks still run.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from yadtq.delivery.claimer import Claimer
from yadtq.delivery.committer import Committer
from yadtq.delivery.completer import Completer
from yadtq.delivery.deadletters import DeadLetters
from yadtq.delivery.delivery import StopReason
from yadtq.delivery.fetcher import Fetcher
from yadtq.delivery.rebuilder import Rebuilder
from yadtq.delivery.renewer import Renewer
from yadtq.delivery.truncator import Truncator
from yadtq.delivery.waiting import Intake
from yadtq.errors import BrokerUnavailable
from yadtq.execution.executor import Executor
from yadtq.runtime.service import Service, first_cause, start_services
from yadtq.worker.heartbeat import Heart
from yadtq.worker.parent import Parent
from yadtq.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from yadtq.app import Yadtq
    from yadtq.outside import Outside
    from yadtq.settings import WorkerSettings

__all__ = ["Worker"]

log = logging.getLogger("yadtq.worker")

_BREAK_OFF_S = 5.0
_END_S = 5.0
_LEAVE_S = 5.0


class Worker:
    """`await worker.run()` returns when it has drained. `drain()` asks for that; again, it breaks running tasks off."""

    def __init__(
        self,
        app: Yadtq,
        options: WorkerSettings,
        *,
        slot: str | None = None,
        worker_id: str | None = None,
        pipe: str | None = None,
        outside: Outside | None = None,
    ) -> None:
        """slot, worker_id, pipe: given by a supervisor. slot is the static membership id, worker_id is of this process."""
        settings = app.settings
        outside = outside or app.outside()
        clock, names = outside.clock, outside.names
        self._outside = outside
        self._slot = slot
        self._options = options
        self._settings = settings
        self._draining = anyio.Event()
        self._impatient = anyio.Event()
        self.id = worker_id or f"{outside.place.host}.{outside.place.pid}:{outside.chance.getrandbits(32):08x}"
        self.store = outside.store
        # Half a submit's deadline: what a worker appends is repeated, and a heartbeat or a move must not wait for long.
        self._producer = outside.broker.producer(timeout_s=settings.submit_timeout_s / 2)
        self._consumer = outside.broker.consumer([names.tasks(queue) for queue in options.queues], instance_id=slot)
        self.intake = Intake(clock)
        dead_letters = DeadLetters(names.dead, self.id, self._producer, clock)
        self.completer = Completer(self.store.tasks, self.intake, settings, clock, self._settled)
        self.executor = Executor(
            app.name, self.id, settings, options, dead_letters, clock, self.completer.put, self._wake
        )
        self.claimer = Claimer(self.id, self.store.tasks, self.intake, self.executor, clock)
        self.fetcher = Fetcher(
            self._consumer, self._producer, app.registry, self.intake, dead_letters, options, clock, self._wake
        )
        self._committer = Committer(self.fetcher, options.commit_interval_s)
        self._truncator = Truncator(self.fetcher, outside.broker, names.group, options)
        self._rebuilder = Rebuilder(self.store.tasks, outside.broker, self.fetcher)
        self._renewer = Renewer(self.id, self.store, self.executor, settings, clock, self._data_lost)
        self._control = self.store.hear_control(self._hear, self._wake_parked)
        self._parent = Parent(pipe, self.drain)
        self._watchdog = Watchdog(clock, options.block_limit_s)
        self.heart = Heart(
            outside.place,
            self.id,
            slot,
            names.heartbeats,
            settings.heartbeat_s,
            self._producer,
            self._parent,
            self.fetcher,
            self.intake,
            self.executor,
            self.completer,
            options,
            clock,
        )

    def _wake(self) -> None:
        self.claimer.wake()

    def _settled(self) -> None:
        self.claimer.wake()
        self.fetcher.wake()

    def _wake_parked(self) -> None:
        """Whatever parked records wait for may have changed."""
        self.intake.wake_all()
        self.claimer.wake()

    def _data_lost(self) -> None:
        self._wake_parked()
        self._rebuilder.wake()

    def _hear(self, message: bytes) -> None:
        """Of the control channel: `dead <worker>`."""
        if message.startswith(b"dead "):
            log.info("death certificate of %s", message[5:].decode())
            self._wake_parked()

    def drain(self) -> None:
        """Finish what runs and end. A second call breaks running tasks off; they are free for other workers at once."""
        (self._impatient if self._draining.is_set() else self._draining).set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Raises `ConfigError`, `BrokerUnavailable` or `StoreUnavailable` if it can't start."""
        services: list[Service] = [
            self.heart,
            self._watchdog,
            self._parent,
            self._control,
            self.completer,
            self.executor,
            self.claimer,
            self._renewer,
            self.fetcher,
            self._committer,
            self._truncator,
            self._rebuilder,
        ]
        try:
            await self._connect()
            async with anyio.create_task_group() as group:
                await start_services(group, services, self._draining.is_set)
                await self.heart.turn("running")
                log.info("worker %s runs, queues %s", self.id, ", ".join(self._options.queues))
                task_status.started()
                await self._draining.wait()
                await self._drain()
                for service in services:
                    service.stop()
                # Whoever can't end by now waits for Redis, or for a task that doesn't stop: both are found out elsewhere.
                group.cancel_scope.deadline = anyio.current_time() + _END_S
        except BaseExceptionGroup as errors:
            raise first_cause(errors) from None
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(12):
                await self._consumer.stop()
                await self._producer.stop()
                await self.store.aclose()

    async def _connect(self) -> None:
        """Side by side: each of these round trips is a part of the time in which a dead worker's tasks wait."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.store.start)
            group.start_soon(self._producer.start)
            if self._slot is None:  # a supervisor has provisioned the topics before it started anyone
                group.start_soon(self._outside.broker.provision, self._options.queues)

    async def _drain(self) -> None:
        log.info("draining: %d tasks run", len(self.executor.running))
        self.fetcher.stop()
        self.claimer.stop()
        await self.heart.turn("draining")
        if not await self._idle_within(self._options.grace_s):
            self.executor.cancel_all(StopReason.SHUTDOWN)
            with anyio.move_on_after(_BREAK_OFF_S):
                await self.executor.idle()
        with anyio.move_on_after(self._settings.lease_s):
            await self.completer.settled()
        with anyio.move_on_after(self._settings.lease_s):
            while not await self.fetcher.commit():  # noqa: ASYNC110 - Kafka tells nobody when a rebalance is over
                await anyio.sleep(0.1)
        await self._consumer.stop()
        if self._parent.orphaned and self._slot is not None:
            await self._give_up_slot(self._slot)
        await self.heart.turn("stopped")
        log.info("drained")

    async def _give_up_slot(self, slot: str) -> None:
        """Without a supervisor there is no successor: the others get the partitions now, not at the session timeout."""
        try:
            await self._outside.broker.leave([slot], timeout_s=_LEAVE_S)
        except BrokerUnavailable as error:
            log.warning("the group waits for the session timeout of %s: %s", slot, error)

    async def _idle_within(self, seconds: float) -> bool:
        """Whether all running tasks have ended by themselves, in time and before anybody lost patience."""
        async with anyio.create_task_group() as group:

            async def lose_patience() -> None:
                await self._impatient.wait()
                group.cancel_scope.cancel()

            group.start_soon(lose_patience)
            with anyio.move_on_after(seconds):
                await self.executor.idle()
            group.cancel_scope.cancel()
        return self.executor.is_idle
