"""What only the memory broker can do on call; what it has in common with Kafka is tests/contract/test_broker.py."""

from __future__ import annotations

import asyncio

import pytest

from yadtq.errors import BrokerUnavailable
from yadtq.runtime.seams import OutRecord, Partition, Unreadable
from yadtq.settings import Settings
from yadtq.testing.doubles import ManualClock, MemoryBroker, MemoryConsumer
from yadtq.wire.names import TopicNames

NAMES = TopicNames("shop")
TOPIC = NAMES.tasks("default")
PLACE: Partition = (TOPIC, 0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def cluster(clock: ManualClock) -> MemoryBroker:
    cluster = MemoryBroker(clock)
    await cluster.for_app(NAMES, Settings.load(num_partitions=2)).provision(["default"])
    return cluster


def consumer(cluster: MemoryBroker, instance_id: str | None = None) -> MemoryConsumer:
    return cluster.for_app(NAMES).consumer([TOPIC], instance_id=instance_id)


async def append(cluster: MemoryBroker, *values: bytes, key: bytes | None = None) -> None:
    await cluster.producer().append([OutRecord(TOPIC, value, key, 0) for value in values])


async def test_a_damaged_record_is_one_that_can_not_be_read(cluster: MemoryBroker) -> None:
    await append(cluster, b"1", b"2", b"3")
    cluster.damage(PLACE, 1, "a wrong checksum")
    member = consumer(cluster)
    await member.start(lambda assignment: None)
    records = (await member.poll(None, 10, 1))[PLACE]
    lost = records[1]
    assert isinstance(lost, Unreadable)
    assert (lost.offset, lost.next, lost.reason, lost.value) == (1, 2, "a wrong checksum", b"2")
    assert [record.value for record in records] == [b"1", b"2", b"3"]
    await member.stop()


async def test_compaction_keeps_the_last_of_each_key(cluster: MemoryBroker) -> None:
    await append(cluster, b"1", b"2", key=b"a")
    await append(cluster, b"3", key=b"b")
    await cluster.producer().append([OutRecord(TOPIC, None, b"b", 0)])
    cluster.compact(TOPIC)
    assert [(record.offset, record.value) for record in cluster.records(TOPIC)] == [(1, b"2")]
    assert cluster.ends(TOPIC)[PLACE] == (0, 4)
    broker = cluster.for_app(NAMES)
    assert [record.offset async for batch in broker.read(TOPIC, {0: 0}) for record in batch] == [1]


async def test_a_cluster_that_is_down(cluster: MemoryBroker, clock: ManualClock) -> None:
    member = consumer(cluster)
    await member.start(lambda assignment: None)
    await append(cluster, b"1")
    cluster.down = True
    with pytest.raises(BrokerUnavailable) as error:
        await append(cluster, b"2")
    assert error.value.uncertain == frozenset({0})
    with pytest.raises(BrokerUnavailable):
        await consumer(cluster).start(lambda assignment: None)
    assert await member.poll(None, 10, 0) == {}
    assert not await member.commit({PLACE: 1})
    clock.advance(3600)  # no session ends while nobody can beat
    cluster.down = False
    assert len((await member.poll(None, 10, 1))[PLACE]) == 1
    assert await member.commit({PLACE: 1})
    await member.stop()


async def test_a_member_that_died_loses_its_place_on_the_clock(cluster: MemoryBroker, clock: ManualClock) -> None:
    told: list[set[Partition]] = []
    staying, dying = consumer(cluster, "a"), consumer(cluster, "b")
    await staying.start(lambda assignment: told.append(set(assignment)))
    await dying.start(lambda assignment: None)
    dying.die()
    assert len(told[-1]) == 1
    clock.advance(6)
    cluster.wake()
    await asyncio.sleep(0)
    assert len(told[-1]) == 1
    clock.advance(3)
    cluster.wake()
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(told[-1]) == 2
    await staying.stop()


async def test_a_commit_of_before_a_rebalance_is_fenced(cluster: MemoryBroker) -> None:
    member = consumer(cluster)
    await member.start(lambda assignment: None)
    await append(cluster, b"1")
    assert (await member.poll(None, 10, 1))[PLACE]
    group = cluster.group(NAMES.group)
    group.prepare()
    for member_id in group.members:
        group.rejoin(cluster.now(), member_id)
    assert group.complete(cluster.logs)  # the member has not heard of it yet
    assert not await member.commit({PLACE: 1})
    assert cluster.committed(NAMES.group, PLACE) is None
    await member.stop()
