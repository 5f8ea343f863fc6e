"""Hands out the records of a consumer, and steps over what can't be read.

One batch that aiokafka can't read would stop all partitions, and lose the records that the same call had taken from
others. Here each partition has its own answer, and such a batch is fetched once more and read byte by byte.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aiokafka.client import ConnectionGroup
from aiokafka.errors import IllegalStateError, KafkaError, NoError, TopicAuthorizationFailedError, for_code
from aiokafka.protocol.fetch import FetchRequest

from yadtq.broker.aiokafka_life import fetched, wire
from yadtq.broker.salvage import salvage_many
from yadtq.runtime.seams import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from aiokafka import AIOKafkaConsumer, TopicPartition

    from yadtq.runtime.seams import ConsumedRecord

__all__ = ["Reader"]

log = logging.getLogger("yadtq.broker")

#: About what a poll takes; more would be thrown away. A larger batch comes whole all the same.
_FETCH_BYTES = 131_072
_FETCH_WAIT_MS = 100
_RESCUE_S = 5.0


class Reader:
    """Of one consumer. ready: nothing is taken while it is false."""

    def __init__(self, consumer: AIOKafkaConsumer, ready: Callable[[], bool] = lambda: True) -> None:
        self.consumer, self._ready = consumer, ready

    async def poll(
        self, partitions: Collection[TopicPartition] | None, max_records: int, timeout_s: float
    ) -> dict[TopicPartition, list[ConsumedRecord]]:
        """What `getmany` returns; None: of all partitions. Raises a `KafkaError` if no partition could be read because
        of one.

        Among the records, an `Unreadable` for what can't be read. Must not be cancelled, except by the last call.
        """
        wanted = None if partitions is None else frozenset(partitions)
        records, errors = await fetched(self.consumer, wanted, max_records, timeout_s, ready=self._ready)
        failed: BaseException | None = None
        for partition, error in errors.items():
            try:
                if isinstance(error, TopicAuthorizationFailedError):
                    raise error
                found = await self._rescue(partition, error, max_records)
            except (KafkaError, OSError, TimeoutError) as problem:
                failed = problem
            else:
                if found:
                    records.setdefault(partition, []).extend(found)
        if failed is not None and not records:
            raise failed
        return records

    async def _rescue(self, partition: TopicPartition, error: BaseException, max_records: int) -> list[ConsumedRecord]:
        """Step over the batch that lies at the position now, and over what has come with it."""
        consumer = self.consumer
        async with asyncio.timeout(_RESCUE_S):
            position = await consumer.position(partition)
            raw = await self._raw(partition, position)
            if not raw:
                return []
            salvaged = salvage_many(tuple(partition), raw, position, max_records)
            try:
                consumer.seek(partition, salvaged.next)
            except IllegalStateError:  # it went to another member meanwhile
                return []
        log.error(
            "a batch of %s/%d at offset %d can't be read as usual (%s: %s); up to %d, %d of %d records could be read",
            *partition,
            position,
            type(error).__name__,
            error,
            salvaged.next - 1,
            sum(not isinstance(record, Unreadable) for record in salvaged.records),
            len(salvaged.records),
        )
        return salvaged.records

    async def _raw(self, partition: TopicPartition, position: int) -> bytes:
        client = wire(self.consumer)
        node = client.cluster.leader_for_partition(partition)
        if node is None or node < 0:
            raise KafkaError(f"{partition} has no leader now")
        topics = [(partition.topic, [(partition.partition, position, _FETCH_BYTES)])]
        request = FetchRequest(_FETCH_WAIT_MS, 1, _FETCH_BYTES, 0, topics)
        # On the connection of the fetcher it would wait behind what that has asked for: a broker answers in order.
        response = await client.send(node, request, group=ConnectionGroup.COORDINATION)
        for _topic, answers in response.topics:
            for _number, code, _highwater, *rest in answers:
                kind = for_code(code)
                if kind is not NoError:
                    raise kind()
                return bytes(rest[-1] or b"")
        return b""
