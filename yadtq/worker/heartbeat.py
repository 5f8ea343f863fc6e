"""Reports the state of the worker, from the event loop that runs its tasks: to the heartbeat topic, and to the
supervisor's pipe (D6).
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import anyio

from yadtq.errors import BrokerRefused, BrokerUnavailable
from yadtq.runtime.outages import OutageLog
from yadtq.runtime.seams import OutRecord
from yadtq.runtime.service import Service
from yadtq.wire.heartbeat import Heartbeat, seal

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus as Started

    from yadtq.outside import Outside
    from yadtq.runtime.seams import Producer
    from yadtq.worker.facts import WorkerFacts
    from yadtq.worker.machine import Machine

__all__ = ["Heart", "Identity"]

log = logging.getLogger("yadtq.worker")

Phase = Literal["starting", "running", "draining", "stopped"]
_SEND_S = 2.0


@dataclass(frozen=True, slots=True)
class Identity:
    """The fields that are the same in all heartbeats of this process.

    slot: its static membership id. supervisor: the id of the one that started it. secret: seals the heartbeats; known
    to both.
    """

    worker_id: str
    slot: str | None
    queues: tuple[str, ...]
    concurrency: int
    supervisor: str | None = None
    secret: str = field(default="", repr=False)


class Heart(Service):
    """A service that beats every `interval_s`, and once more at every change of phase."""

    name = "heartbeat"

    def __init__(
        self,
        *,
        identity: Identity,
        facts: Callable[[], WorkerFacts],
        outside: Outside,
        machine: Machine,
        producer: Producer,
        interval_s: float,
    ) -> None:
        self._identity = identity
        self._facts = facts
        self._outside = outside
        self._outages = OutageLog(log, outside.clock, "Kafka, for heartbeats,")
        self._machine = machine
        self._producer = producer
        self._interval_s = interval_s
        self._stopped = anyio.Event()
        self._seq = 0
        self._sending = False
        self._lag_s = 0.0
        self.phase: Phase = "starting"

    def stop(self) -> None:
        self._stopped.set()

    async def drained(self) -> None:
        await self.phase_is("stopped")

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        clock = self._outside.clock
        await self.phase_is("starting")
        task_status.started()
        async with anyio.create_task_group() as group:
            while not self._stopped.is_set():
                asked = clock.monotonic()
                with anyio.move_on_after(self._interval_s):
                    await self._stopped.wait()
                self._lag_s = max(0.0, clock.monotonic() - asked - self._interval_s)
                if self.phase != "stopped":
                    self._tell_parent()
                    if not self._sending:  # Kafka may be slow: that must not delay the next beat
                        group.start_soon(self._send)
            group.cancel_scope.cancel()

    async def phase_is(self, phase: Phase) -> None:
        """Change the phase, and report it at once, within two seconds."""
        self.phase = phase
        self._tell_parent()
        with anyio.move_on_after(_SEND_S):
            await self._send()

    def _tell_parent(self) -> None:
        self._seq += 1
        self._machine.parent.tell(
            json.dumps({"phase": self.phase, "seq": self._seq, "loop_lag_s": round(self._lag_s, 4)})
        )

    async def _send(self) -> None:
        self._sending = True
        value = self._heartbeat().encode()
        record = OutRecord(
            self._outside.names.heartbeats,
            value,
            self._identity.worker_id.encode(),
            headers=seal(value, self._identity.secret),
        )
        try:
            await self._producer.append([record])
        except (BrokerUnavailable, BrokerRefused) as error:
            # The supervisor knows from its canary that it can't see us; nothing here depends on the beat.
            self._outages.failed(error)
        else:
            if self._outages.open:
                self._outages.answered()
        finally:
            self._sending = False

    def _heartbeat(self) -> Heartbeat:
        identity, facts = self._identity, self._facts()
        host, pid = self._outside.place
        return Heartbeat(
            worker=identity.worker_id,
            slot=identity.slot,
            supervisor=identity.supervisor,
            host=host,
            pid=pid,
            phase=self.phase,
            seq=self._seq,
            at=self._outside.clock.time(),
            queues=identity.queues,
            concurrency=identity.concurrency,
            loop_lag_s=round(self._lag_s, 4),
            rss_bytes=self._machine.rss_bytes(),
            running=facts.running,
            partitions=facts.partitions,
            tasks=facts.tasks,
            parked=facts.parked,
            succeeded=facts.succeeded,
            failed=facts.failed,
            retried=facts.retried,
            fenced=facts.fenced,
            failing=facts.failing,
            store=facts.store,
        )
