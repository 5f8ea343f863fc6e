"""Assembles a worker from its parts. Nothing is started here, and all I/O goes through the objects that are passed in.

To add a loop: a `Service` with its stage, and a line in `services` below. It is then started, watched and drained with
the others.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from yadtq.client.own import OwnClient
from yadtq.delivery.audit import audit
from yadtq.delivery.claimer import Claimer, Destinations
from yadtq.delivery.committer import Committer
from yadtq.delivery.completer import Completer
from yadtq.delivery.deadletters import DeadLetters
from yadtq.delivery.delivery import Delivery
from yadtq.delivery.fetcher import Decoder, Fetcher
from yadtq.delivery.gates.suspects import PLACE, SuspectGate
from yadtq.delivery.gates.threads import THREAD, ThreadGate
from yadtq.delivery.gates.unknown import UnknownTasks
from yadtq.delivery.handover import Handover, copy_of
from yadtq.delivery.outbox import Outbox
from yadtq.delivery.partitions import Partitions
from yadtq.delivery.rebuilder import Rebuilder
from yadtq.delivery.renewer import Renewer
from yadtq.delivery.sequels import Endings
from yadtq.delivery.stragglers import Stragglers
from yadtq.delivery.truncator import Truncator
from yadtq.delivery.turns.partitions import PartitionTurns
from yadtq.delivery.unrunnable import Unrunnable
from yadtq.delivery.waiting import WaitingRoom
from yadtq.execution.attempt import StopReason
from yadtq.execution.calls import Calls
from yadtq.execution.events import Listeners
from yadtq.execution.executor import Executor
from yadtq.execution.limits import Limits
from yadtq.execution.outcome import log_end
from yadtq.execution.runners.loop import LoopRunner
from yadtq.execution.slots import Slots
from yadtq.execution.tasklog import log_calls
from yadtq.runtime.service import Periodic
from yadtq.runtime.signals import DEAD, Signals
from yadtq.shown import shown
from yadtq.store.borrowed import borrowed
from yadtq.wire.deadletter import DeadReason
from yadtq.wire.heartbeat import RunningTask
from yadtq.worker.facts import Counters, WorkerFacts
from yadtq.worker.heartbeat import Heart, Identity
from yadtq.worker.lifespan import Lifespan, lifespan_of
from yadtq.worker.membership import Membership
from yadtq.worker.versions import Versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from yadtq.app import Yadtq
    from yadtq.delivery.sequels import Sequel
    from yadtq.execution.attempt import Attempt
    from yadtq.execution.chain import Middleware
    from yadtq.execution.outcome import Outcome
    from yadtq.outside import Outside
    from yadtq.runtime.seams import Producer, TaskConsumer
    from yadtq.runtime.service import Service
    from yadtq.settings import WorkerSettings
    from yadtq.worker.machine import Machine

__all__ = ["Given", "Parts", "assemble"]

log = logging.getLogger("yadtq.worker")

_MOST_RUNNING = 100


@dataclass(frozen=True, slots=True)
class Given:
    """What a worker is made from. delivery: the class of deliveries; tests use one that checks its moves."""

    app: Yadtq
    identity: Identity
    options: WorkerSettings
    outside: Outside
    machine: Machine
    sequels: Sequence[Sequel] = ()
    middleware: Sequence[Middleware] = ()
    delivery: type[Delivery] = Delivery


@dataclass(frozen=True, slots=True)
class Parts:
    """A worker, not started. services: in no particular order; each has its stage."""

    services: tuple[Service, ...]
    consumer: TaskConsumer
    producer: Producer
    partitions: Partitions
    room: WaitingRoom
    executor: Executor
    unrunnable: Unrunnable
    claimer: Claimer
    completer: Completer
    fetcher: Fetcher
    outbox: Outbox
    heart: Heart
    counters: Counters
    signals: Signals
    submits: OwnClient
    lifespan: Lifespan | None
    unknown: UnknownTasks

    def audit(self) -> list[str]:
        """Violations of the conservation laws, as messages."""
        return audit(
            partitions=self.partitions,
            room=self.room,
            claimer=self.claimer,
            executor=self.executor,
            completer=self.completer,
        )


class _Assembly:
    """Makes the parts, each from those before it. The way of a record: fetcher, room, claimer, executor, completer."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._outside, self._options, self._settings = given.outside, given.options, given.app.settings
        outside, identity = given.outside, given.identity
        # Half a submit's deadline: what a worker appends is repeated, and a heartbeat or a move must not wait for long.
        self.producer = outside.broker.producer(timeout_s=self._settings.submit_timeout_s / 2)
        topics = [outside.names.tasks(queue) for queue in self._options.queues]
        self.consumer = outside.broker.consumer(topics, instance_id=identity.slot)
        self.partitions = Partitions()
        self.outbox = Outbox(producer=self.producer, clock=outside.clock)
        self.counters = Counters()
        self.signals = Signals()
        self._dead_letters = DeadLetters(
            topic=outside.names.dead, worker_id=identity.worker_id, outbox=self.outbox, clock=outside.clock
        )
        self._endings = Endings(outbox=self.outbox, sequels=given.sequels)
        self.submits = OwnClient(replace(outside, store=borrowed(outside.store)), self._settings, given.app.registry)
        self.versions = Versions(
            worker_id=identity.worker_id, outside=outside, settings=self._settings, registry=given.app.registry
        )
        self._make_execution()
        self._make_delivery()

    def _make_execution(self) -> None:
        given, options, outside = self._given, self._options, self._outside
        limits = Limits(outside.clock)
        threads = given.machine.threads(options.threads, limits)
        threads.on_free = self._thread_free
        given.machine.suspects.on_free = self._place_free
        self.unknown = UnknownTasks(options.unknown_task_window_s, self.versions)
        self.room = WaitingRoom(
            clock=outside.clock,
            turns=PartitionTurns(),
            gates=(self.unknown, ThreadGate(threads)),
            on_elsewhere=Handover(outbox=self.outbox, clock=outside.clock, unknown=self.unknown),
        )
        self.completer = Completer(
            outside=outside,
            room=self.room,
            endings=self._endings,
            restorable_s=self._settings.result_ttl_s / 2,
            listener=Listeners((self.counters,)),
            on_settled=self._settled,
        )
        self._calls = calls = Calls(
            app=given.app.name,
            worker_id=given.identity.worker_id,
            max_result_bytes=self._settings.max_result_bytes,
            loop=LoopRunner(limits),
            threads=threads,
            middleware=(*((log_calls,) if options.log_tasks else ()), *given.middleware),
        )
        self.executor = Executor(
            outside=outside,
            slots=Slots(options.concurrency),
            calls=calls,
            on_outcome=self._attempt_ended,
            suspects=given.machine.suspects,
        )
        self.unrunnable = Unrunnable(
            dead_letters=self._dead_letters,
            on_outcome=self.completer.put,
            app=given.app.name,
            crash_limit=options.crash_limit,
        )

    def _make_delivery(self) -> None:
        given, options, outside = self._given, self._options, self._outside
        worker_id = given.identity.worker_id
        self.claimer = Claimer(
            worker_id=worker_id,
            outside=outside,
            room=self.room,
            to=Destinations(self.executor, self.unrunnable, self._endings, SuspectGate(given.machine.suspects)),
        )
        self.stragglers = Stragglers(
            partitions=self.partitions,
            outbox=self.outbox,
            clock=outside.clock,
            options=options,
            copy_of=lambda delivery: copy_of(delivery, self.unknown, outside.clock.monotonic()),
        )
        self.fetcher = Fetcher(
            consumer=self.consumer,
            decoder=Decoder(
                self.partitions, given.app.registry, self.room, self._dead_letters, outside.clock, given.delivery
            ),
            stragglers=self.stragglers,
            options=options,
            on_records=self.claimer.wake,
        )
        self.committer = Committer(
            partitions=self.partitions,
            consumer=self.consumer,
            clock=outside.clock,
            interval_s=options.commit_interval_s,
        )
        self.rebuilder = Rebuilder(
            outside=outside,
            settings=self._settings,
            partitions=self.partitions,
            consumer=self.consumer,
            data_set=lambda: self.renewer.data_set,
        )
        self.renewer = Renewer(
            worker_id=worker_id,
            outside=outside,
            settings=self._settings,
            held=self._held,
            on_data_lost=self._wake_parked,
        )

    def parts(self) -> Parts:
        given, outside, machine = self._given, self._outside, self._given.machine
        heart = Heart(
            identity=given.identity,
            facts=self._facts,
            outside=outside,
            machine=machine,
            producer=self.producer,
            interval_s=self._settings.heartbeat_s,
        )
        self._lifespan = lifespan_of(given.app, self._options.lifespan_timeout_s, self._calls)
        self.signals.on(DEAD, self._died)
        services: tuple[Service, ...] = (
            heart,
            *machine.services,
            machine.parent,
            outside.store.hear_control(self.signals.hear, self._wake_parked),
            self.renewer,
            *([self._lifespan] if self._lifespan is not None else []),
            self.submits,  # after the lifespan, which is opened after it and closed before it
            Membership(consumer=self.consumer, broker=outside.broker, parent=machine.parent, slot=given.identity.slot),
            self.committer,
            Truncator(partitions=self.partitions, outside=outside, options=self._options),
            self.outbox,
            self.completer,
            self.executor,
            self.unrunnable,  # after the executor: the end of what runs may add to them
            self.claimer,
            self.rebuilder,
            self.stragglers,
            self.versions,
            self.fetcher,
        )
        self._periodic = [service for service in services if isinstance(service, Periodic)]
        return Parts(
            services=services,
            consumer=self.consumer,
            producer=self.producer,
            partitions=self.partitions,
            room=self.room,
            executor=self.executor,
            unrunnable=self.unrunnable,
            claimer=self.claimer,
            completer=self.completer,
            fetcher=self.fetcher,
            outbox=self.outbox,
            heart=heart,
            counters=self.counters,
            signals=self.signals,
            submits=self.submits,
            lifespan=self._lifespan,
            unknown=self.unknown,
        )

    # Notifications

    def _attempt_ended(self, outcome: Outcome) -> None:
        delivery: Delivery = outcome.attempt.origin
        if delivery.gates:
            self.room.came_back(delivery)
        if outcome.misfit and not self._is_sent_on(outcome):
            outcome = outcome._replace(misfit=False)
        if outcome.crash:
            self.unrunnable.end(outcome.attempt, DeadReason.CRASHED, outcome.crash)
        elif outcome.misfit:
            outcome.attempt.stop = StopReason.OTHER_VERSION
            self.completer.put(outcome._replace(status=None))  # its lease is given back
        else:
            self.completer.put(outcome)
        self.claimer.wake()

    def _is_sent_on(self, outcome: Outcome) -> bool:
        """Or waits for a deploy; else it has ended FAILED."""
        if self.unknown.keeps(outcome.attempt.origin, self._outside.clock.monotonic()):
            return True
        self.unknown.forget([outcome.attempt.origin])
        log_end(outcome)
        return False

    def _settled(self) -> None:
        self.claimer.wake()
        self.fetcher.wake()

    def _thread_free(self) -> None:
        self.room.opened(THREAD, 1)
        self.claimer.wake()

    def _place_free(self) -> None:
        self.room.opened(PLACE)
        self.claimer.wake()

    def _died(self, worker: str) -> None:
        log.info("death certificate of %s", shown(worker))
        self._wake_parked()

    def _wake_parked(self) -> None:
        """Wake parked deliveries: what they wait for may have changed."""
        self.room.wake_all()
        self.claimer.wake()

    def _held(self) -> Iterable[Attempt]:
        """The attempts whose leases are renewed."""
        return (*self.executor.running.values(), *self.unrunnable.attempts.values())

    def _facts(self) -> WorkerFacts:
        now, counters = self._outside.clock.monotonic(), self.counters
        running = tuple(
            RunningTask(
                id=attempt.envelope.id,
                task=attempt.envelope.task,
                attempt=attempt.number,
                age_s=round(now - attempt.started_at, 3),
            )
            for attempt in islice(self.executor.running.values(), _MOST_RUNNING)
        )
        return WorkerFacts(
            running=running,
            partitions=self.partitions.lags(self.consumer),
            parked=self.room.parked,
            succeeded=counters.succeeded,
            failed=counters.failed,
            retried=counters.retried,
            fenced=counters.fenced,
            store=self.renewer.data_set,
            failing={each.name: each.failures for each in self._periodic if each.failures},
            tasks=self.versions.fingerprints,
        )


def assemble(given: Given) -> Parts:
    """Each call makes a worker of its own."""
    return _Assembly(given).parts()
