"""The group-less reader: from its starting point on nothing is missed, whatever happens to its consumer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from tests.support.poll import eventually
from tests.support.ports import reserve_port
from yadtq.broker.connecting import connection_options
from yadtq.broker.producer import KafkaProducer
from yadtq.broker.tail import Tail, read_recent
from yadtq.broker.topics import provision
from yadtq.errors import BrokerUnavailable
from yadtq.runtime.seams import OutRecord
from yadtq.settings import Settings
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.kafka_server import KafkaServer
    from tests.support.stacks import Servers


@pytest.fixture
def settings(stack: Servers) -> Settings:
    return Settings.load(kafka=stack.kafka, redis=stack.redis)


@pytest.fixture
async def topic(settings: Settings, app_name: str) -> str:
    """With four partitions."""
    names = TopicNames(app_name)
    await provision(settings, names, ["default"])
    return names.tasks("default")


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[KafkaProducer]:
    producer = KafkaProducer(settings)
    await producer.start()
    yield producer
    await producer.stop()


async def append(producer: KafkaProducer, topic: str, *values: str, partition: int | None = None) -> None:
    await producer.append([OutRecord(topic, value.encode(), key=b"any", partition=partition) for value in values])


async def take(tail: Tail, count: int) -> list[str]:
    found: list[str] = []
    async with asyncio.timeout(30):
        async for record in tail:
            found.append((record.value or b"").decode())
            if len(found) == count:
                break
    return found


@pytest.mark.smoke
async def test_it_reads_every_partition_from_the_end(settings: Settings, topic: str, producer: KafkaProducer) -> None:
    await append(producer, topic, "old", "older")
    async with Tail(settings, topic) as tail:
        for partition in range(4):
            await append(producer, topic, f"new-{partition}", partition=partition)
        assert sorted(await take(tail, 4)) == ["new-0", "new-1", "new-2", "new-3"]


@pytest.mark.smoke
async def test_it_can_begin_a_while_ago(settings: Settings, topic: str, producer: KafkaProducer) -> None:
    await append(producer, topic, "old")
    async with Tail(settings, topic, since_s=60) as tail:
        await append(producer, topic, "new")
        assert sorted(await take(tail, 2)) == ["new", "old"]


async def test_a_lost_consumer_is_replaced_where_it_stopped(
    settings: Settings, topic: str, producer: KafkaProducer
) -> None:
    async with Tail(settings, topic) as tail:
        await append(producer, topic, "1", partition=0)
        assert await take(tail, 1) == ["1"]
        assert tail._consumer is not None
        await tail._consumer.stop()
        await append(producer, topic, "2", "3", partition=0)
        assert await take(tail, 2) == ["2", "3"]


async def test_a_dead_fetcher_is_noticed_by_its_silence(
    settings: Settings, topic: str, producer: KafkaProducer
) -> None:
    async with Tail(settings, topic, stall_s=0.5) as tail:
        assert tail._consumer is not None
        # What a bug in the client does: the fetch task is gone, getmany returns nothing and raises nothing.
        tail._consumer._fetcher._fetch_task.cancel()
        await append(producer, topic, "1")
        assert await take(tail, 1) == ["1"]


async def test_added_partitions_are_read_from_their_start(
    settings: Settings, topic: str, producer: KafkaProducer
) -> None:
    async with Tail(settings, topic) as tail:
        admin = AIOKafkaAdminClient(**connection_options(settings))
        await admin.start()
        await admin.create_partitions({topic: NewPartitions(5)})
        await admin.close()

        async def noticed() -> bool:
            assert tail._consumer is not None
            await tail._consumer._client.force_metadata_update()  # else it happens within metadata_max_age_ms
            await append(producer, topic, "first", partition=4)
            return len(tail._positions) == 5

        await eventually(noticed, what="the fifth partition")
        assert (await take(tail, 1)) == ["first"]


async def test_a_slow_reader_keeps_the_newest(settings: Settings, topic: str, producer: KafkaProducer) -> None:
    async with Tail(settings, topic, buffer=3) as tail:
        await append(producer, topic, *map(str, range(10)), partition=0)
        await eventually(lambda: 10 in tail._positions.values(), what="all to be read")
        assert await take(tail, 3) == ["7", "8", "9"]


async def test_stop_ends_the_iteration(settings: Settings, topic: str) -> None:
    async with Tail(settings, topic) as tail:
        asyncio.get_running_loop().call_soon(tail.stop)
        assert [record async for record in tail] == []


@pytest.mark.smoke
async def test_recent_records_are_read_up_to_the_end(settings: Settings, topic: str, producer: KafkaProducer) -> None:
    values = [str(number) for number in range(100)]
    await append(producer, topic, *values)
    found = await read_recent(settings, topic, since_s=60, timeout_s=10)
    assert sorted(int(record.value or b"") for record in found) == list(range(100))


async def test_an_empty_topic_has_no_recent_records(settings: Settings, topic: str) -> None:
    assert await read_recent(settings, topic, since_s=60, timeout_s=10) == []


async def test_an_unreachable_broker_is_a_typed_error_in_time() -> None:
    settings = Settings.load(kafka=f"127.0.0.1:{reserve_port()}", connect_timeout_s=1)
    async with asyncio.timeout(8):
        with pytest.raises(BrokerUnavailable, match="some-topic"):
            await read_recent(settings, "some-topic", since_s=60, timeout_s=1)
        with pytest.raises(BrokerUnavailable, match="some-topic"):
            async with Tail(settings, "some-topic"):
                pass


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize("outage", ["kill", "freeze"])
async def test_it_ends_in_time_while_kafka_is_away(
    kafka_server: Callable[..., KafkaServer], app_name: str, outage: str
) -> None:
    kafka = kafka_server()
    await kafka.start()
    settings, names = Settings.load(kafka=kafka.address), TopicNames(app_name)
    await provision(settings, names, [])
    clock = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        async with Tail(settings, names.heartbeats) as tail:
            await getattr(kafka, outage)()
            if outage == "kill":  # until it has noticed: then its fetcher sleeps between two tries
                await eventually(lambda: tail._consumer and not tail._consumer._client._conns, what="the cut")
            begun = clock.time()
        assert clock.time() - begun < 8
    await kafka.thaw()


@pytest.mark.kafka
@pytest.mark.slow
async def test_it_goes_on_after_a_broker_restart(kafka_server: Callable[..., KafkaServer], app_name: str) -> None:
    kafka = kafka_server()
    await kafka.start()
    settings, names = Settings.load(kafka=kafka.address), TopicNames(app_name)
    await provision(settings, names, [])
    producer = KafkaProducer(settings)
    await producer.start()
    try:
        async with Tail(settings, names.heartbeats) as tail:
            await append(producer, names.heartbeats, "before")
            assert await take(tail, 1) == ["before"]
            await kafka.stop()
            await kafka.start()
            await append(producer, names.heartbeats, "after")
            assert await take(tail, 1) == ["after"]
    finally:
        await producer.stop()
