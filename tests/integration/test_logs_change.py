"""What an operator does to topics under running workers is noticed, and said."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from tests.contract.broker_harness import KafkaHarness, Member, settings
from tests.support.poll import eventually
from yadtq import Yadtq
from yadtq.broker.connecting import connection_options
from yadtq.broker.topics import check_topics
from yadtq.errors import SubmitError, SubmitRefused
from yadtq.runtime.seams import OutRecord

if TYPE_CHECKING:
    from tests.support.stacks import Servers


async def delete_before(kafka: str, topic: str, offset: int) -> None:
    admin = AIOKafkaAdminClient(**connection_options(settings(kafka=kafka)))
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(offset)})
    finally:
        await admin.close()


async def test_records_that_were_deleted_unread_are_an_error(
    stack: Servers, app_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    harness = KafkaHarness(stack, app_name)
    broker = harness.process()
    await broker.provision(["default"])
    topic = harness.names.tasks("default")
    producer = broker.producer()
    await producer.start()
    member = await Member(harness).start()
    try:
        await producer.append([OutRecord(topic, b"%d" % n, partition=0) for n in range(3)])
        await member.until(lambda: len(member.records) == 3)
        assert await member.consumer.commit({(topic, 0): 3})
        # Not polled meanwhile, as by a worker that has no room.
        await producer.append([OutRecord(topic, b"%d" % n, partition=0) for n in range(3, 9)])
        await delete_before(stack.kafka, topic, 7)
        await eventually(lambda: "from 3 to 6 were deleted" in caplog.text, timeout=20, what="the error line")
        await member.until(lambda: len(member.records) >= 5)
        assert {b"7", b"8"} <= set(member.values)
    finally:
        await member.consumer.stop()
        await producer.stop()


async def test_a_limit_that_somebody_sets_is_found(stack: Servers, app_name: str) -> None:
    harness = KafkaHarness(stack, app_name)
    await harness.process().provision(["default"])
    topic = harness.names.tasks("default")
    mine = settings(kafka=stack.kafka)
    assert await check_topics(mine, [topic]) == []
    await harness.configure(topic, retention_ms="1000")
    (problem,) = await check_topics(mine, [topic])
    assert "retention.ms=1000" in problem


async def test_a_task_that_the_topic_does_not_take_is_refused_and_its_neighbours_are_not(
    stack: Servers, app_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = Yadtq(app_name, kafka=stack.kafka, redis=stack.redis)

    @app.task
    async def store(text: str) -> None: ...

    harness = KafkaHarness(stack, app_name)
    await harness.process().provision(["default"])
    await harness.configure(harness.names.tasks("default"), max_message_bytes="20000")
    async with app.client() as client:
        assert "max.message.bytes" in caplog.text, "told at the start"
        good = [client.submit(store, "x") for _ in range(20)]
        bad = client.submit(store, "x" * 30_000)
        outcomes = await asyncio.gather(*good, bad, return_exceptions=True)
        assert not [outcome for outcome in outcomes[:-1] if isinstance(outcome, BaseException)]
        assert isinstance(outcomes[-1], SubmitRefused)
        with pytest.raises(SubmitRefused) as refused:
            await client.submit_many(store, [("small",), ("y" * 30_000,), ("small",)])
        assert len(refused.value.task_ids) == 1
        assert isinstance(refused.value, SubmitError)


async def test_tasks_may_be_as_large_as_the_setting_says(stack: Servers, app_name: str) -> None:
    app = Yadtq(app_name, kafka=stack.kafka, redis=stack.redis, max_task_bytes=3_000_000)

    @app.task
    async def store(text: str) -> None: ...

    async with app.client() as client:
        await client.submit(store, "x" * 2_500_000)
        await client.submit_many(store, [("x" * 2_500_000,), ("y",)])
