"""Kafka, simulated: logs with truncation, compaction, leaders that go away, and the groups' coordinator.

It decides at its own time, one step a request. What is between it and a process is the link's matter.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from aiokafka.partitioner import murmur2

from yadtq.errors import BrokerUnavailable
from yadtq.testing.memory_log import MemoryRecord
from yadtq.testing.sim.group import Group
from yadtq.testing.sim.net import Later, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from yadtq.runtime.seams import OutRecord, Partition
    from yadtq.testing.sim.node import SimClock
    from yadtq.testing.sim.world import World

__all__ = ["SimKafka", "SimLog"]

_offset = attrgetter("offset")


class SimLog:
    """One partition. Offsets have gaps where it was compacted. generation: of the log; a topic made again is another one."""

    def __init__(self) -> None:
        self.start = 0
        self.end = 0
        self.records: list[MemoryRecord] = []
        self.leaderless_until = 0.0
        self.generation = 0
        #: Called when something was appended, and forgotten.
        self.readers: dict[Callable[[], None], None] = {}

    def append(self, record: MemoryRecord) -> None:
        self.records.append(record)
        self.end = record.offset + 1
        if self.readers:
            readers, self.readers = self.readers, {}
            for tell in readers:
                tell()

    def read(self, position: int, most: int) -> list[MemoryRecord]:
        at = bisect_left(self.records, position, key=_offset)
        return self.records[at : at + most]

    def truncate(self, before: int) -> None:
        """DeleteRecords."""
        before = min(before, self.end)
        if before > self.start:
            del self.records[: bisect_left(self.records, before, key=_offset)]
            self.start = before

    def compact(self) -> None:
        """Keep the last record of each key."""
        last = {record.key: record for record in self.records}
        self.records = [record for record in self.records if record.key is None or last[record.key] is record]

    def reset(self) -> None:
        """The topic is deleted and made again."""
        self.start = self.end = 0
        self.records = []
        self.generation += 1


class SimKafka(Server):
    """clock: of the brokers. watch: told of each append and each commit before it counts."""

    def __init__(self, world: World, clock: SimClock) -> None:
        super().__init__("kafka", world)
        self.clock = clock
        self.logs: dict[Partition, SimLog] = {}
        self.groups: dict[str, Group] = {}
        self.coordinator_down_until = 0.0
        self.partitions: dict[str, int] = {}
        self.compacted: set[str] = set()
        self.on_append: list[Callable[[MemoryRecord], None]] = []
        self.on_reset: list[Callable[[Partition], None]] = []
        self.on_commit: list[Callable[[Mapping[Partition, int]], None]] = []

    @property
    def available(self) -> bool:
        return not self.down and self.frozen_until <= self.world.now

    @property
    def coordinating(self) -> bool:
        return self.available and self.coordinator_down_until <= self.world.now

    def calm(self) -> None:
        super().calm()
        self.coordinator_down_until = 0.0
        for log in self.logs.values():
            log.leaderless_until = 0.0

    def provision(self, topic: str, partitions: int, *, compacted: bool = False) -> None:
        """Create or grow; never shrinks."""
        before = self.partitions.get(topic, 0)
        if partitions <= before:
            return
        self.partitions[topic] = partitions
        if compacted:
            self.compacted.add(topic)
        for number in range(before, partitions):
            self.logs[topic, number] = SimLog()
        if before:
            for group in self.groups.values():
                group.topic_grew(topic)

    def make_again(self, topic: str) -> None:
        """The topic is deleted and made again: what is in it, and what was committed, is gone."""
        self.world.note("kafka", "topic made again", topic)
        for partition in self.partitions_of([topic]):
            self.logs[partition].reset()
            for hear in self.on_reset:
                hear(partition)
        for group in self.groups.values():
            group.topic_made_again(topic)

    def partitions_of(self, topics: Iterable[str]) -> list[Partition]:
        return [(topic, number) for topic in sorted(topics) for number in range(self.partitions.get(topic, 0))]

    def group(self, name: str) -> Group:
        group = self.groups.get(name)
        if group is None:
            group = self.groups[name] = Group(self, name)
        return group

    def append(self, records: list[OutRecord]) -> None:
        """Takes those appended out of `records`; raises `Later` for those whose partition has no leader now."""
        left = []
        later = 0.0
        for record in records:
            count = self.partitions.get(record.topic)
            if not count:
                raise BrokerUnavailable(f"topic {record.topic} does not exist")
            number = record.partition
            if number is None:
                if record.key is None:
                    number = int(self.world.rng.random() * count)
                else:
                    number = (murmur2(record.key) & 0x7FFFFFFF) % count
            elif number >= count:
                raise BrokerUnavailable(f"topic {record.topic} has no partition {number}")
            log = self.logs[record.topic, number]
            if log.leaderless_until > self.world.now:
                later = max(later, log.leaderless_until)
                left.append(record)
            else:
                self._append(log, record, number)
        records[:] = left
        if left:
            raise Later(later)

    def perhaps_again(self, records: Sequence[OutRecord]) -> None:
        """The same append arrives once more, as from a connection that was given up."""
        chance = self.world.rng.random
        if self.weather.double and chance() < self.weather.double:
            for record in records:
                self.world.call_later(2.0 * chance(), partial(self.append_now, record))

    def append_now(self, record: OutRecord) -> None:
        """Of somebody else, who does not care for leaders."""
        number = record.partition
        if number is None:
            number = int(self.world.rng.random() * self.partitions[record.topic])
        self._append(self.logs[record.topic, number], record, number)

    def _append(self, log: SimLog, record: OutRecord, number: int) -> None:
        stamp = int(self.clock.time() * 1000)
        stored = MemoryRecord(record.topic, number, log.end, stamp, record.key, record.value, tuple(record.headers))
        for hear in self.on_append:
            hear(stored)
        log.append(stored)
        if record.topic in self.compacted and len(log.records) > 2_000:
            log.compact()

    def truncate(self, groups: Sequence[str], partitions: Collection[Partition]) -> dict[Partition, int]:
        """Behind what all groups have committed."""
        points = {}
        for partition in partitions:
            lowest = min(self.group(name).committed.get(partition, -1) for name in groups)
            if lowest > 0:
                points[partition] = lowest
                self.logs[partition].truncate(lowest)
        return points
