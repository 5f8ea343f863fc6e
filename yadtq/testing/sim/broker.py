"""`seams.Broker` of one simulated process: everything goes over its link to the simulated Kafka."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from yadtq.errors import BrokerUnavailable
from yadtq.runtime.seams import Backlog
from yadtq.testing.sim.consumer import SimConsumer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from yadtq.runtime.seams import ConsumedRecord, OutRecord, Partition
    from yadtq.settings import Settings
    from yadtq.testing.memory_log import MemoryRecord
    from yadtq.testing.sim.kafka import SimKafka
    from yadtq.testing.sim.net import Link
    from yadtq.wire.names import TopicNames

__all__ = ["SimBroker", "SimProducer"]

T = TypeVar("T")

_BATCH = 500
_TIMEOUT_S = 5.0


class SimBroker:
    """Made for each process."""

    def __init__(self, kafka: SimKafka, link: Link, settings: Settings, names: TopicNames) -> None:
        self._kafka = kafka
        self._link = link
        self._settings = settings
        self._names = names

    def producer(self, *, timeout_s: float | None = None) -> SimProducer:
        return SimProducer(self._kafka, self._link, timeout_s or self._settings.submit_timeout_s)

    def consumer(self, topics: Sequence[str], *, instance_id: str | None = None) -> SimConsumer:
        return SimConsumer(
            self._kafka,
            self._link,
            self._names.group,
            topics,
            instance_id=instance_id,
            session_s=self._settings.session_timeout_s,
        )

    def tail(self, topic: str, *, since_s: float = 0.0) -> AbstractAsyncContextManager[AsyncIterator[ConsumedRecord]]:
        return self._tail(topic, since_s)

    @asynccontextmanager
    async def _tail(self, topic: str, since_s: float) -> AsyncIterator[AsyncIterator[ConsumedRecord]]:
        starts = await self._ask("tail", lambda: self._starts(topic, since_s))
        yield self._follow(topic, starts)

    def _starts(self, topic: str, since_s: float) -> dict[int, int]:
        since_ms = (self._kafka.clock.time() - since_s) * 1000
        starts = {}
        for number in range(self._kafka.partitions.get(topic, 0)):
            log = self._kafka.logs[topic, number]
            older = sum(record.timestamp < since_ms for record in log.records) if since_s else len(log.records)
            starts[number] = log.records[older].offset if older < len(log.records) else log.end
        return starts

    async def _follow(self, topic: str, positions: dict[int, int]) -> AsyncIterator[ConsumedRecord]:
        """Outlives outages: what was appended meanwhile comes afterwards."""
        loop = self._link.node.loop
        while True:
            found = [
                record
                for number, position in positions.items()
                for record in self._kafka.logs[topic, number].read(position, _BATCH)
            ]
            if found:
                try:
                    await self._ask("tail fetch", lambda: None)
                except BrokerUnavailable:
                    continue
                for record in found:
                    positions[record.partition] = record.offset + 1
                    yield record
                continue
            news: asyncio.Future[None] = loop.create_future()

            def tell(news: asyncio.Future[None] = news) -> None:
                if not news.done() and self._link.node.alive:
                    news.set_result(None)

            for number in positions:
                self._kafka.logs[topic, number].readers[tell] = None
            try:
                await news
            finally:
                for number in positions:
                    self._kafka.logs[topic, number].readers.pop(tell, None)

    async def recent(self, topic: str, since_s: float) -> list[ConsumedRecord]:
        def answer() -> list[MemoryRecord]:
            return [
                record
                for number, start in self._starts(topic, since_s).items()
                for record in self._kafka.logs[topic, number].read(start, 1_000_000)
            ]

        return list(await self._ask("recent", answer))

    async def read(self, topic: str, starts: Mapping[int, int]) -> AsyncGenerator[Sequence[ConsumedRecord], None]:
        ends = await self._ask("ends", lambda: {number: self._kafka.logs[topic, number].end for number in starts})
        left = deque(sorted(starts.items()))
        while left:
            number, position = left.popleft()
            if position >= ends[number]:
                continue
            log = self._kafka.logs[topic, number]
            found = await self._ask("read", partial(log.read, position, _BATCH))
            batch = [record for record in found if record.offset < ends[number]]
            if batch:
                yield batch
                left.appendleft((number, batch[-1].offset + 1))

    async def provision(self, queues: Collection[str], partitions: int | None = None) -> None:
        def answer() -> None:
            for queue in sorted(queues):
                topic = self._names.tasks(queue)
                if partitions is not None or topic not in self._kafka.partitions:
                    self._kafka.provision(topic, partitions or self._settings.num_partitions)
            self._kafka.provision(self._names.heartbeats, 1, compacted=True)
            self._kafka.provision(self._names.dead, 1)

        await self._ask("provision", answer)

    async def backlog(self) -> Mapping[Partition, Backlog]:
        def answer() -> dict[Partition, Backlog]:
            committed = self._kafka.group(self._names.group).committed
            found = {}
            for partition, log in sorted(self._kafka.logs.items()):
                if self._names.queue_of(partition[0]) is not None:
                    start = max(log.start, committed.get(partition, 0))
                    first = log.read(start, 1)
                    found[partition] = Backlog(max(0, log.end - start), first[0].timestamp if first else None)
            return found

        return await self._ask("backlog", answer)

    async def truncate(self, groups: Sequence[str], partitions: Collection[Partition]) -> Mapping[Partition, int]:
        try:
            return await self._ask("truncate", lambda: self._kafka.truncate(groups, partitions))
        except BrokerUnavailable:
            return {}

    async def leave(self, instance_ids: Sequence[str], *, timeout_s: float) -> None:
        group = self._kafka.group(self._names.group)
        await self._link.call(
            "leave group", lambda: group.leave_by_instance(instance_ids), timeout_s=timeout_s, error=BrokerUnavailable
        )

    async def _ask(self, verb: str, do: Callable[[], T]) -> T:
        return await self._link.call(verb, do, timeout_s=_TIMEOUT_S, error=BrokerUnavailable)


class SimProducer:
    """`seams.Producer`."""

    def __init__(self, kafka: SimKafka, link: Link, timeout_s: float) -> None:
        self._kafka = kafka
        self._link = link
        self._timeout_s = timeout_s

    async def start(self) -> None:
        await self._link.call("connect", lambda: None, timeout_s=_TIMEOUT_S, error=BrokerUnavailable)

    async def append(self, records: Sequence[OutRecord]) -> None:
        # What is asked again after a lost answer is not appended again: aiokafka's producer is idempotent.
        left = list(records)
        topic = records[0].topic.rpartition(".")[2] if records else ""
        await self._link.call(
            "append",
            lambda: self._kafka.append(left),
            timeout_s=self._timeout_s,
            error=BrokerUnavailable,
            detail=f"{len(records)} {topic}",
        )
        self._kafka.perhaps_again(records)

    async def stop(self) -> None:
        await asyncio.sleep(0)
