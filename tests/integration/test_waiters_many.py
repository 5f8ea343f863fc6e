"""Any number of waiters of one client share one subscription, and none is forgotten when that is cut (D8)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis

from tests.support.apps import make_app, running
from tests.support.poll import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.redis_server import RedisServer
    from tests.support.stacks import Servers

WAITERS = 10_000


@pytest.fixture
async def redis(redis_server: Callable[..., RedisServer]) -> AsyncIterator[Redis]:
    """Private: other clients' subscriptions must not be counted, nor cut."""
    server = redis_server()
    await server.start()
    async with Redis.from_url(server.url, decode_responses=True) as direct:
        yield direct


def url(redis: Redis) -> str:
    options = redis.connection_pool.connection_kwargs
    return f"redis://{options['host']}:{options['port']}/0"


async def subscribers(redis: Redis) -> int:
    return len(await redis.client_list(_type="pubsub"))


async def test_one_subscription_for_all(stack: Servers, app_name: str, redis: Redis) -> None:
    app = make_app(stack, app_name, redis=url(redis))

    @app.task
    async def work(n: int) -> int:
        return n

    async with app.client() as client:
        assert await subscribers(redis) == 1
        handles = await client.submit_many(work, [(n,) for n in range(WAITERS)])
        waiting = asyncio.gather(*(handle.result(timeout=60) for handle in handles))
        await eventually(lambda: len(client._waiters) == WAITERS)
        assert await subscribers(redis) == 1
        async with running(app):
            assert await waiting == list(range(WAITERS))
            assert len(client._waiters) == 0, "nothing is kept of a waiter that got its answer"


async def test_the_subscription_is_cut_while_all_wait(stack: Servers, app_name: str, redis: Redis) -> None:
    app = make_app(stack, app_name, redis=url(redis))
    release = asyncio.Event()

    @app.task
    async def work(n: int) -> int:
        if n % 2:
            await release.wait()
        return n

    async with app.client() as client, running(app, concurrency=WAITERS) as worker:
        handles = await client.submit_many(work, [(n,) for n in range(WAITERS)])
        waiting = asyncio.gather(*(handle.result(timeout=60) for handle in handles))
        await eventually(lambda: worker.parts.counters.succeeded == WAITERS // 2)

        # While nobody listens, tasks end: what is published now is lost.
        async def all_ended_unheard() -> bool:
            await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            return worker.parts.counters.succeeded == WAITERS

        release.set()
        await eventually(all_ended_unheard, interval=0)
        cut = time.monotonic()
        assert await waiting == list(range(WAITERS))
        assert time.monotonic() - cut < 8


async def test_a_waiter_that_gives_up_leaves_nothing_and_hurts_nobody(
    stack: Servers, app_name: str, redis: Redis
) -> None:
    app = make_app(stack, app_name, redis=url(redis))
    release = asyncio.Event()

    @app.task
    async def work() -> int:
        await release.wait()
        return 7

    async with app.client() as client, running(app):
        handle = await work.submit()
        patient = asyncio.create_task(handle.result(timeout=30))
        impatient = [asyncio.create_task(handle.result(timeout=0.2)) for _ in range(50)]
        outcomes = await asyncio.gather(*impatient, return_exceptions=True)
        assert {type(each) for each in outcomes} == {TimeoutError}
        assert len(client._waiters) == 1
        release.set()
        assert await patient == 7
        assert len(client._waiters) == 0
