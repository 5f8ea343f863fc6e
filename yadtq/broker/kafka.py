"""`seams.Broker` on Kafka: makes the parts, each with connections of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yadtq.broker.backlog import read_backlog
from yadtq.broker.consumer import KafkaTaskConsumer
from yadtq.broker.membership import leave_group
from yadtq.broker.producer import KafkaProducer
from yadtq.broker.tail import Tail, read_from, read_recent
from yadtq.broker.topics import provision
from yadtq.broker.truncation import truncate

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping, Sequence

    from yadtq.runtime.clock import Clock
    from yadtq.runtime.seams import Backlog, ConsumedRecord, Partition
    from yadtq.settings import Settings
    from yadtq.wire.names import TopicNames

__all__ = ["KafkaBroker"]


class KafkaBroker:
    """One app's Kafka. Holds no connection itself."""

    def __init__(self, settings: Settings, names: TopicNames, clock: Clock) -> None:
        self._settings = settings
        self._names = names
        self._clock = clock

    def producer(self, *, timeout_s: float | None = None) -> KafkaProducer:
        return KafkaProducer(self._settings, timeout_s=timeout_s)

    def consumer(self, topics: Sequence[str], *, instance_id: str | None = None) -> KafkaTaskConsumer:
        return KafkaTaskConsumer(self._settings, self._names.group, topics, clock=self._clock, instance_id=instance_id)

    def tail(self, topic: str, *, since_s: float = 0.0) -> Tail:
        return Tail(self._settings, topic, since_s=since_s, clock=self._clock)

    async def recent(self, topic: str, since_s: float) -> list[ConsumedRecord]:
        return await read_recent(self._settings, topic, since_s, self._settings.connect_timeout_s, clock=self._clock)

    def read(self, topic: str, starts: Mapping[int, int]) -> AsyncGenerator[Sequence[ConsumedRecord], None]:
        return read_from(self._settings, topic, starts)

    async def provision(self, queues: Collection[str], partitions: int | None = None) -> None:
        await provision(self._settings, self._names, queues, partitions)

    async def backlog(self) -> Mapping[Partition, Backlog]:
        return await read_backlog(self._settings, self._names)

    async def truncate(self, groups: Sequence[str], partitions: Collection[Partition]) -> Mapping[Partition, int]:
        return await truncate(self._settings, groups, partitions)

    async def leave(self, instance_ids: Sequence[str], *, timeout_s: float) -> None:
        await leave_group(self._settings, self._names.group, instance_ids, timeout_s=timeout_s)
