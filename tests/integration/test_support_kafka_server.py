"""The launcher against real Apache Kafka: every fault a chaos test may ask for, seen through aiokafka."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.kafka_server import KafkaServer

pytestmark = pytest.mark.kafka

TOPIC = "t"


async def create_topic(address: str, partitions: int = 1) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, partitions, 1)])
    finally:
        await admin.close()


@asynccontextmanager
async def producer(address: str) -> AsyncIterator[AIOKafkaProducer]:
    sender = AIOKafkaProducer(bootstrap_servers=address, acks="all", request_timeout_ms=3_000)
    await sender.start()
    try:
        yield sender
    finally:
        await sender.stop()


async def read_all(address: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(TOPIC, 0)])
        async with asyncio.timeout(15):
            return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def test_records_survive_restart_and_kill_on_the_same_port(kafka_server: Callable[..., KafkaServer]) -> None:
    kafka = kafka_server()
    await kafka.start()
    address = kafka.address
    await create_topic(address)
    async with producer(address) as sender:
        await sender.send_and_wait(TOPIC, b"before restart")
    await kafka.restart()
    async with producer(address) as sender:
        await sender.send_and_wait(TOPIC, b"before kill")
    await kafka.kill()
    assert not kafka.running
    await kafka.start()
    assert kafka.address == address
    assert await read_all(address, 2) == [b"before restart", b"before kill"]


async def test_committed_offsets_survive_a_kill(kafka_server: Callable[..., KafkaServer]) -> None:
    kafka = kafka_server()
    await kafka.start()
    await create_topic(kafka.address)
    place = TopicPartition(TOPIC, 0)

    @asynccontextmanager
    async def member() -> AsyncIterator[AIOKafkaConsumer]:
        # One second: below the default minimum of a broker, which test settings lower.
        consumer = AIOKafkaConsumer(
            TOPIC,
            bootstrap_servers=kafka.address,
            group_id="g",
            enable_auto_commit=False,
            session_timeout_ms=1_000,
            heartbeat_interval_ms=300,
        )
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()

    async with producer(kafka.address) as sender:
        await sender.send_and_wait(TOPIC, b"x")
    async with member() as consumer:
        await consumer.commit({place: 1})
    await kafka.kill()
    await kafka.start()
    async with member() as consumer:
        assert await consumer.committed(place) == 1


async def test_a_frozen_broker_answers_nothing_and_everything_after_the_thaw(
    kafka_server: Callable[..., KafkaServer],
) -> None:
    kafka = kafka_server()
    await kafka.start()
    await create_topic(kafka.address)
    async with producer(kafka.address) as sender:
        await sender.send_and_wait(TOPIC, b"1")
        await kafka.freeze()
        sending = asyncio.ensure_future(sender.send_and_wait(TOPIC, b"2"))
        done, _ = await asyncio.wait([sending], timeout=0.5)
        assert not done
        await kafka.thaw()
        await sending
    await kafka.freeze()
    await kafka.stop()  # a frozen server must still stop cleanly
    assert not kafka.running


async def test_the_loop_runs_on_while_the_broker_restarts(kafka_server: Callable[..., KafkaServer]) -> None:
    kafka = kafka_server()
    await kafka.start()
    ticks, longest, last = 0, 0.0, time.monotonic()
    restarting = asyncio.create_task(kafka.restart())
    while not restarting.done():
        await asyncio.wait([restarting], timeout=0.01)
        now = time.monotonic()
        ticks, longest, last = ticks + 1, max(longest, now - last), now
    await restarting
    assert ticks > 10
    assert longest < 0.5


async def test_unknown_topics_are_not_created(kafka_server: Callable[..., KafkaServer]) -> None:
    kafka = kafka_server()
    await kafka.start()
    async with producer(kafka.address) as sender:
        with pytest.raises(KafkaError):
            await asyncio.wait_for(sender.send_and_wait("no-such-topic", b"x"), 10)


async def test_a_listener_behind_a_proxy_is_cut_alone(kafka_server: Callable[..., KafkaServer]) -> None:
    kafka = kafka_server()
    async with Proxy(kafka.host, kafka.add_listener("worker")) as proxy:
        kafka.advertise("worker", proxy.address)
        await kafka.start()
        await create_topic(kafka.address)
        async with producer(proxy.address) as cut_off, producer(kafka.address) as other:
            await cut_off.send_and_wait(TOPIC, b"1")
            # The bootstrap connection and the one to the advertised address: no traffic goes around the proxy.
            assert proxy.connections >= 2
            proxy.hold()
            sending = asyncio.ensure_future(cut_off.send_and_wait(TOPIC, b"3"))
            await other.send_and_wait(TOPIC, b"2")
            assert not sending.done()
            proxy.heal()
            await sending
        assert await read_all(kafka.address, 3) == [b"1", b"2", b"3"]
