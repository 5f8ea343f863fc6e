"""Workers come and go, partitions are added: what runs is not interrupted, and nothing runs twice (G3)."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.support.apps import all_committed, make_app, running
from tests.support.poll import eventually
from yadtq import TaskContext
from yadtq.broker.connecting import connection_options
from yadtq.broker.topics import provision
from yadtq.errors import TopicMismatch
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from tests.support.stacks import Servers
    from yadtq.client.client import Client
    from yadtq.handle import TaskHandle


@pytest.mark.smoke
async def test_a_second_worker_joins_and_leaves(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name, num_partitions=4)
    ran: Counter[int] = Counter()
    attempts: Counter[int] = Counter()
    by_worker: Counter[str] = Counter()
    draw = random.Random(7)

    @app.task
    async def work(ctx: TaskContext, n: int, seconds: float) -> int:
        ran[n] += 1
        attempts[ctx.attempt] += 1
        by_worker[ctx.worker] += 1
        await asyncio.sleep(seconds)
        return n * n

    handles: list[TaskHandle[int]] = []
    enough = False

    async def feed(client: Client) -> None:
        # For as long as the scenario takes, however slow the machine: workers that join must find work.
        while not enough:
            first = len(handles)
            calls = [(n, 3.0 if n % 50 == 0 else draw.uniform(0.05, 0.3)) for n in range(first, first + 50)]
            handles.extend(await client.submit_many(work, calls))
            await eventually(lambda: len(handles) - len(ran) < 100, timeout=60)

    async with app.client() as client, running(app, concurrency=15) as first:
        feeding = asyncio.create_task(feed(client))
        await eventually(lambda: len(first.parts.executor.running) == 15)
        async with running(app, concurrency=15) as second:
            await eventually(lambda: by_worker[second.id] > 20, timeout=30)
            async with running(app, concurrency=15) as third:
                await eventually(lambda: by_worker[third.id] > 10, timeout=30)
        await eventually(lambda: len(first.parts.partitions.trackers) == 4, timeout=30)
        enough = True
        await feeding
        async for _ in client.as_completed(handles, timeout=60):
            pass
        assert [await handle.result(5) for handle in handles] == [n * n for n in range(len(handles))]
        await eventually(lambda: all_committed(stack, app_name), timeout=20, interval=0.3)
    assert ran == dict.fromkeys(range(len(handles)), 1)
    assert attempts == {1: len(handles)}


async def test_a_task_outlives_the_partition_it_came_from(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name, num_partitions=2)
    started: list[str] = []
    release = asyncio.Event()

    @app.task
    async def work(ctx: TaskContext) -> str:
        started.append(ctx.worker)
        await release.wait()
        return ctx.worker

    async with app.client() as client, running(app) as first:
        handles = await client.submit_many(work, [()] * 20)
        await eventually(lambda: len(started) == 20)
        async with running(app) as second:
            await eventually(
                lambda: len(first.parts.partitions.trackers) == 1 and second.parts.room.parked == 10, timeout=15
            )
            release.set()
            assert {await handle.result(timeout=20) for handle in handles} == {first.id}
            await eventually(lambda: all_committed(stack, app_name), timeout=20, interval=0.3)
        assert second.parts.counters.succeeded == 0
    assert len(started) == 20


async def test_a_topic_grows_under_load(stack: Servers, app_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A member looks for new partitions as often as its metadata ages.
    monkeypatch.setattr(
        "yadtq.broker.consumer.connection_options",
        lambda settings: {**connection_options(settings), "metadata_max_age_ms": 1_000},
    )
    app = make_app(stack, app_name, num_partitions=2)
    ran: Counter[int] = Counter()

    @app.task
    async def work(n: int) -> int:
        ran[n] += 1
        await asyncio.sleep(0.02)
        return n

    async with app.client() as client, running(app, concurrency=20) as worker:
        first = await client.submit_many(work, [(n,) for n in range(500)])
        async with app.client(num_partitions=4) as larger:
            # This client knows all four; what it puts into the new ones waits there until the group has noticed them.
            second = await larger.submit_many(work, [(n,) for n in range(500, 1_000)])
            async for _ in larger.as_completed(first + second, timeout=60):
                pass
        await eventually(lambda: len(worker.parts.partitions.trackers) == 4, timeout=10)
        await eventually(lambda: all_committed(stack, app_name), timeout=20, interval=0.3)
    assert ran == dict.fromkeys(range(1_000), 1)


async def test_a_topic_that_would_lose_tasks_is_refused(stack: Servers, app_name: str) -> None:
    admin = AIOKafkaAdminClient(**stack.clients)
    await admin.start()
    topic = f"yadtq.{app_name}.tasks.default"
    await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"retention.ms": "60000"})])
    await admin.close()
    app = make_app(stack, app_name)
    with pytest.raises(TopicMismatch, match=r"retention\.ms=60000"):
        async with app.client():
            pass
    with pytest.raises(TopicMismatch, match=topic):
        async with running(app):
            pass
    await provision(app.settings, TopicNames(f"{app_name}-other"), ["default"])
    await provision(app.settings, TopicNames(f"{app_name}-other"), ["default"], 1)
