"""Bugs that the mix of faults has found, each in the smallest world that shows it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from tests.support.outside import memory_outside
from tests.support.poll import eventually
from yadtq.broker import consumer as consumers
from yadtq.broker import producer as producers
from yadtq.broker.topics import provision
from yadtq.client.waiters import Waiters
from yadtq.embedded import EmbeddedStack
from yadtq.errors import BrokerUnavailable, ResultLost
from yadtq.runtime.clock import SystemClock
from yadtq.runtime.seams import OutRecord
from yadtq.settings import Settings
from yadtq.store.tasks.verbs import Claim, Finish
from yadtq.testing.doubles import ManualClock, MemoryStore
from yadtq.wire.names import TopicNames
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from yadtq.runtime.seams import Partition

NAMES = TopicNames("found")
TOPIC = NAMES.tasks("default")


@pytest.fixture
async def broker() -> AsyncIterator[tuple[EmbeddedStack, Settings]]:
    async with EmbeddedStack() as stack:
        settings = Settings.load(**stack.settings, kafka_request_timeout_s=1)
        await provision(settings, NAMES, ["default"])
        yield stack, settings


async def test_a_producer_that_is_replaced_leaves_nothing_behind(
    broker: tuple[EmbeddedStack, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender and its connections went on for ever, and errors of its batches were reported as nobody's."""
    monkeypatch.setattr(producers, "_FLUSH_S", 0.2)
    stack, settings = broker
    producer = producers.KafkaProducer(settings, timeout_s=0.3)
    await producer.start()
    records = [OutRecord(TOPIC, b"task") for _ in range(10)]
    failures = 0
    try:
        stack.broker.freeze()
        while failures < 5:  # the first may still be answered
            try:
                await producer.append(records)
            except BrokerUnavailable:
                failures += 1
        stack.broker.thaw()
        await eventually(lambda: appended(producer, records), what="the next producer")
    finally:
        await producer.stop()
    # The fixtures of every test fail it for tasks left running and for errors that nobody has looked at.


async def appended(producer: producers.KafkaProducer, records: list[OutRecord]) -> bool:
    await producer.append(records)
    return True


async def test_a_commit_that_is_late_is_nobodys_lost_error(
    broker: tuple[EmbeddedStack, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "_COMMIT_TIMEOUT_S", 0.2)
    stack, settings = broker
    assigned: list[Collection[Partition]] = []
    consumer = consumers.KafkaTaskConsumer(settings, NAMES.group, [TOPIC], clock=SystemClock())
    await consumer.start(assigned.append, dict)
    await eventually(lambda: [len(partitions) for partitions in assigned] == [settings.num_partitions])
    try:
        stack.broker.freeze()
        offsets = iter(range(1, 1000))

        async def is_late() -> bool:
            return not await consumer.commit({(TOPIC, 0): next(offsets)})

        await eventually(is_late, what="the broker to stand still")
        assert await is_late()
        assert await is_late()
        await stack.broker.kill()
        assert await is_late()
    finally:
        await consumer.stop()


async def test_a_task_submitted_in_an_outage_long_after_a_loss_of_data_is_not_called_lost() -> None:
    """Its QUEUED record comes late, and until then Redis knows nothing of it: once, that was taken for the old loss."""
    clock, settings = ManualClock(), Settings.load()
    store = MemoryStore(clock, random.Random(1), settings)
    waiters = Waiters(memory_outside(clock=clock, store=store), settings)
    old = asyncio.create_task(waiters.final("old"))
    await eventually(lambda: len(waiters) == 1)
    await waiters._recheck()
    store.flush()
    for _ in range(3):
        await waiters._recheck()
        clock.advance(30)
    with pytest.raises(ResultLost):
        await old
    new = asyncio.create_task(waiters.final("new"))
    await eventually(lambda: len(waiters) == 1)
    await waiters._recheck()
    await store.tasks.claim("w", [Claim("new", "n")], 0)
    assert await store.tasks.finish([Finish("new", "n", 1, TaskStatus.SUCCESS, b"5")]) == [True]
    await waiters._recheck()
    assert (await new).payload == b"5"
