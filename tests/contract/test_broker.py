"""What every broker under the core must do alike: the memory broker, the devbroker and Apache Kafka."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.contract.broker_harness import BrokerHarness, KafkaHarness, Member, MemoryHarness, together
from tests.support import stacks
from yadtq.errors import BrokerRefused, TopicMismatch
from yadtq.runtime.seams import OutRecord, Producer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from yadtq.runtime.seams import Broker, ConsumedRecord, Partition

BROKERS = ["memory", "embedded", "kafka"]


@pytest.fixture(params=BROKERS)
def harness(request: pytest.FixtureRequest, app_name: str) -> BrokerHarness:
    if request.param == "memory":
        return MemoryHarness(app_name)
    if not (found := stacks.available(request.param)):
        stacks.missing(found.reason)
    pool: stacks.StackPool = request.getfixturevalue("stack_pool")
    return KafkaHarness(pool.get(request.param), app_name)


@pytest.fixture
async def broker(harness: BrokerHarness) -> Broker:
    """Of one process, with the topic of queue "default" in two partitions."""
    broker = harness.process()
    await broker.provision(["default"])
    return broker


@pytest.fixture
def topic(harness: BrokerHarness, broker: Broker) -> str:
    """That exists."""
    return harness.names.tasks("default")


@pytest.fixture
async def producer(broker: Broker) -> AsyncIterator[Producer]:
    producer = broker.producer()
    await producer.start()
    yield producer
    await producer.stop()


@asynccontextmanager
async def members(harness: BrokerHarness, count: int = 1, *, static: bool = False) -> AsyncIterator[list[Member]]:
    """That many members with all partitions between them."""
    made = [Member(harness, instance_id=f"{harness.names.app}.slot-{n}" if static else None) for n in range(count)]
    try:
        for member in made:
            others = made[: made.index(member)]
            start = asyncio.ensure_future(member.start())
            await together(*others, until=start.done)
            await start
        await together(*made, until=lambda: is_dealt(made))
        yield made
    finally:
        for member in made:
            await member.consumer.stop()


def is_dealt(members: list[Member], partitions: int = 2) -> bool:
    return sum(len(member.assigned) for member in members) == partitions and all(m.assignments for m in members)


async def append(producer: Producer, topic: str, *values: bytes, partition: int = 0) -> None:
    await producer.append([OutRecord(topic, value, partition=partition) for value in values])


async def all_of(broker: Broker, topic: str, *partitions: int) -> list[ConsumedRecord]:
    return [record async for batch in broker.read(topic, dict.fromkeys(partitions or (0, 1), 0)) for record in batch]


# Producer


async def test_a_record_comes_as_it_was_sent(broker: Broker, producer: Producer, topic: str) -> None:
    await producer.append([OutRecord(topic, b"v", b"k", 1, [("h", b"x"), ("h", b"")])])
    (record,) = await all_of(broker, topic)
    assert (record.topic, record.partition, record.offset) == (topic, 1, 0)
    assert (record.key, record.value, list(record.headers)) == (b"k", b"v", [("h", b"x"), ("h", b"")])
    assert record.timestamp > 1_600_000_000_000


async def test_a_key_has_its_partition_and_the_rest_is_spread(broker: Broker, producer: Producer, topic: str) -> None:
    await producer.append([OutRecord(topic, b"", key) for key in [b"a", b"b", b"c", b"d"] * 5])
    found = await all_of(broker, topic)
    for key in (b"a", b"b", b"c", b"d"):
        assert len({record.partition for record in found if record.key == key}) == 1
    await producer.append([OutRecord(topic, b"plain") for _ in range(10)])
    plain = [record.partition for record in await all_of(broker, topic) if record.value == b"plain"]
    assert sorted(plain) == [0] * 5 + [1] * 5


async def test_one_record_that_is_refused_harms_no_other(
    harness: BrokerHarness, broker: Broker, producer: Producer, topic: str
) -> None:
    await harness.configure(topic, max_message_bytes="10000")
    records = [OutRecord(topic, b"%d" % n, partition=n % 2) for n in range(6)]
    records[2] = OutRecord(topic, b"x" * 20_000, partition=0)
    records[5] = OutRecord(topic, b"y" * 20_000, partition=1)
    with pytest.raises(BrokerRefused) as refused:
        await producer.append(records)
    assert set(refused.value.refused) == set(refused.value.too_large) == {2, 5}
    assert sorted(record.value or b"" for record in await all_of(broker, topic)) == [b"0", b"1", b"3", b"4"]


async def test_a_batch_over_the_limit_of_the_topic_goes_in_parts(
    harness: BrokerHarness, broker: Broker, producer: Producer, topic: str
) -> None:
    await harness.configure(topic, max_message_bytes="10000")
    values = [b"%04d" % n * 200 for n in range(100)]
    await append(producer, topic, *values)
    assert [record.value for record in await all_of(broker, topic)] == values


# TaskConsumer


async def test_the_assignment_is_told_before_any_record_of_it(
    harness: BrokerHarness, producer: Producer, topic: str
) -> None:
    await append(producer, topic, b"1")
    async with members(harness) as (member,):
        await member.until(lambda: member.records)
        assert member.assigned == {(topic, 0), (topic, 1)}
        assert not member.early
        identities = set(member.assignments[-1].values())
        assert len(identities) == 1
        assert identities != {""}


async def test_a_poll_takes_only_from_what_it_names_and_only_so_many(
    harness: BrokerHarness, producer: Producer, topic: str
) -> None:
    async with members(harness) as (member,):
        await append(producer, topic, b"1", b"2", b"3")
        await append(producer, topic, b"4", partition=1)
        await member.until_polled([(topic, 1)], 1)
        assert member.values == [b"4"]
        await member.until_polled([(topic, 0)], 2, most=2)
        assert member.values == [b"4", b"1", b"2"]
        assert await member.poll(partitions=[]) == 0, "none is none, and not all"
        assert await member.poll(0) == 0
        await member.until(lambda: len(member.records) == 4)
        assert member.values[-1] == b"3"
        assert await member.consumer.position((topic, 0)) == 3
        assert await member.consumer.position((topic, 7)) is None
        assert [member.consumer.lag((topic, 0), offset) for offset in (0, 2, 3, 9)] == [3, 1, 0, 0]


async def test_a_poll_wakes_on_an_append(harness: BrokerHarness, producer: Producer, topic: str) -> None:
    async with members(harness) as (member,):
        polling = asyncio.ensure_future(member.poll(seconds=15))
        await asyncio.sleep(0)
        await append(producer, topic, b"1")
        assert await asyncio.wait_for(polling, 10) == 1


async def test_what_is_not_committed_comes_again_after_a_rebalance(
    harness: BrokerHarness, producer: Producer, topic: str
) -> None:
    async with members(harness) as (first,):
        for partition in (0, 1):
            await append(producer, topic, b"1", b"2", b"3", partition=partition)
        await first.until(lambda: len(first.records) == 6)
        assert await first.consumer.commit({(topic, 0): 1, (topic, 1): 1})
        first.records.clear()
        second = Member(harness)
        start = asyncio.ensure_future(second.start())
        await first.until(start.done)
        try:
            await together(first, second, until=lambda: len(first.records) == len(second.records) == 2)
            assert first.values == second.values == [b"2", b"3"]
            assert first.assigned | second.assigned == {(topic, 0), (topic, 1)}
            assert len(first.assigned) == 1
        finally:
            await second.consumer.stop()
        await first.until(lambda: len(first.assigned) == 2)


async def test_a_last_commit_goes_with_the_partitions(harness: BrokerHarness, producer: Producer, topic: str) -> None:
    async with members(harness) as (first,):
        await append(producer, topic, b"1", b"2", b"3")
        await append(producer, topic, b"1", b"2", b"3", partition=1)
        await first.until(lambda: len(first.records) == 6)
        first.marks = {(topic, 0): 3, (topic, 1): 3}
        second = Member(harness)
        start = asyncio.ensure_future(second.start())
        await first.until(start.done)
        try:
            await append(producer, topic, b"4")
            await append(producer, topic, b"4", partition=1)
            await together(first, second, until=lambda: first.values[6:] and second.values)
            assert first.values[6:] == second.values == [b"4"]
        finally:
            await second.consumer.stop()


async def test_only_an_owner_commits(harness: BrokerHarness, producer: Producer, topic: str) -> None:
    await append(producer, topic, b"1", b"2", b"3")
    await append(producer, topic, b"1", b"2", b"3", partition=1)
    async with members(harness, 2) as (first, second):
        (mine,), (other,) = first.assigned, second.assigned
        assert await first.consumer.commit({mine: 1})
        assert not await first.consumer.commit({mine: 2, other: 2})
        assert await first.consumer.commit({})
    await first.consumer.stop()
    assert not await first.consumer.commit({mine: 3})
    async with members(harness) as (third,):
        await third.until(lambda: len(third.records) >= 4)
        offsets = sorted((record.partition, record.offset) for record in third.records)
        assert (other[1], 0) in offsets, "the other's offset was left alone"
        assert (mine[1], 0) not in offsets


async def test_a_static_member_comes_back_and_nobody_else_notices(
    harness: BrokerHarness, producer: Producer, topic: str
) -> None:
    async with members(harness, 2, static=True) as (first, second):
        told = len(first.assignments)
        await second.consumer.stop()  # of a static member: silence, as of a dead process
        successor = Member(harness, instance_id=f"{harness.names.app}.slot-1")
        await successor.start()
        try:
            await together(first, successor, until=lambda: successor.assigned)
            assert successor.assigned == second.assigned
            (place,) = successor.assigned
            await append(producer, topic, b"1", partition=place[1])
            await together(first, successor, until=lambda: successor.records)
            assert len(first.assignments) == told
        finally:
            await successor.consumer.stop()


async def test_a_silent_member_loses_its_place_after_its_session(harness: BrokerHarness, topic: str) -> None:
    async with members(harness, 2, static=True) as (first, second):
        await second.consumer.stop()
        await first.until(lambda: len(first.assigned) == 2, seconds=harness.session_s + 15)


async def test_a_member_that_is_sent_away_leaves_at_once(harness: BrokerHarness, broker: Broker, topic: str) -> None:
    async with members(harness, 2, static=True) as (first, second):
        await second.consumer.stop()
        app = harness.names.app
        await broker.leave([f"{app}.slot-1", f"{app}.never-there"], timeout_s=10)
        await first.until(lambda: len(first.assigned) == 2)
    await broker.leave([], timeout_s=10)


async def test_a_topic_that_is_made_again_is_another_log(
    harness: BrokerHarness, broker: Broker, producer: Producer, topic: str
) -> None:
    """Under a busy worker, and grown past its position before anybody looks: nothing of the new log may be missed."""
    await append(producer, topic, b"old-1", b"old-2")
    async with members(harness) as (member,):
        await member.until(lambda: len(member.records) == 2)
        assert await member.consumer.commit({(topic, 0): 2})
        told = member.assignments[-1]
        await harness.delete(topic)
        await broker.provision(["default"])
        values = [b"new-%d" % n for n in range(5)]
        await append(producer, topic, *values)
        # Members may see first that it is gone, and give its partitions up.
        await member.until(lambda: member.assignments[-1].keys() == told.keys() and member.assignments[-1] != told)
        assert set(member.assignments[-1].values()).isdisjoint(told.values())
        # What was handed out before the change was noticed comes again: the caller knows that it is another log.
        await member.until(lambda: values[-1] in member.fresh, seconds=15)
        assert member.fresh == values
        assert await member.consumer.commit({(topic, 0): 1})
    async with members(harness) as (successor,):
        await successor.until(lambda: len(successor.records) >= 4)
        assert successor.values == values[1:]


async def test_an_offset_of_a_log_that_is_no_more_counts_for_nothing(
    harness: BrokerHarness, broker: Broker, producer: Producer, topic: str
) -> None:
    await append(producer, topic, b"old-1", b"old-2")
    async with members(harness) as (member,):
        await member.until(lambda: len(member.records) == 2)
        assert await member.consumer.commit({(topic, 0): 2})
    await harness.delete(topic)
    await broker.provision(["default"])
    await append(producer, topic, b"new-1", b"new-2", b"new-3")
    async with members(harness) as (successor,):
        await successor.until(lambda: len(successor.records) >= 3)
        assert successor.values == [b"new-1", b"new-2", b"new-3"]


async def test_groups_do_not_disturb_each_other(harness: BrokerHarness, producer: Producer, topic: str) -> None:
    await append(producer, topic, b"1")
    async with members(harness) as (one,):
        other = type(harness.names)(f"{harness.names.app}-2")
        assert other.group != harness.names.group
        await one.until(lambda: one.records)
        assert len(one.assignments) == 1


# Tail, recent, read


async def take(records: object, count: int) -> list[bytes]:
    found: list[bytes] = []
    async with asyncio.timeout(20):
        async for record in records:  # type: ignore[attr-defined]
            found.append(record.value or b"")
            if len(found) == count:
                break
    return found


async def test_a_tail_reads_every_partition_from_the_end(broker: Broker, producer: Producer, topic: str) -> None:
    await append(producer, topic, b"old")
    async with broker.tail(topic) as tail:
        await append(producer, topic, b"new-0")
        await append(producer, topic, b"new-1", partition=1)
        assert sorted(await take(tail, 2)) == [b"new-0", b"new-1"]


async def test_a_tail_can_begin_a_while_ago(broker: Broker, producer: Producer, topic: str) -> None:
    await append(producer, topic, b"old")
    async with broker.tail(topic, since_s=60) as tail:
        await append(producer, topic, b"new")
        assert sorted(await take(tail, 2)) == [b"new", b"old"]


async def test_recent_records_are_read_up_to_the_end(broker: Broker, producer: Producer, topic: str) -> None:
    assert await broker.recent(topic, 60) == []
    await append(producer, topic, b"1", b"2")
    await append(producer, topic, b"3", partition=1)
    assert sorted(record.value or b"" for record in await broker.recent(topic, 60)) == [b"1", b"2", b"3"]


async def test_reading_begins_where_it_is_told(broker: Broker, producer: Producer, topic: str) -> None:
    await append(producer, topic, b"1", b"2", b"3")
    await append(producer, topic, b"4", partition=1)
    found = [record.value async for batch in broker.read(topic, {0: 1}) for record in batch]
    assert found == [b"2", b"3"]


# Provision, truncate


async def test_provisioning_again_changes_nothing(broker: Broker, producer: Producer, topic: str) -> None:
    await append(producer, topic, b"1")
    await broker.provision(["default", "mail"])
    await broker.provision(["default"], 1)
    assert len(await all_of(broker, topic)) == 1


async def test_a_topic_grows_and_its_readers_get_the_new_partitions(
    harness: BrokerHarness, broker: Broker, producer: Producer, topic: str
) -> None:
    await broker.provision(["default"], 4)
    async with members_of_four(harness) as member:
        assert member.assigned == {(topic, number) for number in range(4)}


@asynccontextmanager
async def members_of_four(harness: BrokerHarness) -> AsyncIterator[Member]:
    member = await Member(harness).start()
    try:
        await member.until(lambda: len(member.assigned) == 4)
        yield member
    finally:
        await member.consumer.stop()


@pytest.mark.parametrize("wrong", ["retention_ms=1000", "retention_bytes=1000", "cleanup_policy=compact"])
async def test_a_topic_that_would_lose_tasks_is_refused(
    harness: BrokerHarness, broker: Broker, topic: str, wrong: str
) -> None:
    name, _, value = wrong.partition("=")
    await harness.configure(topic, **{name: value})
    with pytest.raises(TopicMismatch, match=name.replace("_", ".")):
        await broker.provision(["default"])


async def test_what_nobody_has_set_is_set(harness: BrokerHarness, broker: Broker, producer: Producer) -> None:
    """As where the broker makes a topic by itself, when somebody asks for it: one partition, records for a week."""
    topic = harness.names.tasks("mail")
    await harness.create(topic)
    await append(producer, topic, b"1")
    await broker.provision(["mail"])
    assert (await harness.config(topic))["retention.ms"] == "-1"
    assert [record.value for record in await all_of(broker, topic)] == [b"1"]


async def test_truncation_cuts_off_what_all_groups_have_committed(
    harness: BrokerHarness, broker: Broker, producer: Producer, topic: str
) -> None:
    places: list[Partition] = [(topic, 0), (topic, 1)]
    group = harness.names.group
    assert await broker.truncate([group], places) == {}
    await append(producer, topic, b"1", b"2", b"3")
    async with members(harness) as (member,):
        await member.until(lambda: len(member.records) == 3)
        assert await member.consumer.commit({(topic, 0): 2})
        assert await broker.truncate([group, "another"], places) == {}
        assert await broker.truncate([group], places) == {(topic, 0): 2}
        assert [record.offset for record in await all_of(broker, topic)] == [2]


async def test_the_backlog_is_what_is_not_committed(
    harness: BrokerHarness, broker: Broker, producer: Producer, topic: str
) -> None:
    backlog = await broker.backlog()
    assert {place: found.records for place, found in backlog.items()} == {(topic, 0): 0, (topic, 1): 0}
    assert all(found.oldest_ms is None for found in backlog.values())
    await append(producer, topic, b"1", b"2", b"3")
    first, second, third = (record.timestamp for record in await all_of(broker, topic))
    assert (await broker.backlog())[topic, 0] == (3, first)
    async with members(harness) as (member,):
        await member.until(lambda: len(member.records) == 3)
        assert await member.consumer.commit({(topic, 0): 2})
        assert await broker.backlog() == {(topic, 0): (1, third), (topic, 1): (0, None)}
    assert first <= second <= third
