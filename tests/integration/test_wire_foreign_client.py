"""Another Kafka client submits by the documented format (docs/wire-format.md), and reads the group's offsets."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.support.apps import make_app, running
from tests.support.poll import eventually
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from tests.support.stacks import Servers


def produce(kafka: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": kafka})
    errors: list[object] = []

    def delivered(error: object, _: object) -> None:
        if error:
            errors.append(error)

    for value in values:
        producer.produce(topic, value, on_delivery=delivered)
    assert producer.flush(20) == 0
    assert errors == []


def offsets(kafka: str, group: str, topic: str, partitions: int) -> tuple[list[int], list[int]]:
    """Committed by the group, and ends."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": group, "enable.auto.commit": False})
    try:
        places = [TopicPartition(topic, number) for number in range(partitions)]
        committed = [max(0, place.offset) for place in consumer.committed(places, timeout=20)]
        return committed, [consumer.get_watermark_offsets(place, timeout=20)[1] for place in places]
    finally:
        consumer.close()


@pytest.mark.smoke
async def test_the_least_record_runs_and_all_is_committed_after_a_drain(stack: Servers, app_name: str) -> None:
    stack.only_plain()
    app = make_app(stack, app_name, num_partitions=3)

    @app.task
    async def addition(x: int, y: int) -> int:
        return x + y

    topic = f"yadtq.{app_name}.tasks.default"
    least = [{"v": 1, "id": f"foreign-{n}", "task": "addition", "args": [n, 25], "kwargs": {}} for n in range(50)]
    odd = [
        {"v": 1, "id": "ключ/1", "task": "addition", "kwargs": {"x": 1, "y": 2}},
        {"v": 1, "id": "newer", "task": "addition", "args": [1, 2], "from-the-future": {"a": 1}},
    ]
    values = [json.dumps(record).encode() for record in least + odd]
    async with app.client() as client:
        waiting = asyncio.create_task(client.handle("foreign-7").result(timeout=40))
        await asyncio.to_thread(produce, stack.kafka, topic, values)
        async with running(app):
            assert await waiting == 32, "also when the question came before the task"
            for n in range(50):
                assert await client.handle(f"foreign-{n}").result(timeout=20) == n + 25
            assert await client.status("foreign-0") is S.SUCCESS
            assert await client.handle("ключ/1").result(timeout=20) == 3
            assert await client.handle("newer").result(timeout=20) == 3

    async def committed_is_the_end() -> bool:
        committed, ends = await asyncio.to_thread(offsets, stack.kafka, f"yadtq.{app_name}", topic, 3)
        return committed == ends and sum(ends) == 52

    await eventually(committed_is_the_end, timeout=20, interval=0.5)
