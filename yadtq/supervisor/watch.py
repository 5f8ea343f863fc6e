"""Which workers are alive: by their pipe first, by the heartbeat topic second, and only while we can see the topic.

A broker outage silences every worker on the topic at once, and killing them for it would make it worse. So the
supervisor sends canaries through the same topic: a worker's silence counts only if all canaries came back. The same
applies to a freeze of the supervisor itself, after which all workers seem to have been silent.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import anyio

from yadtq.errors import BrokerRefused, BrokerUnavailable, EnvelopeError
from yadtq.runtime.outages import OutageLog
from yadtq.runtime.seams import OutRecord
from yadtq.runtime.service import Service, Stage
from yadtq.shown import shown
from yadtq.wire.codec import encode
from yadtq.wire.heartbeat import Heartbeat, is_sealed_with

if TYPE_CHECKING:
    from anyio.abc import TaskStatus as Started

    from yadtq.outside import Outside
    from yadtq.runtime.clock import Clock
    from yadtq.runtime.seams import ConsumedRecord, Producer
    from yadtq.supervisor.twins import Twins

__all__ = ["LivenessTable", "TopicWatch", "Verdict"]

log = logging.getLogger("yadtq.supervisor")

_RETRY_S = 1.0
_CANARY = "canary:"


class Verdict(Enum):
    ALIVE = "alive"
    SILENT = "silent"  # and that is its own fault
    UNKNOWN = "unknown"  # nothing is heard, and the topic can't be seen either


@dataclass(slots=True)
class _Signs:
    """When a worker was last heard of, by pipe and by topic. secret: seals its heartbeats. seq: of the last one."""

    spawned: float
    pipe: float
    topic: float
    secret: str
    seq: int = -1
    ran: bool = False


class LivenessTable:
    """No I/O. Call `check` often: a long gap between two calls means that this process was frozen."""

    def __init__(self, *, clock: Clock, heartbeat_s: float, silence_s: float, start_timeout_s: float) -> None:
        self._clock = clock
        self._silence_s, self._start_timeout_s = silence_s, start_timeout_s
        #: Canaries further apart than this, or calls of `check`, mean that we could not see the topic in between.
        self.gap_s = max(3 * heartbeat_s, silence_s / 3)
        self._signs: dict[str, _Signs] = {}
        self._last_canary: float | None = None
        self._visible_since = 0.0
        self._last_check = clock.monotonic()
        self._awake_since = float("-inf")

    def spawned(self, worker: str, secret: str) -> None:
        now = self._clock.monotonic()
        self._signs[worker] = _Signs(spawned=now, pipe=now, topic=now, secret=secret)

    def removed(self, worker: str) -> None:
        self._signs.pop(worker, None)

    def piped(self, worker: str, phase: str) -> None:
        """A line came through the worker's pipe."""
        if (signs := self._signs.get(worker)) is not None:
            signs.pipe = self._clock.monotonic()
            signs.ran = signs.ran or phase != "starting"

    def secret_of(self, worker: str) -> str | None:
        """None: no worker of ours."""
        signs = self._signs.get(worker)
        return signs.secret if signs is not None else None

    def seen(self, worker: str, phase: str, seq: int) -> None:
        """A heartbeat with the worker's seal came through the topic. One that is not newer than the last is a copy."""
        if (signs := self._signs.get(worker)) is not None and seq > signs.seq:
            signs.topic, signs.seq = self._clock.monotonic(), seq
            signs.ran = signs.ran or phase != "starting"

    def canary(self) -> None:
        """Our own record came back."""
        now = self._clock.monotonic()
        if self._last_canary is None or now - self._last_canary > self.gap_s:
            self._visible_since = now
        self._last_canary = now

    def visible(self, for_s: float = 0.0) -> bool:
        """Whether the topic has been readable for this long without a gap, and is now."""
        now = self._clock.monotonic()
        return (
            self._last_canary is not None
            and now - self._last_canary <= self.gap_s
            and now - self._visible_since >= for_s
        )

    def check(self) -> dict[str, Verdict]:
        """The verdict on every worker."""
        now = self._clock.monotonic()
        if now - self._last_check > self.gap_s:
            self._awake_since = now
        self._last_check = now
        return {worker: self._verdict(signs, now) for worker, signs in self._signs.items()}

    def _verdict(self, signs: _Signs, now: float) -> Verdict:
        heard, window_s = max(signs.pipe, signs.topic), self._silence_s
        if not signs.ran:
            # Even if it sends heartbeats: a worker that never finishes its start does no work.
            heard, window_s = signs.spawned, self._start_timeout_s
        if now - max(heard, self._awake_since) < window_s:
            return Verdict.ALIVE
        return Verdict.SILENT if self.visible(window_s) else Verdict.UNKNOWN


class TopicWatch(Service):
    """A service: feeds `table` and `twins` from the heartbeat topic, and sends the canaries. Survives outages of Kafka."""

    name = "watch"
    stage = Stage.REPORT

    def __init__(
        self, *, outside: Outside, heartbeat_s: float, producer: Producer, table: LivenessTable, twins: Twins
    ) -> None:
        self._broker, self._topic = outside.broker, outside.names.heartbeats
        self._heartbeat_s, self._producer, self._table, self._twins = heartbeat_s, producer, table, twins
        self._stopped = anyio.Event()
        # While it is away, no worker is killed for silence.
        self._outages = OutageLog(log, outside.clock, "Kafka, for the workers' heartbeats,")
        nonce = f"{outside.chance.getrandbits(64):016x}"
        self._key = f"{_CANARY}{nonce}".encode()
        self._value = encode({"v": 1, "canary": nonce})

    def stop(self) -> None:
        self._stopped.set()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._listen, name="yadtq-watch-listen")
            group.start_soon(self._send_canaries, name="yadtq-watch-canaries")
            task_status.started()
            await self._stopped.wait()
            group.cancel_scope.cancel()

    async def _listen(self) -> None:
        while True:
            try:
                async with self._broker.tail(self._topic) as tail:
                    async for record in tail:
                        if self._outages.open:
                            self._outages.answered()
                        self._note(record)
            except BrokerUnavailable as error:
                self._outages.failed(error)
            await asyncio.sleep(_RETRY_S)

    async def _send_canaries(self) -> None:
        while True:
            try:
                await self._producer.append([OutRecord(self._topic, self._value, key=self._key)])
            except (BrokerUnavailable, BrokerRefused) as error:
                log.debug("canary: %s", error)
            await asyncio.sleep(self._heartbeat_s)

    def _note(self, record: ConsumedRecord) -> None:
        if record.key == self._key:
            self._table.canary()
            return
        if record.key is not None and record.key.startswith(_CANARY.encode()):
            return
        try:
            heartbeat = Heartbeat.decode(record.value)
        except EnvelopeError:
            return
        secret = self._table.secret_of(heartbeat.worker)
        if secret is None:
            self._twins.heard(heartbeat)
        elif is_sealed_with(secret, record.value, record.headers):
            self._table.seen(heartbeat.worker, heartbeat.phase, heartbeat.seq)
        else:
            log.debug("a heartbeat of %s without its seal: ignored", shown(heartbeat.worker))
