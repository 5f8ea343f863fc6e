"""The seam between the core and Kafka. Internal: not a plug-in interface, and it may change in any release.

It exists so that the core runs on doubles as well as on real servers; one contract suite runs on all of them. The seam
to Redis is beside its verbs: `store/verbs.py` and one `verbs.py` in each folder of `store/`. Batches everywhere: a call
carries all that one event-loop tick brought together, and answers in the same order (D9).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

__all__ = [
    "Backlog",
    "Broker",
    "ConsumedRecord",
    "OutRecord",
    "Partition",
    "Producer",
    "TaskConsumer",
    "Unreadable",
    "next_offset",
]

Partition = tuple[str, int]
"""(topic, partition)."""


class OutRecord(NamedTuple):
    """A record to append. partition None: any."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()


class ConsumedRecord(Protocol):
    """A record as aiokafka returns it, with the fields that we read."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass(slots=True)
class Unreadable:
    """Stands in for records that can't be read: a damaged batch, or one in a format that is not supported.

    A `ConsumedRecord` in shape. offset: the first that it stands for; next: the first after them. value: the bytes that
    came, as far as they could be read.
    """

    topic: str
    partition: int
    offset: int
    next: int
    reason: str
    timestamp: int = -1
    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def next_offset(record: ConsumedRecord) -> int:
    """The first offset after this record."""
    return record.next if isinstance(record, Unreadable) else record.offset + 1


class Backlog(NamedTuple):
    """Of one partition. records: from the lowest unfinished one to the end; some of them may be finished.

    oldest_ms: time stamp of the lowest unfinished one, None if there is none.
    """

    records: int
    oldest_ms: int | None


class Producer(Protocol):
    """Appends with acks=all."""

    async def start(self) -> None:
        """Connect. Raises `BrokerUnavailable` after `connect_timeout_s`."""
        ...

    async def append(self, records: Sequence[OutRecord]) -> None:
        """Returns when all are acknowledged.

        Raises `BrokerRefused` if Kafka refused some permanently: they are not stored, all others are acknowledged.
        Raises `BrokerUnavailable`, after a deadline, if some may or may not be stored.
        """
        ...

    async def stop(self) -> None:
        """Flush and disconnect in bounded time."""
        ...


class TaskConsumer(Protocol):
    """A member of the app's consumer group."""

    async def start(
        self,
        on_assigned: Callable[[Mapping[Partition, str]], None],
        watermarks: Callable[[], Mapping[Partition, int]],
    ) -> None:
        """Join. Neither callback may wait. Raises `BrokerUnavailable`.

        on_assigned: gets the whole new assignment after every rebalance, before any record of it is handed out: each
        partition with the identity of its log. It is also called when a log was replaced because a topic was deleted
        and created again: the partitions are the same, with another identity, and nothing known about the old log
        (positions, offsets that are done) applies to the new one. "": the broker has no identities. watermarks: what to
        commit at the last moment before partitions are given up.
        """
        ...

    async def poll(
        self, partitions: Collection[Partition] | None, max_records: int, timeout_s: float
    ) -> Mapping[Partition, Sequence[ConsumedRecord]]:
        """Records of these partitions, or of all that are assigned (None); {} after timeout_s. Must not be cancelled.

        Among them, in order, an `Unreadable` for each stretch of a log that can't be read.
        """
        ...

    async def commit(self, offsets: Mapping[Partition, int]) -> bool:
        """False: not all committed (a rebalance is under way, or Kafka is away); try again later.

        Nothing is committed for partitions that belong to others.
        """
        ...

    async def position(self, partition: Partition) -> int | None:
        """The offset that will be handed out next; None: not known (any more)."""
        ...

    def lag(self, partition: Partition, offset: int) -> int:
        """Records from `offset` to the partition's end, as far as known."""
        ...

    async def stop(self) -> None:
        """Leave in bounded time."""
        ...


class Broker(Protocol):
    """Kafka, for one app: creates producers, consumers and tails, and carries out single requests."""

    def producer(self, *, timeout_s: float | None = None) -> Producer:
        """timeout_s: until an append is given up; None takes `submit_timeout_s`."""
        ...

    def consumer(self, topics: Sequence[str], *, instance_id: str | None = None) -> TaskConsumer:
        """A member of the app's group. instance_id: its static membership id."""
        ...

    def tail(self, topic: str, *, since_s: float = 0.0) -> AbstractAsyncContextManager[AsyncIterator[ConsumedRecord]]:
        """Everything appended from now on, or from `since_s` ago, without a group. Outlives its connections.

        Entering raises `BrokerUnavailable` after `connect_timeout_s`.
        """
        ...

    async def recent(self, topic: str, since_s: float) -> list[ConsumedRecord]:
        """Records of the last `since_s` up to the end as it is now. Raises `BrokerUnavailable`."""
        ...

    def read(self, topic: str, starts: Mapping[int, int]) -> AsyncGenerator[Sequence[ConsumedRecord], None]:
        """Batches of some partitions, each from its start up to the end as it is now. Raises `BrokerUnavailable`."""
        ...

    async def provision(self, queues: Collection[str], partitions: int | None = None) -> None:
        """Create what is missing, grow what is too small, refuse what would lose tasks. Idempotent.

        Raises `BrokerUnavailable`, `TopicMismatch`.
        """
        ...

    async def backlog(self) -> Mapping[Partition, Backlog]:
        """Of every partition of every task topic that the app has. Raises `BrokerUnavailable`."""
        ...

    async def truncate(self, groups: Sequence[str], partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """Truncate what all groups have committed; returns the new first offsets. {}: not possible now, and not
        urgent.
        """
        ...

    async def leave(self, instance_ids: Sequence[str], *, timeout_s: float) -> None:
        """Take static members out of the app's group at once. Raises `BrokerUnavailable`."""
        ...
