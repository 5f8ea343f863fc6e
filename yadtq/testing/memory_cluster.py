"""A Kafka cluster in memory: a log per partition, and consumer groups that rebalance as eagerly as the real ones.

Every join, leave and new partition takes all partitions from all members and deals them out again: positions go back to
the committed offsets, so what is received and not committed is received again (as aiokafka does).
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING

from yadtq.errors import BrokerRefused, BrokerUnavailable
from yadtq.runtime.clock import SystemClock
from yadtq.runtime.seams import Unreadable, next_offset
from yadtq.testing.memory_group import Group
from yadtq.testing.memory_log import Log, MemoryRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Context
    from typing import Protocol

    from yadtq.runtime.clock import Clock
    from yadtq.runtime.seams import ConsumedRecord, OutRecord, Partition

    class _Listener(Protocol):
        topics: frozenset[str]

        def notice(self, topic: str | None = None) -> None: ...


__all__ = ["MemoryCluster", "MemoryProducer"]

#: Kafka's own default of `max.message.bytes`.
_MOST_BYTES = 1_048_588


class MemoryCluster:
    """The cluster.

    down: while True nothing is appended, received or committed, and no session ends. configs: of a topic, by name.
    listeners: parts of processes that want to look again when something has changed, each with its loop and its context.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._down = False
        self._clock = clock or SystemClock()
        self._turns = count()
        self._ids = count(1)
        self._groups: dict[str, Group] = {}
        self._unreadable: dict[Partition, dict[int, str]] = {}
        self.logs: dict[Partition, Log] = {}
        self.configs: dict[str, dict[str, str]] = {}
        self.listeners: dict[_Listener, tuple[asyncio.AbstractEventLoop, Context]] = {}

    @property
    def down(self) -> bool:
        return self._down

    @down.setter
    def down(self, down: bool) -> None:
        self._down = down
        if not down:  # a coordinator that comes back gives every member a whole session again
            for group in self._groups.values():
                for member in group.members.values():
                    member.deadline = self.now() + member.session_s
            self.wake()

    def refuse_if_down(self) -> None:
        """Raises `BrokerUnavailable`."""
        if self._down:
            raise BrokerUnavailable("the memory broker is switched off (down = True)")

    def now(self) -> float:
        return self._clock.monotonic()

    def now_ms(self) -> int:
        return int(self._clock.time() * 1000)

    def new_id(self) -> str:
        return f"{next(self._ids):032x}"

    def wake(self, topic: str | None = None) -> None:
        """Readers of this topic, or (None) everybody looks again, each in a step of its own loop."""
        for listener, (loop, context) in list(self.listeners.items()):
            if (topic is None or topic in listener.topics) and not loop.is_closed():
                loop.call_soon(listener.notice, topic, context=context)

    # Topics

    def create_topic(self, topic: str, partitions: int = 1, configs: dict[str, str] | None = None) -> None:
        """Also grows one; never shrinks it. All partitions of a topic have its identity."""
        self.configs.setdefault(topic, {}).update(configs or {})
        there = self.partitions(topic)
        topic_id = self.logs[there[0]].id if there else self.new_id()
        for number in range(partitions):
            self.logs.setdefault((topic, number), Log(topic, number, topic_id))
        self._rebalance_of(topic)

    def delete_topic(self, topic: str) -> None:
        """With all its records; what the groups have committed there stays, as it does for a while on a real cluster."""
        for partition in self.partitions(topic):
            del self.logs[partition]
            self._unreadable.pop(partition, None)
        self.configs.pop(topic, None)

    def _rebalance_of(self, topic: str) -> None:
        for group in self._groups.values():
            if any(topic in member.topics for member in group.members.values()):
                group.prepare()
        self.wake()

    def partitions(self, topic: str) -> list[Partition]:
        return sorted(partition for partition in self.logs if partition[0] == topic)

    def log_id(self, partition: Partition) -> str:
        """ "": there is no such partition."""
        log = self.logs.get(partition)
        return log.id if log is not None else ""

    def records(self, topic: str) -> list[MemoryRecord]:
        """All that is kept of a topic, partition by partition."""
        return [record for partition in self.partitions(topic) for record in self.logs[partition].records]

    def ends(self, topic: str) -> dict[Partition, tuple[int, int]]:
        """First kept offset and next offset of each partition."""
        return {each: (self.logs[each].start, self.logs[each].end) for each in self.partitions(topic)}

    def truncate(self, partition: Partition, before: int) -> None:
        """DeleteRecords."""
        self.logs[partition].truncate(before)

    def compact(self, topic: str) -> None:
        """Now, where the real one does it at some time."""
        for partition in self.partitions(topic):
            self.logs[partition].compact()

    def damage(self, partition: Partition, offset: int, reason: str = "damaged") -> None:
        """From now on nobody can read this record."""
        self._unreadable.setdefault(partition, {})[offset] = reason

    def read(self, log: Log, offset: int, most: int) -> list[ConsumedRecord]:
        """Up to `most` records from this offset on; those that can't be read as `Unreadable`."""
        records: list[ConsumedRecord] = list(log.read(offset, most))
        if damaged := self._unreadable.get((log.topic, log.partition)):
            for at, record in enumerate(records):
                if (reason := damaged.get(record.offset)) is not None:
                    after = record.offset + 1
                    records[at] = Unreadable(log.topic, log.partition, record.offset, after, reason, value=record.value)
        return records

    @staticmethod
    def after(record: ConsumedRecord) -> int:
        return next_offset(record)

    # Groups

    def group(self, name: str) -> Group:
        return self._groups.setdefault(name, Group())

    def settle(self, group: Group) -> None:
        """Finish its rebalance if that can be done now, and let the members know how it stands."""
        if group.preparing:
            group.complete(self.logs)
            self.wake()

    def committed(self, group: str, partition: Partition) -> int | None:
        """None: the group has never committed there, and starts with the earliest record."""
        found = self.group(group).committed.get(partition)
        return found.offset if found is not None else None

    def rebalance(self, group: str) -> None:
        """For no reason at all."""
        self.group(group).prepare()
        self.wake()

    # Appending

    def producer(self) -> MemoryProducer:
        return MemoryProducer(self)

    def append(self, record: OutRecord) -> None:
        """Raises `BrokerUnavailable`, or a `BrokerRefused` for index 0."""
        self.refuse_if_down()
        partitions = self.partitions(record.topic)
        if not partitions:
            raise BrokerUnavailable(f"topic {record.topic} does not exist; create_topic() first")
        number = record.partition
        if number is None and len(partitions) == 1:
            number = 0
        elif number is None:
            turn = next(self._turns) if record.key is None else _hash(record.key)
            number = turn % len(partitions)
        log = self.logs.get((record.topic, number))
        if log is None:
            raise BrokerUnavailable(f"topic {record.topic} has no partition {number}")
        most = int(self.configs.get(record.topic, {}).get("max.message.bytes", _MOST_BYTES))
        size = len(record.value or b"") + len(record.key or b"")
        if size > most:
            reason = f"{size} bytes are too large for topic {record.topic}, whose max.message.bytes is {most}"
            raise BrokerRefused(reason, {0: reason}, {0})
        log.append(record, self.now_ms())


def _hash(key: bytes) -> int:
    from aiokafka.partitioner import murmur2  # all of aiokafka: a tenth of a second, which few tests of users need

    hashed: int = murmur2(key)
    return hashed & 0x7FFFFFFF


class MemoryProducer:
    """`seams.Producer`."""

    def __init__(self, broker: MemoryCluster) -> None:
        self._broker = broker

    async def start(self) -> None:
        await asyncio.sleep(0)
        self._broker.refuse_if_down()

    async def append(self, records: Sequence[OutRecord]) -> None:
        await asyncio.sleep(0)  # a round trip: others run in between
        refused: dict[int, str] = {}
        too_large: set[int] = set()
        for at, record in enumerate(records):
            try:
                self._broker.append(record)
            except BrokerRefused as error:
                refused[at] = error.refused[0]
                too_large |= {at} if error.too_large else set()
            except BrokerUnavailable as error:
                raise BrokerUnavailable(str(error), uncertain=range(at, len(records)), refused=refused) from None
        for topic in dict.fromkeys(record.topic for record in records):
            self._broker.wake(topic)
        if refused:
            raise BrokerRefused(next(iter(refused.values())), refused, too_large)

    async def stop(self) -> None:
        await asyncio.sleep(0)
