"""Kafka in memory: a log per partition, and consumer groups that rebalance as eagerly as the real ones.

Every join, leave and new partition takes all partitions from all members and deals them out anew: positions go back to
the committed offsets, so whatever is received and not committed is received again (as aiokafka does).
A rebalance is one step here, without the seconds of standstill.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from aiokafka.partitioner import murmur2

from yadtq.errors import BrokerUnavailable
from yadtq.runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from yadtq.runtime.clock import Clock
    from yadtq.runtime.seams import OutRecord, Partition

__all__ = ["MemoryBroker", "MemoryConsumer", "MemoryProducer", "MemoryRecord"]


@dataclass(slots=True)
class MemoryRecord:
    """`ports.ConsumedRecord`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass(slots=True)
class _Log:
    """start: the first offset that is kept."""

    start: int = 0
    records: list[MemoryRecord] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.start + len(self.records)


@dataclass(slots=True)
class _Group:
    members: list[MemoryConsumer] = field(default_factory=list)
    committed: dict[Partition, int] = field(default_factory=dict)


class MemoryBroker:
    """The cluster. down: while True nothing is appended, received or committed."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.down = False
        self._clock = clock or SystemClock()
        self._logs: dict[Partition, _Log] = {}
        self._groups: dict[str, _Group] = {}
        self._turns = count()

    def create_topic(self, topic: str, partitions: int = 1) -> None:
        """Also grows one; never shrinks it."""
        for number in range(partitions):
            self._logs.setdefault((topic, number), _Log())
        for name, group in self._groups.items():
            if any(topic in member.topics for member in group.members):
                self.rebalance(name)

    def partitions(self, topic: str) -> list[Partition]:
        return sorted(partition for partition in self._logs if partition[0] == topic)

    def records(self, topic: str) -> list[MemoryRecord]:
        """All that is kept of a topic, partition by partition."""
        return [record for partition in self.partitions(topic) for record in self._logs[partition].records]

    def ends(self, topic: str) -> dict[Partition, tuple[int, int]]:
        """First kept offset and next offset of each partition."""
        return {
            partition: (self._logs[partition].start, self._logs[partition].end) for partition in self.partitions(topic)
        }

    def truncate(self, partition: Partition, before: int) -> None:
        """DeleteRecords."""
        log = self._logs[partition]
        before = min(before, log.end)
        if before > log.start:
            del log.records[: before - log.start]
            log.start = before

    def committed(self, group: str, partition: Partition) -> int | None:
        """None: the group has never committed there, and starts with the earliest record."""
        return self._group(group).committed.get(partition)

    def rebalance(self, group: str) -> None:
        """Revoke everything and deal it out anew, round-robin in the order of joining."""
        members = self._group(group).members
        deal: dict[int, list[Partition]] = {id(member): [] for member in members}
        for turn, partition in enumerate(sorted(self._logs)):
            takers = [member for member in members if partition[0] in member.topics]
            if takers:
                deal[id(takers[turn % len(takers)])].append(partition)
        for member in members:
            member._assign(deal[id(member)])

    def _group(self, name: str) -> _Group:
        return self._groups.setdefault(name, _Group())

    def _append(self, record: OutRecord) -> None:
        partitions = self.partitions(record.topic)
        if not partitions:
            raise BrokerUnavailable(f"topic {record.topic} does not exist; create_topic() first")
        number = record.partition
        if number is None:
            turn = next(self._turns) if record.key is None else murmur2(record.key) & 0x7FFFFFFF
            number = turn % len(partitions)
        log = self._logs.get((record.topic, number))
        if log is None:
            raise BrokerUnavailable(f"topic {record.topic} has no partition {number}")
        stamp = int(self._clock.time() * 1000)
        log.records.append(
            MemoryRecord(record.topic, number, log.end, stamp, record.key, record.value, tuple(record.headers))
        )
        for group in self._groups.values():
            for member in group.members:
                member._wake()


class MemoryProducer:
    """`ports.Producer`."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    async def append(self, records: Sequence[OutRecord]) -> None:
        await asyncio.sleep(0)  # a round trip: others run in between
        for record in records:
            if self._broker.down:
                raise BrokerUnavailable("the memory broker is switched off (down = True)")
            self._broker._append(record)


class MemoryConsumer:
    """`ports.TaskConsumer`. A poll also ends, empty, when a rebalance or `stop` takes its partitions away."""

    def __init__(self, broker: MemoryBroker, group: str, topics: Sequence[str]) -> None:
        self.topics = tuple(topics)
        self._broker = broker
        self._name = group
        self._group = broker._group(group)
        self._positions: dict[Partition, int] = {}
        self._on_assigned: Callable[[Collection[Partition]], None] = lambda assignment: None
        self._generation = 0
        self._woken = asyncio.Event()

    async def start(self, on_assigned: Callable[[Collection[Partition]], None]) -> None:
        await asyncio.sleep(0)
        if self._broker.down:
            raise BrokerUnavailable("the memory broker is switched off (down = True)")
        self._on_assigned = on_assigned
        self._group.members.append(self)
        self._broker.rebalance(self._name)

    async def poll(
        self, partitions: Collection[Partition], max_records: int, timeout_s: float
    ) -> Mapping[Partition, Sequence[MemoryRecord]]:
        generation = self._generation
        await asyncio.sleep(0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while generation == self._generation:
                    # No await between taking and returning: what is taken is never lost.
                    if found := dict(self._take(partitions, max_records)):
                        return found
                    self._woken.clear()
                    await self._woken.wait()
        return {}

    def _take(
        self, partitions: Collection[Partition], max_records: int
    ) -> Iterator[tuple[Partition, list[MemoryRecord]]]:
        for partition in partitions:
            if partition in self._positions and not self._broker.down and max_records > 0:
                log = self._broker._logs[partition]
                skip = max(0, self._positions[partition] - log.start)
                records = log.records[skip : skip + max_records]
                if records:
                    max_records -= len(records)
                    self._positions[partition] = records[-1].offset + 1
                    yield partition, records

    async def commit(self, offsets: Mapping[Partition, int]) -> bool:
        await asyncio.sleep(0)
        if self._broker.down or not offsets.keys() <= self._positions.keys():
            return False
        self._group.committed.update(offsets)
        return True

    async def position(self, partition: Partition) -> int | None:
        await asyncio.sleep(0)
        return self._positions.get(partition)

    def lag(self, partition: Partition, offset: int) -> int:
        return max(0, self._broker._logs[partition].end - offset)

    async def stop(self) -> None:
        await asyncio.sleep(0)
        if self in self._group.members:
            self._group.members.remove(self)
            self._forget()
            self._broker.rebalance(self._name)

    def _assign(self, assignment: list[Partition]) -> None:
        self._forget()
        self._positions = {partition: self._group.committed.get(partition, 0) for partition in assignment}
        self._on_assigned(tuple(assignment))

    def _forget(self) -> None:
        self._positions = {}
        self._generation += 1
        self._wake()

    def _wake(self) -> None:
        self._woken.set()
