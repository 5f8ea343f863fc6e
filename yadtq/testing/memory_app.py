"""The memory broker as one process of an app is given it: `seams.Broker`."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING

from yadtq.broker.wanted import task_topic_problem, topics_of
from yadtq.errors import TopicMismatch
from yadtq.runtime.seams import Backlog
from yadtq.settings import Settings
from yadtq.testing.memory_consumer import MemoryConsumer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from yadtq.runtime.seams import ConsumedRecord, Partition
    from yadtq.testing.memory_cluster import MemoryCluster, MemoryProducer
    from yadtq.wire.names import TopicNames

__all__ = ["MemoryAppBroker", "MemoryTail"]

_BATCH = 500


class MemoryAppBroker:
    """settings: of the app; None takes the defaults."""

    def __init__(self, cluster: MemoryCluster, names: TopicNames, settings: Settings | None = None) -> None:
        self.cluster = cluster
        self._names = names
        self._settings = settings or Settings.load()

    def producer(self, *, timeout_s: float | None = None) -> MemoryProducer:
        return self.cluster.producer()

    def consumer(self, topics: Sequence[str], *, instance_id: str | None = None) -> MemoryConsumer:
        session_s = self._settings.session_timeout_s
        return MemoryConsumer(
            self.cluster,
            self._names.group,
            topics,
            instance_id=instance_id,
            session_s=session_s,
            join_s=self._settings.connect_timeout_s + 2 * session_s,
        )

    def tail(self, topic: str, *, since_s: float = 0.0) -> MemoryTail:
        return MemoryTail(self.cluster, topic, since_s=since_s)

    async def recent(self, topic: str, since_s: float) -> list[ConsumedRecord]:
        await asyncio.sleep(0)
        self.cluster.refuse_if_down()
        stamp_ms = self.cluster.now_ms() - int(since_s * 1000)
        found: list[ConsumedRecord] = []
        for partition in self.cluster.partitions(topic):
            log = self.cluster.logs[partition]
            found += self.cluster.read(log, log.since(stamp_ms), log.end)
        return found

    async def read(self, topic: str, starts: Mapping[int, int]) -> AsyncGenerator[Sequence[ConsumedRecord], None]:
        await asyncio.sleep(0)
        cluster = self.cluster
        cluster.refuse_if_down()
        ends = {number: cluster.logs[topic, number].end for number in starts}
        for number, start in starts.items():
            log, position = cluster.logs[topic, number], start
            while batch := [each for each in cluster.read(log, position, _BATCH) if each.offset < ends[number]]:
                position = cluster.after(batch[-1])
                yield batch
                await asyncio.sleep(0)
                cluster.refuse_if_down()

    async def provision(self, queues: Collection[str], partitions: int | None = None) -> None:
        await asyncio.sleep(0)
        self.cluster.refuse_if_down()
        wanted = topics_of(self._names, queues, self._settings, partitions)
        task_topics = set(map(self._names.tasks, queues))
        for topic, (number, configs) in wanted.items():
            there = len(self.cluster.partitions(topic))
            if not there:
                self.cluster.create_topic(topic, number, dict(configs))
            elif topic in task_topics:
                # What nobody has set is set, as on a real broker; a topic that nobody has set up grows, too.
                before = self.cluster.configs[topic]
                is_bare = not configs.keys() & before.keys()
                self.cluster.configs[topic] = {**configs, **before}
                if problem := task_topic_problem(topic, self.cluster.configs[topic]):
                    raise TopicMismatch(problem)
                least = number if is_bare else partitions or 1
                if there < least:
                    self.cluster.create_topic(topic, least)

    async def backlog(self) -> Mapping[Partition, Backlog]:
        await asyncio.sleep(0)
        self.cluster.refuse_if_down()
        found = {}
        for partition, log in sorted(self.cluster.logs.items()):
            if self._names.queue_of(partition[0]) is not None:
                commit = self.cluster.group(self._names.group).committed.get(partition)
                start = log.valid(commit.offset if commit is not None and commit.log_id in ("", log.id) else 0)
                first = log.read(start, 1)
                found[partition] = Backlog(log.end - start, first[0].timestamp if first else None)
        return found

    async def truncate(self, groups: Sequence[str], partitions: Collection[Partition]) -> Mapping[Partition, int]:
        await asyncio.sleep(0)
        points: dict[Partition, int] = {}
        if self.cluster.down or not groups:
            return points
        for partition in partitions:
            found = [self.cluster.group(group).committed.get(partition) for group in groups]
            log_id = self.cluster.log_id(partition)
            offsets = [each.offset for each in found if each is not None and each.log_id in ("", log_id)]
            if log_id and len(offsets) == len(groups) and min(offsets) > 0:
                points[partition] = min(offsets)
                self.cluster.truncate(partition, points[partition])
        return points

    async def leave(self, instance_ids: Sequence[str], *, timeout_s: float) -> None:
        await asyncio.sleep(0)
        self.cluster.refuse_if_down()
        group = self.cluster.group(self._names.group)
        group.remove(instance_ids)
        self.cluster.settle(group)


class MemoryTail:
    """Everything from a starting point on, without a group. Up to `buffer` records wait, then the oldest are dropped."""

    def __init__(self, cluster: MemoryCluster, topic: str, *, since_s: float = 0.0, buffer: int = 10_000) -> None:
        self._cluster, self._topic, self._since_s = cluster, topic, since_s
        self.topics = frozenset([topic])
        self._positions: dict[Partition, int] = {}
        self._records: deque[ConsumedRecord] = deque(maxlen=buffer)
        self._news = asyncio.Event()
        self._stopped = False

    async def __aenter__(self) -> Self:
        await asyncio.sleep(0)
        self._cluster.refuse_if_down()
        stamp_ms = self._cluster.now_ms() - int(self._since_s * 1000)
        for partition in self._cluster.partitions(self._topic):
            log = self._cluster.logs[partition]
            self._positions[partition] = log.since(stamp_ms) if self._since_s > 0 else log.end
        self._cluster.listeners[self] = asyncio.get_running_loop(), copy_context()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._cluster.listeners.pop(self, None)

    def stop(self) -> None:
        """Ends the iteration."""
        self._stopped = True
        self._news.set()

    def notice(self, topic: str | None = None) -> None:
        if self._cluster.down:
            return
        for partition in self._cluster.partitions(self._topic):
            log = self._cluster.logs[partition]
            records = self._cluster.read(log, self._positions.get(partition, 0), log.end)
            if records:
                self._positions[partition] = self._cluster.after(records[-1])
                self._records.extend(records)
                self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ConsumedRecord:
        while not self._records:
            if self._stopped:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._records.popleft()
