"""The test kit: worlds of their own, virtual time, submits, faults, misuse."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tests.support.poll import eventually
from yadtq import ConfigError, StoreUnavailable, SubmitUncertain, TaskContext, TaskFailed, TaskStatus, Yadtq
from yadtq.runtime.seams import OutRecord
from yadtq.testing import World, running


class Shop:
    """An app with tasks that say what they did."""

    def __init__(self, name: str = "shop") -> None:
        self.app = Yadtq(name)
        self.ran: list[object] = []
        app = self.app

        @app.task
        async def addition(x: int, y: int) -> int:
            return x + y

        @app.task(retries=3, retry_base=60)
        async def flaky(ctx: TaskContext) -> int:
            self.ran.append(ctx.attempt)
            if ctx.attempt < 3:
                raise ValueError("not yet")
            return ctx.attempt

        @app.task(timeout=3_000)
        async def sleeps(ctx: TaskContext, seconds: float) -> int:
            try:
                await asyncio.sleep(seconds)
            finally:
                self.ran.append(f"{seconds:g} s, attempt {ctx.attempt}")
            return ctx.attempt

        @app.task
        def blocks(seconds: float) -> int:
            time.sleep(seconds)
            return threading.get_ident()

        @app.task
        async def parent() -> int:
            return await (await addition.submit(20, 3)).result()

        self.addition, self.flaky, self.sleeps, self.blocks, self.parent = addition, flaky, sleeps, blocks, parent


@pytest.fixture
def shop():
    return Shop()


async def test_a_task_runs_and_the_submit_is_recorded(shop: Shop):
    async with running(shop.app) as world:
        handle = await shop.addition.submit(1, y=2)
        assert await handle.result(timeout=5) == 3
        await world.client.submit("addition", 4, 5)
        assert [(each.task, each.args, each.kwargs) for each in world.submits] == [
            ("addition", (1,), {"y": 2}),
            ("addition", (4, 5), {}),
        ]
        assert world.submits[0].id == handle.id
        assert await world.status(handle) is TaskStatus.SUCCESS


async def test_what_a_task_submits_is_recorded_too(shop: Shop):
    async with running(shop.app) as world:
        handle = await shop.parent.submit()
        assert await handle.result(timeout=5) == 23
        assert [each.task for each in world.submits] == ["parent", "addition"]


async def test_an_hour_of_retries_takes_a_moment(shop: Shop):
    async with running(shop.app) as world:
        handle = await shop.flaky.submit()
        before = world.now()
        await world.advance(3600)
        assert (world.now() - before).total_seconds() == pytest.approx(3600, abs=5)
        assert shop.ran == [1, 2, 3]
        assert await handle.result(timeout=5) == 3


async def test_an_advance_stops_where_it_was_told_to(shop: Shop):
    async with running(shop.app) as world:
        handle = await shop.flaky.submit()
        await world.advance(20)  # the back-off is 30 to 60 s
        assert shop.ran == [1]
        assert await world.status(handle) is TaskStatus.RETRYING


async def test_what_falls_due_runs_in_order(shop: Shop):
    async with running(shop.app) as world:
        for seconds in (1800, 600, 2400, 1200):
            await shop.sleeps.submit(seconds)
        await world.advance(3600)
        assert shop.ran == [f"{seconds} s, attempt 1" for seconds in (600, 1200, 1800, 2400)]


async def test_a_time_limit_is_virtual(shop: Shop):
    async with running(shop.app) as world:
        handle = await shop.sleeps.submit(3_500)
        await world.advance(3_600)
        with pytest.raises(TaskFailed, match="3000"):
            await handle.result(timeout=5)


async def test_threads_are_waited_for(shop: Shop):
    async with running(shop.app) as world:
        handle = await shop.blocks.submit(0.1)
        await world.advance(3600)
        assert await world.status(handle) is TaskStatus.SUCCESS
        assert await handle.result(timeout=5) != threading.get_ident()


async def test_real_io_is_waited_for(shop: Shop):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        await real_pause()
        writer.write(b"pong\n")
        await writer.drain()
        writer.close()

    loop = asyncio.get_running_loop()

    async def real_pause() -> None:
        await loop.run_in_executor(None, time.sleep, 0.05)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    @shop.app.task(timeout=5)
    async def ping() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"ping\n")
        line = await asyncio.wait_for(reader.readline(), 2)
        writer.close()
        await writer.wait_closed()
        return line.decode().strip()

    async with server, running(shop.app) as world:
        handle = await ping.submit()
        await world.advance(3600)
        assert await handle.result(timeout=5) == "pong"


async def test_a_task_that_waits_for_the_test_does_not_stop_time(shop: Shop):
    never = asyncio.Event()

    @shop.app.task(timeout=30)
    async def waits() -> None:
        await never.wait()

    async with running(shop.app, patience_s=0.05) as world:
        handle = await waits.submit()
        await world.advance(60)
        assert await world.status(handle) is TaskStatus.FAILED


async def test_after_a_kill_a_task_runs_again_as_attempt_2_and_no_finally_ran(shop: Shop):
    async with running(shop.app) as world:
        handle = await shop.sleeps.submit(600)
        await world.advance(10)
        assert await world.status(handle) is TaskStatus.IN_PROGRESS
        await world.kill_worker()
        await world.advance(1200)
        assert await handle.result(timeout=5) == 2
        assert shop.ran == ["600 s, attempt 2"]
    # What the killed worker has left behind is cancelled now.
    assert shop.ran == ["600 s, attempt 2", "600 s, attempt 1"]


async def test_worlds_end_while_things_run(shop: Shop):
    async with running(shop.app) as world:
        await shop.sleeps.submit(600)
        await world.advance(1)
        await world.kill_worker()
    async with running(shop.app) as world:
        await shop.sleeps.submit(600)
        await world.advance(1)
    async with running(shop.app) as world:
        await shop.blocks.submit(0.05)


async def test_a_redis_that_is_emptied(shop: Shop):
    async with running(shop.app) as world:
        done = await shop.addition.submit(1, 2)
        await done.result(timeout=5)
        handle = await shop.sleeps.submit(600)
        await world.advance(10)
        await world.lose_redis()
        await world.advance(1200)
        assert await handle.result(timeout=5) == 1
        assert (await world.client._store.tasks.snapshots([done.id])) == [None]


async def test_outages(shop: Shop):
    async with running(shop.app) as world:
        handle = await shop.addition.submit(1, 2)
        await handle.result(timeout=5)
        with world.kafka_outage(), pytest.raises(SubmitUncertain):
            await shop.addition.submit(1, 2)
        with world.redis_outage(), pytest.raises(StoreUnavailable):
            await world.status(handle)
        await world.advance(60)
        again = await shop.addition.submit(3, 4)
        await world.advance(60)
        assert await again.result(timeout=5) == 7


async def test_dead_letters(shop: Shop):
    async with running(shop.app) as world:
        assert await world.dead_letters() == []
        producer = world._servers.outside(9).broker.producer()
        await producer.append([OutRecord(world._servers.names.tasks("default"), b"no task")])
        await world.advance(60)
        (letter,) = await world.dead_letters()
        assert (letter.reason, letter.value) == ("undecodable", b"no task")
        assert world.submits == []


async def test_run_until_idle(shop: Shop):
    async with running(shop.app) as world:
        handle = await shop.sleeps.submit(900)
        await shop.flaky.submit()
        before = world.now()
        await world.run_until_idle()
        assert await handle.result(timeout=5) == 1
        assert (world.now() - before).total_seconds() == pytest.approx(900, abs=5)
        await shop.sleeps.submit(900)
        with pytest.raises(TimeoutError, match="1 tasks have not ended within 60 s"):
            await world.run_until_idle(60)


async def test_two_worlds_share_nothing(shop: Shop):
    other = Shop("other")
    loop = asyncio.get_running_loop()
    async with running(shop.app) as one:
        handle = await shop.flaky.submit()
        async with running(other.app) as two:
            await other.flaky.submit()
            await two.advance(3600)
            assert other.ran == [1, 2, 3]
            assert [each.task for each in one.submits] == ["flaky"]
        await eventually(lambda: shop.ran == [1])
        assert await one.status(handle) is TaskStatus.RETRYING
        assert (two.now() - one.now()).total_seconds() > 3500
    assert {"time", "call_soon", "call_at", "call_later", "create_task"}.isdisjoint(vars(loop))


async def test_time_goes_on_without_advance(shop: Shop):
    @shop.app.task(retries=1, retry_base=0.02)
    async def soon(ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            raise ValueError
        return ctx.attempt

    async with running(shop.app):
        assert await (await soon.submit()).result(timeout=5) == 2


async def test_misuse_is_told_in_one_line(shop: Shop):
    with pytest.raises(ConfigError, match="has no tasks"):
        async with running(Yadtq("empty")):
            pass
    async with running(shop.app) as world:
        with pytest.raises(ConfigError, match="is open already"):
            async with running(shop.app):
                pass
        with pytest.raises(ConfigError, match="expected seconds"):
            await world.advance(-1)
        first = asyncio.create_task(world.advance(3600))
        await asyncio.sleep(0)
        with pytest.raises(ConfigError, match="already"):
            await world.advance(1)
        await first
    with pytest.raises(ConfigError, match="has ended"):
        await world.advance(1)


async def test_a_task_can_t_advance_its_own_time(shop: Shop):
    worlds: list[World] = []

    @shop.app.task
    async def advances() -> None:
        await worlds[0].advance(1)

    async with running(shop.app) as world:
        worlds.append(world)
        with pytest.raises(TaskFailed, match="can't advance the time"):
            await (await advances.submit()).result(timeout=5)


async def test_a_traceback_begins_at_the_task(shop: Shop):
    @shop.app.task
    async def fails() -> None:
        raise ValueError("no")

    async with running(shop.app):
        with pytest.raises(TaskFailed) as error:
            await (await fails.submit()).result(timeout=5)
    assert "in fails" in error.value.traceback.splitlines()[1]
