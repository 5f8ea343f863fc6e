"""Records that can't be run, kept as they came: same key, same bytes, with headers that say where from and why (G6)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from yadtq.errors import BrokerUnavailable
from yadtq.runtime.seams import OutRecord

if TYPE_CHECKING:
    from yadtq.runtime.clock import Clock
    from yadtq.runtime.seams import ConsumedRecord, Producer
    from yadtq.wire.envelope import Envelope

__all__ = ["DeadLetters"]

log = logging.getLogger("yadtq.worker")

_RETRY_S = 0.5


class DeadLetters:
    """Appends to the app's dead-letter topic."""

    def __init__(self, topic: str, worker_id: str, producer: Producer, clock: Clock) -> None:
        self._topic = topic
        self._worker_id = worker_id
        self._producer = producer
        self._clock = clock
        self.count = 0

    async def append(self, record: ConsumedRecord, reason: str, detail: str, envelope: Envelope | None = None) -> None:
        """Returns once Kafka has it; tries for as long as it takes, since the original is let go afterwards."""
        headers = {
            "yadtq-reason": reason,
            "yadtq-detail": detail,
            "yadtq-topic": record.topic,
            "yadtq-partition": str(record.partition),
            "yadtq-offset": str(record.offset),
            "yadtq-timestamp": str(record.timestamp),
            "yadtq-worker": self._worker_id,
            "yadtq-at": str(int(self._clock.time() * 1000)),
        }
        if envelope is not None:
            headers |= {"yadtq-task-id": envelope.id, "yadtq-task": envelope.task}
        letter = OutRecord(
            self._topic,
            record.value,
            record.key,
            headers=[*record.headers, *((name, value.encode()) for name, value in headers.items())],
        )
        # A record without key and value can't be appended by every client; an empty value says as much.
        if letter.value is None and letter.key is None:
            letter = letter._replace(value=b"")
        while True:
            try:
                await self._producer.append([letter])
                break
            except BrokerUnavailable as error:
                log.warning("a dead letter waits: %s", error)
                await anyio.sleep(_RETRY_S)
        self.count += 1
        log.error("dead letter from %s/%d@%d: %s: %s", record.topic, record.partition, record.offset, reason, detail)
