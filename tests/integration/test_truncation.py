"""Task topics are cut off behind what all groups have committed, and a reset to earliest then repeats nothing (D2)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from tests.support.poll import eventually
from yadtq import Yadtq
from yadtq.broker.truncation import truncate
from yadtq.settings import WorkerSettings
from yadtq.worker.worker import Worker, make_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.stacks import Servers

TASKS = 40


@asynccontextmanager
async def running(app: Yadtq, **options: object) -> AsyncIterator[Worker]:
    worker = make_worker(app, WorkerSettings.load(commit_interval_s=0.1, **options))
    run = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.drain()
        await run


@asynccontextmanager
async def reader(servers: Servers, group: str | None) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(**servers.clients, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


def make_app(servers: Servers, name: str) -> tuple[Yadtq, list[int]]:
    app = Yadtq(name, kafka=servers.kafka, redis=servers.redis, num_partitions=2)
    executed: list[int] = []

    @app.task
    async def note(n: int) -> int:
        executed.append(n)
        return n

    return app, executed


async def run_tasks(app: Yadtq, first: int = 0) -> None:
    async with app.client() as client:
        handles = await client.submit_many("note", [(n,) for n in range(first, first + TASKS)])
        async for _ in client.as_completed(handles, timeout=20):
            pass


@pytest.mark.smoke
async def test_finished_records_go_and_a_reset_to_earliest_repeats_nothing(stack: Servers, app_name: str) -> None:
    app, executed = make_app(stack, app_name)
    topic = f"yadtq.{app_name}.tasks.default"
    partitions = [TopicPartition(topic, number) for number in range(2)]
    async with running(app, truncate_interval_s=0.2):
        await run_tasks(app)
        async with reader(stack, None) as consumer:

            async def all_cut_off() -> bool:
                starts = await consumer.beginning_offsets(partitions)
                return sum(starts.values()) == TASKS

            await eventually(all_cut_off, timeout=15, what="the log starts at the watermark")
    async with reader(stack, f"yadtq.{app_name}") as consumer:
        consumer.assign(partitions)
        await consumer.commit(dict.fromkeys(partitions, OffsetAndMetadata(0, "")))
    async with running(app):
        await run_tasks(app, first=TASKS)
    assert sorted(executed) == list(range(2 * TASKS))


async def test_a_reset_before_any_truncation_is_answered_by_final_states(stack: Servers, app_name: str) -> None:
    app, executed = make_app(stack, app_name)
    async with running(app):
        await run_tasks(app)
    async with reader(stack, f"yadtq.{app_name}") as consumer:
        partitions = [TopicPartition(f"yadtq.{app_name}.tasks.default", number) for number in range(2)]
        consumer.assign(partitions)
        await consumer.commit(dict.fromkeys(partitions, OffsetAndMetadata(0, "")))
    async with running(app):
        await run_tasks(app, first=TASKS)
    assert sorted(executed) == list(range(2 * TASKS))


async def test_another_group_that_has_not_read_it_keeps_the_log(stack: Servers, app_name: str) -> None:
    app, _ = make_app(stack, app_name)
    async with running(app):
        await run_tasks(app)
    topic = f"yadtq.{app_name}.tasks.default"
    groups = [f"yadtq.{app_name}", f"{app_name}.audit"]
    assert await truncate(app.settings, groups, [(topic, 0), (topic, 1)]) == {}
    async with reader(stack, groups[1]) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.commit({TopicPartition(topic, 0): OffsetAndMetadata(5, "")})
    assert await truncate(app.settings, groups, [(topic, 0), (topic, 1)]) == {(topic, 0): 5}
