"""Records in forms that a client of ours would never send: each costs nobody anything but itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.broker_harness import KafkaHarness, Member
from tests.support.raw_batches import append_raw, batch_of, with_bad_header
from tests.support.stacks import Servers
from yadtq.runtime.seams import OutRecord, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.kafka_server import KafkaServer


@pytest.mark.parametrize("codec", [1, 2, 3, 4], ids=["gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_is_read(stack: Servers, app_name: str, codec: int) -> None:
    harness = KafkaHarness(stack, app_name)
    await harness.process().provision(["default"])
    topic = harness.names.tasks("default")
    await append_raw(stack.clients, topic, 0, batch_of(b"a" * 500, b"b", codec=codec))
    member = await Member(harness).start()
    try:
        await member.until(lambda: len(member.records) == 2)
        assert member.values == [b"a" * 500, b"b"]
    finally:
        await member.consumer.stop()


@pytest.mark.smoke
async def test_a_batch_that_can_not_be_read_is_stepped_over(stack: Servers, app_name: str) -> None:
    """In the middle of one partition, with records before, behind and in the other partition."""
    harness = KafkaHarness(stack, app_name)
    broker = harness.process()
    await broker.provision(["default"])
    topic = harness.names.tasks("default")
    producer = broker.producer()
    await producer.start()
    member = await Member(harness).start()
    try:
        await producer.append([OutRecord(topic, b"before", partition=0), OutRecord(topic, b"beside", partition=1)])
        await append_raw(stack.clients, topic, 0, with_bad_header(b"odd-1", b"odd-2"))
        await producer.append([OutRecord(topic, b"behind", partition=0), OutRecord(topic, b"beside-2", partition=1)])
        await member.until(lambda: len(member.records) == 6)
        places = {record.value: record.partition for record in member.records}
        assert places == {b"before": 0, b"odd-1": 0, b"odd-2": 0, b"behind": 0, b"beside": 1, b"beside-2": 1}
        assert [record.offset for record in member.records if record.partition == 0] == [0, 1, 2, 3]
        assert await member.consumer.commit({(topic, 0): 4, (topic, 1): 2})
    finally:
        await member.consumer.stop()
        await producer.stop()


async def test_the_heartbeats_behind_an_odd_record_are_seen(stack: Servers, app_name: str) -> None:
    harness = KafkaHarness(stack, app_name)
    broker = harness.process()
    await broker.provision([])
    topic = harness.names.heartbeats
    producer = broker.producer()
    await producer.start()
    try:
        async with broker.tail(topic) as tail:
            await append_raw(stack.clients, topic, 0, with_bad_header(b"odd", key=b"k"))
            await producer.append([OutRecord(topic, b"beat", b"k")])
            async for record in tail:
                if record.value == b"beat":
                    break
        values = [record.value for record in await broker.recent(topic, 60)]
        assert values[-1] == b"beat"
        assert not [record for record in await broker.recent(topic, 60) if isinstance(record, Unreadable)]
    finally:
        await producer.stop()


@pytest.mark.kafka
@pytest.mark.slow
async def test_a_batch_that_is_damaged_on_the_brokers_disk_is_kept_as_bytes(
    kafka_server: Callable[..., KafkaServer], app_name: str
) -> None:
    kafka = kafka_server()
    await kafka.start()
    harness = KafkaHarness(Servers(kafka.address, "redis://127.0.0.1:1/0", "kafka"), app_name)
    broker = harness.process()
    await broker.provision(["default"])
    topic = harness.names.tasks("default")
    producer = broker.producer()
    await producer.start()
    for value in (b"before", b"to be damaged", b"behind"):
        await producer.append([OutRecord(topic, value, partition=0)])
    await producer.append([OutRecord(topic, b"beside", partition=1)])
    await producer.stop()
    await kafka.stop()  # a clean one, after which a broker does not check its logs
    (segment,) = kafka.directory.glob(f"data/{topic}-0/*.log")
    segment.write_bytes(segment.read_bytes().replace(b"to be damaged", b"to be dbmaged"))
    await kafka.start()
    member = await Member(harness).start()
    try:
        await member.until(lambda: len(member.records) == 4)
        found = [record for record in member.records if record.partition == 0]
        assert [record.offset for record in found] == [0, 1, 2]
        assert [found[0].value, found[2].value] == [b"before", b"behind"]
        lost = found[1]
        assert isinstance(lost, Unreadable)
        assert "checksum" in lost.reason
        assert b"to be dbmaged" in (lost.value or b"")
    finally:
        await member.consumer.stop()
