"""Says how the worker is, from the event loop it vouches for: to the heartbeat topic, and to the supervisor's pipe (D6)."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Literal

import anyio

from yadtq.errors import BrokerUnavailable
from yadtq.runtime.seams import OutRecord
from yadtq.runtime.service import Service
from yadtq.wire.heartbeat import Heartbeat, RunningTask

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from yadtq.delivery.completer import Completer
    from yadtq.delivery.fetcher import Fetcher
    from yadtq.delivery.waiting import Intake
    from yadtq.execution.executor import Executor
    from yadtq.outside import Place
    from yadtq.runtime.clock import Clock
    from yadtq.runtime.seams import Producer
    from yadtq.settings import WorkerSettings
    from yadtq.worker.parent import Parent

__all__ = ["Heart"]

log = logging.getLogger("yadtq.worker")

_MOST_RUNNING = 100
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Heart(Service):
    """A service that beats every `interval_s`, and once more at every change of phase."""

    name = "heartbeat"

    def __init__(
        self,
        place: Place,
        worker_id: str,
        slot: str | None,
        topic: str,
        interval_s: float,
        producer: Producer,
        parent: Parent,
        fetcher: Fetcher,
        intake: Intake,
        executor: Executor,
        completer: Completer,
        options: WorkerSettings,
        clock: Clock,
    ) -> None:
        self._place = place
        self._worker_id = worker_id
        self._slot = slot
        self._topic = topic
        self._interval_s = interval_s
        self._producer = producer
        self._parent = parent
        self._fetcher = fetcher
        self._intake = intake
        self._executor = executor
        self._completer = completer
        self._options = options
        self._clock = clock
        self._stopped = anyio.Event()
        self._seq = 0
        self._sending = False
        self._lag_s = 0.0
        self.phase: Literal["starting", "running", "draining", "stopped"] = "starting"

    def stop(self) -> None:
        self._stopped.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        await self.turn("starting")
        task_status.started()
        async with anyio.create_task_group() as group:
            while not self._stopped.is_set():
                asked = self._clock.monotonic()
                with anyio.move_on_after(self._interval_s):
                    await self._stopped.wait()
                self._lag_s = max(0.0, self._clock.monotonic() - asked - self._interval_s)
                if self.phase != "stopped":
                    self._tell_parent()
                    if not self._sending:  # Kafka may be slow: the next beat must not be late for it
                        group.start_soon(self._send)
            group.cancel_scope.cancel()

    async def turn(self, phase: Literal["starting", "running", "draining", "stopped"]) -> None:
        """Change the phase, and say so at once; not for longer than two seconds."""
        self.phase = phase
        self._tell_parent()
        with anyio.move_on_after(2):
            await self._send()

    def _tell_parent(self) -> None:
        self._seq += 1
        self._parent.tell(json.dumps({"phase": self.phase, "seq": self._seq, "loop_lag_s": round(self._lag_s, 4)}))

    async def _send(self) -> None:
        self._sending = True
        record = OutRecord(self._topic, self._heartbeat().encode(), self._worker_id.encode())
        try:
            await self._producer.append([record])
        except BrokerUnavailable as error:
            # The supervisor knows by its canary that it can't see us; nothing here depends on the beat.
            log.warning("heartbeat not sent: %s", error)
        finally:
            self._sending = False

    def _heartbeat(self) -> Heartbeat:
        now = self._clock.monotonic()
        completer, executor = self._completer, self._executor
        running = tuple(
            RunningTask(
                id=delivery.envelope.id,
                task=delivery.envelope.task,
                attempt=delivery.attempt,
                age_s=round(now - delivery.started_at, 3),
            )
            for delivery in list(executor.running.values())[:_MOST_RUNNING]
        )
        return Heartbeat(
            worker=self._worker_id,
            slot=self._slot,
            host=self._place.host,
            pid=self._place.pid,
            phase=self.phase,
            seq=self._seq,
            at=self._clock.time(),
            queues=self._options.queues,
            concurrency=executor.concurrency,
            loop_lag_s=round(self._lag_s, 4),
            rss_bytes=_rss_bytes(),
            running=running,
            partitions=self._fetcher.lags(),
            parked=self._intake.parked,
            succeeded=completer.succeeded,
            failed=completer.failed,
            retried=completer.retried,
            fenced=completer.fenced,
        )


def _rss_bytes() -> int:
    """Resident memory; 0 where /proc is not there."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * _PAGE
    except OSError:
        return 0
