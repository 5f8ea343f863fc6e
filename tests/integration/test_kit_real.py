"""The same test of a user's tasks on real servers, by the switch of the kit."""

from __future__ import annotations

import asyncio

import pytest

import yadtq.broker.kafka
import yadtq.store.redis  # noqa: F401 - here, as an import inside the loop reads files
from yadtq import ConfigError, TaskContext, Yadtq
from yadtq.testing import running


@pytest.mark.parametrize("servers", ["memory", "real"])
async def test_a_world(stack, servers):
    app = Yadtq("shop", kafka=stack.kafka, redis=stack.redis)

    @app.task(retries=1, retry_base=0.1)
    async def flaky(ctx: TaskContext, x: int) -> int:
        if ctx.attempt == 1:
            raise ValueError
        return x + ctx.attempt

    async with running(app, servers=servers) as world:
        handle = await flaky.submit(1)
        await world.advance(30)
        assert await handle.result(timeout=5) == 3
        assert [(each.task, each.args) for each in world.submits] == [("flaky", (1,))]
        assert await world.dead_letters() == []
        assert world.in_memory == (servers == "memory")


async def test_a_worker_dies_and_its_successor_runs_the_task_again(stack):
    app = Yadtq("shop", kafka=stack.kafka, redis=stack.redis)
    started = asyncio.Event()

    @app.task
    async def first_hangs(ctx: TaskContext) -> int:
        started.set()
        if ctx.attempt == 1:
            await asyncio.Event().wait()
        return ctx.attempt

    async with running(app, servers="real") as world:
        handle = await first_hangs.submit()
        async with asyncio.timeout(20):
            await started.wait()
        await world.kill_worker()
        await world.advance(40)
        assert await handle.result(timeout=5) == 2
        with pytest.raises(ConfigError, match="needs servers in memory"):
            await world.lose_redis()
