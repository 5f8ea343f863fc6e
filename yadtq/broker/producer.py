"""Appending to Kafka, a batch a call, in bounded time.

Idempotence is off on purpose: aiokafka's idempotent batches never expire, and one refused batch wedges the producer for
good (aio-libs/aiokafka#1017). A repeat is harmless here, since a task is known by its id; so it costs nothing, and a
failure is bounded and ambiguous: the record may be in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from yadtq.broker.aiokafka_life import connected, health, stopped
from yadtq.broker.connecting import connection_options
from yadtq.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.runtime.seams import OutRecord
    from yadtq.settings import Settings

__all__ = ["KafkaProducer"]

log = logging.getLogger("yadtq.broker")

_BATCH_BYTES = 256 * 1024
_FLUSH_S = 4.0
#: A producer that has failed so often in a row is replaced: its connections or its sender may be beyond recovery.
_FAILURES_BEFORE_REPLACEMENT = 3


class KafkaProducer:
    """`seams.Producer` on aiokafka. acks=all; no linger, since what meets has been brought together before."""

    def __init__(self, settings: Settings, *, timeout_s: float | None = None) -> None:
        self._settings = settings
        self._timeout_s = timeout_s if timeout_s is not None else settings.submit_timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._replacing = asyncio.Lock()
        self._ended: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._turn = 0
        self._partitioner = DefaultPartitioner()

    async def start(self) -> None:
        """Connect. Raises `BrokerUnavailable` after `connect_timeout_s`."""
        self._producer = await self._connected()

    async def _connected(self) -> AIOKafkaProducer:
        options = connection_options(self._settings)
        return await connected(
            lambda: AIOKafkaProducer(**options, acks="all", linger_ms=0, max_batch_size=_BATCH_BYTES),
            self._settings.connect_timeout_s,
            f"Kafka at {self._settings.kafka}",
        )

    async def append(self, records: Sequence[OutRecord]) -> None:
        """Returns when all are acknowledged. Raises `BrokerUnavailable`: any of them may or may not be in the log."""
        try:
            async with asyncio.timeout(self._timeout_s):
                producer = await self._usable()
                await self._append(producer, records)
        except (TimeoutError, KafkaError, OSError) as error:
            self._failures += 1
            reason = str(error) or type(error).__name__
            if isinstance(error, TimeoutError):
                reason = f"no acknowledgement within {self._timeout_s:g} s"
            raise BrokerUnavailable(f"Kafka at {self._settings.kafka}: {reason}") from error
        self._failures = 0

    async def _append(self, producer: AIOKafkaProducer, records: Sequence[OutRecord]) -> None:
        if len(records) == 1:
            # A record alone goes the plain way: aiokafka chooses the partition, and nothing has to be gathered.
            (record,) = records
            await producer.send_and_wait(
                record.topic, record.value, record.key, record.partition, headers=list(record.headers)
            )
            return
        placed: defaultdict[tuple[str, int], list[OutRecord]] = defaultdict(list)
        counts: dict[str, list[int]] = {}
        for record in records:
            topic = record.topic
            partitions = counts.get(topic)
            if partitions is None:
                partitions = counts[topic] = sorted(await producer.partitions_for(topic))
            if record.partition is not None:
                partition = record.partition
            elif record.key is not None:
                partition = self._partitioner(record.key, partitions, partitions)
            else:
                self._turn += 1
                partition = partitions[self._turn % len(partitions)]
            placed[topic, partition].append(record)
        pending: list[asyncio.Future[Any]] = []
        # Side by side: a partition with a batch on its way makes the next one wait, the others need not.
        await asyncio.gather(*(self._fill(producer, *place, batch, pending) for place, batch in placed.items()))
        # Not gather: it would cancel them with us, and then the error of a batch that fails later would be nobody's, since
        # they only shield what aiokafka holds.
        await asyncio.wait(pending)
        for batch_done in pending:
            batch_done.result()

    @staticmethod
    async def _fill(
        producer: AIOKafkaProducer,
        topic: str,
        partition: int,
        records: Sequence[OutRecord],
        pending: list[asyncio.Future[Any]],
    ) -> None:
        batch = producer.create_batch()
        for record in records:
            headers = list(record.headers)
            if batch.append(timestamp=None, key=record.key, value=record.value, headers=headers) is None:
                pending.append(_noted(await producer.send_batch(batch, topic, partition=partition)))
                batch = producer.create_batch()
                batch.append(timestamp=None, key=record.key, value=record.value, headers=headers)
        batch.close()
        pending.append(_noted(await producer.send_batch(batch, topic, partition=partition)))

    async def _usable(self) -> AIOKafkaProducer:
        producer = self._producer
        if producer is not None and not self._is_wedged(producer):
            return producer
        async with self._replacing:
            if self._producer is producer:  # nobody else has replaced it while we waited
                self._producer = None
                if producer is not None:
                    log.warning("replacing the Kafka producer after %d failures", self._failures)
                    self._end(producer)
                self._producer = await self._connected()
                self._failures = 0
            if self._producer is None:
                raise BrokerUnavailable(f"Kafka at {self._settings.kafka}: the producer is closed")
            return self._producer

    def _is_wedged(self, producer: AIOKafkaProducer) -> bool:
        return self._failures >= _FAILURES_BEFORE_REPLACEMENT or health(producer) is not None

    def _end(self, producer: AIOKafkaProducer) -> None:
        """Stop in the background: a wedged producer takes its time."""

        task = asyncio.get_running_loop().create_task(stopped(producer, _FLUSH_S))
        self._ended.add(task)
        task.add_done_callback(self._ended.discard)

    async def stop(self) -> None:
        """Flush and close, in 5 s at most."""
        producer, self._producer = self._producer, None
        if producer is not None:
            self._end(producer)
        if self._ended:
            await asyncio.wait(self._ended)


def _noted(batch_done: asyncio.Future[Any]) -> asyncio.Future[Any]:
    """Its error is looked at, also when nobody waits for it any more: asyncio would report it as a bug of ours."""
    batch_done.add_done_callback(lambda done: done.cancelled() or done.exception())
    return batch_done
