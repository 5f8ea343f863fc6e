"""After Redis has lost everything, the backlog is known again before it is run (D1)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis

from tests.support.poll import eventually
from yadtq import TaskNotFound, TaskStatus, Yadtq
from yadtq.settings import WorkerSettings
from yadtq.worker.worker import make_worker

if TYPE_CHECKING:
    from tests.support.redis_server import RedisServer
    from tests.support.stacks import Servers

BACKLOG = 300


@pytest.mark.smoke
async def test_statuses_of_a_long_backlog_come_back(stack: Servers, app_name: str, redis_server: object) -> None:
    stack.only_plain()
    server: RedisServer = redis_server()  # type: ignore[operator]
    await server.start(aof=False)
    app = Yadtq(app_name, kafka=stack.kafka, redis=server.url, heartbeat_s=0.2)
    gate = asyncio.Event()

    @app.task
    async def wait() -> str:
        await gate.wait()
        return "done"

    # A window of ten: the rest of the backlog is in Kafka alone when Redis loses its data.
    worker = make_worker(app, WorkerSettings.load(concurrency=2, window=10))
    run = asyncio.create_task(worker.run())
    try:
        async with app.client() as client:
            handles = await client.submit_many(wait, [() for _ in range(BACKLOG)])

            async def two_run() -> bool:
                return len(worker.parts.executor.running) == 2

            await eventually(two_run, what="the slots are taken")
            async with Redis.from_url(server.url) as redis:
                await redis.flushall()

            async def all_known() -> bool:
                try:
                    statuses = [await handle.status() for handle in handles]
                except TaskNotFound:
                    return False
                return statuses.count(TaskStatus.QUEUED) >= BACKLOG - 10

            await eventually(all_known, timeout=15, interval=0.2, what="every task of the backlog is known again")
            gate.set()
            assert {await handle.result(timeout=20) for handle in handles} == {"done"}
    finally:
        gate.set()
        worker.drain()
        await run
        await server.stop()
