"""Redis restarts, freezes, loses its data: no task fails for it, none is lost, and running ones run on (G1)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis

from tests.support.apps import all_committed, make_app, running
from tests.support.poll import eventually
from tests.support.stacks import Servers
from yadtq.errors import StoreUnavailable
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.redis_server import RedisServer
    from yadtq import Yadtq


class Work:
    """An app with one task, and what it really did."""

    def __init__(self, servers: Servers, name: str, **settings: Any) -> None:
        self.servers = servers
        self.app: Yadtq = make_app(servers, name, num_partitions=2, **settings)
        self.ran: Counter[int] = Counter()
        self.release = asyncio.Event()

        @self.app.task
        async def work(n: int, hold: bool = False) -> int:
            self.ran[n] += 1
            if hold:
                await self.release.wait()
            await asyncio.sleep(0.02)
            return n

        self.task = work

    async def finish(self) -> None:
        await eventually(lambda: all_committed(self.servers, self.app.name), timeout=30, interval=0.3)


@pytest.fixture
async def redis(redis_server: Callable[..., RedisServer]) -> RedisServer:
    server = redis_server()
    await server.start()
    return server


def own_redis(stack: Servers, redis: RedisServer) -> Servers:
    return Servers(stack.kafka, redis.url, stack.kind)


async def test_all_data_is_flushed_while_tasks_run_wait_and_are_waited_for(
    stack: Servers, app_name: str, redis: RedisServer
) -> None:
    work = Work(own_redis(stack, redis), app_name)
    async with work.app.client() as client, running(work.app, concurrency=20):
        held = await client.submit_many(work.task, [(n, True) for n in range(20)])
        queued = await client.submit_many(work.task, [(n,) for n in range(20, 200)])
        waiting = asyncio.create_task(held[0].result(timeout=40))
        also_waiting = asyncio.create_task(queued[-1].result(timeout=40))
        await eventually(lambda: len(work.ran) == 20)
        async with Redis.from_url(redis.url) as direct:
            await direct.flushall()

        async def written_anew() -> bool:
            return await client.status(held[0]) is S.IN_PROGRESS

        await eventually(written_anew, timeout=10, what="the running task's lease to be restored")
        work.release.set()
        assert (await waiting, await also_waiting) == (0, 199)
        async for _ in client.as_completed(held + queued, timeout=40):
            pass
        assert {await handle.status() for handle in held + queued} == {S.SUCCESS}
        await work.finish()
    assert work.ran == dict.fromkeys(range(200), 1)


@pytest.mark.parametrize("keep_data", [True, False])
async def test_a_restart(stack: Servers, app_name: str, redis: RedisServer, keep_data: bool) -> None:
    work = Work(own_redis(stack, redis), app_name)
    async with work.app.client() as client, running(work.app, concurrency=20) as worker:
        held = await client.submit_many(work.task, [(n, True) for n in range(10)])
        await eventually(lambda: len(work.ran) == 10)
        queued = await client.submit_many(work.task, [(n,) for n in range(10, 300)])
        waiting = asyncio.gather(*(handle.result(timeout=60) for handle in held + queued))
        await eventually(lambda: len(work.ran) > 60)
        await redis.restart(keep_data=keep_data)
        work.release.set()
        # Those that had ended before all was lost are known to nobody any more, but for those who were told in time.
        assert await waiting == list(range(300))
        assert await (await client.submit(work.task, 300)).result(timeout=20) == 300
        assert worker.parts.counters.failed == worker.parts.counters.fenced == 0
        await work.finish()
    assert work.ran == dict.fromkeys(range(301), 1)


async def test_frozen_for_longer_than_a_lease(stack: Servers, app_name: str, redis: RedisServer) -> None:
    work = Work(own_redis(stack, redis), app_name, redis_timeout_s=2.0)
    async with work.app.client() as client, running(work.app, concurrency=20) as worker:
        held = await client.submit_many(work.task, [(n, True) for n in range(10)])
        await eventually(lambda: len(work.ran) == 10)
        queued = await client.submit_many(work.task, [(n,) for n in range(10, 200)])
        waiting = asyncio.gather(*(handle.result(timeout=60) for handle in held + queued))
        await eventually(lambda: len(work.ran) > 30)
        await redis.freeze()
        frozen = time.monotonic()

        async def refused() -> bool:
            try:
                async with asyncio.timeout(10):
                    await client.status(held[0])
            except StoreUnavailable:
                return True
            return False

        assert await refused(), "a question has a deadline"
        await eventually(lambda: time.monotonic() - frozen > 8, timeout=15, what="8 s of a frozen Redis")
        assert len(worker.parts.executor.running) >= 10, "what runs runs on"
        await redis.thaw()
        work.release.set()
        assert await waiting == list(range(200))
        assert worker.parts.counters.failed == 0
        await work.finish()
    assert set(work.ran) == set(range(200))
    assert max(work.ran.values()) <= 2, "one fault, at most one repetition"


async def test_while_it_is_gone_submits_are_refused_in_time_and_work_goes_on_afterwards(
    stack: Servers, app_name: str, redis: RedisServer
) -> None:
    work = Work(own_redis(stack, redis), app_name, redis_timeout_s=1.0, submit_timeout_s=3.0)
    async with work.app.client() as client, running(work.app) as worker:
        assert await (await client.submit(work.task, 1)).result(timeout=20) == 1
        (held,) = await client.submit_many(work.task, [(2, True)])
        await eventually(lambda: work.ran[2])
        await redis.stop()
        work.release.set()
        accepted = []
        n = 10

        async def refused() -> bool:
            nonlocal n
            n += 1
            started = time.monotonic()
            try:
                accepted.append((n, await client.submit(work.task, n)))
            except StoreUnavailable:
                return True
            finally:
                assert time.monotonic() - started < 5
            return False

        await eventually(refused, timeout=15)
        with pytest.raises(StoreUnavailable):
            await client.submit_many(work.task, [(1_000,)])
        await redis.start()
        assert await held.result(timeout=20) == 2
        for n, handle in accepted:
            assert await handle.result(timeout=20) == n, "an accepted task is never lost"

        async def accepted_again() -> bool:
            return await (await client.submit(work.task, 2_000)).result(timeout=20) == 2_000

        await eventually(accepted_again, timeout=20)
        assert worker.parts.counters.failed == 0
        await work.finish()
    assert set(work.ran.values()) == {1}
    assert 1_000 not in work.ran
