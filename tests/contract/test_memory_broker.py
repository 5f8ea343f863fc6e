"""The in-memory Kafka: logs, groups and their rebalances, as the worker sees them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from yadtq.errors import BrokerUnavailable
from yadtq.runtime.seams import OutRecord, Partition, Producer, TaskConsumer
from yadtq.testing import ManualClock, MemoryBroker, MemoryConsumer, MemoryProducer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from yadtq.testing import MemoryRecord

T0, T1, T2, T3 = (("t", number) for number in range(4))


class Member:
    """A consumer and what it was told."""

    def __init__(self, broker: MemoryBroker, *topics: str) -> None:
        self.consumer = MemoryConsumer(broker, "g", topics or ("t",))
        self.assignments: list[set[Partition]] = []

    async def start(self) -> Member:
        await self.consumer.start(lambda assignment: self.assignments.append(set(assignment)))
        return self

    async def poll(self, most: int = 100, timeout_s: float = 0.0) -> list[tuple[int, bytes | None]]:
        """(partition, value) of what comes."""
        found = await self.consumer.poll(self.assignments[-1], most, timeout_s)
        return [(record.partition, record.value) for records in found.values() for record in records]


@pytest.fixture
def broker() -> MemoryBroker:
    broker = MemoryBroker(ManualClock(time=1_000.5))
    broker.create_topic("t", 2)
    return broker


async def append(broker: MemoryBroker, *values: bytes, partition: int = 0) -> None:
    await MemoryProducer(broker).append([OutRecord("t", value, partition=partition) for value in values])


async def settle(*awaitables: asyncio.Future[object]) -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_they_fit_the_ports(broker: MemoryBroker) -> None:
    producer: Producer = MemoryProducer(broker)
    consumer: TaskConsumer = MemoryConsumer(broker, "g", ["t"])
    assert producer
    assert consumer


async def test_a_record_comes_as_it_was_sent(broker: MemoryBroker) -> None:
    member = await Member(broker).start()
    await MemoryProducer(broker).append([OutRecord("t", b"v", b"k", 1, [("h", b"x")])])
    found: Mapping[Partition, Sequence[MemoryRecord]] = await member.consumer.poll([T0, T1], 10, 1)
    (record,) = found[T1]
    assert (record.topic, record.partition, record.offset, record.timestamp) == ("t", 1, 0, 1_000_500)
    assert (record.key, record.value, list(record.headers)) == (b"k", b"v", [("h", b"x")])


async def test_a_key_has_its_partition_and_the_rest_is_spread(broker: MemoryBroker) -> None:
    producer = MemoryProducer(broker)
    await producer.append([OutRecord("t", b"", key) for key in [b"a", b"b", b"c"] * 5])
    for key in (b"a", b"b", b"c"):
        assert len({record.partition for record in broker.records("t") if record.key == key}) == 1
    before = broker.ends("t")
    await producer.append([OutRecord("t", b"") for _ in range(10)])
    assert [broker.ends("t")[partition][1] - before[partition][1] for partition in (T0, T1)] == [5, 5]


async def test_unknown_topics_and_partitions_are_refused(broker: MemoryBroker) -> None:
    for record in (OutRecord("nowhere", b""), OutRecord("t", b"", partition=7)):
        with pytest.raises(BrokerUnavailable):
            await MemoryProducer(broker).append([record])


async def test_a_poll_wakes_on_an_append(broker: MemoryBroker) -> None:
    member = await Member(broker).start()
    polling = asyncio.ensure_future(member.poll(timeout_s=60))
    await settle()
    assert not polling.done()
    await append(broker, b"1")
    assert await asyncio.wait_for(polling, 5) == [(0, b"1")]


async def test_a_poll_is_empty_after_its_time(broker: MemoryBroker) -> None:
    member = await Member(broker).start()
    assert await asyncio.wait_for(member.poll(timeout_s=0.01), 5) == []


async def test_a_poll_takes_only_from_what_it_names_and_only_so_many(broker: MemoryBroker) -> None:
    member = await Member(broker).start()
    await append(broker, b"1", b"2", b"3")
    await append(broker, b"4", partition=1)
    assert set(await member.consumer.poll([T1], 10, 0)) == {T1}
    assert await member.poll(2) == [(0, b"1"), (0, b"2")]
    assert await member.consumer.poll([], 10, 0) == {}, "none is none, and not all"
    assert await member.consumer.poll([T0], 0, 0) == {}
    assert await member.poll() == [(0, b"3")]


async def test_a_join_deals_out_anew_and_redelivers_what_is_not_committed(broker: MemoryBroker) -> None:
    first = await Member(broker).start()
    assert first.assignments == [{T0, T1}]
    await append(broker, b"1", b"2", b"3")
    assert len(await first.poll()) == 3
    assert await first.consumer.commit({T0: 1})
    second = await Member(broker).start()
    assert first.assignments[-1] | second.assignments[-1] == {T0, T1}
    assert not first.assignments[-1] & second.assignments[-1]
    assert await first.poll() == [(0, b"2"), (0, b"3")], "redelivered though it kept the partition"


async def test_a_leave_hands_over(broker: MemoryBroker) -> None:
    first, second = await Member(broker).start(), await Member(broker).start()
    await second.consumer.stop()
    assert first.assignments[-1] == {T0, T1}
    await second.consumer.stop()
    assert await second.consumer.poll([T0], 1, 0) == {}


async def test_a_poll_ends_when_its_partitions_are_taken(broker: MemoryBroker) -> None:
    first = await Member(broker).start()
    polling = asyncio.ensure_future(first.poll(timeout_s=60))
    await settle()
    await Member(broker).start()
    assert await asyncio.wait_for(polling, 5) == []


async def test_a_poll_that_meets_a_rebalance_takes_nothing_it_does_not_return(broker: MemoryBroker) -> None:
    first = await Member(broker).start()
    polling = asyncio.ensure_future(first.poll(timeout_s=60))
    await settle()
    await append(broker, b"1")
    broker.rebalance("g")
    assert await asyncio.wait_for(polling, 5) + await first.poll() == [(0, b"1")]


async def test_only_an_owner_commits(broker: MemoryBroker) -> None:
    first = await Member(broker).start()
    second = await Member(broker).start()
    (mine,) = first.assignments[-1]
    (other,) = second.assignments[-1]
    assert await first.consumer.commit({mine: 1})
    assert not await first.consumer.commit({mine: 2, other: 2})
    assert broker.committed("g", mine) == 1
    assert broker.committed("g", other) is None
    await first.consumer.stop()
    assert not await first.consumer.commit({mine: 2})


async def test_more_partitions_than_before(broker: MemoryBroker) -> None:
    member = await Member(broker).start()
    broker.create_topic("t", 4)
    assert member.assignments[-1] == {T0, T1, T2, T3}
    await append(broker, b"new", partition=3)
    assert await member.poll() == [(3, b"new")]


async def test_groups_do_not_disturb_each_other(broker: MemoryBroker) -> None:
    await append(broker, b"1")
    one = await Member(broker).start()
    other = MemoryConsumer(broker, "g2", ["t"])
    seen: list[Collection[Partition]] = []
    await other.start(seen.append)
    assert len(one.assignments) == 1
    assert await one.poll() == [(0, b"1")]
    assert len((await other.poll([T0], 10, 0))[T0]) == 1


async def test_a_member_gets_only_its_topics(broker: MemoryBroker) -> None:
    broker.create_topic("u", 1)
    one, both = await Member(broker, "t").start(), await Member(broker, "t", "u").start()
    assert ("u", 0) in both.assignments[-1]
    assert one.assignments[-1] | both.assignments[-1] == {T0, T1, ("u", 0)}


async def test_lag_counts_to_the_end(broker: MemoryBroker) -> None:
    member = await Member(broker).start()
    await append(broker, b"1", b"2", b"3")
    assert [member.consumer.lag(T0, offset) for offset in (0, 2, 3, 9)] == [3, 1, 0, 0]


async def test_truncation_keeps_offsets(broker: MemoryBroker) -> None:
    member = await Member(broker).start()
    await append(broker, b"1", b"2", b"3")
    broker.truncate(T0, 2)
    assert broker.ends("t")[T0] == (2, 3)
    assert await member.poll() == [(0, b"3")], "a reset to the earliest record"
    broker.truncate(T0, 99)
    await append(broker, b"4")
    assert broker.ends("t")[T0] == (3, 4)
    assert await member.poll() == [(0, b"4")]


async def test_a_broker_that_is_down(broker: MemoryBroker) -> None:
    member = await Member(broker).start()
    await append(broker, b"1")
    broker.down = True
    with pytest.raises(BrokerUnavailable):
        await append(broker, b"2")
    with pytest.raises(BrokerUnavailable):
        await Member(broker).start()
    assert await member.poll() == []
    assert not await member.consumer.commit({T0: 1})
    broker.down = False
    assert await member.poll() == [(0, b"1")]
